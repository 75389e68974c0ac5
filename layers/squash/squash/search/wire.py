"""How messages are written: containers of columns, whose every number is checked on reading.

A container's own entries for each array, and their checks, cost more than a small message's arrays.
So a message is one array of bytes, and its header lists what lies in it, one after another, each
padded to eight bytes: ``"arrays": {name: [dtype, *shape]}``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import accumulate, pairwise
from typing import Any, Final, TypeVar

import numpy as np

from squash.arrays import F32, I64, AnyArray
from squash.container import Container, pack
from squash.errors import DataError, InternalError
from squash.index.references import MALFORMED
from squash.search.events import RefusedMessageError
from squash.search.tasks import Delivery

T = TypeVar("T")

VERSION: Final = 1
_ARRAYS: Final = "arrays"
_DATA: Final = "data"
_ITEM_BYTES: Final = {"|u1": 1, "<u2": 2, "<u4": 4, "<i4": 4, "<i8": 8, "<f4": 4, "<f8": 8}
_ALIGNMENT: Final = 8
_LENGTH_MAX: Final = 1 << 40
# The header's length, its own entries, and their padding.
_HEADER_BYTES: Final = 512
# An array's entry in the header, and its padding.
_ARRAY_BYTES: Final = 160
_ROW_MAX: Final = 1 << 48
_SPENT_BYTES_MAX: Final = 2_048
# Quotes within quotes within quotes: each takes up to four characters.
SPENT_WRITTEN_MAX: Final = 4 * _SPENT_BYTES_MAX


@contextmanager
def reading(kind: str) -> Iterator[None]:
    """Turn whatever reading a message raises into a RefusedMessageError of it."""
    try:
        yield
    except (DataError, *MALFORMED) as error:
        raise RefusedMessageError(
            f"a message of kind {kind!r} cannot be read ({error!s:.300}): it is damaged, or "
            "written by another release. Deploy all functions from one release."
        ) from error


def received(read: Callable[[bytes], T], body: bytes) -> T:
    """Read what another function sent: if that cannot be, nothing stored is damaged.

    Raises
    ------
    InternalError
        If it cannot be read.

    """
    try:
        return read(body)
    except DataError as error:
        raise InternalError(str(error)) from error


def open_message(data: bytes, kind: str) -> Container:
    """Open a message of a kind."""
    return Container(data, kind=kind, versions=(VERSION,), where="it")


def write_message(kind: str, header: Mapping[str, Any], arrays: Mapping[str, AnyArray]) -> bytes:
    """Write a message; its arrays are of the dtypes of `_ITEM_BYTES`."""
    parts: list[bytes] = []
    described: dict[str, list[Any]] = {}
    for name, array in arrays.items():
        dtype = array.dtype.str
        if dtype not in _ITEM_BYTES:
            raise InternalError(f"a message cannot hold {name}, which is {dtype}")
        described[name] = [dtype, *array.shape]
        data = array.tobytes()
        parts.append(data)
        if len(data) % _ALIGNMENT:
            parts.append(bytes(-len(data) % _ALIGNMENT))
    every = np.frombuffer(b"".join(parts), dtype=np.uint8)
    return pack(kind, VERSION, header={**header, _ARRAYS: described}, arrays={_DATA: every})


def message_bytes_max(header: Mapping[str, Any], array_bytes: Sequence[int]) -> int:
    """Return how many bytes a message has at most, whose arrays have so many."""
    # The header is JSON inside JSON, all of it ASCII.
    text = json.dumps(json.dumps(header, separators=(",", ":")))
    return _HEADER_BYTES + len(text) + sum(array_bytes) + _ARRAY_BYTES * len(array_bytes)


class Reader:
    """Arrays of a message by name, each of the dtype and shape that it must have.

    Its methods raise a ValueError or DataError where they are not.
    """

    def __init__(self, container: Container) -> None:
        data = container.array_of(_DATA, "|u1")
        # What was sliced out of something else may lie anywhere.
        self._data = data if data.ctypes.data % _ALIGNMENT == 0 else data.copy()
        self._arrays: dict[str, tuple[str, tuple[int, ...], int, int]] = {}
        at = 0
        for name, (dtype, *shape) in container.header[_ARRAYS].items():
            count = 1
            for length in shape:
                if type(length) is not int or not 0 <= length <= _LENGTH_MAX:
                    raise ValueError(f"{name} has a length of {length!r:.40}")
                count *= length
            self._arrays[name] = dtype, tuple(shape), at, count
            at += count * _ITEM_BYTES[dtype]
            at += -at % _ALIGNMENT
        if at != len(data):
            raise ValueError(f"its arrays have {at} bytes of {len(data)}")

    def array(self, name: str, dtype: str, *shape: int | None) -> AnyArray:
        """Return an array, aligned and read-only; None in the shape is any length."""
        found, lengths, at, count = self._arrays[name]
        if found != dtype or len(lengths) != len(shape):
            raise ValueError(f"{name} is {found} {lengths}, not {dtype} {shape}")
        for want, got in zip(shape, lengths, strict=True):
            if want is not None and want != got:
                raise ValueError(f"{name} is of {lengths}, not {shape}")
        array: AnyArray = np.frombuffer(self._data, dtype, count, at).reshape(lengths)
        return array

    def numbers(self, name: str, dtype: str, *shape: int | None, end: int) -> I64:
        """Return whole numbers from 0 and below `end`, as int64."""
        return below(self.array(name, dtype, *shape).astype(np.int64), end, name)

    def finite(self, name: str, dtype: str, *shape: int | None) -> AnyArray:
        """Return numbers that are finite."""
        found = self.array(name, dtype, *shape)
        if not np.isfinite(found).all():
            raise ValueError(f"{name} has numbers that are not finite")
        return found

    def begins(self, name: str, count: int, total: int) -> list[int]:
        """Return where each of `count` lists begins, and where the last ends: at `total`."""
        begins: list[int] = self.array(name, "<i8", count + 1).tolist()
        if begins[0] != 0 or begins[-1] != total or begins != sorted(begins):
            raise ValueError(f"{name} does not divide {total}")
        return begins

    def lists(self, name: str, count: int, values: AnyArray) -> list[AnyArray]:
        """Return the lists that an array of all their values is divided into."""
        begins = self.begins(f"{name}_begins", count, len(values))
        return [values[a:b] for a, b in pairwise(begins)]


def below(values: I64, end: int, name: str) -> I64:
    """Return whole numbers if all are from 0 and below `end`."""
    if len(values) and not (values.min() >= 0 and values.max() < end):
        raise ValueError(f"{name} has numbers beyond {end}")
    return values


def begins_of(lists: Sequence[Any]) -> I64:
    """Return int64 [n + 1], where each of some lists begins if they follow each other."""
    return np.array([0, *accumulate(map(len, lists))], dtype=np.int64)


def joined(lists: Sequence[AnyArray], dtype: str) -> AnyArray:
    """Return lists one after another."""
    return np.concatenate([np.empty(0, dtype), *lists]).astype(dtype, copy=False)


def chosen(whole: object, *, least: int, most: int) -> int:
    """Return a header's whole number, if it is one within limits."""
    if type(whole) is not int or not least <= whole <= most:
        raise ValueError(f"{whole!r:.40} is not from {least} to {most}")
    return whole


def flag(value: object) -> bool:
    """Return a header's true or false."""
    if not isinstance(value, bool):
        raise TypeError(f"{value!r:.40} is neither true nor false")
    return value


def real(value: object) -> float:
    """Return a header's finite number."""
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not np.isfinite(value):
        raise ValueError(f"{value!r:.40} is no finite number")
    return float(value)


def write_spent(spent: Mapping[str, float]) -> str:
    """Return what a call spent as a header's entry."""
    text = json.dumps(dict(spent))
    if len(text) > _SPENT_BYTES_MAX:
        raise InternalError(f"what a call spent takes {len(text)} bytes to tell")
    return text


def read_spent(text: str) -> dict[str, float]:
    """Read back what a call spent."""
    return {str(name): real(value) for name, value in json.loads(text).items()}


def write_deliveries(deliveries: Sequence[Delivery], dimension: int) -> dict[str, AnyArray]:
    """Return the arrays of what is delivered with several lists of rows."""
    documents = [document for one in deliveries for document in one.documents]
    vectors = [
        np.empty((0, dimension), np.float32) if one.vectors is None else one.vectors
        for one in deliveries
    ]
    return {
        "delivered_begins": begins_of([one.places for one in deliveries]),
        "delivered": joined([one.places for one in deliveries], "<u4"),
        "documents_begins": begins_of(documents),
        "documents": np.frombuffer(b"".join(documents), dtype=np.uint8),
        "delivered_vectors_begins": begins_of(vectors),
        "delivered_vectors": np.concatenate(
            [np.empty((0, dimension), np.float32), *vectors]
        ).astype("<f4", copy=False),
    }


def read_deliveries(reader: Reader, rows: Sequence[int]) -> list[Delivery]:
    """Read back what is delivered with lists of so many rows each."""
    count = len(rows)
    places = reader.lists(
        "delivered", count, reader.numbers("delivered", "<u4", None, end=_ROW_MAX)
    )
    total = sum(map(len, places))
    blob = reader.array("documents", "|u1", None).tobytes()
    begins = reader.begins("documents_begins", total, len(blob))
    vectors = reader.array("delivered_vectors", "<f4", None, None)
    deliveries = []
    at = 0
    for length, mine, own in zip(
        rows, places, reader.lists("delivered_vectors", count, vectors), strict=True
    ):
        below(mine, length, "delivered")
        documents = tuple(blob[begins[i] : begins[i + 1]] for i in range(at, at + len(mine)))
        at += len(mine)
        deliveries.append(Delivery(mine, documents, _vectors(own, len(mine))))
    return deliveries


def _vectors(own: F32, count: int) -> F32 | None:
    if len(own) not in {0, count}:
        raise ValueError(f"{len(own)} vectors of {count} rows")
    return own if len(own) else None


def delivery_bytes_max(queries: int, delivered: int, bytes_max: int) -> list[int]:
    """Return how many bytes the arrays of deliveries have at most.

    Parameters
    ----------
    queries, delivered:
        How many lists there are, and rows delivered of all.
    bytes_max:
        What documents and vectors may have together.

    """
    lists = 8 * (queries + 1)
    return [lists, 4 * delivered, 8 * (delivered + 1), bytes_max, lists, 0]
