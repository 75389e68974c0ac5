"""Starts a function's containers quickly: ``fork_server.py PARENT SETTINGS``, a channel as input.

It loads once what the function's module loads from its layers and the runtime, never the module
itself: every container still runs that on its own. Orders and reports are lines of JSON:
``{"start": ID, "settings": {…}}`` and ``{"kill": ID}`` come in, ``{"started": ID, "pid": PID}``
and ``{"ended": ID, "status": STATUS}`` go out.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import warnings
from typing import Any

import container  # type: ignore[import-not-found] # it lies beside this script
from tethered import tether  # type: ignore[import-not-found]

SCOUT_SECONDS_MAX = 10
# The service models that botocore reads for a client cost more than all else in a cold start.
WARMED_SERVICES = ("s3", "lambda")
# What functions load only once they write, or call others.
LATER = ("botocore.session",)


def scout(handler: str, task_folder: str) -> list[str]:
    """Return the modules that a function's module loads from outside its own folder."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.alarm(SCOUT_SECONDS_MAX)
        quiet = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(quiet, stream)
        # Whatever fails here fails in the container too, and is reported there.
        with contextlib.suppress(BaseException):
            importlib.import_module(handler.rpartition(".")[0].replace("/", "."))
        names = [
            name
            for name, module in list(sys.modules.items())
            if not str(getattr(module, "__file__", None) or "").startswith(task_folder + os.sep)
        ]
        os.write(theirs, json.dumps(names).encode())
        os._exit(0)
    os.close(theirs)
    with os.fdopen(ours, "rb") as report:
        text = report.read()
    os.waitpid(pid, 0)
    return json.loads(text) if text else []


def preload(names: list[str]) -> None:
    """Load modules, and what botocore's clients read."""
    for name in (*names, *LATER):
        with contextlib.suppress(BaseException):
            importlib.import_module(name)
    for service in WARMED_SERVICES:
        if "boto3" in sys.modules:
            sys.modules["boto3"].client(service)
        elif "botocore.session" in sys.modules:
            sys.modules["botocore.session"].Session().create_client(service)
    gc.collect()
    gc.freeze()  # what is shared stays shared


class Server:
    """The loop of orders and reports."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._ids: dict[int, str] = {}
        self._rest = b""

    def serve(self) -> None:
        """Carry out orders until the channel closes."""
        wake, woken = os.pipe()
        os.set_blocking(woken, False)
        os.set_blocking(wake, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
        while True:
            ready, _, _ = select.select([self._channel.fileno(), wake], [], [])
            if wake in ready:
                os.read(wake, 4096)
                self._reap()
            if self._channel.fileno() in ready:
                data = self._channel.recv(1 << 16)
                if not data:
                    return
                *lines, self._rest = (self._rest + data).split(b"\n")
                for line in lines:
                    self._carry_out(json.loads(line))

    def _carry_out(self, order: dict[str, Any]) -> None:
        if "kill" in order:
            for pid, name in self._ids.items():
                if name == order["kill"]:
                    os.killpg(pid, signal.SIGKILL)
            return
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._become(parent, order["settings"])
        # Whichever of the two is first: from here on it is killed with all that it starts.
        with contextlib.suppress(PermissionError):
            os.setpgid(pid, pid)
        self._ids[pid] = order["start"]
        self._report({"started": order["start"], "pid": pid})

    def _become(self, parent: int, settings: dict[str, Any]) -> None:
        """Turn into a container; never returns."""
        status = 1
        try:
            os.setpgid(0, 0)
            self._channel.close()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            if "tempfile" in sys.modules:
                vars(sys.modules["tempfile"])["tempdir"] = (
                    None  # it remembers the first one it was told
                )
            container.run(parent, settings)
            status = 0
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else 1
        except BaseException:  # noqa: BLE001 - nothing may return into the loop
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                if pid in self._ids:
                    code = os.waitstatus_to_exitcode(status)
                    self._report({"ended": self._ids.pop(pid), "status": code})

    def _report(self, report: dict[str, Any]) -> None:
        self._channel.sendall(json.dumps(report).encode() + b"\n")


def main() -> None:
    """Prepare, say that all is ready, and serve."""
    tether(int(sys.argv[1]))
    settings = json.loads(sys.argv[2])
    channel = socket.socket(fileno=os.dup(0))
    quiet = os.open(os.devnull, os.O_RDWR)
    os.dup2(quiet, 0)
    os.dup2(quiet, 1)
    # The threads that Python counts are those of NumPy's library, which knows of forks.
    warnings.filterwarnings("ignore", message=".*multi-threaded", category=DeprecationWarning)
    os.environ.update(settings["environment"])
    sys.path[:1] = settings["path"]
    preload(scout(settings["environment"]["_HANDLER"], settings["folder"]))
    channel.sendall(b'{"ready": true}\n')
    Server(channel).serve()


if __name__ == "__main__":
    main()
