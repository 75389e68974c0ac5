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
from typing import Any, Final

import numpy as np

from squash.arrays import AnyArray
from squash.errors import DataError, UnsupportedFormatError
from squash.values import dataclass

ALIGNMENT: Final = 64
HEADER_BYTES_MAX: Final = 32 << 20
_LENGTH_BYTES: Final = 8
_PAD: Final = "_pad."
_METADATA: Final = "__metadata__"
_LENGTH_MAX: Final = 1 << 48
_AXES_MAX: Final = 8
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
        If an array's dtype has no name in safetensors, or a name is taken.

    """
    taken = [name for name in arrays if name == _METADATA or name.startswith(_PAD)]
    taken += [name for name in ("kind", "version") if name in header]
    if taken:
        raise ValueError(f"the name {taken[0]!r} is the container's own: choose another")
    entries: dict[str, Any] = {}
    parts: list[Any] = []  # bytes and arrays
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
        parts.append(little.reshape(-1).view(np.uint8))  # no copy but the one that joins them
        offset = stop
        gap = -offset % ALIGNMENT
        if gap:
            entries[f"{_PAD}{len(parts)}"] = _entry("U8", (gap,), offset, offset + gap)
            parts.append(b"\0" * gap)
            offset += gap
    inner = {"kind": kind, "version": version, **header}
    encoded = {_METADATA: {"squash": _json(inner)}, **entries}
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
        The whole object's length, if known: then the arrays must end where it does.

    Raises
    ------
    DataError
        If the bytes are no container.
    UnsupportedFormatError
        If an array has a dtype that this release does not know.

    """
    if len(prefix) < _LENGTH_BYTES:
        raise _broken(where, f"has {len(prefix)} bytes, too few for a container")
    length = int.from_bytes(prefix[:_LENGTH_BYTES], "little")
    if length > HEADER_BYTES_MAX or _LENGTH_BYTES + length > len(prefix):
        raise _broken(where, f"announces a header of {length} bytes and does not hold it")
    base = _LENGTH_BYTES + length
    try:
        raw = _parse(bytes(prefix[_LENGTH_BYTES:base]).decode())
        header = _parse(raw.pop(_METADATA)["squash"])
        _refuse_newer_arrays(raw, where)
        every = {name: _checked_entry(value, base) for name, value in raw.items()}
        _check_tiling(every, base, total_bytes)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _broken(where, f"has a header that cannot be read ({error})") from error
    if not isinstance(header, dict):
        raise _broken(where, "has a header that is no JSON object")
    entries = {name: entry for name, entry in every.items() if not name.startswith(_PAD)}
    return Layout(header, entries, max((e.stop for e in every.values()), default=base))


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

    def array_of(self, name: str, dtype: str, axes: int = 1) -> AnyArray:
        """Return one array, as `array` does, if it has this dtype and so many axes.

        Raises
        ------
        DataError
            If it has not.

        """
        found = self.array(name)
        if found.dtype != np.dtype(dtype) or found.ndim != axes:
            raise _broken(self._where, f"has an array {name!r} of {found.dtype} {found.shape}")
        return found


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
    version = header.get("version")
    if type(version) is not int or version not in versions:
        raise UnsupportedFormatError(
            f"{where} has format version {version!r} of {kind!r}; this release reads "
            f"{', '.join(map(str, versions))}. Install a newer release of squash-search.",
            object_key=where,
        )
    features = header.get("features", [])
    if not isinstance(features, list):
        raise _broken(where, f"has features that are no list but {features!r:.80}")
    if features:
        raise UnsupportedFormatError(
            f"{where} uses features this release does not know: {', '.join(map(str, features))}. "
            "Install a newer release of squash-search.",
            object_key=where,
        )


def _entry(dtype: str, shape: tuple[int, ...], start: int, stop: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, stop]}


def _parse(text: str) -> Any:
    """Read JSON strictly: no name twice, no NaN or infinity."""
    return json.loads(text, object_pairs_hook=_once_each, parse_constant=_refuse_constant)


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands there twice")
    return found


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON value")


def _refuse_newer_arrays(entries: Mapping[str, Any], where: str) -> None:
    """Refuse arrays of a dtype that safetensors may have, and no release until this one writes."""
    for name, entry in entries.items():
        dtype = entry["dtype"]
        if isinstance(dtype, str) and dtype not in _DTYPES:
            raise UnsupportedFormatError(
                f"{where} has the array {name!r:.80} of dtype {dtype!r:.40}, which this release "
                "does not read. Install a newer release of squash-search.",
                object_key=where,
            )


def _checked_entry(value: Any, base: int) -> Entry:
    dtype, shape, (start, stop) = value["dtype"], tuple(value["shape"]), value["data_offsets"]
    # `type`, not `isinstance`: true and false are no lengths.
    if not all(type(n) is int and 0 <= n <= _LENGTH_MAX for n in (start, stop, *shape)):
        raise ValueError("a length is negative, fractional or beyond all bounds")
    # An axis of length 0 hides what the others multiply to; NumPy must still be able to hold it.
    if len(shape) > _AXES_MAX or math.prod(max(n, 1) for n in shape) > _LENGTH_MAX:
        raise ValueError("an array has too many axes, or too long ones")
    if np.dtype(_DTYPES[dtype]).itemsize * math.prod(shape) != stop - start:
        raise ValueError("shapes and byte ranges differ")
    return Entry(dtype, shape, base + start, base + stop)


def _check_tiling(entries: Mapping[str, Entry], base: int, total_bytes: int | None) -> None:
    """Refuse arrays that overlap, leave holes, are out of order or not aligned."""
    at = base
    for name, entry in entries.items():
        name.encode()  # Half a surrogate pair has no UTF-8: a ValueError.
        if entry.start != at:
            raise ValueError(f"array {name!r} does not begin where the one before it ends")
        if entry.start % ALIGNMENT and not name.startswith(_PAD):
            raise ValueError(f"array {name!r} is not aligned")
        at = entry.stop
    if total_bytes is not None and at != total_bytes:
        raise ValueError(f"its arrays end at {at}, the object at {total_bytes}")


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=False, allow_nan=False)


def _broken(where: str, what: str) -> DataError:
    return DataError(
        f"{where} {what}: the object is damaged. Run `squash verify` to see what else is, and "
        "restore it from a copy.",
        object_key=where,
    )
