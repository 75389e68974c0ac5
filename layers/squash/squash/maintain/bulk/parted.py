"""Objects of many parts, each of which somebody else reads: a front that says where they lie.

Such an object is a container of two arrays: the directory, int64 [p, 4], and the parts' bytes. Its
beginning, up to a length that follows from the number of parts alone, is read first; then a part,
with one more read. The front carries its own checksum, and the directory one for each part: nobody
reads the whole.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NamedTuple

import numpy as np

from squash.arrays import I64
from squash.container import ALIGNMENT, Buffer, array_from, check_header, read_layout
from squash.errors import ChecksumError, DataError, InternalError
from squash.limits import MIB
from squash.storage import ObjectStore, Reads

_VERSION: Final = 1
_COLUMNS: Final = 4  # where a part begins, its bytes, its rows, its checksum
_LENGTH_BYTES: Final = 8
_HEADER_BYTES: Final = 1_024
_ROW_BYTES: Final = 8 * _COLUMNS
# Fronts that are read at once, and bytes of parts that wait for who asked for them.
_FRONTS: Final = 64
_WINDOW_BYTES: Final = 32 * MIB


class Part(NamedTuple):
    """What one object holds of a part: `rows` rows, in `data`, which is empty if there are none."""

    key: str
    rows: int
    data: Buffer


@dataclass(frozen=True, slots=True)
class _Place:
    key: str
    start: int
    stop: int
    rows: int
    crc32: int


def pack_parts(
    kind: str, facts: Mapping[str, Any], parts: Sequence[tuple[int, Sequence[Buffer]]]
) -> bytearray:
    """Make an object of parts; the same input gives the same bytes.

    Parameters
    ----------
    kind:
        What it holds.
    facts:
        JSON values that whoever reads it holds against what it expects.
    parts:
        Of each its rows, and its bytes in several pieces; none where it has no rows.

    """
    directory = np.zeros((len(parts), _COLUMNS), dtype=np.int64)
    at = 0
    for number, (rows, buffers) in enumerate(parts):
        sums, length = 0, 0
        for data in buffers:
            sums, length = zlib.crc32(data, sums), length + memoryview(data).nbytes
        directory[number] = (at, length, rows, sums)
        at += length + -length % ALIGNMENT
    # Never shorter than the front, so that reading that much of it never reads too much.
    total = max(at, front_bytes(len(parts)))
    total += -total % ALIGNMENT
    front = _front(kind, facts, directory, total)
    if len(front) > front_bytes(len(parts)):
        raise InternalError(f"the front of a {kind!r} has {len(front)} bytes: shorten its facts")
    found = bytearray(len(front) + total)
    found[: len(front)] = front
    for (begin, *_), (_, buffers) in zip(directory.tolist(), parts, strict=True):
        at = len(front) + begin
        for data in buffers:
            view = memoryview(data).cast("B")
            found[at : at + len(view)] = view
            at += len(view)
    return found


def front_bytes(parts: int) -> int:
    """Return how many bytes from its beginning certainly hold the front of an object."""
    return _HEADER_BYTES + _ROW_BYTES * parts


def read_parts(
    store: ObjectStore,
    objects: Sequence[tuple[str, Mapping[str, Any]]],
    *,
    kind: str,
    parts: int,
    number: int,
) -> Iterator[Part]:
    """Yield the same part of several objects, in their order, some of them read ahead.

    Parameters
    ----------
    store:
        Where they lie.
    objects:
        The key of each, and the facts that it must have been made with.
    kind, parts, number:
        What they hold, how many parts each has, and which one is asked for.

    Raises
    ------
    ChecksumError
        If one is missing, or differs from what was written.
    DataError
        If one is something else.

    """
    reads = Reads()
    for first in range(0, len(objects), _FRONTS):
        some = objects[first : first + _FRONTS]
        found: dict[str, _Place] = {}

        def look(key: str, facts: Mapping[str, Any], into: dict[str, _Place] = found) -> None:
            into[key] = _place(store, key, facts, kind=kind, parts=parts, number=number)

        reads.run([partial(look, key, facts) for key, facts in some])
        for window in _windows([found[key] for key, _ in some]):
            yield from _read(store, reads, window)


def _windows(places: Sequence[_Place]) -> Iterator[Sequence[_Place]]:
    """Cut into runs of places that fit memory together, one at least in each."""
    sizes = np.cumsum([place.stop - place.start for place in places]).tolist()
    first, before = 0, 0
    for last in range(1, len(places) + 1):
        if last == len(places) or sizes[last] - before > _WINDOW_BYTES:
            yield places[first:last]
            first, before = last, sizes[last - 1]


def _read(store: ObjectStore, reads: Reads, places: Sequence[_Place]) -> Iterator[Part]:
    found: dict[str, Buffer] = {}

    def read(place: _Place) -> None:
        (found[place.key],) = store.get_ranges(place.key, [(place.start, place.stop)])

    wanted = [place for place in places if place.rows]
    if wanted:
        reads.run([partial(read, place) for place in wanted])
    for place in places:
        data = found.pop(place.key, b"")
        if zlib.crc32(data) != place.crc32:
            raise damaged(place.key, "is not as it was written: a checksum differs")
        yield Part(place.key, place.rows, data)


def _place(
    store: ObjectStore, key: str, facts: Mapping[str, Any], *, kind: str, parts: int, number: int
) -> _Place:
    try:
        (front,) = store.get_ranges(key, [(0, front_bytes(parts))])
    except ChecksumError as error:
        raise damaged(key, "is missing, or shorter than it was written") from error
    layout = read_layout(front, where=key)
    check_header(layout.header, kind=kind, versions=(_VERSION,), where=key)
    entry, inside = layout.entries.get("directory"), layout.entries.get("parts")
    if (
        entry is None
        or inside is None
        or entry.shape != (parts, _COLUMNS)
        or entry.dtype != "I64"
        or entry.stop > len(front)
    ):
        raise DataError(
            f"{key} is not made of {parts} parts, as this build's are: start the build anew",
            object_key=key,
        )
    directory = array_from(memoryview(front)[entry.start : entry.stop], entry)
    if layout.header.get("crc32") != _front_crc32(facts, directory):
        raise damaged(key, "has a front that was not written for this place, or was changed since")
    begin, length, rows, crc32 = directory[number].tolist()
    start = inside.start + begin
    if rows and not inside.start <= start <= start + length <= inside.stop:
        raise damaged(key, "has a part beyond its end")
    return _Place(key, start, start + length, rows, crc32)


def damaged(key: str, what: str) -> ChecksumError:
    """Make the error for an object of a build that cannot be relied on."""
    return ChecksumError(f"{key} {what}: start the build anew", object_key=key)


def _front(kind: str, facts: Mapping[str, Any], directory: I64, total: int) -> bytes:
    """Write the front as `squash.container.pack` would, without the parts that come after it."""
    inner = {"kind": kind, "version": _VERSION, "features": [], **facts}
    inner["crc32"] = _front_crc32(facts, directory)
    data = directory.astype("<i8").tobytes()
    gap = -len(data) % ALIGNMENT
    begin = len(data) + gap
    entries = {
        "__metadata__": {"squash": _json(inner)},
        "directory": _entry("I64", directory.shape, 0, len(data)),
        **({"_pad.1": _entry("U8", (gap,), len(data), begin)} if gap else {}),
        "parts": _entry("U8", (total,), begin, begin + total),
    }
    text = _json(entries).encode()
    text += b" " * (-(_LENGTH_BYTES + len(text)) % ALIGNMENT)
    return b"".join([len(text).to_bytes(_LENGTH_BYTES, "little"), text, data, bytes(gap)])


def _entry(dtype: str, shape: tuple[int, ...], start: int, stop: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, stop]}


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _front_crc32(facts: Mapping[str, Any], directory: I64) -> int:
    return zlib.crc32(directory.astype("<i8").tobytes(), zlib.crc32(_json(facts).encode()))
