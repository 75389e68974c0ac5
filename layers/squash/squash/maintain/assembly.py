"""From buckets of rows to partitions that are written, and what is known of them together.

Buckets may be assembled all in one go, or some here and some there: what is known of partitions is
brought together in the order of their buckets, and is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from squash.attributes import CellScheme
from squash.index.trained import History, Trained
from squash.maintain.calibrate import NeighbourCollector, Neighbours, fit, own_regions
from squash.maintain.code_ranks import CodeRanks, RankCollector
from squash.maintain.learning import Learned, own_rows, space_of, spreads_of
from squash.maintain.parts import Sizes, parts_of
from squash.maintain.routing import Routing, encode
from squash.maintain.spill import Spill
from squash.model import IndexConfig

WritePartition = Callable[[int, int, Mapping[str, bytes], int], str]
"""Stores the objects (by name) of a part of a bucket, of so many rows; returns the segment's id."""


class Assembly:
    """Writes the partitions of buckets, in the order of their numbers.

    Parameters
    ----------
    learned, cells:
        What the sample taught.
    config:
        The index's.
    sizes:
        The caps of clusters and partitions.
    write_partition:
        Stores what a partition is made of.
    report:
        Told how many rows are written, after each partition.

    """

    def __init__(
        self,
        learned: Learned,
        cells: CellScheme,
        config: IndexConfig,
        *,
        sizes: Sizes,
        write_partition: WritePartition,
        report: Callable[[int], None],
    ) -> None:
        self._learned = learned
        self._cells = cells
        self._config = config
        self._sizes = sizes
        self._write = write_partition
        self._report = report
        own = own_rows(learned.codec, learned.queries)
        centers = learned.codec.project(learned.centers)
        self._collector = NeighbourCollector(
            learned.queries,
            own=own,
            space=space_of(config.metric),
            centers=centers,
            seed=config.seed,
        )
        self._ranks = RankCollector(learned.queries, own=own, codec=learned.codec, centers=centers)
        self.routing = Routing()
        """The partitions written so far."""
        self._rows = 0

    def add(self, spill: Spill, place: int, *, bucket: int) -> None:
        """Write the partitions of a bucket, which lies in `spill` as bucket `place`; drop it."""
        cluster = spill.clusters(place)
        if not len(cluster):
            return
        learned, config, routing = self._learned, self._config, self.routing
        member = np.unique(cluster, return_inverse=True)[1]  # noqa: TID251 - with places
        parts = parts_of(
            spill, place, member, codec=learned.codec, cells=self._cells, config=config,
            sizes=self._sizes,
        )  # fmt: skip
        for number, part in enumerate(parts):
            self._collector.add(
                part.projected, part.clusters(), centers=part.centers, first=routing.clusters,
                place=(bucket, number),
            )  # fmt: skip
            objects = encode(part, codec=learned.codec, cells=self._cells)
            self._ranks.add(part, objects)
            routing.add(self._write(bucket, number, objects, len(part.rows)), part, objects)
            self._rows += len(part.rows)
            self._report(self._rows)
        spill.drop(place)

    def neighbours(self) -> Neighbours:
        """Return the nearest rows of the held-out queries among all that was written."""
        return self._collector.neighbours()

    def ranks(self) -> CodeRanks:
        """Return as which rows they are ranked by their codes."""
        return self._ranks.ranks()


def finish(
    routing: Routing,
    neighbours: Neighbours,
    ranks: CodeRanks | None,
    *,
    learned: Learned,
    cells: CellScheme,
    config: IndexConfig,
) -> Trained:
    """Return what the partitions of a build share.

    Parameters
    ----------
    routing:
        All of them, at least one, in the order of their buckets.
    neighbours:
        The nearest rows of the held-out queries among all rows.
    ranks:
        What their codes rank first; None where that is not known of all partitions.
    learned, cells, config:
        What the sample taught, and the index's configuration.

    """
    centers = routing.centers()
    space = space_of(config.metric)
    calibration = fit(
        neighbours,
        learned.queries,
        centers,
        routing.cluster_rows(),
        space=space,
        regions=own_regions(learned.queries, learned.codec.project(learned.centers), space=space),
        spreads=spreads_of(config.metric, learned.codec, centers),
        kept=None if ranks is None else ranks.kept(),
    )
    history = History(rows_trained=routing.rows, energy_trained=routing.energy(), rows_since=0)
    return routing.trained(learned.codec, cells, calibration, history)
