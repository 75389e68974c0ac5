"""Files of encoders between a store and folders, each held against its length and SHA-256."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from squash.encoders.contract import CONFIG_FILE, FileRef
from squash.errors import ChecksumError, InvalidArgumentError, UnavailableError
from squash.limits import MIB
from squash.storage import ObjectStore

_PIECE_BYTES: Final = 32 * MIB  # of a file on its way in: so much is in memory


def read_checked(path: Path, file: FileRef) -> bytes:
    """Read a file of an encoder's folder.

    Raises
    ------
    InvalidArgumentError
        If it cannot be read.
    ChecksumError
        If it is not what `encoder.json` says.

    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidArgumentError(f"{path} cannot be read: {error}", field="folder") from error
    if len(data) != file.bytes or hashlib.sha256(data).hexdigest() != file.sha256:
        raise ChecksumError(
            f"{path} is not what {CONFIG_FILE} says: its length or SHA-256 differs. Export the "
            "encoder anew, or copy it again."
        )
    return data


def pieces(store: ObjectStore, key: str, file: FileRef) -> Iterator[bytes]:
    """Yield a stored file piece by piece; the last only comes if all are what they must be.

    Raises
    ------
    ChecksumError
        If it is missing or damaged.

    """
    sha256 = hashlib.sha256()
    for start in range(0, file.bytes, _PIECE_BYTES):
        stop = min(start + _PIECE_BYTES, file.bytes)
        try:
            piece = bytes(store.get_ranges(key, [(start, stop)])[0])
        except ChecksumError as error:
            raise ChecksumError(
                f"{key} is missing or too short. Add the encoder again from its folder; that mends "
                "it.",
                object_key=key,
            ) from error
        sha256.update(piece)
        if stop == file.bytes and sha256.hexdigest() != file.sha256:
            raise ChecksumError(
                f"{key} is not what {CONFIG_FILE} says: its SHA-256 differs. Add the encoder "
                "again from its folder; that mends it.",
                object_key=key,
            )
        yield piece


@contextmanager
def whole_folder(into: Path) -> Iterator[Path]:
    """Give a folder to fill, which becomes `into` if nothing is raised; else nothing is left.

    What a process that was ended left on the way is removed when the next one comes.

    Raises
    ------
    InvalidArgumentError
        If `into` is there already.
    UnavailableError
        If it cannot be written.

    """
    try:
        into.parent.mkdir(parents=True, exist_ok=True)
        _remove_left(into)
        beside, held = _held_folder(into)
    except OSError as error:
        raise _unwritable(into, error) from error
    try:
        yield beside
        os.rename(beside, into)  # noqa: PTH104 - it fails where a folder with files is
    except OSError as error:
        if into.exists():
            raise InvalidArgumentError(
                f"{into} is there already: name a folder that is not", field="into"
            ) from error
        raise _unwritable(into, error) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
        os.close(held)


def _held_folder(into: Path) -> tuple[Path, int]:
    """Make a folder beside `into`, and hold it: that tells others that somebody is at work here."""
    while True:
        beside = Path(tempfile.mkdtemp(prefix=_prefix(into), dir=into.parent))
        held = _hold(beside, wait=True)
        if held is not None and beside.exists():
            return beside, held
        # Another process took it for something left, before it was held.
        if held is not None:
            os.close(held)


def _prefix(into: Path) -> str:
    """Return what the folders' names begin with that are to become `into`, and no others'."""
    return f".{into.name}.squash-"


def _remove_left(into: Path) -> None:
    for path in into.parent.iterdir():
        if not path.name.startswith(_prefix(into)) or path.is_symlink() or not path.is_dir():
            continue
        held = _hold(path, wait=False)
        if held is not None:
            shutil.rmtree(path, ignore_errors=True)
            os.close(held)


def _hold(folder: Path, *, wait: bool) -> int | None:
    """Hold a folder, until the number returned is closed; None if it is gone, or another's."""
    try:
        held = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(held, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(held)
        return None
    return held


def _unwritable(into: Path, error: OSError) -> UnavailableError:
    return UnavailableError(
        f"the encoder cannot be written to {into} ({error}): make room there, or name another "
        "folder; SQUASH_ENCODER_CACHE names that of fetched encoders"
    )
