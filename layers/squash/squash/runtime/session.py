"""One opened index: reading on, one view a snapshot, and every operation of the public face."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from squash.arrays import F32
from squash.attributes import FilterNode, parse_filter
from squash.clock import Clock, IdSource
from squash.errors import InvalidArgumentError, SquashError, UnavailableError
from squash.index.catalogue import Entry
from squash.index.checking import check_keys, check_vector
from squash.index.fresh import fresh_part, passed_limit
from squash.index.state import commits_needed
from squash.limits import FRESH_FOLD_SHARE, QUERIES_PER_CALL_MAX, QUERY_TIMEOUT_MS_MAX, TOP_K_MAX
from squash.model import (
    Answer,
    Backlog,
    IndexStats,
    Match,
    Progress,
    Record,
    RecordPage,
    Usage,
    VerifyReport,
    WriteResult,
)
from squash.runtime.pressure import FreshGuard
from squash.runtime.prices import invocation_cost_usd, request_cost_usd
from squash.runtime.retained import LoadCounts, RetainedMemory, RetainedObjects
from squash.runtime.settings import Settings
from squash.runtime.views import IndexViews
from squash.runtime.writing import IndexWriter
from squash.search import (
    IndexView,
    LocalSearcher,
    Query,
    Searcher,
    Trace,
    explain,
    live_count,
    record_page,
    records_by_key,
)
from squash.search.spending import Spent
from squash.storage import CountingStore, ObjectStore, StoreCounts
from squash.storage.tmp import TmpFiles

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

    from squash.maintain import BuildOptions

# Queries of several threads that wait for the log at once.
_THREADS = 16
_LOG = logging.getLogger("squash")
_PASSING_RETAINED_BYTES = 1
_INCLUDABLE = frozenset({"metadata", "vector"})

Report = Callable[[Progress], None]


class _Spent(NamedTuple):
    """What was asked of the store, of memory and of files until now."""

    store: StoreCounts
    loads: LoadCounts

    def since(self, earlier: _Spent) -> _Spent:
        """Return what was asked after `earlier`."""
        return _Spent(self.store - earlier.store, self.loads.since(earlier.loads))


class IndexSession:
    """An index, opened on a store.

    Parameters
    ----------
    store:
        The store below the index's own prefix.
    entry:
        What the catalogue says of it.
    settings, clock, ids:
        How this process uses its machine; time; names.
    searcher:
        Answers queries; without one, this process does.
    check_catalogue:
        Reads the catalogue entry again, for `verify`; raises if it is damaged.
    memory, tmp:
        What was loaded is kept in; without them, in memory of its own and in no files.
    fold_soon:
        Told of the index, by its name, when a write made a fold due; see `FreshGuard`.

    """

    def __init__(
        self,
        store: ObjectStore,
        entry: Entry,
        *,
        settings: Settings,
        clock: Clock,
        ids: IdSource,
        searcher: Searcher | None = None,
        fold_soon: Callable[[str], None] | None = None,
        check_catalogue: Callable[[], None] = lambda: None,
        memory: RetainedMemory | None = None,
        tmp: TmpFiles | None = None,
    ) -> None:
        self.config = entry.config
        self._check_catalogue = check_catalogue
        self._settings = settings
        self._clock = clock
        self._store = CountingStore(store)
        self._searcher = searcher or LocalSearcher(settings.costs)
        self._pool: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        self._views = IndexViews(
            self._store,
            entry,
            settings=settings,
            clock=clock,
            ids=ids,
            report=_report_snapshot,
            memory=memory,
            tmp=tmp,
        )
        guard = FreshGuard(
            self._views, self.config, passing_loader=self._passing_loader, fold_soon=fold_soon
        )
        self.writing = IndexWriter(self._views, entry.config, guard=guard, fold=self._fold)
        """Puts, patches and deletes."""

    def optimize(
        self, *, options: BuildOptions | None, scratch: Path | None, report: Report
    ) -> WriteResult:
        """Fold what lives into partitions; nothing to do is fine."""
        from squash.runtime.maintenance import fold  # noqa: PLC0415 - see there

        return fold(
            self._views,
            self.config,
            self._passing_loader(),
            options=options,
            scratch=scratch,
            report=report,
        )

    def _fold(self, report: Report) -> None:
        self.optimize(options=None, scratch=None, report=report)

    # Reading

    def query(self, query: Query, consistency: str) -> Answer:
        """Answer one query."""
        return self.query_many([query], consistency)[0]

    def query_many(self, queries: Sequence[Query], consistency: str) -> list[Answer]:
        """Answer queries on one snapshot."""
        before = self._spent()
        view, found = self._searched(queries, consistency)
        spent = self._spent().since(before)
        nothing = spent.since(spent)
        # What was asked of the store served all of them, and is counted once.
        return [
            self._answer_of(view, query, matches, trace, nothing if place else spent)
            for place, (query, (matches, trace)) in enumerate(zip(queries, found, strict=True))
        ]

    def _searched(
        self, queries: Sequence[Query], consistency: str
    ) -> tuple[IndexView, list[tuple[tuple[Match, ...], Trace]]]:
        """Search the newest snapshot.

        A remote store is asked for what was written while the newest one that is known is
        searched: mostly nothing was. The search is then one of a snapshot that was the newest
        after the query had come; otherwise it is done again.
        """
        guess = None
        if consistency == "strong" and self._settings.billed and queries:
            guess = self._views.at_hand()
        if guess is None:
            view = self.view(consistency)
            return view, self._search(view, queries)
        newest = self._threads().submit(self.view, consistency)
        try:
            found = self._search(guess, queries)
        except SquashError:
            # What a fold replaced may be gone already.
            view = newest.result()
            if view.snapshot == guess.snapshot:
                raise
            return view, self._search(view, queries)
        view = newest.result()
        if view.snapshot == guess.snapshot:
            return guess, found
        again = self._search(view, queries)
        in_vain, spent = found[0][1].spent, again[0][1].spent
        if in_vain is not None:
            in_vain.add(spent or Spent())
            again[0][1].spent = in_vain
        return view, again

    def _search(
        self, view: IndexView, queries: Sequence[Query]
    ) -> list[tuple[tuple[Match, ...], Trace]]:
        for query in queries:
            self._check_time(query)
        return self._searcher.search(view, queries)

    def _threads(self) -> ThreadPoolExecutor:
        # Loaded here, since it brings the logging module, which who reads alone need not load.
        from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="squash-log")
            return self._pool

    def _answer_of(
        self,
        view: IndexView,
        query: Query,
        matches: tuple[Match, ...],
        trace: Trace,
        here: _Spent,
    ) -> Answer:
        elsewhere = trace.spent or Spent()
        cost_usd = request_cost_usd(here.store.by_kind) if self._settings.billed else 0.0
        if elsewhere.invocations:
            cost_usd += request_cost_usd(elsewhere.store_kinds) + invocation_cost_usd(
                elsewhere.invocations,
                elsewhere.gb_seconds,
                architecture=self._settings.architecture,
            )
        usage = Usage(
            rows_scanned=trace.scanned,
            vectors_read=trace.vectors_read,
            store_requests=here.store.requests + sum(elsewhere.store_kinds.values()),
            store_rounds=here.store.rounds + elsewhere.store_rounds,
            store_bytes=here.store.bytes_in + elsewhere.store_bytes,
            parts_from_memory=here.loads.memory + elsewhere.parts_from_memory,
            parts_from_tmp=here.loads.tmp + elsewhere.parts_from_tmp,
            parts_from_store=here.loads.store + elsewhere.parts_from_store,
            invocations=elsewhere.invocations,
            invocations_cold=elsewhere.invocations_cold,
            gb_seconds=elsewhere.gb_seconds,
            cost_usd=cost_usd,
            levels=tuple(trace.levels),
        )
        explanation = explain(view, query, trace) if query.explain else None
        return Answer(matches, usage, view.snapshot, explanation, trace.missing)

    def deadline_ms(self, timeout_ms: int | None) -> int | None:
        """Return when an answer must be there that may take so long from now."""
        return None if timeout_ms is None else self._clock.now_ms() + timeout_ms

    def _check_time(self, query: Query) -> None:
        if query.deadline_ms is not None and self._clock.now_ms() >= query.deadline_ms:
            raise UnavailableError(
                "the time for the query was over when the index had been read: give it a longer "
                "timeout_ms, or repeat it"
            )

    def get(self, keys: Any, include: frozenset[str]) -> list[Record]:
        """Get records by key."""
        return records_by_key(self.view("strong"), check_keys(keys), include)

    def list(self, cursor: str | None, limit: int, include: frozenset[str]) -> RecordPage:
        """List records, a page at a time."""
        return record_page(self.view("strong"), cursor, limit, include)

    def backlog(self) -> Backlog:
        """Say how much a fold would take in, from the log alone."""
        opened = self._views.refresh()
        part = fresh_part(opened)
        due = passed_limit(part, share=FRESH_FOLD_SHARE)
        return Backlog(
            snapshot=opened.sequence,
            commits=len(commits_needed(opened.state)),
            rows=part.rows,
            rows_in_partitions=part.rows_in_partitions,
            bytes=part.bytes,
            fold_due=due.name if due else None,
        )

    def stats(self) -> IndexStats:
        """Describe the newest snapshot."""
        view = self.view("strong")
        opened = self._views.known()
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
        from squash.runtime.maintenance import verify  # noqa: PLC0415 - see there

        return verify(
            self._views,
            self.config,
            self._passing_loader(),
            store=self._store,
            check_catalogue=self._check_catalogue,
            report=report,
        )

    def view(self, consistency: str) -> IndexView:
        """Return the snapshot to answer from."""
        return self._views.view(consistency)

    def view_at(self, sequence: int) -> IndexView:
        """Return the snapshot after a commit; see `IndexViews.view_at`."""
        return self._views.view_at(sequence)

    def check_query(self, vector: Any) -> F32:
        """Check a query's vector."""
        return check_vector(vector, self.config)

    def parse(self, filter_: Mapping[str, Any] | None) -> FilterNode | None:
        """Read a filter."""
        return parse_filter(filter_, non_filterable=self.config.non_filterable)

    def _passing_loader(self) -> RetainedObjects:
        """Return a loader that reads what lies in the store and keeps nothing of it."""
        return RetainedObjects(
            self._store,
            bytes_max=_PASSING_RETAINED_BYTES,
            whole_bytes_max=self._settings.whole_bytes_max,
        )

    def _spent(self) -> _Spent:
        return _Spent(self._store.counts(), self._views.loader.counts())


def check_include(include: Iterable[str]) -> frozenset[str]:
    """Check what a reader wants to have with every record."""
    wanted = frozenset([include] if isinstance(include, str) else include)
    if wanted - _INCLUDABLE:
        raise InvalidArgumentError(
            f"include takes 'metadata' and 'vector', not {min(wanted - _INCLUDABLE)!r}",
            field="include",
        )
    return wanted


def check_limits(
    *, top_k: Any, recall_target: Any, timeout_ms: Any = None, queries: int = 1
) -> None:
    """Check a query's numbers."""
    if isinstance(top_k, bool) or not isinstance(top_k, (int, np.integer)):
        raise InvalidArgumentError("top_k is a whole number", field="top_k")
    if not 1 <= top_k <= TOP_K_MAX:
        raise InvalidArgumentError(f"top_k is from 1 to {TOP_K_MAX}, not {top_k}", field="top_k")
    if not isinstance(recall_target, (int, float)) or not 0.0 < recall_target <= 1.0:
        raise InvalidArgumentError(
            f"recall_target is above 0 and at most 1, not {recall_target!r}", field="recall_target"
        )
    if timeout_ms is not None and (
        isinstance(timeout_ms, bool)
        or not isinstance(timeout_ms, (int, np.integer))
        or not 1 <= timeout_ms <= QUERY_TIMEOUT_MS_MAX
    ):
        raise InvalidArgumentError(
            f"timeout_ms is a whole number from 1 to {QUERY_TIMEOUT_MS_MAX}, not {timeout_ms!r}",
            field="timeout_ms",
        )
    if queries > QUERIES_PER_CALL_MAX:
        raise InvalidArgumentError(
            f"a call takes at most {QUERIES_PER_CALL_MAX} queries, not {queries}: send several",
            field="vectors",
        )


def _report_snapshot(error: SquashError) -> None:
    _LOG.warning("a snapshot could not be written; the next writer tries again: %s", error)
