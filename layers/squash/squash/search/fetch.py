"""Records by key, page by page, and by filter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from squash.arrays import I64, Mask
from squash.attributes import FilterNode, matches
from squash.errors import InvalidArgumentError
from squash.limits import LIST_PAGE_MAX
from squash.model import Record, RecordPage
from squash.search.filtering import exactly
from squash.search.index_view import IndexView
from squash.search.view import Rows
from squash.segment import hash_keys

_HALF_DIGITS: Final = 16
_Place = tuple[tuple[int, int], Rows, int]


def records_by_key(
    view: IndexView,
    keys: Sequence[str],
    include: frozenset[str],
    live: FilterNode | None = None,
) -> list[Record]:
    """Return the records of keys, in their order.

    Those that are not there are left out, and those that do not pass `live`.
    """
    keys = list(dict.fromkeys(keys))
    hashes = hash_keys(keys)
    found: dict[str, Record] = {}
    for rows in view.everything():
        places = rows.keys().lookup(hashes)
        if rows.alive is not None:
            places = np.where((places >= 0) & rows.alive[places], places, -1)
        there = places[places >= 0]
        if len(there):
            records = _live_records(rows, there, include, live)
            found.update((record.key, record) for record in records)
    return [found[key] for key in keys if key in found]


def record_page(
    view: IndexView,
    cursor: str | None,
    limit: int,
    include: frozenset[str],
    live: FilterNode | None = None,
) -> RecordPage:
    """Return a page of records, those that pass `live`, in the order of their keys' hashes.

    That order does not depend on how rows are stored: a record that is there throughout is listed
    exactly once, whatever is written or folded between two pages.

    Raises
    ------
    InvalidArgumentError
        If the limit is out of its range, or the cursor is none.

    """
    if not 1 <= limit <= LIST_PAGE_MAX:
        raise InvalidArgumentError(f"limit is from 1 to {LIST_PAGE_MAX}", field="limit")
    last = _parse_cursor(cursor)
    places: list[_Place] = []
    for rows in view.everything():
        table = rows.keys()
        places.extend(
            (table.hash_at(at), rows, table.row_at(at))
            for at in table.page_after(last, _live_mask(rows, live), limit + 1).tolist()
        )
    places.sort(key=lambda place: place[0])
    page = places[:limit]
    following = None
    if len(places) > limit:
        following = _cursor(page[-1][0])
    return RecordPage(tuple(_in_order(page, include)), following)


def cursor_after(key: str) -> str:
    """Return the cursor of a page that ends with a record."""
    high, low = hash_keys([key])[0].tolist()
    return _cursor((high, low))


def keys_passing(view: IndexView, node: FilterNode | None) -> list[str]:
    """Return the keys of all records that pass a filter."""
    keys: list[str] = []
    for rows in view.everything():
        found = exactly(rows, node)
        places = np.arange(rows.count) if found is None else found
        keys.extend(rows.document_keys(places))
    return keys


def live_count(rows: Rows) -> int:
    """Return how many rows live."""
    return rows.count if rows.alive is None else int(rows.alive.sum())


def _live_records(
    rows: Rows, places: I64, include: frozenset[str], live: FilterNode | None
) -> list[Record]:
    if live is None:
        return _records(rows, places, include)
    # Metadata comes with the keys: for some rows that is less to read than a column of all.
    records = _records(rows, places, include | {"metadata"})
    there = [record for record in records if matches(live, record.metadata or {})]
    return there if "metadata" in include else [replace(one, metadata=None) for one in there]


def _live_mask(rows: Rows, live: FilterNode | None) -> Mask | None:
    if live is None:
        return rows.alive
    passing = rows.columns().evaluate(live)
    return passing if rows.alive is None else passing & rows.alive


def _records(rows: Rows, places: I64, include: frozenset[str]) -> list[Record]:
    vectors = rows.vectors(places) if "vector" in include else [None] * len(places)
    if "metadata" not in include:
        return [
            Record(key, vector, None)
            for key, vector in zip(rows.document_keys(places), vectors, strict=True)
        ]
    return [
        Record(key, vector, metadata)
        for (key, metadata), vector in zip(rows.documents(places), vectors, strict=True)
    ]


def _in_order(page: Sequence[_Place], include: frozenset[str]) -> list[Record]:
    by_source: dict[int, tuple[Rows, list[int]]] = {}
    for position, (_, rows, _) in enumerate(page):
        by_source.setdefault(id(rows), (rows, []))[1].append(position)
    found: dict[int, Record] = {}
    for rows, positions in by_source.values():
        places = np.array([page[position][2] for position in positions], dtype=np.int64)
        found.update(zip(positions, _records(rows, places, include), strict=True))
    return [found[position] for position in range(len(page))]


def _cursor(last: tuple[int, int]) -> str:
    return "".join(f"{half:0{_HALF_DIGITS}x}" for half in last)


def _parse_cursor(cursor: str | None) -> tuple[int, int] | None:
    if cursor is None:
        return None
    try:
        if len(cursor) == 2 * _HALF_DIGITS:
            return int(cursor[:_HALF_DIGITS], 16), int(cursor[_HALF_DIGITS:], 16)
    except (TypeError, ValueError) as error:
        raise _bad_cursor() from error
    raise _bad_cursor()


def _bad_cursor() -> InvalidArgumentError:
    return InvalidArgumentError(
        "the cursor is not one that a listing gave; begin again without one", field="cursor"
    )
