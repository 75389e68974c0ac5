"""Work on a whole index, for its session: folding.

Loaded by a session when it is first asked for: training and building are much to import, and who
only answers queries does without.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from squash.arrays import I64
from squash.attributes import expired, live_node
from squash.errors import ConflictError, DataError, InvalidArgumentError, shown
from squash.index.claims import claim, refuse_while_building
from squash.index.live import Opened
from squash.index.reader import SegmentReader
from squash.index.state import State
from squash.index.trained import Trained
from squash.limits import FOLD_CLAIM_MS, FOLD_CLAIM_ROWS_MIN
from squash.maintain import (
    BuildOptions,
    LiveRows,
    Standing,
    optimize,
    refold,
)
from squash.maintain.gc import store_time
from squash.model import IndexConfig, RowBatch, WriteResult
from squash.planning import FoldFacts, PartitionCounts, choose_partitions, why_rebuild
from squash.quantize import is_of_preset
from squash.reports import Progress
from squash.runtime.retained import RetainedObjects
from squash.runtime.views import IndexViews

Report = Callable[[Progress], None]


def fold(
    views: IndexViews,
    config: IndexConfig,
    loader: RetainedObjects,
    *,
    options: BuildOptions | None,
    scratch: Path | None,
    report: Report,
    full: bool = False,
) -> WriteResult:
    """Fold what is in no partition into partitions; nothing to do is fine.

    Parameters
    ----------
    views, config, loader:
        The index.
    options, scratch, report:
        As `Index.optimize` takes them.
    full:
        Whether to train and build the whole anew, whatever `why_rebuild` would say.

    """
    if options is None:
        options = BuildOptions()
    if not isinstance(options, BuildOptions):
        raise InvalidArgumentError(
            f"options is {shown(options)}: give maintain.BuildOptions, or nothing", field="options"
        )
    options = options.fitted(config.dimension)
    opened = views.refresh()
    claimed = _is_long(opened) and not _is_writers_turn(opened.state, views.log.now_ms())
    while True:
        refuse_while_building(opened.state, views.log.now_ms())
        if claimed:
            opened = claim(views.log, opened)
        try:
            return _fold(
                views, opened, config, loader,
                options=options, scratch=scratch, report=report, full=full,
            )  # fmt: skip
        except DataError as error:
            _refuse_folded(opened, views.refresh(), error)
            raise
        except ConflictError:
            before, opened = opened.state.trained, views.refresh()
            if claimed or opened.state.trained != before:
                raise
            # A writer flattened what was read: it would again.
            claimed = True


def _refuse_folded(read: Opened, newest: Opened, error: DataError) -> None:
    """Say that another fold was first, if what is not there may have been collected after it.

    Raises
    ------
    ConflictError
        If something that was read is in the index no more.

    """
    left = {segment.id for segment in newest.state.segments}
    folded = any(segment.id not in left for segment in read.state.segments)
    if folded or read.state.trained != newest.state.trained:
        raise ConflictError(
            "another fold was first, and what it took in was collected: fold again if it is wanted"
        ) from error


def _is_long(opened: Opened) -> bool:
    """Tell if a fold would take so long that a busy writer would fold what it reads, and win."""
    state = opened.state
    pending = state.fresh or any(segment.kind == "flat" for segment in state.segments)
    return bool(pending) and sum(one.rows for one in state.segments) >= FOLD_CLAIM_ROWS_MIN


def _is_writers_turn(state: State, now_ms: int) -> bool:
    """Tell if a fold claimed what is there lately, and took nothing: it may have failed.

    If each that fails claimed it anew, writers would never flatten, and commits pile up. So they
    get as long a turn as a claim lasts.
    """
    claim = state.claim
    return claim is not None and now_ms - claim.time_ms < 2 * FOLD_CLAIM_MS


def _fold(
    views: IndexViews,
    opened: Opened,
    config: IndexConfig,
    loader: RetainedObjects,
    *,
    options: BuildOptions,
    scratch: Path | None,
    report: Report,
    full: bool,
) -> WriteResult:
    """Fold what was read; see `fold`.

    A snapshot follows, due or not: of what stays, a reader would want the commits since; of what
    was built anew it need not ask for those that brought the rows.
    """
    fresh, live = _staying(views, opened, config, loader)
    source = LiveRows(fresh, live)
    trained = _trained(opened, loader, config)
    facts = _facts(trained, config, rows=source.rows, options=options)
    if full or trained is None or why_rebuild(facts) is not None:
        if (full and live) or not _folded(opened, live, facts):
            opened = optimize(
                views.log,
                opened,
                config,
                source,
                options=options,
                scratch=scratch,
                report=report,
            )
            opened = views.log.try_snapshot(opened)
    else:
        standing = _standing(opened, config, trained, fresh, live)
        if not _settled(standing, options):
            folded = refold(views.log, standing, options=options, scratch=scratch, report=report)
            opened = opened if folded is opened else views.log.try_snapshot(folded)
    return WriteResult(views.install(opened).sequence, source.rows)


def _staying(
    views: IndexViews, opened: Opened, config: IndexConfig, loader: RetainedObjects
) -> tuple[RowBatch, list[tuple[SegmentReader, I64]]]:
    """Return the fresh rows and those of each segment that live and have not expired."""
    now_ms = views.log.now_ms()
    if config.expires is not None:
        # A clock that is ahead would take from all others what is there for them yet.
        now_ms = min(now_ms, store_time(views.log.store, views.log.ids))
    node = live_node(config, now_ms)
    live: list[tuple[SegmentReader, I64]] = []
    for ref in opened.state.segments:
        reader, rows = views.reader(ref, loader), views.live(opened, ref)
        if node is not None and len(rows):
            rows = rows[reader.columns().evaluate(node)[rows]]
        live.append((reader, rows))
    fresh = views.fresh(opened)
    stay = [n for n, one in enumerate(fresh.metadata) if not expired(config, one, now_ms)]
    if len(stay) < len(fresh):
        fresh = RowBatch(
            [fresh.keys[row] for row in stay],
            fresh.vectors[stay],
            [fresh.metadata[row] for row in stay],
        )
    return fresh, live


def _trained(opened: Opened, loader: RetainedObjects, config: IndexConfig) -> Trained | None:
    """Return what the partitions share, if all that it lists are there; else None."""
    ref = opened.state.trained
    there = {segment.id for segment in opened.state.segments if segment.kind == "partition"}
    if ref is None or not there:
        return None
    trained = loader.load(
        ref,
        "trained",
        lambda data: Trained.from_bytes(data, ref.key, dimension=config.dimension),
    )
    return trained if there == set(trained.partition_ids) else None


def _facts(
    trained: Trained | None,
    config: IndexConfig,
    *,
    rows: int,
    options: BuildOptions,
) -> FoldFacts:
    """Return what decides how to fold."""
    if trained is None:
        return FoldFacts(rows, options.exact_rows_max, trained=False)
    history = trained.history
    then, now = history.energy_trained if history else None, trained.energy()
    ratio = None
    if then is not None and now is not None:
        # Rows that were all equal had none: whatever has, lies farther than any number says.
        ratio = now / then if then else math.inf if now else 1.0
    return FoldFacts(
        rows,
        options.exact_rows_max,
        trained=True,
        codec_fits=is_of_preset(trained.codec, config.codec),
        rows_trained=history.rows_trained if history else int(trained.cluster_rows.sum()),
        energy_ratio=ratio,
        thrifty=options.thrifty,
    )


def _standing(
    opened: Opened,
    config: IndexConfig,
    trained: Trained,
    fresh: RowBatch,
    live: Sequence[tuple[SegmentReader, I64]],
) -> Standing:
    """Tell partitions from what is pending."""
    by_id = {reader.ref.id: (reader, rows) for reader, rows in live}
    flat = [one for one in live if one[0].ref.kind == "flat"]
    partitions = [by_id[one] for one in trained.partition_ids]
    return Standing(opened, config, trained, partitions, LiveRows(fresh, flat))


def _settled(standing: Standing, options: BuildOptions) -> bool:
    """Say whether a fold into the partitions there are would find nothing to do."""
    state = standing.opened.state
    if state.fresh or any(segment.kind == "flat" for segment in state.segments):
        return False
    live = np.array([len(rows) for _, rows in standing.partitions])
    stored = np.array([reader.ref.rows for reader, _ in standing.partitions])
    counts = PartitionCounts(live, stored - live, np.zeros_like(live))
    return not choose_partitions(
        counts, rows_max=options.partition_rows_max, thrifty=options.thrifty
    ).any()


def _folded(opened: Opened, live: Sequence[tuple[SegmentReader, I64]], facts: FoldFacts) -> bool:
    """Say whether a whole fold would find nothing to do."""
    if opened.state.fresh or any(len(rows) < reader.ref.rows for reader, rows in live):
        return False
    if facts.rows > facts.exact_rows_max:
        return False
    return len(live) <= 1 and all(reader.ref.kind == "flat" for reader, _ in live)
