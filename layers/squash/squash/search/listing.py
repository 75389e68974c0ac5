"""Lists of an attribute's rows: made when filters that few rows pass have come often enough."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Final

from squash import kernels
from squash.kernels import ClusterTable
from squash.limits import LISTED_BYTES_MAX, LISTED_ROWS_MIN

MISSES_EACH: Final = 8
"""Of so many misses one is noted, as so many, drawn by chance."""
_DRAWS: Final = (1 << 31) - 1


class Listing:
    """What was missed for want of lists, and their making.

    Parameters
    ----------
    rows:
        How many rows the snapshot has.
    keep:
        Counts a list as retained, by its attribute and bytes; tells whether there was room.

    """

    def __init__(self, rows: int, keep: Callable[[str, int], bool]) -> None:
        self.serves = rows >= LISTED_ROWS_MIN
        self._keep = keep
        self._missed_ns: dict[str, float] = {}
        self._draw = 1
        self._making = threading.Lock()

    def is_counted(self) -> bool:
        """Tell whether a miss is one of those that are noted, each for `MISSES_EACH`.

        What lists would have spared takes a twentieth of a query's time to find out.
        """
        # By chance, since kinds of queries may take turns; the generator of Park and Miller, which
        # is one multiplication, where NumPy's have to be imported.
        self._draw = self._draw * 48_271 % _DRAWS
        return self._draw * MISSES_EACH < _DRAWS

    def miss(self, table: ClusterTable, spared_ns: Mapping[str, float], *, pays_ns: float) -> None:
        """Note that a filter went without lists, and make those of which enough was missed.

        Parameters
        ----------
        table:
            Where lists are put.
        spared_ns:
            By attribute, what a list of its rows would have spared.
        pays_ns:
            How much must have been missed.

        """
        for name, spared in spared_ns.items():
            missed = self._missed_ns.get(name, 0.0) + spared
            self._missed_ns[name] = missed
            if missed >= pays_ns:
                self._make(table, name)

    def _make(self, table: ClusterTable, name: str) -> None:
        """Make a list, unless another thread is making one: nobody waits for it."""
        if not self._making.acquire(blocking=False):
            return
        try:
            if name in table.listed:
                return
            # If there is no room, it is asked for again when as much has been missed once more.
            self._missed_ns[name] = 0.0
            size = kernels.listed_bytes(table)
            if size is not None and size <= LISTED_BYTES_MAX and self._keep(name, size):
                made = kernels.list_rows(table, name)
                # Another dictionary: who reads the last one goes on with it.
                table.listed = {**table.listed, name: made}
        finally:
            self._making.release()
