"""Work that keeps an index sound and small, for its session: collect garbage, verify, repair.

Loaded by a session when it is first asked for, as `squash.runtime.maintenance`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final, Protocol

from squash.clock import Clock, IdSource
from squash.errors import (
    DataError,
    NotFoundError,
    SquashError,
    UnavailableError,
    UnsupportedFormatError,
)
from squash.index import catalogue
from squash.index.commits import PutRows, log_key
from squash.index.entries import entry_key
from squash.index.live import Opened
from squash.index.names import BUCKETS
from squash.index.snapshots import snapshot_key
from squash.index.state import State, commits_needed
from squash.maintain import (
    BuildOptions,
    History,
    Ledger,
    LiveRows,
    Repairer,
    check_retention,
    collect,
    collect_buckets,
    collect_remains,
    optimize,
    removed_since,
    still_named,
    verify_bitmaps,
    verify_history,
    verify_named,
    verify_newest_snapshot,
    verify_segments,
    verify_trained,
)
from squash.model import IndexConfig, ObjectRef
from squash.planning.turns import in_turn
from squash.reports import (
    Damage,
    DatabaseGcReport,
    GcReport,
    ObjectCount,
    Progress,
    RepairReport,
    VerifyReport,
)
from squash.runtime.retained import RetainedObjects
from squash.runtime.views import IndexViews
from squash.storage import ObjectStore

Report = Callable[[Progress], None]
_LOG = logging.getLogger("squash")
# One collection is met in two passes, unless several run one after another.
_PASSES_MAX: Final = 4


def gc(
    views: IndexViews,
    *,
    clock: Clock,
    retention_s: float,
    dry_run: bool,
    report: Report,
) -> GcReport:
    """Remove what no state within the retention needs."""
    done = collect(
        views.log.store,
        clock=clock,
        ids=views.log.ids,
        retention_s=retention_s,
        dry_run=dry_run,
        report=report,
    )
    if not dry_run:
        _leave_a_horizon(views)
    return done


def _leave_a_horizon(views: IndexViews) -> None:
    """Write a snapshot that a later collection begins from: few commits never make one due."""
    try:
        opened = views.refresh()
        if opened.state.snapshot_sequence < opened.sequence:
            views.install(views.log.write_snapshot(opened))
    except SquashError as error:
        _LOG.warning("what was collected stays so; the next snapshot was not written: %s", error)


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
    """Collect the garbage of every index of a database, and what is left of dropped ones.

    In another order each time, so that none always comes when a function's time is up.
    """
    check_retention(retention_s)
    found: dict[str, GcReport] = {}
    failed: dict[str, str] = {}
    names = catalogue.names(store)
    for name in in_turn(names, clock.now_ms()):
        try:
            try:
                found[name] = open_index(name).gc(retention_s, dry_run=dry_run, progress=report)
            except NotFoundError:
                # Dropped: just now, or by a drop that was broken off and left the name.
                if not (dry_run or catalogue.free(store, name)):
                    raise
        except (SquashError, OSError) as error:
            # Whatever it is, the others can be collected: S3 may throttle the keys of one.
            failed[name] = str(error)
    found = {name: found[name] for name in names if name in found}
    failed = {name: failed[name] for name in names if name in failed}
    prefixes, orphaned = catalogue.remains(store)
    removed = collect_remains(store, prefixes, clock=clock, ids=ids, dry_run=dry_run)
    gone = collect_buckets(store, clock=clock, ids=ids, dry_run=dry_run)
    removed = ObjectCount(removed.objects + gone.objects, removed.bytes + gone.bytes)
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
    return _verify(
        views, config, loader, store=store, check_catalogue=check_catalogue, report=report
    )[0]


def _verify(
    views: IndexViews,
    config: IndexConfig,
    loader: RetainedObjects,
    *,
    store: ObjectStore,
    check_catalogue: Callable[[], None],
    report: Report,
) -> tuple[VerifyReport, History, Opened | None]:
    rows, looked = 0, False
    content, seen = Ledger(), set[str]()
    for _ in range(_PASSES_MAX):
        if not looked:
            content, seen = Ledger(), set()
        ledger = Ledger()
        ledger.check(entry_key(config.name), check_catalogue)
        history = verify_history(store, ledger, report)
        opened = _open(views, ledger)
        if opened is not None and not looked:
            rows = _verify_content(views, opened, config, loader, ledger=content, report=report)
            looked = True
            seen |= {ref.key for ref in named_by(opened.state)}
        verify_named(store, history, content, seen=seen, report=report)
        seen |= history.named.keys()
        verify_newest_snapshot(
            views.log, history, ledger, load_keys=lambda ref: views.reader(ref, loader).keys()
        )
        newest = opened.state if opened else None
        damages = (*ledger.damages, *still_named(content.damages, history, newest))
        if not damages or not removed_since(store, history):
            objects, stored = ledger.objects + content.objects, ledger.bytes + content.bytes
            found = VerifyReport(objects, stored, rows, damages, history.unreferenced)
            return found, history, opened
        # Objects were removed meanwhile, so what was taken for damage may be none: the history is
        # read anew. The objects that were looked at are not.
    raise UnavailableError(
        f"{_PASSES_MAX} times objects were removed while the index was verified, and it cannot be "
        "told what is damaged: repeat the call when no garbage is being collected"
    )


def _open(views: IndexViews, ledger: Ledger) -> Opened | None:
    try:
        return views.log.refresh(None)
    except DataError as error:
        # The history has named it already, unless it shows only in how commits follow.
        if error.object_key not in {damage.object_key for damage in ledger.damages}:
            ledger.refused(error.object_key or "log/", error)
        return None


def _verify_content(
    views: IndexViews,
    opened: Opened,
    config: IndexConfig,
    loader: RetainedObjects,
    *,
    ledger: Ledger,
    report: Report,
) -> int:
    """Read all that a state names and hold it against each other; return the number of rows."""
    state = opened.state
    trained = verify_trained(state, loader, ledger, dimension=config.dimension)
    verify_bitmaps(state, views.log.store, ledger)
    readers = [views.reader(ref, loader) for ref in state.segments]
    rows = verify_segments(
        readers,
        trained,
        config,
        trained_key=state.trained.key if state.trained else None,
        ledger=ledger,
        report=report,
    )
    return rows + _fresh_rows(opened)


def repair(
    views: IndexViews,
    config: IndexConfig,
    make_loader: Callable[[], RetainedObjects],
    *,
    store: ObjectStore,
    check_catalogue: Callable[[], None],
    dry_run: bool,
    drop_lost: bool,
    report: Report,
) -> RepairReport:
    """Mend what the remaining objects allow, and verify again."""
    verify_all = partial(
        _verify, views, config, store=store, check_catalogue=check_catalogue, report=report
    )
    before, history, opened = verify_all(make_loader())
    if not before.damages:
        return RepairReport((), 0, (), (), (), dry_run)
    _refuse_newer(before.damages)
    loader = make_loader()
    repairer = Repairer(
        views.log,
        config,
        history,
        before.damages,
        read=lambda ref: views.reader(ref, loader),
        dry_run=dry_run,
        drop_lost=drop_lost,
    )
    repairer.restore_objects()
    repairer.restore_bitmaps()
    repairer.restore_snapshots()
    repairer.restore_settings()
    after = repairer.replace_segments()
    damaged = {damage.object_key for damage in before.damages}
    trained = after and after.state.trained
    if after is not None and trained and trained.key in damaged:
        try:
            _train_anew(views, config, loader, after, dry_run=dry_run, report=report)
            repairer.found.mended(trained.key, "all records were built and trained anew")
        except DataError as error:
            # A segment was left as it is, and is named; until it is mended nothing can be built.
            _LOG.info("not trained anew: %s", error)
    found = repairer.found
    if dry_run:
        mended = {one.object_key for one in found.repaired}
        damages = tuple(one for one in before.damages if one.object_key not in mended)
    else:
        now, history, opened = verify_all(make_loader())
        damages = now.damages
    left = _still_needed(damages, config, history, opened)
    return RepairReport(
        tuple(found.repaired),
        found.lost_rows,
        tuple(found.lost_keys),
        left,
        tuple(one for one in damages if one not in left),
        dry_run,
    )


def _still_needed(
    damages: Sequence[Damage], config: IndexConfig, history: History, opened: Opened | None
) -> tuple[Damage, ...]:
    """Return the damage that the newest state cannot do without."""
    needed = _needed_keys(history, opened)
    if needed is None:
        return tuple(damages)
    needed.add(entry_key(config.name))
    # What is said of its vector bucket lies beside the index, and is needed as well.
    return tuple(
        one for one in damages if one.object_key in needed or one.object_key.startswith(BUCKETS)
    )


def _refuse_newer(damages: Sequence[Damage]) -> None:
    """Refuse to mend beside what a newer release wrote: what is amiss there it alone can tell."""
    newer = next((one for one in damages if one.newer), None)
    if newer is not None:
        raise UnsupportedFormatError(
            f"nothing was repaired, since a newer release wrote to this index: {newer.problem}",
            object_key=newer.object_key,
        )


def _train_anew(
    views: IndexViews,
    config: IndexConfig,
    loader: RetainedObjects,
    opened: Opened,
    *,
    dry_run: bool,
    report: Report,
) -> None:
    """Build all that lives anew, few rows too, so that nothing names what the old ones shared."""
    live = [(views.reader(ref, loader), views.live(opened, ref)) for ref in opened.state.segments]
    source = LiveRows(views.fresh(opened), live)
    if dry_run or not source.rows:
        return
    options = BuildOptions(exact_rows_max=0)
    optimize(views.log, opened, config, source, options=options, scratch=None, report=report)


def _needed_keys(history: History, opened: Opened | None) -> set[str] | None:
    """Return all that the newest state needs, and what has a name it must not have.

    None if it cannot be opened: then anything may be what it needs.
    """
    if opened is None:
        return None
    needed = {ref.key for ref in named_by(opened.state)}
    needed |= {log_key(sequence) for sequence in commits_needed(opened.state)}
    needed |= {one.info.key for one in history.listed if one.kind == "unknown"}
    listed = [one.number for one in history.listed if one.kind == "snapshots"]
    needed.add(snapshot_key(max(listed, default=0)))
    settings = {one.number: one.info.key for one in history.listed if one.kind == "settings"}
    if settings:
        needed.add(settings[max(settings)])
    return needed


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
