"""What a search in one native call says: what it found, or why it could not go on."""

from __future__ import annotations

from operator import lt
from struct import Struct
from typing import Any, Final, NamedTuple

from squash.arrays import I64
from squash.values import dataclass, maker_of

COUNTS: Final = 13
"""SQ_COUNTS of squash_kernels.h."""
COUNTS_FORM: Final = Struct(f"={COUNTS}q")
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
    """The answer, as a `Maker` gives its rows: no more than k were found, and none ties.

    `counts` are as the kernels left them, in bytes.
    """

    rows: tuple[Any, ...]
    counts: bytes
    listed: int
    """As of `Near`."""


settled_of: Final = maker_of(Settled)


class SettledCounts:
    """What the counts of a settled search say."""

    def __init__(self, counts: bytes) -> None:
        seen = COUNTS_FORM.unpack(counts)
        self.filtered: Final = seen[FILTERED]
        """As of `Near`."""
        self.every: Final = seen[EVERY] != 0
        """As of `Near`."""
        self.searched: Final = seen[:2] + seen[4:FILTERED]
        """The counts of `Near` from `rows_seen` to `read`."""


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


@dataclass(frozen=True, slots=True, eq=False)
class Unchecked:
    """A search that was not begun: its query is not certainly sound."""


UNCHECKED: Final = Unchecked()


def ascends(distances: list[float]) -> bool:
    """Tell whether each row is farther than the one before: what is found at once comes so."""
    return all(map(lt, distances, distances[1:]))
