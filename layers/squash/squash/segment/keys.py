"""From keys to rows: 128-bit hashes of keys, sorted, so that a look-up is a binary search."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np

from squash.arrays import I64, U32, U64, Mask
from squash.container import Container
from squash.errors import DataError

_HASH_BYTES = 16


def hash_keys(keys: Sequence[str]) -> U64:
    """Hash keys: BLAKE2b of the UTF-8 bytes, 16 bytes long, read as two little-endian u64.

    At 128 bits two of a billion keys collide with a probability of 10^-21, so that equal hashes
    are taken for equal keys.

    Returns
    -------
    uint64 [n, 2]

    """
    # To copy a hash that has seen nothing takes half of what making one takes.
    none = blake2b(digest_size=_HASH_BYTES, usedforsecurity=False)
    digests = []
    for key in keys:
        one = none.copy()
        one.update(key.encode())
        digests.append(one.digest())
    return np.frombuffer(b"".join(digests), dtype="<u8").reshape(-1, 2)


class KeyTable:
    """The keys of one segment, by hash.

    Parameters
    ----------
    hashes:
        uint64 [n, 2], ascending by the first column, then the second.
    rows:
        uint32 [n], the row of each hash.

    """

    def __init__(self, hashes: U64, rows: U32) -> None:
        self._hashes = hashes
        self._first = np.ascontiguousarray(hashes[:, 0])
        self._rows = rows

    @classmethod
    def build(cls, keys: Sequence[str]) -> KeyTable:
        """Sort the hashes of `keys`, whose rows are their positions."""
        hashes = hash_keys(keys)
        order = np.lexsort((hashes[:, 1], hashes[:, 0]))
        return cls(hashes[order], order.astype(np.uint32))

    @classmethod
    def from_container(cls, container: Container) -> KeyTable:
        """Read the table from a segment's `rows` object.

        Raises
        ------
        DataError
            If the arrays do not fit each other.

        """
        hashes, rows = (
            container.array_of("key_hashes", "<u8", 2),
            container.array_of("key_rows", "<u4"),
        )
        if hashes.shape[1] != 2 or rows.shape != hashes.shape[:1]:  # noqa: PLR2004
            raise DataError("a segment's key table has arrays of unequal length")
        if len(rows) and int(rows.max()) >= len(rows):
            raise DataError("a segment's key table names rows beyond its last")
        return cls(hashes, rows)

    def arrays(self) -> dict[str, U64 | U32]:
        """Return the arrays as they are stored: uint64 [n, 2] and uint32 [n]."""
        return {"key_hashes": self._hashes, "key_rows": self._rows}

    def __len__(self) -> int:
        return len(self._rows)

    def page_after(self, last: tuple[int, int] | None, alive: Mask | None, limit: int) -> I64:
        """Return the next live rows in the order of their hashes.

        Parameters
        ----------
        last:
            The hash after which to begin; None for the beginning.
        alive:
            bool [n] by row; None if all live.
        limit:
            How many at most.

        Returns
        -------
        int64 [m], positions in the table; `hash_at` and `row_at` say what is there.

        """
        start = 0
        if last is not None:
            start = int(np.searchsorted(self._first, np.uint64(last[0])))
            while start < len(self._rows) and self.hash_at(start) <= last:
                start += 1
        positions: I64 = np.arange(start, len(self._rows), dtype=np.int64)
        if alive is not None:
            positions = positions[alive[self._rows[positions]]]
        return positions[:limit]

    def hash_at(self, position: int) -> tuple[int, int]:
        """Return the hash at a position of the table."""
        return int(self._hashes[position, 0]), int(self._hashes[position, 1])

    def row_at(self, position: int) -> int:
        """Return the row at a position of the table."""
        return int(self._rows[position])

    def lookup(self, hashes: U64) -> I64:
        """Find rows.

        Parameters
        ----------
        hashes:
            uint64 [m, 2], as `hash_keys` makes them.

        Returns
        -------
        int64 [m]: the row of each hash, or -1.

        """
        found = np.full(len(hashes), -1, dtype=np.int64)
        if not len(self._rows) or not len(hashes):
            return found
        position = np.searchsorted(self._first, hashes[:, 0])
        # Mostly keys are new: beyond the last place is none that is as large.
        if not np.any(self._first.take(position, mode="clip") == hashes[:, 0]):
            return found
        # Equal first halves are next to impossible, yet cost one more comparison each to get right.
        for _ in range(len(self._rows)):
            inside = position < len(self._rows)
            at = np.where(inside, position, 0)
            same_first = inside & (self._first[at] == hashes[:, 0])
            same = same_first & (self._hashes[at, 1] == hashes[:, 1])
            found[same] = self._rows[at[same]]
            open_ = same_first & ~same & (found < 0)
            if not open_.any():
                break
            position = position + open_
        return found
