"""Answering queries: filter, choose, prune, rank, refine, merge."""

from squash.search.at_once import Told
from squash.search.fetch import keys_passing, live_count, record_page, records_by_key
from squash.search.found import Query
from squash.search.index_view import IndexView
from squash.search.query import explain, search, search_many
from squash.search.searcher import LocalSearcher, Searcher
from squash.search.trace import Trace
from squash.search.view import FreshView, PartitionView, Rows, SegmentView

__all__ = [
    "FreshView",
    "IndexView",
    "LocalSearcher",
    "PartitionView",
    "Query",
    "Rows",
    "Searcher",
    "SegmentView",
    "Told",
    "Trace",
    "explain",
    "keys_passing",
    "live_count",
    "record_page",
    "records_by_key",
    "search",
    "search_many",
]
