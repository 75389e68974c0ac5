"""One opened index: reading on, one view a snapshot, and every operation of the public face."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from squash.attributes import FilterNode, live_node, only_live, parse_filter
from squash.clock import Clock, IdSource
from squash.drafts import make_answer
from squash.errors import DataError, InternalError, SquashError, UnavailableError
from squash.index import catalogue
from squash.index.checking import check_keys, check_vector
from squash.index.entries import Entry
from squash.index.fresh import fresh_part, passed_limit
from squash.index.state import building, commits_needed
from squash.model import (
    Answer,
    AsOf,
    Backlog,
    IndexStats,
    Inputs,
    Match,
    Record,
    RecordPage,
    SnapshotInfo,
    WriteResult,
)
from squash.reports import GcReport, Progress, RepairReport, VerifyReport
from squash.runtime.bounded import search_bounded
from squash.runtime.content import Asked, Content
from squash.runtime.encoding import Encoding
from squash.runtime.pressure import FreshGuard
from squash.runtime.retained import RetainedMemory, RetainedObjects
from squash.runtime.settings import Settings
from squash.runtime.usage import SpentHere, spent_together, usage_of
from squash.runtime.views import IndexViews
from squash.runtime.writing import IndexWriter
from squash.search import (
    IndexView,
    LocalSearcher,
    Query,
    Searcher,
    Trace,
    explain,
    record_page,
    records_by_key,
)
from squash.search.query import live_only
from squash.storage import CountingStore, ObjectStore, PrefixStore
from squash.storage.threads import shared_threads
from squash.storage.tmp import TmpFiles

if TYPE_CHECKING:
    from concurrent.futures import Future

    from squash.maintain import BuildOptions
    from squash.runtime.building import IndexBuilds
    from squash.runtime.exporting import RowExport

_PASSING_RETAINED_BYTES = 1

Report = Callable[[Progress], None]
T = TypeVar("T")


class IndexSession:
    """An index, opened on a store.

    Parameters
    ----------
    store:
        The whole store.
    entry, looked_ms:
        What the catalogue says of it; the time before it was asked, without which it is now.
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
    encoding:
        Gives who encodes texts and images; asked when the first comes.

    """

    def __init__(
        self,
        store: ObjectStore,
        entry: Entry,
        *,
        settings: Settings,
        clock: Clock,
        ids: IdSource,
        looked_ms: int | None = None,
        searcher: Searcher | None = None,
        fold_soon: Callable[[str], None] | None = None,
        encoding: Callable[[], Encoding] | None = None,
        check_catalogue: Callable[[], None] = lambda: None,
        memory: RetainedMemory | None = None,
        tmp: TmpFiles | None = None,
    ) -> None:
        self._entry = entry
        self.config = entry.config
        self._check_catalogue = check_catalogue
        self._settings = settings
        self._clock = clock
        self._counted = CountingStore(store)
        self._store = PrefixStore(self._counted, entry.prefix)
        local = LocalSearcher(settings.costs)
        self._searcher = searcher or local
        self.parse = partial(parse_filter, non_filterable=entry.config.non_filterable)
        """Reads a filter."""
        # Where each request is billed, one round of them is spared by how a search is begun.
        self._local = None if searcher or settings.billed else local
        self._threads = shared_threads("squash-log")
        self._views = IndexViews(
            self._store,
            entry,
            settings=settings,
            clock=clock,
            ids=ids,
            check_current=partial(catalogue.check_current, self._counted, entry),
            looked_ms=looked_ms,
            memory=memory,
            tmp=tmp,
        )
        guard = FreshGuard(
            self._views, self.config, passing_loader=self._passing_loader, fold_soon=fold_soon
        )
        self.content = Content(entry.config, encoding or _nobody_encodes)
        """Checks what comes in, and has it encoded."""
        self.writing = IndexWriter(
            self._views,
            entry.config,
            content=self.content,
            guard=guard,
            fold=self._fold,
            live=self._live,
        )
        """Puts, patches and deletes."""

    def builds(self) -> IndexBuilds:
        """Return what begins and runs bulk builds."""
        from squash.runtime.building import IndexBuilds  # noqa: PLC0415 - see there

        parts = (self._store, self._entry, self._views)
        return IndexBuilds(*parts, content=self.content, settings=self._settings, clock=self._clock)

    def optimize(
        self,
        *,
        options: BuildOptions | None,
        scratch: Path | None,
        report: Report,
        full: bool = False,
    ) -> WriteResult:
        """Fold what is in no partition into partitions; nothing to do is fine."""
        from squash.runtime.maintenance import fold  # noqa: PLC0415 - see there

        return fold(
            self._views,
            self.config,
            self._passing_loader(),
            options=options,
            scratch=scratch,
            report=report,
            full=full,
        )

    def _fold(self, report: Report) -> None:
        self.optimize(options=None, scratch=None, report=report)

    # Reading

    def query(
        self, vector: Any, node: FilterNode | None, options: Query, consistency: str
    ) -> Answer:
        """Answer one query of a vector on the newest snapshot, as `query_many` does, but sooner."""
        spent, loaded = self._counted.noted, self._views.loader.noted
        before = spent(), loaded()
        if self.config.expires is not None:
            node = only_live(node, self._live())
        queries: Sequence[Query]
        local = self._local
        if local is None:
            queries = (options.of(check_vector(vector, self.config), node),)
            view, found = self._searched(queries, consistency)
        else:
            # Most arrays are sound, and nobody has to say so.
            array = vector if type(vector) is np.ndarray else check_vector(vector, self.config)
            view = self._views.view(consistency)
            try:
                at_once = local.search_one(view, array, node, options)
            except DataError:
                at_once = None  # If something of this snapshot is gone, the newest is read below.
            if at_once is not None:
                usage = partial(usage_of, at_once[1], before, (spent(), loaded()), self._settings)
                return make_answer(at_once[0], usage, view.snapshot, None, ())
            queries = (options.of(check_vector(array, self.config), node),)
            view, found = self._views.read_from(view, self._search, queries)
        return self._answer(view, options, *found[0], (before, (spent(), loaded())))

    def query_many(
        self,
        asked: Asked,
        nodes: Sequence[FilterNode | None],
        options: Query,
        consistency: str,
        as_of: AsOf | None = None,
    ) -> list[Answer]:
        """Answer queries on one snapshot: the newest, or that of a number or a moment.

        Parameters
        ----------
        asked:
            The queries' vectors, or what is encoded into them; what that spent is in the first
            answer's usage.
        nodes:
            Of each query its filter.
        options:
            What all queries have in common.
        consistency, as_of:
            Which snapshot.

        """
        before = self._spent()
        opening = self._opening(asked) if as_of is None else None
        encoded = self.content.encoded_queries(asked, options.deadline_ms)
        if opening is not None:
            opening.exception()  # What failed is met again below, or was of the moment.
        if as_of is None:
            queries = options.of_each(encoded.vectors, live_only(nodes, self._live()))
            view, found = self._searched(queries, consistency)
        else:
            view, live = self._seen(as_of)
            queries = options.of_each(encoded.vectors, live_only(nodes, live))
            found = self._past(view, lambda: self._search(view, queries))
        after = self._spent()
        if found and encoded.spent is not None:
            found[0][1].spent = spent_together(encoded.spent, found[0][1].spent)
        # What was asked of the store served all of them, and is counted once.
        answers: list[Answer] = []
        for query, (matches, trace) in zip(queries, found, strict=True):
            spent = (after if answers else before, after)
            answers.append(self._answer(view, query, matches, trace, spent))
        if not encoded.reports:
            return answers
        reports = encoded.reports
        return [replace(one, encoding=how) for one, how in zip(answers, reports, strict=True)]

    def _answer(
        self,
        view: IndexView,
        query: Query,
        matches: tuple[Match, ...],
        trace: Trace,
        spent: tuple[SpentHere, SpentHere],
    ) -> Answer:
        """Return an answer, of what was found, and what was spent before and after that."""
        usage = partial(usage_of, trace, *spent, self._settings)
        told = explain(view, query, trace) if query.explain else None
        return make_answer(matches, usage, view.snapshot, told, trace.missing)

    def _opening(self, asked: Asked) -> Future[IndexView] | None:
        """Begin to open the index while queries are encoded, if both take their time."""
        if not isinstance(asked, Inputs) or not self._settings.billed or self._views.at_hand():
            return None
        return self._threads.pool().submit(self.view, "strong")

    def _searched(
        self, queries: Sequence[Query], consistency: str
    ) -> tuple[IndexView, list[tuple[tuple[Match, ...], Trace]]]:
        """Search the newest snapshot.

        A remote store is asked for what was written while the newest one that is known is
        searched: mostly nothing was. The search is then one of a snapshot that was the newest
        after the query had come; otherwise it is done again.
        """
        guess = None
        if self._settings.billed and consistency == "strong" and queries:
            guess = self._views.at_hand()
        if guess is None:
            return self._views.read(consistency, self._search, queries)
        newest = self._threads.pool().submit(self.view, consistency)
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
        again[0][1].spent = spent_together(found[0][1].spent, again[0][1].spent)
        return view, again

    def _search(
        self, view: IndexView, queries: Sequence[Query]
    ) -> list[tuple[tuple[Match, ...], Trace]]:
        for query in queries:
            if query.deadline_ms is not None:
                self._check_time(query.deadline_ms)
        most = queries[0].matches_max if queries else None
        if most is None:
            return self._searcher.search(view, queries)
        return search_bounded(self._searcher, view, queries, most)

    def deadline_ms(self, timeout_ms: int | None) -> int | None:
        """Return when an answer must be there that may take so long from now."""
        # Of NumPy's kinds of numbers some hold no time of day.
        return None if timeout_ms is None else self._clock.now_ms() + int(timeout_ms)

    def _check_time(self, deadline_ms: int) -> None:
        if self._clock.now_ms() >= deadline_ms:
            raise UnavailableError(
                "the time for the query was over when the index had been read: give it a longer "
                "timeout_ms, or repeat it"
            )

    def get(self, keys: Any, include: frozenset[str], as_of: AsOf | None = None) -> list[Record]:
        """Get records by key."""
        names = check_keys(keys)
        return self._reading_at(
            as_of, lambda view, live: records_by_key(view, names, include, live)
        )

    def snapshots(self, limit: int, before: int | None) -> list[SnapshotInfo]:
        """Return what the commits did, the newest first."""
        return self._views.history.page(self._views.refresh().sequence, limit, before)

    def list(
        self,
        cursor: str | None,
        limit: int,
        include: frozenset[str],
        *,
        as_of: AsOf | None,
        node: FilterNode | None,
    ) -> RecordPage:
        """List records that pass a filter, a page at a time."""
        return self._reading_at(
            as_of,
            lambda view, live: record_page(view, cursor, limit, include, only_live(node, live)),
        )

    def _reading_at(
        self, as_of: AsOf | None, read: Callable[[IndexView, FilterNode | None], T]
    ) -> T:
        """Read from the newest snapshot, or that of a number or a moment."""
        if as_of is None:
            return self._views.read("strong", read, self._live())[1]
        view, live = self._seen(as_of)
        return self._past(view, lambda: read(view, live))

    def _past(self, view: IndexView, read: Callable[[], T]) -> T:
        """Read from an older snapshot; where that was collected meanwhile, say so."""
        try:
            return read()
        except DataError as error:
            self._views.refuse_gone(view.snapshot, error)
            raise

    def _seen(self, as_of: AsOf | None) -> tuple[IndexView, FilterNode | None]:
        """Return the snapshot to read from, and what says of a record that it is live then."""
        if as_of is None:
            return self.view("strong"), self._live()
        view, now_ms = self._views.as_of(as_of)
        return view, live_node(self.config, now_ms)

    def _live(self) -> FilterNode | None:
        """Return what says of a record that it has not expired now."""
        return live_node(self.config, self._clock.now_ms()) if self.config.expires else None

    def export(
        self,
        node: FilterNode | None,
        include: frozenset[str],
        *,
        as_of: AsOf | None,
        report: Report,
    ) -> RowExport:
        """Read out the records of one snapshot that pass a filter."""
        from squash.runtime.exporting import export  # noqa: PLC0415 - see there

        view, live = self._seen(as_of)
        return export(
            self._views,
            view,
            only_live(node, live),
            store=self._store,
            whole_bytes_max=self._settings.whole_bytes_max,
            include=include,
            report=report,
        )

    def backlog(self) -> Backlog:
        """Say how much a fold would take in, from the log alone."""
        opened = self._views.refresh()
        part = fresh_part(opened)
        due = passed_limit(part, soon=True)
        claim = building(opened.state, self._clock.now_ms())
        return Backlog(
            snapshot=opened.sequence,
            commits=len(commits_needed(opened.state)),
            rows=part.rows,
            rows_in_partitions=part.rows_in_partitions,
            bytes=part.bytes,
            fold_due=due.name if due else None,
            building=claim.build if claim else None,
        )

    def stats(self) -> IndexStats:
        """Describe the newest snapshot."""
        from squash.runtime.describing import index_stats  # noqa: PLC0415 - few ask

        return self._views.read("strong", partial(index_stats, self.config), self._views)[1]

    def gc(self, *, retention_s: float, dry_run: bool, report: Report) -> GcReport:
        """Remove what no state within the retention needs."""
        from squash.runtime.keeping import gc  # noqa: PLC0415 - see there

        return gc(
            self._views,
            clock=self._clock,
            retention_s=retention_s,
            dry_run=dry_run,
            report=report,
        )

    def verify(self, report: Report) -> VerifyReport:
        """Read everything back and hold it against the rest, retaining nothing."""
        from squash.runtime.keeping import verify  # noqa: PLC0415 - see there

        return verify(
            self._views,
            self.config,
            self._passing_loader(),
            store=self._store,
            check_catalogue=self._check_catalogue,
            report=report,
        )

    def repair(self, *, dry_run: bool, drop_lost: bool, report: Report) -> RepairReport:
        """Mend what the remaining objects allow."""
        from squash.runtime.keeping import repair  # noqa: PLC0415 - see there

        return repair(
            self._views,
            self.config,
            self._passing_loader,
            store=self._store,
            check_catalogue=self._check_catalogue,
            dry_run=dry_run,
            drop_lost=drop_lost,
            report=report,
        )

    def view(self, consistency: str) -> IndexView:
        """Return the snapshot to answer from."""
        return self._views.view(consistency)

    def view_at(self, sequence: int) -> IndexView:
        """Return the snapshot after a commit; see `IndexViews.view_at`."""
        return self._views.view_at(sequence)

    def _passing_loader(self) -> RetainedObjects:
        """Return a loader that reads what lies in the store and keeps nothing of it."""
        return RetainedObjects(
            self._store,
            bytes_max=_PASSING_RETAINED_BYTES,
            whole_bytes_max=self._settings.whole_bytes_max,
        )

    def _spent(self) -> SpentHere:
        return self._counted.noted(), self._views.loader.noted()


def _nobody_encodes() -> Encoding:
    raise InternalError("this index was opened without anybody to encode texts and images")
