"""Calls that may have so many matches: those that are known to have more are not searched on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from squash.errors import TooLargeError
from squash.limits import MATCHES_AT_ONCE_MAX
from squash.model import Match
from squash.runtime.usage import spent_together
from squash.search import IndexView, Query
from squash.search.searcher import Searcher
from squash.search.trace import Trace


def search_bounded(
    searcher: Searcher, view: IndexView, queries: Sequence[Query], matches_max: int
) -> list[tuple[tuple[Match, ...], Trace]]:
    """Search for what queries ask, if they have at most so many matches together.

    A query without a filter has min(k, rows) matches: what is too many by that alone is not
    searched at all. Where the others could have too many, some are searched at a time: so many that
    they have `MATCHES_AT_ONCE_MAX` at most, more if those before had few, and none once there are
    too many.

    Returns
    -------
    As `Searcher.search`.

    Raises
    ------
    TooLargeError
        If there are more; its field is ``matches_max``.
    SquashError
        As `Searcher.search`.

    """
    if sum(query.k for query in queries) <= matches_max:
        return searcher.search(view, queries)
    rows = _live_rows(view)
    sure = sum(min(query.k, rows) for query in queries if query.node is None)
    _check(sure, matches_max, len(queries))
    found: list[tuple[tuple[Match, ...], Trace]] = []
    count = 0
    each = max(min(max(query.k for query in queries), rows), 1)
    at_once = max(MATCHES_AT_ONCE_MAX // each, 1)
    while len(found) < len(queries):
        some = searcher.search(view, queries[len(found) : len(found) + at_once])
        matches = sum(len(matches) for matches, _ in some)
        count += matches
        _check(count, matches_max, len(queries))
        if 2 * matches <= each * len(some):
            at_once *= 2
        if found:
            # What was spent is told once for all.
            found[0][1].spent = spent_together(found[0][1].spent, some[0][1].spent)
            some[0][1].spent = None
        found += some
    return found


def _live_rows(view: IndexView) -> int:
    every = ((rows.count, rows.alive) for rows in view.everything())
    return sum(count if alive is None else int(np.count_nonzero(alive)) for count, alive in every)


def _check(count: int, matches_max: int, queries: int) -> None:
    if count > matches_max:
        raise TooLargeError(
            f"{queries} queries have {count} matches together or more, and at most {matches_max} "
            "may be answered (matches_max): lower top_k, narrow the filter, or send fewer queries "
            "at once",
            field="matches_max",
        )
