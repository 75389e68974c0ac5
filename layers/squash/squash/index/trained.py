"""What all partitions of one build share: codec, cells, routing, calibration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from squash.arrays import F32, I64, AnyArray
from squash.attributes import CellScheme
from squash.container import Buffer, Container, pack
from squash.errors import DataError
from squash.index.references import MALFORMED
from squash.planning import Calibration
from squash.quantize import Codec, are_finite, load_codec, unit_spreads
from squash.segment import Sections
from squash.segment.sections import sections_from_container, sections_to_arrays
from squash.values import dataclass

KIND = "trained"
VERSION = 1
# Kernels count a cluster's rows in 32 bits, the sign among them.
_ROWS_MAX = 1 << 30


@dataclass(frozen=True, slots=True)
class History:
    """How far an index has moved from the rows it was trained on.

    `energy` is a mean squared distance of rows to their cluster's centre.
    """

    rows_trained: int
    """How many rows there were when the codec was trained."""
    energy_trained: float | None
    """Their energy; None where it was not noted."""
    rows_since: int
    """How many rows have come or gone by folds since recall was last measured."""

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "rows_trained": self.rows_trained,
            "energy_trained": self.energy_trained,
            "rows_since": self.rows_since,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> History:
        """Read back what `to_json` gave."""
        energy = value["energy_trained"]
        return cls(
            int(value["rows_trained"]),
            None if energy is None else float(energy),
            int(value["rows_since"]),
        )


@dataclass(frozen=True, slots=True)
class Trained:
    """What partitions share; it never changes: a build makes a new one, and so does every fold.

    `centers` is float32 [c, D], every cluster's centre, projected; the clusters of partition p
    are partition_begins[p] to partition_begins[p + 1], in the order they have inside it.
    `partition_energy` is the energy of the rows of each partition, None where it is not known.
    """

    codec: Codec
    cells: CellScheme
    calibration: Calibration
    partition_ids: tuple[str, ...]
    partition_begins: I64
    centers: F32
    cluster_rows: I64
    partition_energy: tuple[float | None, ...] = ()
    history: History | None = None
    """None for what earlier releases built: of that, rows alone are known."""
    sections: tuple[Sections | None, ...] = ()
    """Where the attributes of each partition lie; None where it is not known."""

    def sections_of(self, number: int) -> Sections | None:
        """Return where the attributes of a partition lie, if it is known."""
        return self.sections[number] if self.sections else None

    def partition_rows(self) -> I64:
        """Return int64 [p], the rows of each partition, dead ones among them."""
        ends = np.concatenate((np.zeros(1, np.int64), np.cumsum(self.cluster_rows)))
        return np.asarray(np.diff(ends[self.partition_begins]))

    def walked_spreads(self) -> F32 | None:
        """Return float32 [c], what walks add to squared distances to centers; None for nothing."""
        if self.calibration.spread is None:
            return None
        return unit_spreads(self.codec, self.centers)

    def energy(self) -> float | None:
        """Return the energy of all rows of which it is known; None if it is of none."""
        known = [
            (energy, rows)
            for energy, rows in zip(
                self.partition_energy, self.partition_rows().tolist(), strict=False
            )
            if energy is not None and rows
        ]
        total = sum(rows for _, rows in known)
        return sum(energy * rows for energy, rows in known) / total if total else None

    def to_bytes(self) -> bytes:
        """Return the object's bytes."""
        codec_header, codec_arrays = self.codec.to_arrays()
        cell_header, cell_arrays = self.cells.to_arrays()
        arrays: dict[str, AnyArray] = {
            "partition_begins": self.partition_begins.astype(np.int64),
            "centers": self.centers.astype(np.float32, copy=False),
            "cluster_rows": self.cluster_rows.astype(np.int64),
        }
        arrays.update({f"codec.{name}": array for name, array in codec_arrays.items()})
        arrays.update({f"cells.{name}": array for name, array in cell_arrays.items()})
        header: dict[str, Any] = {
            "codec": codec_header,
            "cells": cell_header,
            "calibration": self.calibration.to_json(),
            "partition_ids": list(self.partition_ids),
        }
        if self.history is not None:
            header["partition_energy"] = list(self.partition_energy)
            header["history"] = self.history.to_json()
        more_header, more_arrays = sections_to_arrays(self.sections)
        header.update(more_header)
        arrays.update(more_arrays)
        return pack(KIND, VERSION, header=header, arrays=arrays)

    @classmethod
    def from_bytes(cls, data: Buffer, where: str, *, dimension: int) -> Trained:
        """Read the object; its codec must be for vectors of the index's dimension.

        Raises
        ------
        DataError, UnsupportedFormatError
            If it is damaged, or of a newer format.

        """
        container = Container(data, kind=KIND, versions=(VERSION,), where=where)
        try:
            return cls._from_container(container, where, dimension)
        except DataError as error:
            error.object_key = error.object_key or where
            raise
        except MALFORMED as error:
            raise DataError(
                f"{where} has parts that do not fit ({error!r}): restore it from a copy",
                object_key=where,
            ) from error

    @classmethod
    def _from_container(cls, container: Container, where: str, dimension: int) -> Trained:
        header = container.header
        found = cls(
            codec=load_codec(header["codec"], lambda name: container.array(f"codec.{name}")),
            cells=CellScheme.from_arrays(
                header["cells"], lambda name: container.array(f"cells.{name}")
            ),
            calibration=Calibration.from_json(header["calibration"]),
            partition_ids=tuple(header["partition_ids"]),
            partition_begins=container.array_of("partition_begins", "<i8"),
            centers=container.array_of("centers", "<f4", 2),
            cluster_rows=container.array_of("cluster_rows", "<i8"),
            partition_energy=tuple(
                None if one is None else float(one) for one in header.get("partition_energy", ())
            ),
            history=History.from_json(header["history"]) if header.get("history") else None,
            sections=sections_from_container(container, len(header["partition_ids"])),
        )
        clusters = len(found.centers)
        if (
            len(found.partition_energy) not in {0, len(found.partition_ids)}
            or len(found.partition_begins) != len(found.partition_ids) + 1
            or len(set(found.partition_ids)) != len(found.partition_ids)
            or found.partition_begins[0] != 0
            or found.partition_begins[-1] != clusters
            # Compared, not subtracted: a difference of two large numbers wraps.
            or bool(np.any(found.partition_begins[1:] < found.partition_begins[:-1]))
            or found.cluster_rows.shape != (clusters,)
            or bool(np.any((found.cluster_rows < 0) | (found.cluster_rows > _ROWS_MAX)))
            or found.centers.shape != (clusters, found.codec.dimension)
        ):
            raise DataError(f"{where} has a routing table that does not fit", object_key=where)
        if found.codec.dimension != dimension:
            raise DataError(
                f"{where} is for vectors of dimension {found.codec.dimension}, its index has "
                f"{dimension}",
                object_key=where,
            )
        if not are_finite(found.centers, found.codec.mean, found.codec.rotation):
            raise DataError(f"{where} holds values that are not finite", object_key=where)
        return found
