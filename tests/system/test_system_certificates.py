"""Whom the clients of a layer trust, and how often they read that."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from https_server import https_server

# Asks one URL several times at once, with each client anew; prints what came of each, and how often
# certificates were read.
ASKING = """
import json, ssl, sys
sys.path.insert(0, {path!r})
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from botocore.awsrequest import AWSRequest
from botocore.httpsession import URLLib3Session
import botocore
assert botocore.__file__.startswith({path!r})
read = []
load = ssl.SSLContext.load_verify_locations
def counted(context, *words, **named):
    read.append(words)
    return load(context, *words, **named)
ssl.SSLContext.load_verify_locations = counted
at_once = Barrier(4)
def ask(session):
    at_once.wait()
    try:
        return session.send(AWSRequest("GET", {url!r}).prepare()).status_code
    except Exception as error:
        return type(error).__name__
told = []
with ThreadPoolExecutor(4) as pool:
    for verify in ({authority!r}, True, False, {authority!r}):
        read.clear()
        answers = set(pool.map(ask, [URLLib3Session(verify=verify)] * 4))
        told.append([sorted(map(str, answers)), len(read)])
print(json.dumps(told))
"""


@pytest.fixture
def server(tmp_path):
    with https_server(tmp_path) as found:
        yield found


def test_certificates_are_read_once_and_hold(artefacts, server):
    # Whom the bundle names is trusted, for all connections by one reading of it; nobody else is,
    # whatever another client has read.
    url, authority = server
    program = ASKING.format(path=str(artefacts.layer / "python"), url=url, authority=str(authority))
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-I", "-B", "-W", "ignore", "-c", program],
        check=True,
        capture_output=True,
        text=True,
    )
    assert json.loads(done.stdout) == [
        [["200"], 1],
        [["SSLError"], 1],
        [["200"], 0],
        [["200"], 1],
    ]
