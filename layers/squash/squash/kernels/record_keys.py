"""Keys of rows that lie in many partitions, read together out of their records.

A record is JSON, `["key",{...`. That of a row among a million lies where no cache has it, and so
does the number that says where it begins: one row after another, its key is two waits for memory.
"""

from __future__ import annotations

import re
from struct import Struct, pack
from typing import Final

import numpy as np

from squash.arrays import I64, U8, U64
from squash.kernels import native
from squash.kernels.native import address

# What json.dumps writes of a key without escapes, and of a record's metadata.
PLAIN_KEY: Final = re.compile(rb'\["([^"\\\x00-\x1f]+)",\{')
_RECORDS: Final = Struct("=QqQq")  # `sq_records`
# The room for a key at first; of longer ones the second call is told how much they take.
KEY_BYTES: Final = 48
_ROOM_BYTES: Final = 10 * KEY_BYTES


class _Room:
    """What keys are written to, by one call at a time."""

    __slots__ = ("at", "bytes", "view")

    def __init__(self, size: int) -> None:
        memory = np.empty(size, dtype=np.uint8)
        self.view = memory.data
        self.at = address(memory)
        self.bytes = size


class RecordTable:
    """The records of some partitions, as far as they are loaded; threads may share it.

    Parameters
    ----------
    partitions:
        How many there are.

    """

    def __init__(self, partitions: int) -> None:
        self._held: list[tuple[U8, I64] | None] = [None] * partitions
        self._table: U64 = np.zeros((partitions, _RECORDS.size // 8), dtype=np.uint64)
        self._rooms: list[_Room] = []
        self.at: Final = address(self._table)
        """Where their `sq_records` lie, one for each partition."""
        self.partitions: Final = partitions

    def holds(self, partition: int) -> bool:
        """Tell whether a partition's records are here."""
        return self._held[partition] is not None

    def put(self, partition: int, data: U8, begins: I64) -> None:
        """Take in a partition's records, uint8 [bytes].

        Row r's lies in begins[r] .. begins[r + 1], int64 [n + 1].
        """
        begins = np.ascontiguousarray(begins, dtype=np.int64)
        rows = max(len(begins) - 1, 0)
        _RECORDS.pack_into(
            self._table.data.cast("B"), partition * _RECORDS.size,
            address(data), len(data), address(begins), rows,
        )  # fmt: skip
        # Last: who finds it held, in whatever thread, finds its addresses written.
        self._held[partition] = data, begins

    def texts(self, partition: list[int], row: list[int]) -> list[bytes] | None:
        """Return the records of m rows, with what follows each; None if one is not held."""
        texts = []
        for number, at in zip(partition, row, strict=True):
            held = self._held[number]
            if held is None:
                return None
            data, item = held[0], held[1].item
            texts.append(data.data[item(at) : item(at + 1)].tobytes())
        return texts

    def keys(self, partition: list[int], row: list[int]) -> list[str] | None:
        """Return the keys of m rows, of partitions that are held.

        None if one is written with escapes, or where its segment says is no record with a key: to
        read that, or refuse it, is for who reads it as JSON.
        """
        if not row:
            return []
        chosen = native.active()
        if chosen is None:
            found = self._gathered(partition, row)
            return None if found is None else split_keys(found)
        # The function keeps what it has made of a format; a `Struct` is made each time.
        form = f"={len(row)}q"
        return self.keys_at(chosen, pack(form, *partition), pack(form, *row), len(row))

    def keys_at(
        self, chosen: native.Native, partition: int | bytes, row: int | bytes, count: int
    ) -> list[str] | None:
        """Do as `keys` for partitions and rows that are int64 [count] in memory already.

        Of partitions that are not held there is no record: None.
        """
        if not count:
            return []
        rooms = self._rooms
        try:
            room = rooms.pop()
        except IndexError:
            room = _Room(max(count * KEY_BYTES, _ROOM_BYTES))
        held = self.partitions
        written = chosen.gather_keys(self.at, held, partition, row, count, room.at, room.bytes)
        if written > room.bytes:
            room = _Room(written)
            chosen.gather_keys(self.at, held, partition, row, count, room.at, room.bytes)
        try:
            return split_keys(room.view[: written - 1]) if written > 0 else None
        finally:
            rooms.append(room)

    def _gathered(self, partition: list[int], row: list[int]) -> bytes | None:
        keys = []
        for number, at in zip(partition, row, strict=True):
            held = self._held[number]
            if held is None or not 0 <= at < len(held[1]) - 1:
                return None
            data, (begin, end) = held[0], held[1][at : at + 2].tolist()
            # The last of all ends as if another page followed.
            if not 0 <= begin <= end <= len(data) + 1:
                return None
            plain = PLAIN_KEY.match(data[begin:end].tobytes())
            if plain is None:
                return None
            keys.append(plain[1])
        return b"\n".join(keys)


def split_keys(keys: bytes | memoryview) -> list[str] | None:
    """Return the keys that `gather_keys` wrote, without the last line feed; None if no UTF-8."""
    try:
        # No key has a line feed, and no character of several bytes does.
        return str(keys, "utf-8").split("\n")
    except UnicodeDecodeError:
        return None
