"""The S3 of the local cloud: MiniStack if it is installed, which keeps its data, else moto."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from squash.errors import NotFoundError, UnavailableError
from squash.local.processes import INSIDE
from squash.local.runtime_api import LOOPBACK

MINISTACK_VARIABLE: Final = "SQUASH_MINISTACK"
MINISTACK_FOLDER: Final = Path(".venv-ministack")
_START_SECONDS_MAX: Final = 60.0
_RETRY_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True)
class S3Server:
    """An S3 that was started here."""

    url: str
    title: str
    process: asyncio.subprocess.Process

    async def close(self) -> None:
        """Stop it; it may first write what it has."""
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        try:
            async with asyncio.timeout(5.0):
                await self.process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            await self.process.wait()


def find_ministack() -> Path | None:
    """Return MiniStack's command: the environment's, that of `make local`, or one on the PATH.

    Raises
    ------
    NotFoundError
        If the environment names one that is not there.

    """
    named = os.environ.get(MINISTACK_VARIABLE)
    if named:
        if not Path(named).is_file():
            raise NotFoundError(f"{MINISTACK_VARIABLE} is {named}, which is not there")
        return Path(named)
    own = MINISTACK_FOLDER / "bin" / "ministack"
    if own.is_file():
        return own.absolute()
    found = shutil.which("ministack")
    return Path(found) if found else None


async def start_s3(data: Path, *, memory: bool = False) -> S3Server:
    """Start an S3 on a free port of loopback.

    Parameters
    ----------
    data:
        An absolute folder that is there, where MiniStack keeps objects.
    memory:
        Whether to keep nothing, whatever is installed.

    Raises
    ------
    UnavailableError
        If it does not answer.

    """
    port = _free_port()
    ministack = None if memory else find_ministack()
    environment = dict(os.environ)
    if ministack is not None:
        environment |= {
            "BIND_HOST": LOOPBACK,
            "GATEWAY_PORT": str(port),
            "S3_PERSIST": "1",
            "S3_DATA_DIR": str(data),
        }
        command = [str(ministack)]
        title = f"MiniStack, which keeps its objects in {data}"
    else:
        command = [sys.executable, str(INSIDE / "moto_server.py"), str(port)]
        title = "moto, in memory: its objects are gone when it ends"
    with (data / "s3.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-S",
            str(INSIDE / "tethered.py"),
            str(os.getpid()),
            *command,
            env=environment,
            cwd=data,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    server = S3Server(f"http://{LOOPBACK}:{port}", title, process)
    try:
        await _answering(process, port)
    except BaseException:
        await server.close()
        raise
    return server


async def _answering(process: asyncio.subprocess.Process, port: int) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _START_SECONDS_MAX
    while loop.time() < deadline and process.returncode is None:
        try:
            _, writer = await asyncio.open_connection(LOOPBACK, port)
        except OSError:
            await asyncio.sleep(_RETRY_SECONDS)
            continue
        writer.close()
        return
    raise UnavailableError("the S3 of the local cloud did not start: s3.log in --data says why")


def _free_port() -> int:
    with socket.create_server((LOOPBACK, 0)) as server:
        port: int = server.getsockname()[1]
    return port
