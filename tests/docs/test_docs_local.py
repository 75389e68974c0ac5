"""docs/local.md says what the local cloud does."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import fields
from pathlib import Path

from squash import limits
from squash.local import CloudOptions, FaultKind, LocalCloud
from squash.local.account import Policy
from squash.local.faults import parse_faults
from squash.local.template.intrinsics import Resolver

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "local.md").read_text(encoding="utf-8")


def block(language):
    return re.search(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[1]


def test_the_faults_are_faults_one_of_each_kind():
    assert [fault.kind for fault in parse_faults(json.loads(block("json")))] == list(FaultKind)
    assert re.findall(r"^\| `([a-z0-9-]+)` \|", PAGE, re.MULTILINE) == list(FaultKind)


def test_the_python_names_what_there_is():
    tree = ast.parse(block("python"))
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "cloud"
    }
    assert used
    assert all(hasattr(LocalCloud, name) for name in used)
    (made,) = (
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "LocalCloud"
    )
    known = {field.name for field in fields(CloudOptions)}
    assert {keyword.arg for keyword in made.keywords} <= known


def test_the_numbers_are_those_in_force():
    for number in (
        limits.LAMBDA_REQUEST_BYTES_MAX,
        limits.LAMBDA_RESPONSE_BYTES_MAX,
        limits.LAMBDA_TENANT_CONTAINERS_MAX,
    ):
        assert f"{number:,}" in PAGE
    assert f"{limits.HTTP_API_TIMEOUT_S} s" in PAGE
    policy = Policy()
    assert f"more than {policy.containers_max} are kept" in PAGE
    assert policy.idle_s == 600
    assert policy.async_retry_s == (1.0, 2.0)


def test_every_intrinsic_that_is_known_is_named():
    known = Resolver({}, parameters={}, stack="a")._known
    row = re.search(r"^\| template \|.*$", PAGE, re.MULTILINE)[0]
    for name in known:
        assert name == "Condition" or name.removeprefix("Fn::") in row
