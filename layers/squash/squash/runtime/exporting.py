"""Reading a whole snapshot out, batch by batch.

Loaded by a session when it is first asked for: who only answers queries does without.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, Self

import numpy as np

from squash.arrays import F32, I64, Mask
from squash.attributes import FilterNode
from squash.errors import DataError
from squash.limits import EXPORT_BATCH_BYTES_MAX, EXPORT_BATCH_ROWS_MAX
from squash.model import RowBatch
from squash.reports import Progress
from squash.runtime.retained import RetainedObjects
from squash.runtime.views import IndexViews
from squash.search import IndexView, Rows, SegmentView, live_count
from squash.search.filtering import exactly
from squash.storage import ObjectStore

_VALUE_BYTES: Final = np.dtype(np.float32).itemsize

Report = Callable[[Progress], None]


class RowExport(Iterator[RowBatch]):
    """The records of one snapshot, read once, in no order that means anything.

    Writers, folds and further snapshots change nothing of it. Memory holds one batch, and what is
    stored of one segment.
    """

    def __init__(self, batches: Iterator[RowBatch], *, snapshot: int) -> None:
        self._batches = batches
        self._snapshot = snapshot

    @property
    def snapshot(self) -> int:
        """The number of the snapshot that is read."""
        return self._snapshot

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> RowBatch:
        return next(self._batches)


def export(
    views: IndexViews,
    view: IndexView,
    node: FilterNode | None,
    *,
    store: ObjectStore,
    whole_bytes_max: int,
    include: frozenset[str],
    report: Report,
) -> RowExport:
    """Return the records of a snapshot that pass a filter.

    Where the snapshot is collected before its end is reached, `NotFoundError` says so.

    Parameters
    ----------
    views, view:
        The index's views, and the one that is read.
    node:
        What records must pass; None for all.
    store:
        The store below the index's own prefix.
    whole_bytes_max:
        As for `Loader`.
    include:
        Of "metadata" and "vector"; what is left out is {} and float32 [n, 0].
    report:
        Told after every batch how many of the snapshot's live records were looked at.

    """
    batches = _batches(
        _sources(views, view, store=store, whole_bytes_max=whole_bytes_max),
        node,
        batch_rows=batch_rows(view.dimension),
        include=include,
        report=report,
    )
    return RowExport(_unless_collected(views, view, batches), snapshot=view.snapshot)


def _unless_collected(
    views: IndexViews, view: IndexView, batches: Iterator[RowBatch]
) -> Iterator[RowBatch]:
    try:
        yield from batches
    except DataError as error:
        views.refuse_gone(view.snapshot, error)
        raise


def batch_rows(dimension: int) -> int:
    """Return how many rows a batch holds: bounded in rows and in bytes of vectors."""
    return max(1, min(EXPORT_BATCH_ROWS_MAX, EXPORT_BATCH_BYTES_MAX // (dimension * _VALUE_BYTES)))


def _sources(
    views: IndexViews, view: IndexView, *, store: ObjectStore, whole_bytes_max: int
) -> list[Rows]:
    """Return the snapshot's rows, read by a loader that keeps one segment and nothing else's."""
    stored = [
        sum(ref.bytes for ref in rows.reader.ref.objects.values())
        for rows in view.everything()
        if isinstance(rows, SegmentView)
    ]
    # Not the index's own, which queries share: an export would turn out what they retain.
    loader = RetainedObjects(
        store, bytes_max=max(stored, default=1), whole_bytes_max=whole_bytes_max
    )
    return [
        _read_by(views, rows, loader) if isinstance(rows, SegmentView) else rows
        for rows in view.everything()
    ]


def _read_by(views: IndexViews, rows: SegmentView, loader: RetainedObjects) -> SegmentView:
    def dead() -> Mask | None:
        return None if rows.alive is None else ~rows.alive

    return SegmentView(views.reader(rows.reader.ref, loader), dead)


def _batches(
    sources: Sequence[Rows],
    node: FilterNode | None,
    *,
    batch_rows: int,
    include: frozenset[str],
    report: Report,
) -> Iterator[RowBatch]:
    total = sum(live_count(rows) for rows in sources)
    done = 0
    for rows in sources:
        passing = exactly(rows, node)
        if passing is None:
            passing = np.arange(rows.count)
        for start in range(0, len(passing), batch_rows):
            batch = _batch(rows, passing[start : start + batch_rows], include)
            yield batch
            report(Progress("export", done + start + len(batch), total, "rows"))
        done += live_count(rows)
        report(Progress("export", done, total, "rows"))


def _batch(rows: Rows, places: I64, include: frozenset[str]) -> RowBatch:
    vectors: F32 = np.empty((len(places), 0), np.float32)
    if "vector" in include:
        vectors = np.ascontiguousarray(rows.vectors(places))
    if "metadata" not in include:
        return RowBatch(rows.document_keys(places), vectors, [{} for _ in range(len(places))])
    documents = rows.documents(places)
    return RowBatch([key for key, _ in documents], vectors, [meta for _, meta in documents])
