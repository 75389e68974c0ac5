"""docs/local.md says what the local cloud does."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
from dataclasses import fields
from pathlib import Path

import pytest

from deployed import deployed
from squash import limits
from squash.local import CloudOptions, FaultKind, LocalCloud
from squash.local.account import Policy
from squash.local.faults import parse_faults
from squash.local.template.intrinsics import Resolver

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "local.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


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


@pytest.fixture
def local(artefacts, monkeypatch):
    """What `make local` starts, with objects in memory."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, "local")
    with deployed(build=artefacts.folder, s3_memory=True) as place:
        yield place


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_the_curl_lines_of_the_readme_get_right_answers(local):
    """As they stand there, save for the port; and the compactor folds what was put."""
    section = README.split("## On this machine")[1].split("## ")[0]
    (script,) = re.findall(r"^```sh\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    assert "http://127.0.0.1:3000" in script
    assert "--environment SQUASH_AUTH=none" in MAKEFILE
    script = script.replace("http://127.0.0.1:3000", local.url).replace(
        "-sS", "-sS --fail-with-body"
    )
    done = subprocess.run(  # noqa: S603 - a page of ours
        ["/bin/sh", "-ec", script], capture_output=True, text=True, check=False, env=os.environ
    )
    assert done.returncode == 0, done.stdout + done.stderr
    created, put, answer, folding, stats = map(json.loads, done.stdout.splitlines())
    assert (created["name"], put["rows"], stats["rows"]) == ("cities", 6, 6)
    assert [match["key"] for match in answer["matches"]] == ["Cologne", "Paris"]
    local.cloud.settle()
    assert local.database().index("cities").stats().snapshot == folding["snapshot"] + 1
