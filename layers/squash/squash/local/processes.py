"""Starts the processes of containers: each from nothing, or forked from one that is prepared."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, Protocol

from squash.errors import UnavailableError
from squash.values import dataclass

INSIDE: Final = Path(__file__).parent / "inside"
# No site-packages and no variables of ours: a container finds what Lambda would give it. And no
# byte code is written, since on Lambda the code's folders cannot be written to.
_PYTHON: Final = (sys.executable, "-S", "-B")
_START_SECONDS_MAX: Final = 60.0


@dataclass(frozen=True, slots=True)
class ContainerSettings:
    """What a container's process is told; `container.py` says what each is."""

    environment: Mapping[str, str]
    path: tuple[str, ...]
    folder: str
    log: str
    file_bytes_max: int


class Process(Protocol):
    """A container's process; `ended` gets its exit status, a signal's number below zero."""

    pid: int
    ended: asyncio.Future[int]

    def kill(self) -> None:
        """End it and all that it started, at once."""
        ...


class Launcher(Protocol):
    """Starts the containers of one function."""

    async def prepare(self) -> None:
        """Do what is done once, before the first is started."""
        ...

    async def start(self, name: str, settings: ContainerSettings) -> Process:
        """Start one; `name` is like no other."""
        ...

    async def close(self) -> None:
        """End what was started to start others."""
        ...


def _signalled(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


async def _run(*arguments: str, channel: socket.socket | None = None) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *_PYTHON,
        *arguments,
        env={"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"},
        stdin=asyncio.subprocess.DEVNULL if channel is None else channel.fileno(),
        # A terminal's Ctrl-C is ours to pass on.
        start_new_session=True,
    )


class SpawnLauncher:
    """Starts every container as a new interpreter, as a cold start on Lambda does."""

    async def prepare(self) -> None:
        """Nothing is done ahead."""

    async def start(self, name: str, settings: ContainerSettings) -> Process:  # noqa: ARG002
        """Start one."""
        script = str(INSIDE / "container.py")
        text = json.dumps(asdict(settings))
        return SpawnedProcess(await _run(script, str(os.getpid()), text))

    async def close(self) -> None:
        """Nothing was kept."""


class SpawnedProcess:
    """A process of our own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.pid = process.pid
        self.ended: asyncio.Future[int] = asyncio.ensure_future(process.wait())

    def kill(self) -> None:
        """End it and all that it started, at once."""
        if not self.ended.done():
            _signalled(self.pid)


class ForkLauncher:
    """Starts containers by forking a process that has loaded the layers' modules already.

    Parameters
    ----------
    settings:
        As of a container, without what is one container's own.

    """

    def __init__(self, settings: ContainerSettings) -> None:
        self._settings = settings
        self._server: asyncio.Task[_ForkServer] | None = None

    async def prepare(self) -> None:
        """Start the fork server, if there is none."""
        await self._ready()

    async def start(self, name: str, settings: ContainerSettings) -> Process:
        """Fork one."""
        return await (await self._ready()).start(name, settings)

    async def _ready(self) -> _ForkServer:
        server = self._server
        if server is None or (server.done() and (server.exception() or server.result().gone)):
            server = self._server = asyncio.ensure_future(_ForkServer.started(self._settings))
        return await asyncio.shield(server)

    async def close(self) -> None:
        """End the fork server, and with it whatever it started."""
        if self._server is not None:
            with contextlib.suppress(UnavailableError, OSError):
                await (await self._server).close()


class ForkedProcess:
    """A process that a fork server started for us."""

    def __init__(self, pid: int, name: str, server: _ForkServer) -> None:
        self.pid = pid
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._name = name
        self._server = server

    def kill(self) -> None:
        """End it and all that it started, at once."""
        # The server has not yet collected it, if it lives, so that the number is still its own.
        if not self.ended.done():
            self._server.order({"kill": self._name})


class _ForkServer:
    """Our end of a fork server's channel."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self._starting: dict[str, asyncio.Future[Process]] = {}
        self._running: dict[str, ForkedProcess] = {}
        self._listening = asyncio.ensure_future(self._listen())

    @classmethod
    async def started(cls, settings: ContainerSettings) -> _ForkServer:
        """Start one, and wait until it has loaded what it is to load."""
        ours, theirs = socket.socketpair()
        with theirs:
            process = await _run(
                str(INSIDE / "fork_server.py"),
                str(os.getpid()),
                json.dumps(asdict(settings)),
                channel=theirs,
            )
        reader, writer = await asyncio.open_connection(sock=ours)
        try:
            ready = await asyncio.wait_for(reader.readline(), _START_SECONDS_MAX)
        except TimeoutError:
            ready = b""
        if not ready:
            _signalled(process.pid)
            await process.wait()
            raise UnavailableError(
                "the fork server of a function did not start: squash local --no-fork-server "
                "does without"
            )
        return cls(process, reader, writer)

    @property
    def gone(self) -> bool:
        """Whether it has ended."""
        return self._listening.done()

    def order(self, order: Mapping[str, Any]) -> None:
        """Send an order."""
        if not self._writer.is_closing():
            self._writer.write(json.dumps(order).encode() + b"\n")

    async def start(self, name: str, settings: ContainerSettings) -> Process:
        """Fork one container."""
        started: asyncio.Future[Process] = asyncio.get_running_loop().create_future()
        self._starting[name] = started
        if self.gone:
            self._abandon()
        self.order({"start": name, "settings": asdict(settings)})
        return await started

    async def close(self) -> None:
        """End it."""
        self._writer.close()
        _signalled(self._process.pid)
        await self._process.wait()
        await self._listening

    async def _listen(self) -> None:
        with contextlib.suppress(ConnectionError):
            while line := await self._reader.readline():
                report = json.loads(line)
                if "started" in report:
                    name = report["started"]
                    process = ForkedProcess(report["pid"], name, self)
                    self._running[name] = process
                    self._starting.pop(name).set_result(process)
                elif "ended" in report:
                    self._running.pop(report["ended"]).ended.set_result(report["status"])
        self._abandon()

    def _abandon(self) -> None:
        """Report as killed what the kernel kills when the server goes."""
        for process in self._running.values():
            process.ended.set_result(-signal.SIGKILL)
        self._running.clear()
        for waiting in self._starting.values():
            waiting.set_exception(UnavailableError("a function's fork server has gone: try again"))
        self._starting.clear()
