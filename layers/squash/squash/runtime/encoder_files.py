"""Files of encoders between a store and folders, each held against its length and SHA-256."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from squash.encoders.contract import CONFIG_FILE, FileRef
from squash.errors import ChecksumError, InvalidArgumentError, UnavailableError
from squash.limits import MIB
from squash.storage import ObjectStore
from squash.storage.scratch import scratch_folder

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
        with scratch_folder(into.parent) as beside:
            made = beside / "made"
            made.mkdir(mode=0o700)
            yield made
            os.rename(made, into)  # noqa: PTH104 - it fails where a folder with files is
    except OSError as error:
        if into.exists():
            raise InvalidArgumentError(
                f"{into} is there already: name a folder that is not", field="into"
            ) from error
        raise _unwritable(into, error) from error


def _unwritable(into: Path, error: OSError) -> UnavailableError:
    return UnavailableError(
        f"the encoder cannot be written to {into} ({error}): make room there, or name another "
        "folder; SQUASH_ENCODER_CACHE names that of fetched encoders"
    )
