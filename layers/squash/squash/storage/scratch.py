"""Folders for temporary files, which others remove where their process was ended by force.

A fold or a build may leave gigabytes then. Where a runtime was ended by force, as by its time-out,
Lambda starts the next one in the same environment, with its /tmp: what was left would keep room
from all that is folded there later.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

# Of a store that is full its own errors tell, and so this is of what lies in the folder.
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_PREFIX: Final = "squash-scratch-"
_LOCK: Final = ".lock"
_NEW: Final = ".new"


@contextmanager
def scratch_folder(parent: Path | None = None) -> Iterator[Path]:
    """Make a folder, and remove it at the end with all that is in it.

    Before that, the folders beside it are removed whose processes have ended.

    Parameters
    ----------
    parent:
        Where it is made; the system's folder of temporary files if None. It is made too, if it is
        not there.

    Raises
    ------
    OSError
        If it cannot be made; and with what to do, if no room is left for what lies in it.

    """
    if parent is not None:
        parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.gettempdir()) if parent is None else parent
    _sweep(beside)
    held: int | None = None
    try:
        with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=beside) as folder:
            held = _hold(folder)
            yield Path(folder)
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise OSError(
            error.errno,
            f"{error.strerror}: temporary files lie in {beside}. Make room there, or name another "
            "folder; of a function, give it more /tmp (CompactorTmp, BuilderTmp, EncoderTmp)",
        ) from error
    finally:
        # Only now: nobody else may remove what is being removed.
        if held is not None:
            os.close(held)


def _hold(folder: str) -> int | None:
    """Lock a folder for as long as this process lives; None where nothing can be locked."""
    try:
        held = os.open(f"{folder}/{_NEW}", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # It gets its name when it is held: whoever finds it free finds it left.
            os.rename(f"{folder}/{_NEW}", f"{folder}/{_LOCK}")  # noqa: PTH104
        except OSError:
            os.close(held)
            raise
    except OSError:
        # It works as well without, and is not swept if it is left.
        return None
    return held


def _sweep(parent: Path) -> None:
    """Remove this user's folders that nobody holds; what cannot be read or removed stays."""
    with suppress(OSError), os.scandir(parent) as entries:
        for entry in entries:
            if not entry.name.startswith(_PREFIX):
                continue
            with suppress(OSError):
                known = entry.stat(follow_symlinks=False)
                if entry.is_dir(follow_symlinks=False) and known.st_uid == os.getuid():
                    _remove_if_left(entry.path)


def _remove_if_left(folder: str) -> None:
    held = os.open(f"{folder}/{_LOCK}", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(held)
