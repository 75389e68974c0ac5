"""Answering queries: filter, choose, prune, rank, refine, merge."""

from squash.search.fetch import keys_passing, live_count, record_page, records_by_key
from squash.search.filtering import admit
from squash.search.query import Query, answer
from squash.search.view import FreshView, IndexView, PartitionView, Rows, SegmentView

__all__ = [
    "FreshView",
    "IndexView",
    "PartitionView",
    "Query",
    "Rows",
    "SegmentView",
    "admit",
    "answer",
    "keys_passing",
    "live_count",
    "record_page",
    "records_by_key",
]
