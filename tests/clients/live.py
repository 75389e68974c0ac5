"""A live server for the clients, and stand-ins for the other services that some of them ask.

Clients find all of them by the environment alone, as they would be pointed at a deployment.
"""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import bedrock
from moto.server import ThreadedMotoServer

ENDPOINT: Final = "AWS_ENDPOINT_URL_S3VECTORS"
"""Where the clients find the server; set by `run.py` for the suites that it starts."""

ACCOUNT: Final = "000000000000"
"""The account in the server's ARNs, which some suites compare with what STS says."""

_ROOT: Final = Path(__file__).resolve().parents[2]
_SQUASH: Final = os.environ.get("SQUASH_COMMAND") or str(_ROOT / ".venv" / "bin" / "squash")
_ANSWERING: Final = re.compile(r"http://127\.0\.0\.1:\d+")


@contextmanager
def served() -> Iterator[dict[str, str]]:
    """Serve, and give the environment that points clients here."""
    if not Path(_SQUASH).exists():
        raise SystemExit(f"{_SQUASH} is not there: `make clients` makes it, or set SQUASH_COMMAND")
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="squash-clients-"))
        settings = dict(os.environ) | {
            "SQUASH_STORE": folder,
            "SQUASH_SIGNING_KEY": "store",
            "AWS_REGION": "us-east-1",
        }
        environment = _key(settings) | {
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            # Nothing of whoever runs this, and no other place to look for keys.
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        url = stack.enter_context(_server(settings))
        yield environment | {ENDPOINT: url} | stack.enter_context(_stand_ins())


def _key(settings: Mapping[str, str]) -> dict[str, str]:
    """Make a key that may do everything, as the names by which clients know it."""
    made = subprocess.run(
        [_SQUASH, "--json", "keys", "create", "--access-key", "--scopes", "read,write,admin"],
        env=settings,
        check=True,
        capture_output=True,
        text=True,
    )
    key = json.loads(made.stdout)
    return {
        "AWS_ACCESS_KEY_ID": key["access_key_id"],
        "AWS_SECRET_ACCESS_KEY": key["secret_access_key"],
    }


@contextmanager
def _server(settings: Mapping[str, str]) -> Iterator[str]:
    command = [_SQUASH, "serve", "--port", "0", "--auth", "keys"]
    process = subprocess.Popen(
        command, env=settings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        yield _address(process)
    finally:
        process.terminate()
        process.wait(30)


def _address(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if found := _ANSWERING.search(line):
            # What it says later is let go, so that it is never kept waiting.
            threading.Thread(target=process.stdout.read, daemon=True).start()
            return found[0]
    raise SystemExit(f"`squash serve` ended without answering:\n{''.join(said)}")


@contextmanager
def _stand_ins() -> Iterator[dict[str, str]]:
    """Run STS and DynamoDB, which moto plays, and Bedrock."""
    os.environ["MOTO_ACCOUNT_ID"] = ACCOUNT
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line a request, else
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    embedder = bedrock.start()
    threading.Thread(target=embedder.serve_forever, daemon=True).start()
    _, port = moto.get_host_and_port()
    try:
        yield {
            "AWS_ENDPOINT_URL_STS": f"http://127.0.0.1:{port}",
            "AWS_ENDPOINT_URL_DYNAMODB": f"http://127.0.0.1:{port}",
            "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": f"http://127.0.0.1:{embedder.server_port}",
        }
    finally:
        embedder.shutdown()
        embedder.server_close()
        moto.stop()
