"""Learning how many clusters a query needs, and writing what partitions share."""

from __future__ import annotations

from squash.index.writer import write_object
from squash.maintain.assembly import finish
from squash.maintain.bulk import keys
from squash.maintain.bulk.assembled import read_assembled
from squash.maintain.bulk.context import BuildContext, TaskReport
from squash.maintain.bulk.model import read_model
from squash.maintain.bulk.outcome import Outcome, write_outcome
from squash.maintain.bulk.request import BuildRequest
from squash.maintain.calibrate import Neighbours
from squash.maintain.code_ranks import CodeRanks
from squash.maintain.routing import Routing
from squash.model import SegmentRef
from squash.reports import Progress


def run(context: BuildContext, request: BuildRequest, batch: int) -> TaskReport:
    """Do it; what it leaves is the same however often, and wherever, it runs.

    Raises
    ------
    ChecksumError, DataError
        If what earlier tasks left is damaged.

    """
    del batch
    store, build, config = context.store, request.build, context.config
    model = read_model(store, build, dimension=config.dimension)
    learned = model.learned
    queries = 0 if learned is None else len(learned.queries)
    segments: list[SegmentRef] = []
    routing, neighbours = Routing(), Neighbours.none(queries)
    ranks: list[CodeRanks] = []
    ranked = True
    for group in range(model.groups):
        share = read_assembled(store, build, group, queries=queries, dimension=config.dimension)
        segments += share.segments
        neighbours = neighbours.joined(share.neighbours, clusters=routing.clusters)
        if share.ranks is None:
            ranked = False
        elif ranks:
            ranks = [ranks[0].joined(share.ranks)]
        else:
            ranks = [share.ranks]
        routing.take(
            [segment.id for segment in share.segments if segment.kind == "partition"],
            begins=share.begins,
            centers=share.centers,
            rows=share.cluster_rows,
            energy=share.energy,
            sections=share.sections,
        )
        context.report(Progress("calibrate", group + 1, model.groups, "groups"))
    trained = None
    if learned is not None and routing.clusters:
        seen = ranks[0] if ranked and ranks else None
        made = finish(routing, neighbours, seen, learned=learned, cells=model.cells, config=config)
        data = made.to_bytes()
        trained = write_object(store, keys.trained_key(build, data), data)
    rows = sum(segment.rows for segment in segments)
    write_outcome(store, build, Outcome(tuple(segments), trained, rows))
    return TaskReport(rows=rows, detail={"segments": len(segments), "clusters": routing.clusters})
