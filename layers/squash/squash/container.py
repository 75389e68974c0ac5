"""Containers: named arrays and a small JSON header in one run of bytes.

The bytes are a valid safetensors file, so any tool can read them: the header's length as a little
-endian u64, a JSON header with names, dtypes, shapes and byte ranges, then the raw arrays. Over
the safetensors specification we promise three things: arrays lie in the order they were given,
each starts at a multiple of 64 bytes (a gap is an array of its own named ``_pad.N``, since the
specification forbids holes), and the same input gives the same bytes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from squash.arrays import AnyArray
from squash.errors import DataError, UnsupportedFormatError

ALIGNMENT: Final = 64
HEADER_BYTES_MAX: Final = 32 << 20
_LENGTH_BYTES: Final = 8
_PAD: Final = "_pad."
_DTYPES: Final = {
    "U8": "<u1", "I8": "<i1", "U16": "<u2", "I16": "<i2", "U32": "<u4", "I32": "<i4",
    "U64": "<u8", "I64": "<i8", "F16": "<f2", "F32": "<f4", "F64": "<f8",
}  # fmt: skip
_NAMES: Final = {np.dtype(dtype): name for name, dtype in _DTYPES.items()}

Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class Entry:
    """Where one array lies: `start` and `stop` count bytes from the container's first byte."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Layout:
    """A container's header, read: enough to plan ranged reads."""

    header: Mapping[str, Any]
    entries: Mapping[str, Entry]
    total_bytes: int


def pack(
    kind: str, version: int, *, header: Mapping[str, Any], arrays: Mapping[str, AnyArray]
) -> bytes:
    """Pack arrays and a JSON header into a container.

    Parameters
    ----------
    kind, version:
        What this container holds, and the version of that format.
    header:
        JSON values; keys ``kind`` and ``version`` are taken.
    arrays:
        Arrays of the dtypes u8..u64, i8..i64, f16..f64, of any shape; written in this order.

    Raises
    ------
    ValueError
        If an array's dtype has no name in safetensors.

    """
    entries: dict[str, Any] = {}
    parts: list[bytes] = []
    offset = 0
    for name, array in arrays.items():
        little = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False)
        dtype = _NAMES.get(little.dtype)
        if dtype is None:
            raise ValueError(
                f"array {name!r} has dtype {array.dtype}, which containers cannot hold"
            )
        stop = offset + little.nbytes
        entries[name] = _entry(dtype, array.shape, offset, stop)
        parts.append(little.tobytes())
        offset = stop
        gap = -offset % ALIGNMENT
        if gap:
            entries[f"{_PAD}{len(parts)}"] = _entry("U8", (gap,), offset, offset + gap)
            parts.append(b"\0" * gap)
            offset += gap
    inner = {"kind": kind, "version": version, **header}
    encoded = {"__metadata__": {"squash": _json(inner)}, **entries}
    text = _json(encoded).encode()
    text += b" " * (-(_LENGTH_BYTES + len(text)) % ALIGNMENT)
    return b"".join([len(text).to_bytes(_LENGTH_BYTES, "little"), text, *parts])


def read_layout(prefix: Buffer, *, where: str, total_bytes: int | None = None) -> Layout:
    """Read the header from a container's first bytes.

    Parameters
    ----------
    prefix:
        The first bytes, at least the whole header.
    where:
        The object's key, for messages.
    total_bytes:
        The whole object's length, if known: then every array must lie inside it.

    Raises
    ------
    DataError
        If the bytes are no container.

    """
    if len(prefix) < _LENGTH_BYTES:
        raise _broken(where, f"has {len(prefix)} bytes, too few for a container")
    length = int.from_bytes(prefix[:_LENGTH_BYTES], "little")
    if length > HEADER_BYTES_MAX or _LENGTH_BYTES + length > len(prefix):
        raise _broken(where, f"announces a header of {length} bytes and does not hold it")
    try:
        raw = json.loads(bytes(prefix[_LENGTH_BYTES : _LENGTH_BYTES + length]))
        header = json.loads(raw["__metadata__"]["squash"])
        base = _LENGTH_BYTES + length
        entries = {
            name: _checked_entry(value, base, where)
            for name, value in raw.items()
            if name != "__metadata__" and not name.startswith(_PAD)
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _broken(where, f"has a header that cannot be read ({error})") from error
    if not isinstance(header, dict):
        raise _broken(where, "has a header that is no JSON object")
    if total_bytes is not None:
        for name, entry in entries.items():
            if entry.stop > total_bytes:
                raise _broken(where, f"ends before its array {name!r}")
    return Layout(header, entries, max((e.stop for e in entries.values()), default=base))


class Container:
    """A container's arrays, as views of its bytes: opening copies nothing.

    Parameters
    ----------
    data:
        The whole container.
    kind, versions:
        What it must be, and the format versions this reader knows.
    where:
        The object's key, for messages.

    Raises
    ------
    DataError
        If the bytes are no container, or one of another kind.
    UnsupportedFormatError
        If its version is not one of `versions`.

    """

    def __init__(self, data: Buffer, *, kind: str, versions: tuple[int, ...], where: str) -> None:
        self._layout = read_layout(data, where=where, total_bytes=len(data))
        self._data = data
        self._where = where
        check_header(self._layout.header, kind=kind, versions=versions, where=where)

    @property
    def header(self) -> Mapping[str, Any]:
        """The JSON header."""
        return self._layout.header

    @property
    def nbytes(self) -> int:
        """The container's length in bytes."""
        return len(self._data)

    def names(self) -> list[str]:
        """Return the arrays' names, in stored order."""
        return list(self._layout.entries)

    def array(self, name: str) -> AnyArray:
        """Return one array, read-only, as a view of the container's bytes.

        Raises
        ------
        DataError
            If there is no such array.

        """
        entry = self._layout.entries.get(name)
        if entry is None:
            raise _broken(self._where, f"lacks the array {name!r}")
        return array_from(memoryview(self._data)[entry.start : entry.stop], entry)


def array_from(data: Buffer, entry: Entry) -> AnyArray:
    """Make a read-only array of exactly the bytes that `entry` describes."""
    array = np.frombuffer(data, dtype=_DTYPES[entry.dtype]).reshape(entry.shape)
    array.flags.writeable = False
    return array


def check_header(
    header: Mapping[str, Any], *, kind: str, versions: tuple[int, ...], where: str
) -> None:
    """Refuse a header of another kind, a version not known, or features not known.

    Raises
    ------
    DataError
        If the kind differs.
    UnsupportedFormatError
        If the version or a feature is not known.

    """
    if header.get("kind") != kind:
        raise _broken(where, f"is a {header.get('kind')!r}, not a {kind!r}")
    if header.get("version") not in versions:
        raise UnsupportedFormatError(
            f"{where} has format version {header.get('version')!r} of {kind!r}; this release reads "
            f"{', '.join(map(str, versions))}. Install a newer release of squash-search.",
            object_key=where,
        )
    features = header.get("features", [])
    if features:
        raise UnsupportedFormatError(
            f"{where} uses features this release does not know: {', '.join(map(str, features))}. "
            "Install a newer release of squash-search.",
            object_key=where,
        )


def _entry(dtype: str, shape: tuple[int, ...], start: int, stop: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, stop]}


def _checked_entry(value: Any, base: int, where: str) -> Entry:
    dtype, shape, (start, stop) = value["dtype"], tuple(value["shape"]), value["data_offsets"]
    if not all(isinstance(n, int) and n >= 0 for n in (start, stop, *shape)) or stop < start:
        raise _broken(where, "has a header with a negative or fractional length")
    if np.dtype(_DTYPES[dtype]).itemsize * math.prod(shape) != stop - start:
        raise _broken(where, "has a header whose shapes and byte ranges differ")
    return Entry(dtype, shape, base + start, base + stop)


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=False, allow_nan=False)


def _broken(where: str, what: str) -> DataError:
    return DataError(
        f"{where} {what}: the object is damaged. Run `squash verify` to see what else is, and "
        "restore it from a copy.",
        object_key=where,
    )
