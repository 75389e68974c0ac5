"""Servers that the local cloud starts beside itself, each a process at a port of loopback."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from squash.errors import UnavailableError
from squash.local.processes import INSIDE
from squash.local.runtime_api import LOOPBACK
from squash.values import dataclass

_START_SECONDS_MAX: Final = 60.0
_STOP_SECONDS_MAX: Final = 5.0
_RETRY_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True)
class Server:
    """A server that was started here."""

    url: str
    process: asyncio.subprocess.Process

    async def close(self) -> None:
        """Stop it; it may first write what it has."""
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        try:
            async with asyncio.timeout(_STOP_SECONDS_MAX):
                await self.process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            await self.process.wait()


async def start_server(
    command: Sequence[str], *, what: str, port: int, log: Path, environment: Mapping[str, str]
) -> Server:
    """Start a server that ends when this process does.

    Parameters
    ----------
    command:
        What to run.
    what:
        Its name, for errors.
    port:
        Where it is going to answer.
    log:
        What it prints; it runs in the folder of this file.
    environment:
        Variables over those of this process.

    Raises
    ------
    UnavailableError
        If it does not answer.

    """
    with log.open("ab") as stream:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-S",
            str(INSIDE / "tethered.py"),
            str(os.getpid()),
            *command,
            env={**os.environ, **environment},
            cwd=log.parent,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )
    server = Server(f"http://{LOOPBACK}:{port}", process)
    try:
        await _answering(process, port, f"{what} did not start: {log} says why")
    except BaseException:
        await server.close()
        raise
    return server


async def _answering(process: asyncio.subprocess.Process, port: int, problem: str) -> None:
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
    raise UnavailableError(problem)


def free_port() -> int:
    """Return a port of loopback that nobody has, and that nobody is given for a minute."""
    with socket.create_server((LOOPBACK, 0)) as server:
        port: int = server.getsockname()[1]
        # After a connection that is closed from here first the system keeps the port from all who
        # want any, and lets a server listen that names it; else, while that one starts, another
        # program's connection could take it.
        with socket.create_connection((LOOPBACK, port)):
            server.accept()[0].close()
    return port
