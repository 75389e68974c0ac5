"""Folding into the partitions there are, without training: only what changed is written anew.

The rows that wait are projected by the codec there is, and each goes to its nearest cluster; they
are spilled to the local disk by partition. Then the partitions that are worth it are written anew,
one group of neighbours at a time, with the rows that live in them. What waits for the others goes
back into a flat segment. Memory holds one partition, whatever the size of the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from squash.arrays import F32, I64, distinct
from squash.errors import CommitUnknownError, SquashError
from squash.index import writer
from squash.index.live import Opened
from squash.index.log import IndexLog
from squash.index.object_keys import trained_key
from squash.index.reader import SegmentReader
from squash.index.trained import History, Trained
from squash.limits import FLAT_SEGMENT_ROWS_MAX
from squash.maintain.build import BuildOptions
from squash.maintain.calibrate import NeighbourCollector
from squash.maintain.code_ranks import RanksWithin
from squash.maintain.learning import held_out, own_rows, space_of, spreads_of
from squash.maintain.live_rows import LiveRows, drop, segment_batches, store_segment
from squash.maintain.parts import measured, parts_of
from squash.maintain.regroup import assign_rows, update_centers
from squash.maintain.routing import Routing, encode
from squash.maintain.spill import Spill, WrittenRows, read_rows
from squash.model import IndexConfig, SegmentRef
from squash.planning import (
    Calibration,
    Kept,
    PartitionCounts,
    choose_partitions,
    join_partitions,
    measures_recall,
)
from squash.reports import Progress
from squash.segment import build_flat
from squash.storage.scratch import scratch_folder
from squash.training import Assigner
from squash.values import dataclass

_CHUNK_ROWS = 16_384
# The rows of a group that clusters are brought up to date by.
_SAMPLE_ROWS_MAX = 1 << 16

Report = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Standing:
    """What a fold builds on.

    Parameters
    ----------
    opened, config:
        The index as it was read.
    trained:
        What its partitions share; every one that it lists is live.
    partitions:
        In its order, each with its rows that stay (int64, ascending).
    pending:
        The rows that stay and are in no partition.
    """

    opened: Opened
    config: IndexConfig
    trained: Trained
    partitions: Sequence[tuple[SegmentReader, I64]]
    pending: LiveRows


def refold(
    log: IndexLog,
    standing: Standing,
    *,
    options: BuildOptions,
    scratch: Path | None,
    report: Report,
) -> Opened:
    """Fold what is pending, and take out what is dead, where it is worth writing partitions anew.

    Writers go on meanwhile: what they commit applies to the new segments too. A fold that loses
    against another drops what it wrote.

    Parameters
    ----------
    log:
        The index's.
    standing:
        What there is.
    options:
        Sizes, and whether rows may go on waiting.
    scratch:
        A folder with room for the rows that are written anew; None for the system's.
    report:
        Told of every step.

    Raises
    ------
    ConflictError
        If another fold was first.
    CommitUnknownError
        If it is not known whether the fold was committed; nothing is dropped then.

    """
    with scratch_folder(scratch) as folder:
        fold = _Fold(log, standing, options, folder, report)
        try:
            return fold.run()
        except CommitUnknownError:
            raise
        except SquashError:
            drop(log.store, fold.written, fold.others)
            raise


class _Fold:
    """One fold on its way."""

    def __init__(
        self, log: IndexLog, standing: Standing, options: BuildOptions, folder: Path, report: Report
    ) -> None:
        self.written: list[SegmentRef] = []
        self.others: list[str] = []
        self._log = log
        self._begun_ms = log.now_ms()
        self._standing = standing
        self._options = options
        self._folder = folder
        self._report = report
        # Files of a folder of their own: a group of partitions has the same names.
        self._arrived = self._new_spill("arrived", len(standing.partitions))
        codec = standing.trained.codec
        self._ranks = RanksWithin(codec) if codec.scannable else None

    def run(self) -> Opened:
        standing = self._standing
        self._spill_pending()
        counts = self._counts()
        groups = self._groups(counts)
        if not groups and not self._flattens():
            return standing.opened
        planned = [number for group in groups for number in group]
        history = self._history(counts, planned)
        collector = self._collector(counts, history, planned)
        routing = Routing()
        rewritten = self._write_groups(groups, counts, routing, collector)
        staying = [one for one in range(len(standing.partitions)) if one not in rewritten]
        self._write_waiting(staying)
        if len(rewritten) < len(planned):
            collector = None  # It was to be quick.
        shown, total = 0, int(counts.live[staying].sum())
        for number in staying:
            first = routing.clusters
            routing.keep(standing.trained, number)
            if collector is not None:
                self._show(collector, number, first)
                shown += int(counts.live[number])
                self._report(Progress("calibrate", shown, total, "rows"))
        # Of no rows that are left there is nothing to say, and of no partition nothing new.
        made = self._made(routing, history, collector) if rewritten and routing.clusters else None
        return self._commit(rewritten, made)

    def _groups(self, counts: PartitionCounts) -> list[list[int]]:
        """Choose the partitions to write anew, those together that become one or some others."""
        options = self._options
        chosen = choose_partitions(
            counts, rows_max=options.partition_rows_max, thrifty=options.thrifty
        )
        return join_partitions(
            counts,
            _middles(self._standing.trained),
            chosen,
            rows_target=options.partition_rows_target,
            rows_max=options.partition_rows_max,
        )

    def _flattens(self) -> bool:
        """Tell if what is pending would lie in fewer flat segments, or without dead rows."""
        state = self._standing.opened.state
        flat = [segment.rows for segment in state.segments if segment.kind == "flat"]
        rows = self._arrived.rows
        fewest = -(-rows // FLAT_SEGMENT_ROWS_MAX)
        return bool(state.fresh) or len(flat) > fewest or sum(flat) > rows

    def _made(
        self, routing: Routing, history: History, collector: NeighbourCollector | None
    ) -> Trained:
        trained = self._standing.trained
        if collector is not None:
            history = replace(history, rows_since=0)
            centers = routing.centers()
            spreads = spreads_of(self._standing.config.metric, trained.codec, centers)
            calibration = collector.fit(
                centers, routing.cluster_rows(), spreads=spreads, kept=trained.calibration.kept
            )
        else:
            calibration = trained.calibration.scaled(
                measured=len(trained.centers), clusters=routing.clusters
            )
        calibration = self._raised(calibration)
        return routing.trained(trained.codec, trained.cells, calibration, history)

    # What there is

    def _spill_pending(self) -> None:
        """Give each pending row its nearest cluster, and spill it by that one's partition."""
        trained, config = self._standing.trained, self._standing.config
        assigner = Assigner(trained.centers)
        owner = np.repeat(np.arange(len(trained.partition_ids)), np.diff(trained.partition_begins))
        done, total = 0, self._standing.pending.rows
        for batch in self._standing.pending.batches():
            done += len(batch)
            projected = trained.codec.project(measured(batch.vectors, config.metric))
            cluster = assigner.assign(projected)
            self._arrived.add(batch, bucket=owner[cluster], cluster=cluster)
            self._report(Progress("assign", done, total, "rows"))

    def _counts(self) -> PartitionCounts:
        partitions = self._standing.partitions
        live = np.array([len(rows) for _, rows in partitions], dtype=np.int64)
        stored = np.array([reader.ref.rows for reader, _ in partitions], dtype=np.int64)
        pending = [len(self._arrived.clusters(one)) for one in range(len(partitions))]
        return PartitionCounts(live, stored - live, np.array(pending, dtype=np.int64))

    def _history(self, counts: PartitionCounts, rewritten: Sequence[int]) -> History:
        known = self._standing.trained.history
        if known is None:
            # Whoever built it wrote all rows in one go.
            trained = self._standing.trained
            known = History(int(trained.cluster_rows.sum()), None, 0)
        places = list(rewritten)
        changed = int(counts.pending[places].sum() + counts.dead[places].sum())
        return replace(known, rows_since=known.rows_since + changed)

    # Recall

    def _collector(
        self, counts: PartitionCounts, history: History, rewritten: Sequence[int]
    ) -> NeighbourCollector | None:
        """Return what measures recall anew, if that is due; its queries are rows of all parts."""
        rows = int(counts.after.sum())
        most = int(counts.after[list(rewritten)].sum())
        if not rows or not measures_recall(rows=rows, rewritten=most, changed=history.rows_since):
            return None
        wanted = np.linspace(0, rows - 1, min(self._options.calibration_queries, rows))
        places = distinct(wanted.round().astype(np.int64))
        ends = np.cumsum(np.stack((counts.live, counts.pending), axis=1).ravel())
        begins = np.concatenate((np.zeros(1, np.int64), ends[:-1]))
        parts: list[F32] = []
        for number, (reader, live) in enumerate(self._standing.partitions):
            for which in range(2):
                at = 2 * number + which
                mine = places[(places >= begins[at]) & (places < ends[at])] - begins[at]
                if len(mine):
                    own = self._arrived.vectors(number) if which else None
                    parts.append(
                        reader.vectors(live[mine]) if own is None else np.asarray(own[mine])
                    )
        config, trained = self._standing.config, self._standing.trained
        queries = held_out(trained.codec, measured(np.concatenate(parts), config.metric))
        own = own_rows(trained.codec, queries)
        return NeighbourCollector(
            queries, own=own, space=space_of(config.metric), centers=trained.centers,
            seed=config.seed,
        )  # fmt: skip

    def _raised(self, calibration: Calibration) -> Calibration:
        """Let more rows be kept, if those written anew need many more than was measured."""
        seen = None if self._ranks is None else self._ranks.kept()
        if seen is None:
            return calibration
        # Among equal rows alone nothing was measured: there were no others to tell apart.
        before = calibration.kept or Kept.unmeasured()
        raised = before.raised(seen)
        return replace(calibration, kept=raised) if raised.exceeds(before) else calibration

    def _show(self, collector: NeighbourCollector, number: int, first: int) -> None:
        """Let a partition that stays be seen by what measures recall."""
        reader, live = self._standing.partitions[number]
        trained = self._standing.trained
        cluster = _local_clusters(trained, number)[live]
        begin, end = trained.partition_begins[number : number + 2].tolist()
        centers = trained.centers[begin:end]
        vectors = reader.all_vectors()
        for start in range(0, len(live), _CHUNK_ROWS):
            rows = live[start : start + _CHUNK_ROWS]
            chunk = measured(np.asarray(vectors[rows]), self._standing.config.metric)
            collector.add(
                trained.codec.project(chunk), cluster[start : start + _CHUNK_ROWS],
                centers=centers, first=first, place=(number, start),
            )  # fmt: skip

    # Writing

    def _write_groups(
        self,
        groups: Sequence[Sequence[int]],
        counts: PartitionCounts,
        routing: Routing,
        collector: NeighbourCollector | None,
    ) -> list[int]:
        """Write groups of partitions anew, as long as that may go on; return what was."""
        done: list[int] = []
        trained, config = self._standing.trained, self._standing.config
        total = sum(int(counts.after[list(group)].sum()) for group in groups)
        rows = 0
        for group in groups:
            if self._options.carry_on is not None and not self._options.carry_on():
                break
            done.extend(group)
            spill = self._gathered(group)
            if spill is None:
                continue
            member = self._regrouped(spill)
            parts = parts_of(
                spill, 0, member, codec=trained.codec, cells=trained.cells, config=config,
                sizes=self._options.sizes(),
            )  # fmt: skip
            for number, part in enumerate(parts):
                if collector is not None:
                    collector.add(
                        part.projected, part.clusters(), centers=part.centers,
                        first=routing.clusters, place=(group[0], number),
                    )  # fmt: skip
                objects = encode(part, codec=trained.codec, cells=trained.cells)
                if self._ranks is not None:
                    self._ranks.add(part, objects, share=len(part.rows) / max(total, 1))
                routing.add(self._store("partition", objects, len(part.rows)), part, objects)
                rows += len(part.rows)
                self._report(Progress("encode", rows, max(total, rows), "rows"))
            spill.drop(0)
        return done

    def _gathered(self, group: Sequence[int]) -> Spill | None:
        """Bring the rows that stay of some partitions, and what arrived for them, together."""
        spill = self._new_spill(f"group-{group[0]}", 1)
        for number in group:
            reader, live = self._standing.partitions[number]
            first = int(self._standing.trained.partition_begins[number])
            cluster = first + _local_clusters(self._standing.trained, number)
            start = 0
            for batch in segment_batches(reader, live):
                rows = live[start : start + len(batch)]
                start += len(batch)
                spill.add(batch, bucket=np.zeros(len(batch), np.int64), cluster=cluster[rows])
            arrived = self._arrived.clusters(number)
            if len(arrived):
                for batch, some in self._arrived.batches(number):
                    spill.add(batch, bucket=np.zeros(len(batch), np.int64), cluster=some)
                self._arrived.drop(number)
        return spill if spill.rows else None

    def _regrouped(self, spill: Spill) -> I64:
        """Return int64 [n], the cluster of each row of a group after its clusters moved."""
        codec, metric = self._standing.trained.codec, self._standing.config.metric
        vectors = spill.vectors(0)
        rows = len(vectors)
        sample = np.arange(rows)
        most = self._options.sample_bytes_max // (4 * vectors.shape[1])
        most = max(min(_SAMPLE_ROWS_MAX, self._options.sample_rows_max, most), 1)
        if rows > most:
            sample = np.linspace(0, rows - 1, most).astype(np.int64)
        some = codec.project(measured(np.asarray(vectors[sample]), metric))
        centers = update_centers(
            some,
            np.unique(spill.clusters(0)[sample], return_inverse=True)[1],  # noqa: TID251 - with places
            share=len(sample) / rows,
            rows_target=self._options.cluster_rows_target,
        )

        def projected(first: int, last: int) -> F32:
            if len(sample) == rows:
                return some[first:last]
            return codec.project(measured(np.asarray(vectors[first:last]), metric))

        member = assign_rows(centers, rows, projected=projected, chunk_rows=_CHUNK_ROWS)
        return np.unique(member, return_inverse=True)[1]  # noqa: TID251 - with places

    def _write_waiting(self, numbers: Sequence[int]) -> None:
        """Write what is pending for some partitions into flat segments."""
        config = self._standing.config
        held: list[WrittenRows] = []
        count = 0

        def write() -> None:
            rows, records = read_rows(held, config.dimension)
            objects = build_flat(rows, non_filterable=config.non_filterable, records=records)
            self._store("flat", objects, len(rows))
            held.clear()

        for number in numbers:
            if not len(self._arrived.clusters(number)):
                continue
            for batch, _ in self._arrived.batches(number):
                if count + len(batch) > FLAT_SEGMENT_ROWS_MAX and held:
                    write()
                    count = 0
                held.append(batch)
                count += len(batch)
        if held:
            write()

    def _store(
        self, kind: Literal["flat", "partition"], objects: Mapping[str, bytes], rows: int
    ) -> str:
        return store_segment(self._log.store, self._log.ids, self.written, kind, objects, rows)

    def _commit(self, rewritten: Sequence[int], made: Trained | None) -> Opened:
        state = self._standing.opened.state
        inputs = [self._standing.partitions[one][0].ref.id for one in rewritten]
        inputs += [ref.id for ref in state.segments if ref.kind == "flat"]
        trained = None
        if made is not None:
            self.others.append(trained_key(self._log.ids.new_id()))
            trained = writer.write_object(self._log.store, self.others[0], made.to_bytes())
        return writer.replace(
            self._log,
            self._standing.opened,
            inputs=inputs,
            fresh=state.fresh,
            outputs=self.written,
            base=state.sequence,
            trained=trained,
            begun_ms=self._begun_ms,
            trained_base=state.trained.key if made is not None and state.trained else None,
        )

    def _new_spill(self, name: str, buckets: int) -> Spill:
        folder = self._folder / name
        folder.mkdir()
        return Spill(folder, dimension=self._standing.config.dimension, buckets=buckets)


def _middles(trained: Trained) -> F32:
    """Return float32 [p, D], the mean of each partition's rows; zero where it has none."""
    middles = np.zeros((len(trained.partition_ids), trained.centers.shape[1]), dtype=np.float32)
    for number in range(len(middles)):
        clusters = slice(*trained.partition_begins[number : number + 2].tolist())
        rows = trained.cluster_rows[clusters]
        if rows.sum():
            middles[number] = np.average(trained.centers[clusters], axis=0, weights=rows)
    return middles


def _local_clusters(trained: Trained, number: int) -> I64:
    """Return int64 [n], the cluster of each row of a partition, numbered within it."""
    clusters = slice(*trained.partition_begins[number : number + 2].tolist())
    rows = trained.cluster_rows[clusters]
    return np.repeat(np.arange(len(rows)), rows)
