"""Vector buckets in a store, by a writer with a number, and an index that can be in one."""

from __future__ import annotations

from index_world import CountedIds, FakeClock

from squash.index.buckets import VectorBuckets
from squash.index.names import BUCKETS
from squash.model import IndexConfig, Metric

NAME = "media"
CONFIG = IndexConfig(
    name=f"{NAME}/papers",
    dimension=2,
    metric=Metric.COSINE,
    encoder=None,
    attributes={},
    non_filterable=(),
    codec="residual",
    seed=0,
    created_ms=7,
)


def buckets_of(store, number=0, clock=None):
    return VectorBuckets(store, clock=clock or FakeClock(), ids=CountedIds(number))


def keys(store, prefix=BUCKETS):
    return [info.key for info in store.list(prefix)]
