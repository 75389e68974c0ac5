"""Answering queries: filter, choose, prune, rank, refine, merge."""

from squash.search.query import Query, answer
from squash.search.view import IndexView, PartitionView, SegmentView

__all__ = ["IndexView", "PartitionView", "Query", "SegmentView", "answer"]
