"""Garbage collection of what belongs to no index: remains of dropped ones, and of buckets."""

from __future__ import annotations

from collections.abc import Sequence

from squash.clock import Clock, IdSource
from squash.index import buckets
from squash.limits import GC_GRACE_MS
from squash.maintain.gc import batches, time_to_collect
from squash.reports import ObjectCount
from squash.storage import ObjectStore, PrefixStore


def collect_remains(
    store: ObjectStore,
    prefixes: Sequence[str],
    *,
    clock: Clock,
    ids: IdSource,
    dry_run: bool,
) -> ObjectCount:
    """Remove what the store has had for the grace below prefixes of indexes that are no more.

    Parameters
    ----------
    store:
        The database's.
    prefixes:
        See `catalogue.remains`.
    clock, ids, dry_run:
        As `collect`.

    """
    objects = stored = 0
    for prefix in prefixes:
        below = PrefixStore(store, prefix)
        now_ms = time_to_collect(below, clock=clock, ids=ids, dry_run=dry_run)
        old = [info for info in below.list("") if info.modified_ms < now_ms - GC_GRACE_MS]
        objects += len(old)
        stored += sum(info.bytes for info in old)
        if not dry_run:
            for batch in batches([info.key for info in old], alone=0):
                below.delete(batch)
    return ObjectCount(objects, stored)


def collect_buckets(
    store: ObjectStore, *, clock: Clock, ids: IdSource, dry_run: bool
) -> ObjectCount:
    """Remove the earlier versions of vector buckets that the store has had as gone for the grace.

    Parameters
    ----------
    store:
        The database's.
    clock, ids, dry_run:
        As `collect`.

    """
    objects = stored = 0
    for left in buckets.remains(store, clock=clock, ids=ids):
        if not left.earlier:
            continue
        below = PrefixStore(store, left.prefix)
        now_ms = time_to_collect(below, clock=clock, ids=ids, dry_run=dry_run)
        if left.last.modified_ms >= now_ms - GC_GRACE_MS:
            continue
        objects += len(left.earlier)
        stored += sum(info.bytes for info in left.earlier)
        if not dry_run:
            for batch in batches([info.key for info in left.earlier], alone=0):
                store.delete(batch)
    return ObjectCount(objects, stored)
