"""Who runs the bulk builds that are asked for over HTTP: a state machine, or this process."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Final, Protocol

from squash.api.environment import BuildMachine
from squash.api.telemetry import LOGGER
from squash.errors import SquashError
from squash.planning.prices import Architecture

if TYPE_CHECKING:
    from squash.reports import BuildStatus
    from squash.runtime.build_requests import Runner
    from squash.runtime.building import IndexBuilds
    from squash.runtime.state_machines import StateMachine

_LOG: Final = logging.getLogger(LOGGER)
_FAILED: Final = frozenset({"FAILED", "TIMED_OUT", "ABORTED"})


class BuildRunner(Protocol):
    """Runs builds that were prepared. Threads may share it."""

    def runner(self) -> Runner:
        """Say who runs, for the record of an attempt."""
        ...

    def begin(self, builds: IndexBuilds, status: BuildStatus) -> None:
        """Have an attempt run, unless it does, and do not wait for it.

        Raises
        ------
        ThrottledError, UnavailableError
            If it is not known whether it runs: repeat it.

        """
        ...

    def end(self, status: BuildStatus) -> None:
        """Have an attempt that was stopped end at once, as far as that can be."""
        ...

    def running(self, status: BuildStatus) -> bool:
        """Tell if an attempt that has not ended is at work, as far as that is known here."""
        ...

    def lost(self, status: BuildStatus) -> str | None:
        """Say what became of an attempt that looks as if it ran, if nothing runs it any more.

        Returns
        -------
        None if it runs, or if that cannot be known here; "" if nothing ever ran it.

        """
        ...


class MachineRunner:
    """Has the state machine of the deployment run builds; a `BuildRunner`.

    Parameters
    ----------
    machine:
        Which.
    architecture:
        Of its function.

    """

    def __init__(self, machine: BuildMachine, *, architecture: Architecture) -> None:
        self._told = machine
        self._architecture: Architecture = architecture
        self._made: StateMachine | None = None

    def runner(self) -> Runner:
        """Say who runs; see `BuildRunner.runner`."""
        from squash.runtime.build_requests import Runner  # noqa: PLC0415 - for builds alone

        return Runner(
            executor="states",
            state_machine=self._told.arn,
            memory_mb=self._told.memory_mb,
            architecture=self._architecture,
        )

    def begin(self, builds: IndexBuilds, status: BuildStatus) -> None:
        """Start an execution of the attempt's name; see `BuildRunner.begin`."""
        del builds
        self._machine().start(_name(status), {"index": status.index, "build": status.build})

    def end(self, status: BuildStatus) -> None:
        """Stop its execution; see `BuildRunner.end`."""
        if status.executor == "states":
            self._machine().stop(_name(status), reason=f"build {status.build} was cancelled")

    def running(self, status: BuildStatus) -> bool:
        """Tell if an execution is; see `BuildRunner.running`."""
        return status.executor == "states"

    def lost(self, status: BuildStatus) -> str | None:
        """Ask for its execution; see `BuildRunner.lost`."""
        if status.executor != "states":
            return None
        found = self._machine().describe(_name(status))
        if found is None:
            return ""
        if found.status not in _FAILED:
            return None
        words = f"its execution {found.status.lower().replace('_', ' ')}"
        # What timed out as a whole has neither; what a state failed may have an error alone.
        why = found.cause or found.error
        return f"{words}: {why}" if why else words

    def _machine(self) -> StateMachine:
        if self._made is None:
            # Few routes of one function come here: no other waits for the client to be loaded.
            from squash.runtime.state_machines import StateMachine  # noqa: PLC0415

            self._made = StateMachine(self._told.arn)  # of two threads, one's is not kept
        return self._made


class BackgroundRunner:
    """Runs builds in threads of this process, where there is no state machine; a `BuildRunner`.

    A build whose process ended is shown running; whoever resumes it has it run on.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[tuple[str, str], threading.Thread] = {}
        # The attempt that is to run, or runs.
        self._wanted: dict[tuple[str, str], int] = {}

    def runner(self) -> Runner:
        """Say who runs; see `BuildRunner.runner`."""
        from squash.runtime.build_requests import Runner  # noqa: PLC0415 - for builds alone

        return Runner()

    def begin(self, builds: IndexBuilds, status: BuildStatus) -> None:
        """Run it in a thread, unless one does; see `BuildRunner.begin`."""
        key = (status.index, status.build)
        with self._lock:
            self._wanted[key] = status.attempt
            there = self._running.get(key)
            if there is not None and there.is_alive():
                return
            # A server that is ended does not wait for it: what is done stays done.
            thread = threading.Thread(
                target=self._run, args=(builds, key), name="squash-build", daemon=True
            )
            self._running[key] = thread
            thread.start()

    def end(self, status: BuildStatus) -> None:
        """Do nothing: its tasks look whether they are to stop; see `BuildRunner.end`."""

    def lost(self, status: BuildStatus) -> str | None:
        """Tell of nothing: another process may run it; see `BuildRunner.lost`."""
        del status
        return None

    def running(self, status: BuildStatus) -> bool:
        """Tell if a thread of this process is; see `BuildRunner.running`."""
        with self._lock:
            there = self._running.get((status.index, status.build))
        return there is not None and there.is_alive()

    def join(self) -> None:
        """Wait for all that run."""
        with self._lock:
            threads = list(self._running.values())
        for thread in threads:
            thread.join()

    def _run(self, builds: IndexBuilds, key: tuple[str, str]) -> None:
        """Run a build; and again, if it was resumed while an attempt was about to end."""
        attempt = 0
        while True:
            with self._lock:
                if self._wanted[key] == attempt:
                    del self._running[key], self._wanted[key]
                    return
                attempt = self._wanted[key]
            self._run_attempt(builds, key[1])

    @staticmethod
    def _run_attempt(builds: IndexBuilds, build: str) -> None:
        try:
            builds.run(build, workers=1, report=lambda step: None)  # noqa: ARG005 - status tells
        except (SquashError, OSError) as error:
            _LOG.warning("build %s ended before its time: %s", build, error)
        except Exception as error:  # noqa: BLE001 - a thread has nobody to raise it to
            _LOG.exception("build %s ended before its time", build)
            told = {"error": type(error).__name__, "cause": "a bug: the log has more"}
            builds.note_failure({"build": build, "failed": told})


def _name(status: BuildStatus) -> str:
    return f"{status.build}-{status.attempt}"
