"""One opened index: reading on, one view a snapshot, and every operation of the public face."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from squash.arrays import F32, I64, Mask
from squash.attributes import FilterNode, check_metadata, parse_filter
from squash.clock import Clock, IdSource
from squash.errors import DataError, InvalidArgumentError, SquashError
from squash.index import writer
from squash.index.checking import check_keys, check_rows, check_vector
from squash.index.commits import PutRows
from squash.index.live import Opened, dead_rows, fresh_rows
from squash.index.log import IndexLog
from squash.index.reader import SegmentReader
from squash.index.state import commits_needed
from squash.index.trained import Trained
from squash.limits import QUERIES_PER_CALL_MAX, TOP_K_MAX
from squash.maintain import (
    BuildOptions,
    Ledger,
    LiveRows,
    optimize,
    verify_bitmaps,
    verify_history,
    verify_segments,
    verify_trained,
)
from squash.model import (
    Answer,
    Backlog,
    Damage,
    IndexConfig,
    IndexStats,
    Match,
    Progress,
    Record,
    RecordPage,
    RowBatch,
    SegmentRef,
    Usage,
    VerifyReport,
    WriteResult,
)
from squash.runtime.prices import request_cost_usd
from squash.runtime.retained import RetainedObjects
from squash.runtime.settings import Settings
from squash.search import (
    FreshView,
    IndexView,
    PartitionView,
    Query,
    Rows,
    SegmentView,
    Trace,
    explain,
    keys_passing,
    live_count,
    record_page,
    records_by_key,
    search,
    search_many,
)
from squash.segment import KeyTable, build_flat
from squash.storage import CountingStore, ObjectStore, StoreCounts

_LOG = logging.getLogger("squash")
_VERIFY_RETAINED_BYTES = 1
_INCLUDABLE = frozenset({"metadata", "vector"})

Report = Callable[[Progress], None]


class IndexSession:
    """An index, opened on a store.

    Parameters
    ----------
    store:
        The store below the index's own prefix.
    config:
        What the catalogue says of it.
    settings, clock, ids:
        How this process uses its machine; time; names.
    check_catalogue:
        Reads the catalogue entry again, for `verify`; raises if it is damaged.

    """

    def __init__(
        self,
        store: ObjectStore,
        config: IndexConfig,
        *,
        settings: Settings,
        clock: Clock,
        ids: IdSource,
        check_catalogue: Callable[[], None] = lambda: None,
    ) -> None:
        self.config = config
        self._check_catalogue = check_catalogue
        self._settings = settings
        self._clock = clock
        self._store = CountingStore(store)
        self._loader = self._new_loader(settings.retained_bytes_max)
        self._log = IndexLog(
            self._store, clock, ids, load_keys=self._load_keys, report=_report_snapshot
        )
        self._lock = threading.Lock()
        self._opened: Opened | None = None
        self._view: IndexView | None = None

    # Writing

    def put(self, rows: RowBatch, *, commit_id: str | None = None) -> WriteResult:
        """Put checked rows in one commit."""
        opened = writer.put(
            self._log,
            self._known(),
            rows,
            build_flat=partial(build_flat, non_filterable=self.config.non_filterable),
            commit_id=commit_id,
        )
        return WriteResult(self._install(opened).sequence, len(rows))

    def check_rows(self, keys: Any, vectors: Any, metadata: Any) -> RowBatch:
        """Check rows on their way in."""
        return check_rows(keys, vectors, metadata, self.config, check_metadata=check_metadata)

    def import_batches(self, batches: Iterable[RowBatch], report: Report) -> WriteResult:
        """Put batches, each in a commit of its own."""
        done = 0
        snapshot = self._known().sequence
        for batch in batches:
            checked = self.check_rows(batch.keys, batch.vectors, batch.metadata)
            snapshot = self.put(checked).snapshot
            done += len(batch)
            report(Progress("import", done, done, "rows"))
        return WriteResult(snapshot, done)

    def delete(self, keys: Sequence[str] | None, node: FilterNode | None) -> WriteResult:
        """Delete by key, or what passes a filter in the newest snapshot; one commit."""
        given = keys_passing(self.view("strong"), node) if keys is None else check_keys(keys)
        opened = writer.delete(self._log, self._known(), given)
        return WriteResult(self._install(opened).sequence, len(given))

    def optimize(
        self, *, options: BuildOptions, scratch: Path | None, report: Report
    ) -> WriteResult:
        """Fold what lives into partitions; nothing to do is fine."""
        opened = self._refresh()
        reader = self._new_loader(_VERIFY_RETAINED_BYTES)
        live = [
            (self._reader(ref, reader), self._live(opened, ref)) for ref in opened.state.segments
        ]
        source = LiveRows(self._fresh(opened), live)
        if not _folded(opened, live, options.exact_rows_max):
            opened = optimize(
                self._log,
                opened,
                self.config,
                source,
                options=options,
                scratch=scratch,
                report=report,
            )
        return WriteResult(self._install(opened).sequence, source.rows)

    # Reading

    def query(self, query: Query, consistency: str) -> Answer:
        """Answer one query."""
        before = self._store.counts()
        return self._answer(self.view(consistency), query, before)

    def query_many(self, queries: Sequence[Query], consistency: str) -> list[Answer]:
        """Answer queries on one snapshot."""
        before = self._store.counts()
        view = self.view(consistency)
        found = search_many(view, queries, costs=self._settings.costs)
        spent = self._store.counts() - before
        nothing = spent - spent
        # What was asked of the store served all of them, and is counted once.
        return [
            self._answer_of(view, query, matches, trace, nothing if place else spent)
            for place, (query, (matches, trace)) in enumerate(zip(queries, found, strict=True))
        ]

    def _answer(self, view: IndexView, query: Query, before: StoreCounts) -> Answer:
        matches, trace = search(view, query, costs=self._settings.costs)
        return self._answer_of(view, query, matches, trace, self._store.counts() - before)

    def _answer_of(
        self,
        view: IndexView,
        query: Query,
        matches: tuple[Match, ...],
        trace: Trace,
        spent: StoreCounts,
    ) -> Answer:
        usage = Usage(
            rows_scanned=trace.scanned,
            vectors_read=trace.vectors_read,
            store_requests=spent.requests,
            store_rounds=spent.rounds,
            store_bytes=spent.bytes_in,
            cost_usd=request_cost_usd(spent.by_kind) if self._settings.billed else 0.0,
            levels=tuple(trace.levels),
        )
        explanation = explain(view, query, trace) if query.explain else None
        return Answer(matches, usage, view.snapshot, explanation)

    def get(self, keys: Any, include: frozenset[str]) -> list[Record]:
        """Get records by key."""
        return records_by_key(self.view("strong"), check_keys(keys), include)

    def list(self, cursor: str | None, limit: int, include: frozenset[str]) -> RecordPage:
        """List records, a page at a time."""
        return record_page(self.view("strong"), cursor, limit, include)

    def backlog(self) -> Backlog:
        """Say how much a fold would take in, from the log alone."""
        opened = self._refresh()
        fresh = [opened.commits[sequence].operation for sequence in opened.state.fresh]
        rows = {"flat": 0, "partition": 0}
        for segment in opened.state.segments:
            rows[segment.kind] += segment.rows
        return Backlog(
            snapshot=opened.sequence,
            commits=len(commits_needed(opened.state)),
            rows=rows["flat"] + sum(len(one.rows) for one in fresh if isinstance(one, PutRows)),
            rows_in_partitions=rows["partition"],
        )

    def stats(self) -> IndexStats:
        """Describe the newest snapshot."""
        view = self.view("strong")
        opened = self._known()
        refs = [ref for segment in opened.state.segments for ref in segment.objects.values()]
        refs += [opened.state.trained] if opened.state.trained else []
        kinds: dict[str, set[str]] = {}
        for rows in view.everything():
            for name, kind in rows.columns().types().items():
                kinds.setdefault(name, set()).update(kind.split("|"))
        trained = view.trained if view.partitions else None
        return IndexStats(
            name=self.config.name,
            dimension=self.config.dimension,
            metric=self.config.metric,
            codec=self.config.codec,
            rows=sum(live_count(rows) for rows in view.everything()),
            rows_fresh=sum(live_count(rows) for rows in view.exact_rows),
            partitions=len(view.partitions),
            clusters=len(trained.centers) if trained else 0,
            snapshot=view.snapshot,
            stored_bytes=sum(ref.bytes for ref in refs),
            code_bytes_per_row=trained.codec.code_bytes_per_row() if trained else 0.0,
            attributes={name: "|".join(sorted(kinds[name])) for name in sorted(kinds)},
        )

    def verify(self, report: Report) -> VerifyReport:
        """Read everything back and hold it against the rest, retaining nothing."""
        loader = self._new_loader(_VERIFY_RETAINED_BYTES)
        ledger = Ledger()
        ledger.check(f"{self.config.name}/index.json", self._check_catalogue)
        verify_history(self._store, ledger, report)
        rows = 0
        try:
            rows = self._verify_state(self._log.refresh(None), loader, ledger, report)
        except DataError as error:
            # The history has named it already, unless it shows only in how commits follow.
            if error.object_key not in {damage.object_key for damage in ledger.damages}:
                ledger.damages.append(Damage(error.object_key or "log/", str(error)))
        return VerifyReport(ledger.objects, ledger.bytes, rows, tuple(ledger.damages))

    def _verify_state(
        self,
        opened: Opened,
        loader: RetainedObjects,
        ledger: Ledger,
        report: Report,
    ) -> int:
        trained = verify_trained(opened.state, loader, ledger, dimension=self.config.dimension)
        verify_bitmaps(opened.state, self._store, ledger)
        readers = [self._reader(ref, loader) for ref in opened.state.segments]
        rows = verify_segments(readers, trained, self.config, ledger=ledger, report=report)
        fresh = [opened.commits[sequence].operation for sequence in opened.state.fresh]
        return rows + sum(len(one.rows) for one in fresh if isinstance(one, PutRows))

    def view(self, consistency: str) -> IndexView:
        """Return the snapshot to answer from."""
        if consistency not in ("strong", "eventual"):
            raise InvalidArgumentError(
                f"consistency is 'strong' or 'eventual', not {consistency!r}", field="consistency"
            )
        opened = self._opened
        age_ms = self._clock.now_ms() - opened.read_ms if opened else 0
        if opened is None or consistency == "strong" or age_ms > self._settings.staleness_ms_max:
            opened = self._refresh()
        view = self._view
        if view is None or view.snapshot != opened.sequence:
            view = self._view = self._make_view(opened)
        return view

    def check_query(self, vector: Any) -> F32:
        """Check a query's vector."""
        return check_vector(vector, self.config)

    def parse(self, filter_: Mapping[str, Any] | None) -> FilterNode | None:
        """Read a filter."""
        return parse_filter(filter_, non_filterable=self.config.non_filterable)

    # Snapshots

    def _refresh(self) -> Opened:
        return self._install(self._log.refresh(self._opened))

    def _known(self) -> Opened:
        return self._opened or self._refresh()

    def _install(self, opened: Opened) -> Opened:
        with self._lock:
            if self._opened is None or opened.sequence >= self._opened.sequence:
                self._opened = opened
            return self._opened

    def _make_view(self, opened: Opened) -> IndexView:
        trained = self._trained(opened, self._loader)
        exact: list[Rows] = []
        fresh = self._fresh(opened)
        if len(fresh):
            exact.append(FreshView(fresh, non_filterable=self.config.non_filterable))
        partitions: dict[str, PartitionView] = {}
        numbers = {name: i for i, name in enumerate(trained.partition_ids)} if trained else {}
        for ref in opened.state.segments:
            reader = self._reader(ref, self._loader)
            dead = partial(self._dead, opened, ref)
            if ref.kind == "flat" or trained is None or ref.id not in numbers:
                exact.append(SegmentView(reader, dead))
            else:
                number = numbers[ref.id]
                partitions[ref.id] = PartitionView(reader, dead, trained=trained, number=number)
        if len(partitions) != len(numbers):
            # A routing table of partitions that are not all there routes nothing: search exactly.
            exact.extend(partitions.values())
            partitions, numbers = {}, {}
        return IndexView(
            metric=self.config.metric,
            dimension=self.config.dimension,
            snapshot=opened.sequence,
            exact_rows=tuple(exact),
            # Not by their first cluster: a partition without clusters shares it with another.
            partitions=tuple(partitions[name] for name in numbers),
            trained=trained,
        )

    def _trained(self, opened: Opened, loader: RetainedObjects) -> Trained | None:
        ref = opened.state.trained
        if ref is None or all(segment.kind == "flat" for segment in opened.state.segments):
            return None
        dimension = self.config.dimension
        return loader.load(
            ref, "trained", lambda data: Trained.from_bytes(data, ref.key, dimension=dimension)
        )

    def _fresh(self, opened: Opened) -> RowBatch:
        return fresh_rows(opened, self.config.dimension, load_keys=self._load_keys)

    def _dead(self, opened: Opened, ref: SegmentRef) -> Mask | None:
        return dead_rows(opened, ref, load_keys=self._load_keys, load_bitmap=self._log.load_bitmap)

    def _live(self, opened: Opened, ref: SegmentRef) -> I64:
        dead = self._dead(opened, ref)
        return np.arange(ref.rows) if dead is None else np.flatnonzero(~dead)

    def _load_keys(self, ref: SegmentRef) -> KeyTable:
        return self._reader(ref, self._loader).keys()

    def _reader(self, ref: SegmentRef, loader: RetainedObjects) -> SegmentReader:
        return SegmentReader(ref, loader, dimension=self.config.dimension)

    def _new_loader(self, bytes_max: int) -> RetainedObjects:
        return RetainedObjects(
            self._store, bytes_max=bytes_max, whole_bytes_max=self._settings.whole_bytes_max
        )


def check_include(include: Iterable[str]) -> frozenset[str]:
    """Check what a reader wants to have with every record."""
    wanted = frozenset([include] if isinstance(include, str) else include)
    if wanted - _INCLUDABLE:
        raise InvalidArgumentError(
            f"include takes 'metadata' and 'vector', not {min(wanted - _INCLUDABLE)!r}",
            field="include",
        )
    return wanted


def check_limits(*, top_k: Any, recall_target: Any, queries: int = 1) -> None:
    """Check a query's numbers."""
    if isinstance(top_k, bool) or not isinstance(top_k, (int, np.integer)):
        raise InvalidArgumentError("top_k is a whole number", field="top_k")
    if not 1 <= top_k <= TOP_K_MAX:
        raise InvalidArgumentError(f"top_k is from 1 to {TOP_K_MAX}, not {top_k}", field="top_k")
    if not isinstance(recall_target, (int, float)) or not 0.0 < recall_target <= 1.0:
        raise InvalidArgumentError(
            f"recall_target is above 0 and at most 1, not {recall_target!r}", field="recall_target"
        )
    if queries > QUERIES_PER_CALL_MAX:
        raise InvalidArgumentError(
            f"a call takes at most {QUERIES_PER_CALL_MAX} queries, not {queries}: send several",
            field="vectors",
        )


def _folded(opened: Opened, live: Sequence[tuple[SegmentReader, I64]], exact_rows_max: int) -> bool:
    """Say whether there is nothing to fold."""
    if opened.state.fresh or any(len(rows) < reader.ref.rows for reader, rows in live):
        return False
    flat = [reader for reader, _ in live if reader.ref.kind == "flat"]
    return not flat or (len(live) == 1 and flat[0].ref.rows <= exact_rows_max)


def _report_snapshot(error: SquashError) -> None:
    _LOG.warning("a snapshot could not be written; the next writer tries again: %s", error)
