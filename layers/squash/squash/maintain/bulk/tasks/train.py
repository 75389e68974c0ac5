"""Learning codec, clusters and cells from the sample."""

from __future__ import annotations

import json

import numpy as np

from squash.attributes import CellScheme
from squash.limits import BUILD_BATCHES_MAX
from squash.maintain.bulk.batches import GROUPS
from squash.maintain.bulk.context import BuildContext, TaskReport
from squash.maintain.bulk.model import BuildModel, group_buckets, write_model
from squash.maintain.bulk.plan import Plan
from squash.maintain.bulk.records import read_plan
from squash.maintain.bulk.request import BuildRequest
from squash.maintain.bulk.samples import Sample, draw, read_samples
from squash.maintain.learning import learn, learn_cells

_VALUE_BYTES = 4
# What a row takes on the local disk besides its vector and its documents.
_ROW_BYTES = 64


def run(context: BuildContext, request: BuildRequest, batch: int) -> TaskReport:
    """Do it; what it leaves is the same however often, and wherever, it runs.

    Raises
    ------
    ChecksumError, DataError
        If what `sample` left is damaged.

    """
    del batch
    plan = read_plan(context.store, request.build)
    sampled = 0
    model = BuildModel(None, CellScheme({}), np.array([0, 1], dtype=np.int64))
    if not plan.flat:
        sample = read_samples(
            context.store, request.build, plan, dimension=context.config.dimension
        )
        sampled = len(sample)
        rows = _rows(plan, sampled, context.config.seed)
        if rows > request.sizes.exact_rows_max:
            model = _model(context, request, sample, rows)
    dimension = context.config.dimension
    model = write_model(context.store, request.build, model, dimension=dimension)
    return TaskReport(
        rows=sampled,
        detail={GROUPS: model.groups, "clusters": model.clusters, "buckets": model.buckets},
    )


def _rows(plan: Plan, sampled: int, seed: int) -> int:
    """Return how many rows will be left, about: exactly, if the sample is all of them.

    Of all rows as large a part is bad, or replaced, as of the sample.
    """
    return round(plan.rows * sampled / max(draw(plan, seed).drawn, 1))


def _model(context: BuildContext, request: BuildRequest, sample: Sample, rows: int) -> BuildModel:
    sizes = request.sizes
    cells = learn_cells(sample.metadata, context.config)
    documents = sum(
        len(json.dumps(one, ensure_ascii=False).encode()) for one in sample.metadata
    ) // max(len(sample.metadata), 1)
    learned = learn(
        sample.vectors, rows=rows, config=context.config, sizes=sizes, report=context.report
    )
    begins = group_buckets(
        learned.bucket_rows,
        row_bytes=_VALUE_BYTES * context.config.dimension + documents + _ROW_BYTES,
        bytes_max=sizes.group_bytes_max,
        groups_max=BUILD_BATCHES_MAX,
    )
    return BuildModel(learned, cells, begins)
