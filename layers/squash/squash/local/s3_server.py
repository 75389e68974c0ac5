"""The S3 of the local cloud: MiniStack if it is installed, which keeps its data, else moto."""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from squash.errors import NotFoundError, UnavailableError
from squash.local.processes import INSIDE
from squash.local.runtime_api import LOOPBACK
from squash.local.servers import Server, free_port, start_server

MINISTACK_VARIABLE: Final = "SQUASH_MINISTACK"
MINISTACK_FOLDER: Final = Path(".venv-ministack")


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


@contextmanager
def held_alone(folder: Path) -> Iterator[None]:
    """Keep others from a folder of MiniStack's objects: two do not know what the other writes.

    Raises
    ------
    UnavailableError
        If another has it.

    """
    with (folder / "lock").open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UnavailableError(
                f"another squash local keeps its objects in {folder}: end it, or name another "
                "folder with --data"
            ) from error
        yield


async def start_s3(data: Path, *, memory: bool = False) -> tuple[Server, str]:
    """Start an S3 on a free port of loopback; returns it, and what it is in words.

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
    port = free_port()
    ministack = None if memory else find_ministack()
    environment: dict[str, str] = {}
    if ministack is not None:
        environment = {
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
    server = await start_server(
        command,
        what="the S3 of the local cloud",
        port=port,
        log=data / "s3.log",
        environment=environment,
    )
    return server, title
