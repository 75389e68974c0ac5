"""Making segments of what runs hold of some partitions."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from squash.index.writer import write_segment
from squash.limits import FLAT_SEGMENT_ROWS_MAX
from squash.maintain.assembly import Assembly
from squash.maintain.bulk import keys
from squash.maintain.bulk.assembled import Assembled, write_assembled
from squash.maintain.bulk.context import BuildContext, TaskReport
from squash.maintain.bulk.model import BuildModel, read_model
from squash.maintain.bulk.plan import Plan
from squash.maintain.bulk.records import read_plan
from squash.maintain.bulk.request import BuildRequest
from squash.maintain.bulk.runs import RunRows, read_group, read_replaced
from squash.maintain.learning import Learned
from squash.maintain.parts import Sizes
from squash.maintain.spill import Spill, concatenate, written_rows
from squash.model import RowBatch, SegmentRef
from squash.reports import Progress
from squash.segment import build_flat


def run(context: BuildContext, request: BuildRequest, batch: int) -> TaskReport:
    """Do one batch; what it leaves is the same however often, and wherever, it runs.

    Raises
    ------
    ChecksumError, DataError
        If what earlier tasks left is damaged.

    """
    dimension = context.config.dimension
    plan = read_plan(context.store, request.build)
    model = read_model(context.store, request.build, dimension=dimension)
    group = _Group(context, request, plan, model, batch)
    if model.learned is None:
        share = Assembled.flat(group.flat_segments(), dimension)
    else:
        share = group.partitions(model.learned)
    write_assembled(context.store, request.build, batch, share)
    return TaskReport(
        rows=sum(segment.rows for segment in share.segments),
        detail={"segments": len(share.segments)},
    )


class _Group:
    """The rows of one group, and the segments made of them."""

    def __init__(
        self,
        context: BuildContext,
        request: BuildRequest,
        plan: Plan,
        model: BuildModel,
        number: int,
    ) -> None:
        self._context = context
        self._request = request
        self._plan = plan
        self._model = model
        self._number = number
        self._written: list[SegmentRef] = []

    def partitions(self, learned: Learned) -> Assembled:
        """Write the partitions of the group's buckets, one at a time in memory."""
        context, config = self._context, self._context.config
        first, last = self._model.group_begins[self._number : self._number + 2].tolist()
        with tempfile.TemporaryDirectory(prefix="squash-", dir=context.scratch) as folder:
            spill = Spill(Path(folder), dimension=config.dimension, buckets=last - first)
            for found in self._rows():
                bucket = learned.bucket_of_cluster[found.clusters] - first
                spill.add(written_rows(found.rows), bucket=bucket, cluster=found.clusters)
            sizes = self._request.sizes
            assembly = Assembly(
                learned,
                self._model.cells,
                config,
                sizes=Sizes(sizes.cluster_rows_target, sizes.partition_rows_max),
                write_partition=lambda bucket, part, objects, rows: self._write(
                    "partition", bucket, part, objects=objects, rows=rows
                ),
                report=lambda rows: context.report(Progress("encode", rows, spill.rows, "rows")),
            )
            for bucket_number in range(first, last):
                assembly.add(spill, bucket_number - first, bucket=bucket_number)
        return Assembled.partitions(
            self._written,
            assembly.routing,
            assembly.neighbours(),
            assembly.ranks(),
            dimension=learned.queries.shape[1],
        )

    def flat_segments(self) -> list[SegmentRef]:
        """Write all rows into flat segments, one at a time in memory."""
        held: list[RowBatch] = []
        count = 0
        for found in self._rows():
            rows, start = found.rows, 0
            while start < len(rows):
                stop = min(start + FLAT_SEGMENT_ROWS_MAX - count, len(rows))
                part = slice(start, stop)
                held.append(RowBatch(rows.keys[part], rows.vectors[part], rows.metadata[part]))
                count += stop - start
                start = stop
                if count == FLAT_SEGMENT_ROWS_MAX:
                    self._write_flat(held)
                    count = 0
        if held:
            self._write_flat(held)
        return self._written

    def _rows(self) -> Iterator[RunRows]:
        """Yield the group's rows in the order of their numbers, but for those replaced."""
        context, build = self._context, self._request.build
        replaced = read_replaced(context.store, build, self._plan)
        for found in read_group(
            context.store, build, self._plan, self._number,
            dimension=context.config.dimension,
        ):  # fmt: skip
            places = np.searchsorted(replaced, found.numbers)
            at = np.minimum(places, max(len(replaced) - 1, 0))
            gone = replaced[at] == found.numbers if len(replaced) else np.zeros(1, dtype=bool)
            if not gone.any():
                yield found
                continue
            stays = np.flatnonzero(~gone)
            if len(stays):
                rows = found.rows
                yield RunRows(
                    found.numbers[stays],
                    found.clusters[stays],
                    RowBatch(
                        [rows.keys[row] for row in stays.tolist()],
                        rows.vectors[stays],
                        [rows.metadata[row] for row in stays.tolist()],
                    ),
                )

    def _write_flat(self, held: list[RowBatch]) -> None:
        config = self._context.config
        rows = concatenate(held, config.dimension)
        held.clear()
        objects = build_flat(rows, non_filterable=config.non_filterable)
        self._write("flat", 0, len(self._written), objects=objects, rows=len(rows))

    def _write(
        self,
        kind: Literal["flat", "partition"],
        bucket: int,
        part: int,
        *,
        objects: Mapping[str, bytes],
        rows: int,
    ) -> str:
        segment_id = keys.segment_id(self._request.build, bucket, part, objects)
        segment = write_segment(self._context.store, segment_id, kind, rows=rows, objects=objects)
        self._written.append(segment)
        return segment_id
