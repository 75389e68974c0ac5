"""What a task of `assemble` leaves to `calibrate`: its segments, and what is known of them.

The object ``assembled/<group>`` is a container. Shares are brought together in the order of groups,
and give what one task would have found that assembled everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from squash.arrays import F32, I64, AnyArray
from squash.container import Buffer, Container
from squash.errors import DataError
from squash.index.references import segment_from_json, segment_to_json
from squash.index.sealed import open_sealed, seal
from squash.maintain.bulk import keys
from squash.maintain.bulk.records import read_part
from squash.maintain.calibrate import Neighbours
from squash.maintain.code_ranks import CodeRanks
from squash.maintain.routing import Routing
from squash.model import SegmentRef
from squash.planning import BANDS
from squash.segment import Sections
from squash.segment.sections import sections_from_container, sections_to_arrays
from squash.storage import ObjectStore
from squash.values import dataclass

ASSEMBLED: Final = "assembled"
"""The folder of shares."""
_KIND: Final = "build-assembled"
_VERSION: Final = 1


@dataclass(frozen=True, slots=True, eq=False)
class Assembled:
    """What is known of a group's segments.

    Parameters
    ----------
    segments:
        In the order of their buckets.
    begins, centers, cluster_rows, energy, sections:
        int64 [p + 1], float32 [c, D], int64 [c], float64 [p] and where attributes lie, as of
        `Trained`; of no clusters where segments are flat.
    neighbours:
        The nearest rows of held-out queries among those of the group.
    ranks:
        What their codes rank first; None of flat segments, and where an earlier release wrote them.

    """

    segments: Sequence[SegmentRef]
    begins: I64
    centers: F32
    cluster_rows: I64
    energy: Sequence[float]
    sections: Sequence[Sections | None]
    neighbours: Neighbours
    ranks: CodeRanks | None = None

    @classmethod
    def flat(cls, segments: Sequence[SegmentRef], dimension: int) -> Assembled:
        """Return that of flat segments."""
        return cls(
            segments,
            np.zeros(1, np.int64),
            np.empty((0, dimension), np.float32),
            np.empty(0, np.int64),
            (),
            (),
            Neighbours.none(0),
        )

    @classmethod
    def partitions(
        cls,
        segments: Sequence[SegmentRef],
        routing: Routing,
        neighbours: Neighbours,
        ranks: CodeRanks,
        dimension: int,
    ) -> Assembled:
        """Return that of partitions."""
        if not segments:
            none = cls.flat((), dimension)
            return cls((), none.begins, none.centers, none.cluster_rows, (), (), neighbours, ranks)
        energy = [one for one in routing.energies if one is not None]
        return cls(
            segments,
            routing.begins(),
            routing.centers(),
            routing.cluster_rows(),
            energy,
            routing.sections,
            neighbours,
            ranks,
        )


def write_assembled(store: ObjectStore, build: str, group: int, share: Assembled) -> None:
    """Store a group's share; the same gives the same bytes."""
    described, places = sections_to_arrays(share.sections)
    bands = share.neighbours.of_bands()
    header: dict[str, Any] = {
        "build": build,
        "group": group,
        "segments": [segment_to_json(segment) for segment in share.segments],
        **described,
    }
    arrays: dict[str, AnyArray] = {
        "begins": share.begins.astype("<i8"),
        "cluster_rows": share.cluster_rows.astype("<i8"),
        "energy": np.array(share.energy, dtype="<f8"),
        "distances": bands.distances.astype("<f4"),
        "clusters": bands.clusters.astype("<i8"),
        "centers": share.centers.astype("<f4"),
        **places,
    }
    if share.neighbours.away:
        arrays["away_distances"] = share.neighbours.distances[len(BANDS) :].astype("<f4")
        arrays["away_clusters"] = share.neighbours.clusters[len(BANDS) :].astype("<i8")
    if share.ranks is not None:
        arrays["rank_estimates"] = share.ranks.estimates.astype("<f4")
        arrays["rank_distances"] = share.ranks.distances.astype("<f4")
    store.put(
        keys.part_key(build, ASSEMBLED, group), seal(_KIND, _VERSION, header=header, arrays=arrays)
    )


def read_assembled(
    store: ObjectStore, build: str, group: int, *, queries: int, dimension: int
) -> Assembled:
    """Return a group's share; `queries` and `dimension` are what it must be of.

    Raises
    ------
    ChecksumError
        If it is missing, or differs from what was written.
    DataError
        If it is something else.

    """
    key = keys.part_key(build, ASSEMBLED, group)
    found = read_part(store, key, lambda data: _share(data, key, build, group))
    clusters = int(found.begins[-1])
    none = Neighbours.none(queries)
    shapes = [one.distances.shape for one in (none, none.of_bands())]
    if (
        len(found.begins) != len(found.energy) + 1
        or (clusters > 0) != (len(found.energy) > 0)
        or found.centers.shape != (clusters, dimension)
        or found.cluster_rows.shape != (clusters,)
        or found.neighbours.distances.shape not in shapes
        or found.neighbours.clusters.shape != found.neighbours.distances.shape
        or int(found.neighbours.clusters.max(initial=-1)) >= clusters
        or (found.ranks is not None and found.ranks.estimates.shape != found.ranks.distances.shape)
    ):
        raise DataError(
            f"{key} has partitions and clusters that do not fit: start the build anew",
            object_key=key,
        )
    return found


def _share(data: Buffer, key: str, build: str, group: int) -> Assembled:
    container = open_sealed(data, kind=_KIND, versions=(_VERSION,), where=key)
    header = container.header
    if (header["build"], header["group"]) != (build, group):
        raise ValueError("it is of another build or group")
    energy = container.array_of("energy", "<f8").tolist()
    return Assembled(
        [segment_from_json(segment) for segment in header["segments"]],
        container.array_of("begins", "<i8"),
        container.array_of("centers", "<f4", 2),
        container.array_of("cluster_rows", "<i8"),
        energy,
        sections_from_container(container, len(energy)),
        _neighbours(container),
        _ranks(container),
    )


def _neighbours(container: Container) -> Neighbours:
    names = [("distances", "clusters"), ("away_distances", "away_clusters")]
    if "away_distances" not in container.names():
        names.pop()  # an earlier release wrote it
    distances = [container.array_of(one, "<f4", 3) for one, _ in names]
    clusters = [container.array_of(one, "<i8", 3) for _, one in names]
    if len({one.shape[1:] for one in (*distances, *clusters)}) > 1:
        raise ValueError("not all neighbours are of the same queries")
    return Neighbours(np.concatenate(distances), np.concatenate(clusters))


def _ranks(container: Container) -> CodeRanks | None:
    if "rank_estimates" not in container.names():
        return None
    return CodeRanks(
        container.array_of("rank_estimates", "<f4", 2),
        container.array_of("rank_distances", "<f4", 2),
    )
