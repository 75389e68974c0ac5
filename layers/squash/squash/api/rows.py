"""Row filters: what a caller may see of an index, whatever it asks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from squash.api.access import Caller
from squash.api.problems import RefusedError
from squash.attributes import FilterNode, matches, parse_filter
from squash.database import Index
from squash.errors import FilterError, InvalidArgumentError
from squash.model import AsOf, Filter, IndexConfig, Record, RecordPage


def query_filter(caller: Caller, filter_: Filter | None, config: IndexConfig) -> Filter | None:
    """Return the filter of a query, and-ed with the caller's row filter.

    Raises
    ------
    FilterError
        If the query's own is not well formed; its places are those of the query's own.
    InvalidArgumentError
        If both together are larger than a filter may be.
    RefusedError
        If the row filter cannot be applied to this index.

    """
    if _row_filter(caller, config) is None:
        return filter_
    if parse_filter(filter_, non_filterable=config.non_filterable) is None:
        return caller.row_filter
    both = {"$and": [caller.row_filter, filter_]}
    try:
        parse_filter(both)
    except FilterError as error:
        raise InvalidArgumentError(
            "the filter and the credential's row filter are too large together: simplify the filter"
        ) from error
    return both


def get_records(
    index: Index,
    caller: Caller,
    keys: Sequence[str],
    *,
    include: Sequence[str],
    as_of: AsOf | None = None,
) -> list[Record]:
    """Get records by key, those alone that the caller may see."""
    node = _row_filter(caller, index.config)
    if node is None:
        return index.get(keys=keys, include=include, as_of=as_of)
    found = index.get(keys=keys, include={*include, "metadata"}, as_of=as_of)
    return [_cut(record, include) for record in found if matches(node, record.metadata or {})]


def list_records(
    index: Index,
    caller: Caller,
    *,
    cursor: str | None,
    limit: int,
    include: Sequence[str],
    as_of: AsOf | None = None,
) -> RecordPage:
    """List a page of records, those alone that the caller may see.

    Under a row filter pages are as full as without: the cursor would else tell of hidden records.
    """
    _row_filter(caller, index.config)
    return index.list(
        cursor=cursor, limit=limit, filter=caller.row_filter, include=include, as_of=as_of
    )


def _row_filter(caller: Caller, config: IndexConfig) -> FilterNode | None:
    if caller.row_filter is None:
        return None
    try:
        node = parse_filter(caller.row_filter, non_filterable=config.non_filterable)
    except FilterError as error:
        raise RefusedError(
            "this credential's row filter cannot be applied to this index, since it asks for a "
            "metadata key that is not filterable here",
            index=config.name,
        ) from error
    if node is None:
        raise RefusedError("this credential's row filter says nothing", index=config.name)
    return node


def _cut(record: Record, include: Sequence[str]) -> Record:
    metadata: Any = record.metadata if "metadata" in include else None
    return Record(record.key, record.vector, metadata)
