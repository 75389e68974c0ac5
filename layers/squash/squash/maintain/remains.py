"""Garbage collection of what belongs to no index: remains of dropped ones, and of buckets."""

from __future__ import annotations

from collections.abc import Sequence

from squash.clock import Clock, IdSource
from squash.index import buckets
from squash.limits import GC_GRACE_MS
from squash.maintain.gc import batches, store_time
from squash.model import ObjectCount
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
        now_ms = clock.now_ms() if dry_run else store_time(below, ids)
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
    """Remove what vector buckets left that the store has had as gone for the grace.

    The last version goes last and alone: without it an earlier one would hold again.

    Parameters
    ----------
    store:
        The database's.
    clock, ids, dry_run:
        As `collect`.

    """
    objects = stored = 0
    for left in buckets.remains(store, clock=clock, ids=ids):
        *others, last = left
        below = PrefixStore(store, last.key.rpartition("/")[0] + "/")
        now_ms = clock.now_ms() if dry_run else store_time(below, ids)
        if last.modified_ms >= now_ms - GC_GRACE_MS:
            continue
        objects += len(left)
        stored += sum(info.bytes for info in left)
        if not dry_run:
            for batch in batches([info.key for info in others], alone=0):
                store.delete(batch)
            store.delete([last.key])
    return ObjectCount(objects, stored)
