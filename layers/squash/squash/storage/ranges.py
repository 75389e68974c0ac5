"""Which reads serve a set of byte ranges: near ones together, long ones in parallel pieces."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from squash.container import Buffer
from squash.limits import KIB, MIB
from squash.values import dataclass

# A request's latency costs about as much as this many bytes of a stream do.
GAP_BYTES_MAX: Final = 128 * KIB
# Beyond that a request's price counts: it is that of 12 ms of a function of 2 GB, in which a stream
# brings more than this. It bounds what one plan reads in vain. Decision 0011 prices other choices.
SPARE_BYTES_MAX: Final = 512 * KIB
# One stream from S3 gives some 50 to 90 MB/s; longer reads are faster as several streams.
READ_BYTES_MAX: Final = 8 * MIB

Range = tuple[int, int]


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """What to read: `reads` are disjoint and ascending; `extents` are runs of adjoining reads.

    `extents[i]` is made of the reads `firsts[i]` up to `firsts[i + 1]`; every range lies in one.
    """

    ranges: tuple[Range, ...]
    extents: tuple[Range, ...]
    reads: tuple[Range, ...]
    firsts: tuple[int, ...]

    @property
    def read_bytes(self) -> int:
        """How many bytes are read, gaps included."""
        return sum(stop - start for start, stop in self.reads)

    def assemble(self, data: Sequence[Buffer]) -> list[Buffer]:
        """Cut the ranges, in the order asked, out of what the reads gave.

        Parameters
        ----------
        data:
            The bytes of each read, in the order of `reads`.

        """
        joined: list[memoryview] = []
        for first, last in pairwise(self.firsts):
            pieces = data[first:last]
            joined.append(memoryview(pieces[0] if len(pieces) == 1 else b"".join(pieces)))
        starts = [start for start, _ in self.extents]
        cut: list[Buffer] = []
        for start, stop in self.ranges:
            if start == stop:
                cut.append(b"")
                continue
            at = bisect_right(starts, start) - 1
            cut.append(joined[at][start - starts[at] : stop - starts[at]])
        return cut


def plan_reads(
    ranges: Sequence[Range],
    *,
    gap_max: int = GAP_BYTES_MAX,
    spare_max: int = SPARE_BYTES_MAX,
    read_max: int = READ_BYTES_MAX,
) -> ReadPlan:
    """Plan the reads for `ranges`, which may overlap, repeat, be empty and have any order.

    Parameters
    ----------
    ranges:
        [start, stop) in bytes.
    gap_max:
        Ranges with at most so many bytes between them are read together.
    spare_max:
        So many bytes of longer gaps are read too, the shortest gaps first.
    read_max:
        No read is longer than this.

    Raises
    ------
    ValueError
        If a range is negative or ends before it starts.

    """
    check_ranges(ranges)
    extents: list[Range] = []
    for start, stop in sorted(r for r in ranges if r[0] < r[1]):
        if extents and start - extents[-1][1] <= gap_max:
            extents[-1] = (extents[-1][0], max(extents[-1][1], stop))
        else:
            extents.append((start, stop))
    extents = _without_short_gaps(extents, spare_max)
    reads: list[Range] = []
    firsts = [0]
    for start, stop in extents:
        count = -(-(stop - start) // read_max)
        edges = [start + (stop - start) * i // count for i in range(count + 1)]
        reads.extend(pairwise(edges))
        firsts.append(len(reads))
    return ReadPlan(tuple(ranges), tuple(extents), tuple(reads), tuple(firsts))


def _without_short_gaps(extents: list[Range], spare_max: int) -> list[Range]:
    """Close the shortest gaps, as long as they are not longer than `spare_max` together."""
    gaps = sorted((after[0] - before[1], i) for i, (before, after) in enumerate(pairwise(extents)))
    closed = set()
    for gap, place in gaps:
        if gap > spare_max:
            break
        spare_max -= gap
        closed.add(place)
    joined: list[Range] = []
    for i, (start, stop) in enumerate(extents):
        joined.append((joined.pop()[0], stop) if i - 1 in closed else (start, stop))
    return joined


def check_ranges(ranges: Sequence[Range]) -> None:
    """Refuse ranges that cannot be.

    Raises
    ------
    ValueError
        If a range is negative or ends before it starts.

    """
    for start, stop in ranges:
        if not 0 <= start <= stop:
            raise ValueError(f"[{start}, {stop}) is no range of bytes")
