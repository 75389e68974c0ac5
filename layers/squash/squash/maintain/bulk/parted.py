"""Objects of many parts, each of which somebody else reads, and the directories of such objects.

A task of `assign` writes an object for each of its pieces, with a part for each group of
partitions, and one directory of all these objects. Whoever wants a part reads a line of each
directory, and that part of each object: their number is what a large build pays for, so neither is
read in two steps. Both are containers whose headers fill 1,024 bytes, so that it is known where
everything begins.

Line k of a directory is int64 [4 m + 1], for m objects: of the k-th part of each where it begins,
its bytes, its rows and its checksum; and then a checksum of the line, and of whose it is.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

import numpy as np

from squash.arrays import I64
from squash.container import ALIGNMENT, Buffer
from squash.errors import ChecksumError, InternalError
from squash.limits import MIB
from squash.storage import ObjectStore, Reads
from squash.values import dataclass

_VERSION: Final = 1
_FRONT_BYTES: Final = 1_024
_LENGTH_BYTES: Final = 8
_COLUMNS: Final = 4
_WORD_BYTES: Final = 8
# Lines that are read at once, and bytes of parts that wait for who asked for them.
_LINES: Final = 64
_WINDOW_BYTES: Final = 32 * MIB
_WINDOW_PARTS: Final = 256


class Part(NamedTuple):
    """What one object holds of a part: `rows` rows, in `data`, which is empty if there are none."""

    key: str
    rows: int
    data: Buffer


@dataclass(frozen=True, slots=True)
class Directory:
    """Where a directory lies, and the objects that it is of.

    Parameters
    ----------
    key:
        Its own.
    about:
        What it was made for, in words that no other one has; see `pack_directory`.
    objects:
        The objects' keys, in their order.

    """

    key: str
    about: str
    objects: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Place:
    key: str
    start: int
    stop: int
    rows: int
    crc32: int


def pack_parts(
    kind: str, facts: Mapping[str, Any], parts: Sequence[tuple[int, Sequence[Buffer]]]
) -> tuple[bytearray, I64]:
    """Make an object of parts; the same input gives the same bytes.

    Parameters
    ----------
    kind:
        What it holds.
    facts:
        JSON values for whoever looks at the object alone.
    parts:
        Of each its rows, and its bytes in several pieces; none where it has no rows.

    Returns
    -------
    (the object, int64 [p, 4]): the latter is for its directory.

    """
    lines = np.zeros((len(parts), _COLUMNS), dtype=np.int64)
    at = _FRONT_BYTES
    for number, (rows, buffers) in enumerate(parts):
        sums, length = 0, 0
        for data in buffers:
            sums, length = zlib.crc32(data, sums), length + memoryview(data).nbytes
        lines[number] = (at, length, rows, sums)
        at += length + -length % ALIGNMENT
    found = bytearray(at)
    found[:_FRONT_BYTES] = _front(kind, facts, "U8", (at - _FRONT_BYTES,))
    for begin, (_, buffers) in zip(lines[:, 0].tolist(), parts, strict=True):
        at = begin
        for data in buffers:
            view = memoryview(data).cast("B")
            found[at : at + len(view)] = view
            at += len(view)
    return found, lines


def pack_directory(kind: str, about: str, lines: Sequence[I64]) -> bytes:
    """Make the directory of several objects.

    Parameters
    ----------
    kind:
        What they hold.
    about:
        Which directory it is: the checksums of its lines hold only for who expects the same.
    lines:
        Of each object what `pack_parts` returned.

    """
    parts = len(lines[0]) if lines else 0
    every = np.concatenate(lines, axis=1) if lines else np.empty((0, 0), np.int64)
    table = np.empty((parts, every.shape[1] + 1), dtype="<i8")
    table[:, :-1] = every
    for number in range(parts):
        table[number, -1] = _line_crc32(about, number, table[number, :-1].tobytes())
    return _front(f"{kind}-directory", {"about": about}, "I64", table.shape) + table.tobytes()


def read_parts(store: ObjectStore, directories: Sequence[Directory], number: int) -> Iterator[Part]:
    """Yield the same part of several objects, in their order, some of them read ahead.

    Parameters
    ----------
    store:
        Where they lie.
    directories:
        Of all of them.
    number:
        Which part, from 0.

    Raises
    ------
    ChecksumError
        If something is missing, or differs from what was written.

    """
    reads = Reads()
    for first in range(0, len(directories), _LINES):
        some = directories[first : first + _LINES]
        found: dict[str, list[_Place]] = {}

        def look(directory: Directory, into: dict[str, list[_Place]] = found) -> None:
            into[directory.key] = _places(store, directory, number)

        reads.run([partial(look, directory) for directory in some])
        places = [place for directory in some for place in found[directory.key] if place.rows]
        for window in _windows(places):
            yield from _read(store, reads, window)


def damaged(key: str, what: str) -> ChecksumError:
    """Make the error for an object of a build that cannot be relied on."""
    return ChecksumError(f"{key} {what}: start the build anew", object_key=key)


def _windows(places: Sequence[_Place]) -> Iterator[Sequence[_Place]]:
    """Cut into runs of places that fit memory together, one at least in each."""
    first, held = 0, 0
    for last, place in enumerate(places):
        size = place.stop - place.start
        if last > first and (held + size > _WINDOW_BYTES or last - first == _WINDOW_PARTS):
            yield places[first:last]
            first, held = last, 0
        held += size
    if places:
        yield places[first:]


def _read(store: ObjectStore, reads: Reads, places: Sequence[_Place]) -> Iterator[Part]:
    found: dict[str, Buffer] = {}

    def read(place: _Place) -> None:
        found[place.key] = _range(store, place.key, place.start, place.stop)

    reads.run([partial(read, place) for place in places])
    for place in places:
        data = found.pop(place.key)
        if zlib.crc32(data) != place.crc32:
            raise damaged(place.key, "is not as it was written: a checksum differs")
        yield Part(place.key, place.rows, data)


def _places(store: ObjectStore, directory: Directory, number: int) -> list[_Place]:
    words = _COLUMNS * len(directory.objects) + 1
    start = _FRONT_BYTES + number * words * _WORD_BYTES
    data = _range(store, directory.key, start, start + words * _WORD_BYTES)
    line = np.frombuffer(data, dtype="<i8")
    if line[-1] != _line_crc32(directory.about, number, line[:-1].tobytes()):
        raise damaged(directory.key, "was not written for this place, or was changed since")
    table = line[:-1].reshape(-1, _COLUMNS).tolist()
    return [
        _Place(key, begin, begin + length, rows, crc32)
        for key, (begin, length, rows, crc32) in zip(directory.objects, table, strict=True)
    ]


def _range(store: ObjectStore, key: str, start: int, stop: int) -> Buffer:
    try:
        (data,) = store.get_ranges(key, [(start, stop)])
    except ChecksumError as error:
        raise damaged(key, "is missing, or shorter than it was written") from error
    return data


def _line_crc32(about: str, number: int, line: bytes) -> int:
    return zlib.crc32(line, zlib.crc32(f"{about}/{number}".encode()))


def _front(kind: str, facts: Mapping[str, Any], dtype: str, shape: tuple[int, ...]) -> bytes:
    """Write the front of a container of one array, as `squash.container.pack` would."""
    inner = {"kind": kind, "version": _VERSION, "features": [], **facts}
    size = _WORD_BYTES if dtype == "I64" else 1
    array = {"dtype": dtype, "shape": shape, "data_offsets": [0, size * int(np.prod(shape))]}
    text = _json({"__metadata__": {"squash": _json(inner)}, "parts": array}).encode()
    room = _FRONT_BYTES - _LENGTH_BYTES
    if len(text) > room:
        raise InternalError(f"the header of a {kind!r} has {len(text)} bytes: shorten its facts")
    return room.to_bytes(_LENGTH_BYTES, "little") + text.ljust(room)


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
