"""The routing table in the making: partitions as they are written, and those that stay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from squash.arrays import F32, I64
from squash.attributes import CellScheme
from squash.index.trained import History, Trained
from squash.maintain.parts import Part
from squash.planning import Calibration
from squash.quantize import Codec
from squash.segment import ATTRIBUTES, Sections, build_partition, describe_attributes


class Routing:
    """Collects what `Trained` says of partitions, in the order they are added."""

    def __init__(self) -> None:
        self.clusters = 0
        self._ids: list[str] = []
        self._begins = [0]
        self._centers: list[F32] = []
        self._rows: list[I64] = []
        self._energy: list[float | None] = []
        self._sections: list[Sections | None] = []

    def add(self, segment_id: str, part: Part, objects: Mapping[str, bytes]) -> None:
        """Take a partition that was written as these objects."""
        sections = describe_attributes(objects[ATTRIBUTES])
        self._append(segment_id, part.centers, part.cluster_rows, part.energy(), sections)

    def keep(self, trained: Trained, number: int) -> None:
        """Take a partition as another table has it."""
        clusters = slice(*trained.partition_begins[number : number + 2].tolist())
        known = trained.partition_energy
        self._append(
            trained.partition_ids[number],
            trained.centers[clusters],
            trained.cluster_rows[clusters],
            known[number] if known else None,
            trained.sections_of(number),
        )

    def take(
        self,
        ids: Sequence[str],
        *,
        begins: I64,
        centers: F32,
        rows: I64,
        energy: Sequence[float],
        sections: Sequence[Sections | None],
    ) -> None:
        """Take partitions that were written elsewhere.

        Parameters
        ----------
        ids, energy, sections:
            Of each of p.
        begins:
            int64 [p + 1], where their clusters begin.
        centers, rows:
            float32 [c, D] and int64 [c], of all their clusters.

        """
        # Copies: they may be views of an object that holds much else.
        centers, rows = centers.copy(), rows.copy()
        parts = zip(ids, energy, sections, strict=True)
        for number, (segment_id, one, places) in enumerate(parts):
            clusters = slice(*begins[number : number + 2].tolist())
            self._append(segment_id, centers[clusters], rows[clusters], one, places)

    @property
    def ids(self) -> tuple[str, ...]:
        """The partitions' ids."""
        return tuple(self._ids)

    @property
    def energies(self) -> tuple[float | None, ...]:
        """Each partition's energy, where it is known."""
        return tuple(self._energy)

    @property
    def sections(self) -> tuple[Sections | None, ...]:
        """Where the attributes of each partition lie, where it is known."""
        return tuple(self._sections)

    @property
    def rows(self) -> int:
        """How many rows the partitions have."""
        return sum(int(rows.sum()) for rows in self._rows)

    def begins(self) -> I64:
        """Return int64 [p + 1], where the clusters of each partition begin."""
        return np.array(self._begins, dtype=np.int64)

    def centers(self) -> F32:
        """Return float32 [c, D], the centres of all clusters; of no partition, at least one."""
        # Of a large index they are most of the memory: they are held once.
        self._centers = [np.concatenate(self._centers)]
        return self._centers[0]

    def cluster_rows(self) -> I64:
        """Return int64 [c], the rows of all clusters; of no partition, at least one."""
        return np.concatenate(self._rows)

    def trained(
        self, codec: Codec, cells: CellScheme, calibration: Calibration, history: History
    ) -> Trained:
        """Return the whole."""
        return Trained(
            codec=codec,
            cells=cells,
            calibration=calibration,
            partition_ids=self.ids,
            partition_begins=self.begins(),
            centers=self.centers(),
            cluster_rows=self.cluster_rows(),
            partition_energy=self.energies,
            history=history,
            sections=self.sections,
        )

    def energy(self) -> float | None:
        """Return the energy of all rows of which it is known."""
        known = [
            (energy, int(rows.sum()))
            for energy, rows in zip(self._energy, self._rows, strict=True)
            if energy is not None
        ]
        total = sum(rows for _, rows in known)
        return sum(energy * rows for energy, rows in known) / total if total else None

    def _append(
        self,
        segment_id: str,
        centers: F32,
        rows: I64,
        energy: float | None,
        sections: Sections | None,
    ) -> None:
        self._ids.append(segment_id)
        self._centers.append(centers)
        self._rows.append(rows)
        self._energy.append(energy)
        self._sections.append(sections)
        self.clusters += len(centers)
        self._begins.append(self.clusters)


def encode(part: Part, *, codec: Codec, cells: CellScheme) -> dict[str, bytes]:
    """Make a partition's objects, by name."""
    return build_partition(
        part.rows,
        projected=part.projected,
        centers=part.centers,
        cluster_begins=part.begins,
        codec=codec,
        cells=cells,
        columns=part.columns,
        records=part.records,
    )
