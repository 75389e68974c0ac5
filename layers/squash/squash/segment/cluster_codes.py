"""A partition's codes in arrays of their full shape, filled cluster by cluster."""

from __future__ import annotations

import mmap
import threading
import zlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from squash.arrays import I64, U8, Mask, distinct
from squash.container import Buffer
from squash.errors import ChecksumError, DataError
from squash.segment.head import CodeArray


class ClusterCodes(Mapping[str, U8]):
    """Arrays of codes by name, as whole as they were read; they never move.

    Zeros lie where nothing was filled in: those pages cost no memory.

    Parameters
    ----------
    arrays:
        Where each array lies in the object, and its clusters' checksums.
    where:
        The object's key, for errors.

    """

    def __init__(self, arrays: Sequence[CodeArray], where: str) -> None:
        self._described = tuple(arrays)
        self._where = where
        self._lock = threading.Lock()
        self._arrays: dict[str, U8] | None = None
        self._bytes: I64 = sum(
            (np.diff(one.begins) * one.item_bytes for one in arrays),
            start=np.zeros(len(arrays[0].crc32) if arrays else 0, dtype=np.int64),
        )
        self._filled: Mask = self._bytes == 0
        self._left = int(np.count_nonzero(~self._filled))
        self.filled_bytes = 0

    def __getitem__(self, name: str) -> U8:
        return self._allocated()[name]

    def __iter__(self) -> Iterator[str]:
        return (one.name for one in self._described)

    def __len__(self) -> int:
        return len(self._described)

    def holds(self, clusters: I64) -> bool:
        """Tell whether all of some clusters are filled in."""
        return not self._left or bool(self._filled[clusters].all())

    @property
    def is_whole(self) -> bool:
        """Whether all clusters are filled in."""
        return not self._left

    def is_filled(self, cluster: int) -> bool:
        """Tell whether a cluster is filled in."""
        return bool(self._filled[cluster])

    def missing(self, clusters: I64) -> list[int]:
        """Return those of some clusters that are not filled in, ascending.

        Once most of the bytes are wanted, they are all clusters that are not: the rest is then
        better read along than asked for piece by piece.
        """
        if self.holds(clusters):
            return []
        wanted = distinct(np.concatenate((clusters, np.flatnonzero(self._filled))))
        if 2 * int(self._bytes[wanted].sum()) > int(self._bytes.sum()):
            return self.missing_of_all()
        return [int(one) for one in wanted[~self._filled[wanted]]]

    def missing_of_all(self) -> list[int]:
        """Return all clusters that are not filled in, ascending."""
        return [int(one) for one in np.flatnonzero(~self._filled)]

    def ranges(self, cluster: int) -> list[tuple[int, int]]:
        """Return [start, stop) in the object of a cluster's part of each array."""
        return [one.range_of(cluster) for one in self._described]

    def bytes_of(self, cluster: int) -> int:
        """Return how many bytes a cluster has in all arrays."""
        return self._bytes.item(cluster)

    def fill(self, cluster: int, parts: Sequence[Buffer]) -> None:
        """Check a cluster's bytes and put them in place; `note_filled` makes it known.

        Raises
        ------
        ChecksumError
            If they are not what the segment says; nothing is put in place then.
        DataError
            If there is no room for arrays of their size.

        """
        for one, data in zip(self._described, parts, strict=True):
            first, last = one.range_of(cluster)
            if len(data) != last - first or zlib.crc32(data) != one.crc32.item(cluster):
                raise ChecksumError(
                    f"{one.name} of cluster {cluster} in {self._where} has another checksum than "
                    "its segment says: the object is damaged. Run `squash verify` to see what else "
                    "is, and restore it from a copy.",
                    object_key=self._where,
                )
        arrays = self._allocated()
        for one, data in zip(self._described, parts, strict=True):
            first, last = one.begins.item(cluster), one.begins.item(cluster + 1)
            arrays[one.name][first:last] = np.frombuffer(data, dtype=np.uint8).reshape(
                last - first, one.item_bytes
            )

    def note_filled(self, cluster: int) -> None:
        """Make a cluster known as filled; calls must not overlap."""
        if not self._filled[cluster]:
            self._filled[cluster] = True
            self._left -= 1
            self.filled_bytes += self.bytes_of(cluster)

    def _allocated(self) -> dict[str, U8]:
        """Return the arrays, made when they are first asked for: by then some bytes were there."""
        with self._lock:
            if self._arrays is None:
                try:
                    self._arrays = {
                        one.name: _zeros(one.begins.item(-1), one.item_bytes)
                        for one in self._described
                    }
                except (OSError, OverflowError, ValueError) as error:
                    raise DataError(
                        f"{self._where} has codes of more bytes than there is memory for ({error})",
                        object_key=self._where,
                    ) from error
            return self._arrays


def _zeros(count: int, item_bytes: int) -> U8:
    """Return zeros uint8 [count, item_bytes] of untouched pages.

    NumPy's own would ask for huge pages, of which each touched one takes 2 MiB.
    """
    if not count * item_bytes:
        return np.zeros((count, item_bytes), dtype=np.uint8)
    room = mmap.mmap(-1, count * item_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return np.frombuffer(room, dtype=np.uint8).reshape(count, item_bytes)
