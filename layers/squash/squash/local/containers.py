"""One container: its process, its folder, its log; it serves one call at a time until it ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from squash.limits import LAMBDA_INIT_S_MAX, LAMBDA_RESPONSE_BYTES_MAX, MIB
from squash.local.calls import Call, Outcome, error_payload
from squash.local.processes import ContainerSettings, Launcher, Process
from squash.local.runtime_api import Desk, RuntimeApi, Work
from squash.local.template import Function
from squash.values import dataclass

LOG_KEPT_BYTES_MAX: Final = MIB
_WATCH_SECONDS: Final = 0.05
_TMP_WATCH_ROUNDS: Final = 20  # a look at /tmp costs more, and a disk fills more slowly


@dataclass(frozen=True, slots=True)
class Place:
    """What a container is given: who it is, where it lies, and how it is started."""

    name: str
    function: Function
    tenant: str | None
    folder: Path
    settings: Callable[[int, Path], ContainerSettings]


class Container:
    """A container; the pool uses it for one call at a time.

    Attributes
    ----------
    calls:
        How many it has served.
    used_at:
        When it last became idle, by the event loop's clock.
    ended:
        Done when its process has gone.

    """

    def __init__(self, place: Place, *, api: RuntimeApi, launcher: Launcher) -> None:
        self.name = place.name
        self.function = place.function
        self.tenant = place.tenant
        self.calls = 0
        self.memory_mb = 0.0
        self._loop = asyncio.get_running_loop()
        self.used_at = self._loop.time()
        self.ended: asyncio.Future[int] = self._loop.create_future()
        self._place = place
        self._api = api
        self._launcher = launcher
        self._desk = Desk()
        self._port: int | None = None
        self._process: Process | None = None
        self._init_ms: float | None = None
        self._fate: str | None = None
        self._killed = False
        self._log_path = place.folder / "log"
        self._log_offset = 0
        self._log = bytearray()

    @property
    def pid(self) -> int | None:
        """Its process's number, once it has one."""
        return None if self._process is None else self._process.pid

    @property
    def tmp(self) -> Path:
        """What stands for its /tmp."""
        return self._place.folder / "tmp"

    @property
    def log(self) -> bytes:
        """The end of all that it printed."""
        self._read_log()
        return bytes(self._log)

    async def start(self) -> None:
        """Start its process; the first call waits until it asks for work."""
        self.tmp.mkdir(parents=True)
        await self._launcher.prepare()
        began = self._loop.time()
        self._port = await self._api.open(self._desk)
        self._desk.initialised.add_done_callback(
            lambda _: setattr(self, "_init_ms", (self._loop.time() - began) * 1000)
        )
        try:
            self._process = await self._launcher.start(
                self.name, self._place.settings(self._port, self._place.folder)
            )
        except BaseException:
            self._gone(1)
            raise
        self._process.ended.add_done_callback(lambda ended: self._gone(ended.result()))
        if self._killed:  # while it had no process yet
            self._process.kill()

    @property
    def usable(self) -> bool:
        """Whether it may get another call."""
        return not self._killed and not self.ended.done()

    def kill(self) -> None:
        """End it at once."""
        self._killed = True
        if self._process is not None:
            self._process.kill()

    def _gone(self, status: int) -> None:
        self._read_log()
        if self._port is not None:
            self._api.close(self._port)
        shutil.rmtree(self._place.folder, ignore_errors=True)
        if not self.ended.done():
            self.ended.set_result(status)

    async def serve(self, call: Call) -> Outcome:
        """Run one call; whatever becomes of it is an outcome.

        A container whose call timed out, or that passed a limit, ends.
        """
        self.calls += 1
        begin = len(self._log)
        cold = self.calls == 1
        watch = asyncio.ensure_future(self._watch())
        try:
            error = await self._initialise() if cold else None
            began = self._loop.time()
            self._line(f"START RequestId: {call.request_id} Version: $LATEST")
            payload, kind = error if error is not None else await self._answer(call)
        finally:
            watch.cancel()
        duration_ms = (self._loop.time() - began) * 1000
        if kind == "Function.ResponseSizeTooLarge":
            payload = error_payload(
                kind,
                "Response payload size exceeded maximum allowed payload size "
                f"({LAMBDA_RESPONSE_BYTES_MAX} bytes).",
            )
        self._measure()
        if self.memory_mb > self.function.memory_mb and self._fate is None:
            # It was over between two looks; on Lambda the kernel would have seen it.
            self._end("Runtime.OutOfMemory", "signal: killed")
            payload, kind = self._exit(call, -signal.SIGKILL)
        self._read_log()
        init_ms = self._init_ms if cold else None
        self._line(f"END RequestId: {call.request_id}")
        self._line(self._report(call, duration_ms, init_ms))
        log = bytes(self._log[begin:])
        del self._log[:-LOG_KEPT_BYTES_MAX]
        self.used_at = self._loop.time()
        return Outcome(payload, kind, log, duration_ms, init_ms)

    async def _initialise(self) -> tuple[bytes, str] | None:
        """Wait until it asks for work; an error if it does not."""
        desk = self._desk
        limit_s = LAMBDA_INIT_S_MAX + self.function.timeout_s
        await _first(desk.initialised, desk.init_error, self.ended, timeout_s=limit_s)
        if desk.initialised.done():
            return None
        if desk.init_error.done():
            # It ends by itself, and so it is never used again.
            self.kill()
            return desk.init_error.result()
        if self.ended.done():
            message = f"Error: Runtime exited with error: {_status(self.ended.result())}"
            return error_payload("Runtime.ExitError", message), "Runtime.ExitError"
        self.kill()
        return (
            error_payload("Sandbox.Timedout", f"Error: Init timed out after {limit_s:.2f} seconds"),
            "Sandbox.Timedout",
        )

    async def _answer(self, call: Call) -> tuple[bytes, str | None]:
        function = self.function
        work = Work(call, function.arn, function.timeout_s)
        # Who kills only asks for it: handed to a container that has not died yet, it were answered.
        if not self._killed:
            self._desk.hand(work)
        await _first(work.answer, self.ended, timeout_s=function.timeout_s)
        if work.answer.done():
            return work.answer.result()
        if self.ended.done():
            return self._exit(call, self.ended.result())
        self.kill()
        message = f"Task timed out after {function.timeout_s:.2f} seconds"
        self._line(f"{call.request_id} {message}")
        return (
            error_payload("Sandbox.Timedout", f"RequestId: {call.request_id} Error: {message}"),
            "Sandbox.Timedout",
        )

    def _exit(self, call: Call, status: int) -> tuple[bytes, str]:
        how = self._fate or _status(status)
        message = f"RequestId: {call.request_id} Error: Runtime exited with error: {how}"
        return error_payload("Runtime.ExitError", message), "Runtime.ExitError"

    def _end(self, why: str, how: str) -> None:
        self._fate = how
        self._line(f"{why}: {self.name} passed a limit and was killed")
        self.kill()

    async def _watch(self) -> None:
        """Kill it once it is over its memory or the size of its /tmp, while it works."""
        rounds = 0
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            rounds += 1
            if _resident_mb(self.pid) > self.function.memory_mb:
                return self._end("Runtime.OutOfMemory", "signal: killed")
            if rounds % _TMP_WATCH_ROUNDS == 0:
                used = await asyncio.to_thread(_folder_bytes, self.tmp)
                if used > self.function.tmp_mb * MIB:
                    return self._end("Local.TmpFull", "no space left in /tmp")

    def _measure(self) -> None:
        if not self.ended.done():
            self.memory_mb = max(self.memory_mb, _peak_mb(self.pid))

    def _line(self, text: str) -> None:
        self._log += text.encode() + b"\n"

    def _read_log(self) -> None:
        """Take in what it has printed since we looked last."""
        with contextlib.suppress(FileNotFoundError), self._log_path.open("rb") as stream:
            stream.seek(self._log_offset)
            data = stream.read()
            self._log_offset += len(data)
            self._log += data.replace(b"\r", b"\n")  # the runtime client's line ends in an error
            if self._log_offset > LOG_KEPT_BYTES_MAX:
                os.truncate(self._log_path, 0)
                self._log_offset = 0

    def _report(self, call: Call, duration_ms: float, init_ms: float | None) -> str:
        billed = round(duration_ms + (init_ms or 0.0) + 0.5)
        text = (
            f"REPORT RequestId: {call.request_id}\tDuration: {duration_ms:.2f} ms\t"
            f"Billed Duration: {billed} ms\tMemory Size: {self.function.memory_mb} MB\t"
            f"Max Memory Used: {self.memory_mb:.0f} MB"
        )
        return text if init_ms is None else f"{text}\tInit Duration: {init_ms:.2f} ms"


async def _first(*futures: asyncio.Future[Any], timeout_s: float) -> None:
    """Wait until one of them is done, or for so long."""
    await asyncio.wait(futures, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)


def _status(status: int) -> str:
    """Word an exit status as Lambda does."""
    if status >= 0:
        return f"exit status {status}"
    return "signal: killed" if status == -signal.SIGKILL else f"signal: {signal.strsignal(-status)}"


def _resident_mb(pid: int | None) -> float:
    """Return what a process has in memory now; 0 if it has gone, or the system does not say."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as stream:  # noqa: PTH123 - as often as can be
            return int(stream.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / MIB
    except (OSError, IndexError):
        return 0.0


def _peak_mb(pid: int | None) -> float:
    """Return the most that a process ever had in memory; 0 if the system does not say."""
    try:
        with open(f"/proc/{pid}/status", "rb") as stream:  # noqa: PTH123
            for line in stream:
                if line.startswith(b"VmHWM:"):
                    return int(line.split()[1]) / 1024
    except OSError:
        return 0.0  # it has ended, and uses none
    return 0.0


def _folder_bytes(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += (Path(parent) / name).lstat().st_size
    return total
