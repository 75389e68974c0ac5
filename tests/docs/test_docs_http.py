"""docs/http.md and docs/security.md say what the HTTP interface does."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

import squash
from squash import limits
from squash.api import problems
from squash.api.problems import type_of
from squash.api.routes import ROUTES, Scope
from squash.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
HTTP = (ROOT / "docs" / "http.md").read_text(encoding="utf-8")
SECURITY = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```sh\n(.*?)^```$", HTTP, flags=re.MULTILINE | re.DOTALL)


def asked(example):
    """The method and path of a curl command."""
    path = re.search(r'"\$URL(/v1[^"?]*)', example).group(1)
    given = re.search(r"-X (\w+)", example)
    method = given.group(1) if given else "POST" if "-d " in example else "GET"
    return method, re.sub("/[0-9a-f]{32}", "/{build}", path.replace("/papers", "/{index}"))


def test_every_route_has_an_example():
    assert {asked(example) for example in EXAMPLES} == {(one.method, one.path) for one in ROUTES}


def test_every_problem_is_explained_with_its_status():
    titles = problems.TITLES | problems.HTTP_TITLES
    expected = {(type_of(title), str(problems._STATUS[kind])) for kind, title in titles.items()}
    assert set(re.findall(r"^\| `(urn:squash:[\w-]+)` \| (\d+) \|", HTTP, re.MULTILINE)) == expected


def test_the_limits_are_those_of_the_code():
    assert f"at most {limits.HTTP_BODY_BYTES_MAX // limits.MIB} MiB" in HTTP
    assert f"puts records, at most {limits.VECTORS_PER_REQUEST_MAX:,}" in HTTP
    assert f"by key, at most {limits.KEYS_PER_REQUEST_MAX:,}" in HTTP
    assert f"a list of at most {limits.QUERIES_PER_REQUEST_MAX:,}" in HTTP
    assert f"at most {limits.TIMEOUT_MS_MAX:,} |" in HTTP
    assert f"| at most {limits.BUILD_INPUTS_PER_REQUEST_MAX:,} URLs" in HTTP
    assert f"`limit` ({limits.LIST_PAGE_DEFAULT}, at most {limits.LIST_PAGE_MAX:,})" in HTTP
    assert f"within {limits.KEY_KEPT_MS_MAX // 1000} seconds" in SECURITY
    assert f"for {limits.KEY_ABSENT_KEPT_MS_MAX // 1000} seconds" in SECURITY
    for scope in Scope:
        assert f"`{scope}` (" in SECURITY


@pytest.fixture
def server(tmp_path):
    """`squash serve` in a process of its own, as the page starts it."""
    store = str(tmp_path / "data")
    environment = os.environ | {"PYTHONPATH": str(Path(squash.__file__).parents[1])}
    process = subprocess.Popen(  # noqa: S603 - our own program
        [
            sys.executable,
            "-m",
            "squash.cli.main",
            "serve",
            "--port",
            "0",
            "--store",
            store,
            "--json",
        ],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        yield json.loads(process.stdout.readline())["url"], store
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0
        process.stdout.close()


def wait_for_the_build_to_fail(url, token):
    """What is built in the background from a folder that is not there; only then is it resumed."""
    builds = urllib.request.Request(  # noqa: S310 - our own server
        f"{url}/v1/indexes/papers/builds", headers={"authorization": f"Bearer {token}"}
    )
    until = time.monotonic() + 60
    while True:
        with urllib.request.urlopen(builds, timeout=30) as answer:  # noqa: S310 - our own server
            (build,) = json.load(answer)["builds"]
        if build["state"] != "running":
            assert build["state"] == "failed"
            return
        assert time.monotonic() < until, build
        time.sleep(0.05)


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_the_page_runs_from_top_to_bottom(server, tmp_path, capsys):
    """Every example is answered as well, in the order of the page."""
    url, store = server
    words = ["keys", "create", "--scopes", "read,write,admin", "--indexes", "*", "--store", store]
    assert main([*words, "--json"]) == 0
    token = json.loads(capsys.readouterr().out)["token"]
    answers = {}
    nowhere = (tmp_path / "nowhere").as_uri() + "/"
    for example in EXAMPLES:
        if asked(example)[1].endswith("/resume"):
            wait_for_the_build_to_fail(url, token)
        done = subprocess.run(  # noqa: S603 - a page of ours
            ["/bin/sh", "-c", example.replace("curl -sS", "curl -sS --fail-with-body")],
            env=os.environ | {"URL": url, "KEY": token, "INPUTS": nowhere},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, example + done.stdout + done.stderr
        answers.setdefault(asked(example), []).append(json.loads(done.stdout))
    one, several = answers["POST", "/v1/indexes/{index}/query"]
    assert [match["key"] for match in one["matches"]] == ["p1", "p2"]
    assert [answer["matches"][0]["key"] for answer in several["answers"]] == ["p1", "p2"]
    assert answers["POST", "/v1/indexes/{index}/vectors/delete"][0]["rows"] == 1
    assert answers["POST", "/v1/indexes/{index}/builds/{build}/resume"][0]["attempt"] == 2
    assert answers["DELETE", "/v1/indexes/{index}"] == [{"dropped": "papers"}]
