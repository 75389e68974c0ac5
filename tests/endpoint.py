"""An S3 endpoint in a process of its own, whose conditional puts are atomic as those of S3 are."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from squash.local.processes import INSIDE
from squash.local.s3_server import find_ministack
from squash.local.servers import free_port

LOOPBACK: Final = "127.0.0.1"
CREDENTIALS: Final = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
}
_START_S_MAX: Final = 60.0


@contextmanager
def s3_endpoint(*, ministack: bool = False) -> Iterator[str]:
    """Run an S3 server and give its URL; the environment holds credentials meanwhile.

    Parameters
    ----------
    ministack:
        Take MiniStack, which must be installed, instead of moto.

    """
    before = {name: os.environ.get(name) for name in CREDENTIALS}
    os.environ.update(CREDENTIALS)
    with tempfile.TemporaryDirectory(prefix="squash-s3-") as folder:
        port = free_port()
        process = _start(port, folder, ministack=ministack)
        try:
            _wait_for(process, port)
            yield f"http://{LOOPBACK}:{port}"
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


def make_bucket(url: str, name: str) -> None:
    """Make a bucket at an endpoint."""
    import boto3

    client = boto3.client("s3", endpoint_url=url)
    client.create_bucket(Bucket=name)
    client.close()


def _start(port: int, folder: str, *, ministack: bool) -> subprocess.Popen[bytes]:
    environment = dict(os.environ)
    command = [sys.executable, str(INSIDE / "moto_server.py"), str(port)]
    if ministack:
        found = find_ministack()
        if found is None:
            raise SystemExit("MiniStack is not installed: `make local` does it, or use moto")
        command = [str(found)]
        environment |= {
            "BIND_HOST": LOOPBACK,
            "GATEWAY_PORT": str(port),
            "S3_PERSIST": "1",
            "S3_DATA_DIR": folder,
        }
        for name in ("PYTHONPATH", "PYTHONHOME"):
            environment.pop(name, None)
    return subprocess.Popen(  # noqa: S603 - an S3 of this environment
        command,
        env=environment,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _wait_for(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + _START_S_MAX
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(f"http://{LOOPBACK}:{port}", timeout=5).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit("the S3 server did not start")
