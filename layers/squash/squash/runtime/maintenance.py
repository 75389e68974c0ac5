"""Work on a whole index, for its session: fold, collect garbage, verify, repair.

Loaded by a session when it is first asked for: training and building are much to import, and who
only answers queries does without.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from squash.arrays import I64
from squash.clock import Clock, IdSource
from squash.errors import DataError, NotFoundError, UnavailableError
from squash.index import catalogue
from squash.index.commits import PutRows
from squash.index.live import Opened
from squash.index.reader import SegmentReader
from squash.index.state import State
from squash.maintain import (
    BuildOptions,
    Ledger,
    LiveRows,
    check_retention,
    collect,
    collect_remains,
    optimize,
    verify_bitmaps,
    verify_history,
    verify_named,
    verify_newest_snapshot,
    verify_segments,
    verify_trained,
)
from squash.model import (
    DatabaseGcReport,
    GcReport,
    IndexConfig,
    ObjectRef,
    Progress,
    VerifyReport,
    WriteResult,
)
from squash.runtime.retained import RetainedObjects
from squash.runtime.views import IndexViews
from squash.storage import ObjectStore

Report = Callable[[Progress], None]


def fold(
    views: IndexViews,
    config: IndexConfig,
    loader: RetainedObjects,
    *,
    options: BuildOptions | None,
    scratch: Path | None,
    report: Report,
) -> WriteResult:
    """Fold what lives into partitions; nothing to do is fine."""
    options = options or BuildOptions()
    opened = views.refresh()
    live = [(views.reader(ref, loader), views.live(opened, ref)) for ref in opened.state.segments]
    source = LiveRows(views.fresh(opened), live)
    if not _folded(opened, live, options.exact_rows_max):
        opened = optimize(
            views.log,
            opened,
            config,
            source,
            options=options,
            scratch=scratch,
            report=report,
        )
    return WriteResult(views.install(opened).sequence, source.rows)


def gc(
    views: IndexViews,
    *,
    clock: Clock,
    retention_s: float,
    dry_run: bool,
    report: Report,
) -> GcReport:
    """Remove what no state within the retention needs."""
    return collect(
        views.log.store,
        clock=clock,
        ids=views.log.ids,
        retention_s=retention_s,
        dry_run=dry_run,
        report=report,
    )


class Collectable(Protocol):
    """An opened index whose garbage can be collected."""

    def gc(self, retention_s: float, *, dry_run: bool, progress: Report) -> GcReport:
        """Remove what no state within the retention needs."""
        ...


def gc_all(
    store: ObjectStore,
    open_index: Callable[[str], Collectable],
    *,
    clock: Clock,
    ids: IdSource,
    retention_s: float,
    dry_run: bool,
    report: Report,
) -> DatabaseGcReport:
    """Collect the garbage of every index of a database, and what is left of dropped ones."""
    check_retention(retention_s)
    found: dict[str, GcReport] = {}
    failed: dict[str, str] = {}
    for name in catalogue.names(store):
        try:
            found[name] = open_index(name).gc(retention_s, dry_run=dry_run, progress=report)
        except (DataError, NotFoundError, UnavailableError) as error:
            failed[name] = str(error)
    prefixes, orphaned = catalogue.remains(store)
    removed = collect_remains(store, prefixes, clock=clock, ids=ids, dry_run=dry_run)
    return DatabaseGcReport(found, failed, removed, tuple(orphaned), dry_run)


def verify(
    views: IndexViews,
    config: IndexConfig,
    loader: RetainedObjects,
    *,
    store: ObjectStore,
    check_catalogue: Callable[[], None],
    report: Report,
) -> VerifyReport:
    """Read everything back and hold it against the rest."""
    ledger = Ledger()
    ledger.check(f"{config.name}/index.json", check_catalogue)
    history = verify_history(store, ledger, report)
    rows = 0
    seen: set[str] = set()
    try:
        opened = views.log.refresh(None)
        state = opened.state
        trained = verify_trained(state, loader, ledger, dimension=config.dimension)
        verify_bitmaps(state, store, ledger)
        readers = [views.reader(ref, loader) for ref in state.segments]
        rows = verify_segments(readers, trained, config, ledger=ledger, report=report)
        rows += _fresh_rows(opened)
        seen = {ref.key for ref in named_by(state)}
    except DataError as error:
        # The history has named it already, unless it shows only in how commits follow.
        if error.object_key not in {damage.object_key for damage in ledger.damages}:
            ledger.note(error.object_key or "log/", str(error))
    verify_named(store, history, ledger, seen=seen, report=report)
    verify_newest_snapshot(
        views.log, history, ledger, load_keys=lambda ref: views.reader(ref, loader).keys()
    )
    return VerifyReport(
        ledger.objects, ledger.bytes, rows, tuple(ledger.damages), history.unreferenced
    )


def named_by(state: State) -> Iterator[ObjectRef]:
    """Yield the references that a state holds."""
    if state.trained is not None:
        yield state.trained
    for segment in state.segments:
        yield from segment.objects.values()
        if segment.deleted is not None:
            yield segment.deleted


def _fresh_rows(opened: Opened) -> int:
    fresh = [opened.commits[sequence].operation for sequence in opened.state.fresh]
    return sum(len(one.rows) for one in fresh if isinstance(one, PutRows))


def _folded(opened: Opened, live: Sequence[tuple[SegmentReader, I64]], exact_rows_max: int) -> bool:
    """Say whether there is nothing to fold."""
    if opened.state.fresh or any(len(rows) < reader.ref.rows for reader, rows in live):
        return False
    flat = [reader for reader, _ in live if reader.ref.kind == "flat"]
    return not flat or (len(live) == 1 and flat[0].ref.rows <= exact_rows_max)
