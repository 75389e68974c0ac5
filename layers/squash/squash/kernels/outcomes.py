"""What a search in one native call says: what it found, or why it could not go on."""

from __future__ import annotations

from operator import lt
from typing import Final, NamedTuple

from squash.arrays import I64
from squash.values import dataclass, maker_of

FILTERED, LISTED, KEY_BYTES, EVERY, SINGLE = range(8, 13)
"""Which of the counts that kernels leave they are: SQ_FILTERED and those behind it."""
STAYS_OPEN: Final = -(1 << 63)
NOT_AT_ONCE: Final = STAYS_OPEN + 2


class Near(NamedTuple):
    """The nearest k rows and what ties with the last of them, ascending by distance.

    `taken` clusters were taken, in which `admitted` rows pass, of `rows_seen`; of these
    `low_scanned` were scanned, `ranked` by their full codes, `kept`, and `read` measured. `keys`
    are the rows' keys, where they were asked for and are at hand. `filtered` is how many rows pass,
    where a program was evaluated for all clusters, else -1. `listed` is 1 where that was by lists,
    -1 where lists would have paid but did not serve, and `every` whether all that passes was
    measured.
    """

    partition: list[int]
    row: list[int]
    distances: list[float]
    taken: I64
    rows_seen: int
    admitted: int
    low_scanned: int
    ranked: int
    kept: int
    read: int
    keys: list[str] | None
    filtered: int
    listed: int
    every: bool

    def searched(self) -> tuple[int, ...]:
        """Return the counts from `rows_seen` to `read`."""
        return self[4:10]


near_of: Final = maker_of(Near)


class Settled(NamedTuple):
    """The nearest rows by their keys, where no more than k were found and none ties with another.

    `counts` are as the kernels left them.
    """

    keys: list[str]
    distances: list[float]
    counts: tuple[int, ...]

    @property
    def filtered(self) -> int:
        """As of `Near`."""
        return self.counts[FILTERED]

    @property
    def listed(self) -> int:
        """As of `Near`."""
        return self.counts[LISTED]

    @property
    def every(self) -> bool:
        """As of `Near`."""
        return self.counts[EVERY] != 0

    def searched(self) -> tuple[int, ...]:
        """Return the counts of `Near` from `rows_seen` to `read`."""
        return self.counts[:2] + self.counts[4:FILTERED]


settled_of: Final = maker_of(Settled)


@dataclass(frozen=True, slots=True, eq=False)
class Missing:
    """A search that could not go on: partitions of the clusters `taken` are not loaded."""

    taken: I64


@dataclass(frozen=True, slots=True, eq=False)
class StaysOpen:
    """A search that could not go on: cells leave rows of the clusters taken open.

    Or more rows pass than are measured at once, where all are. If a program was evaluated for all
    clusters, `counts` are those of sure and possible rows, which the bitmaps hold.
    """

    counts: tuple[I64, I64] | None = None


def ascends(distances: list[float]) -> bool:
    """Tell whether each row is farther than the one before: what is found at once comes so."""
    return all(map(lt, distances, distances[1:]))
