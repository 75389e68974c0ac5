"""What a codec is: it trains, encodes, prepares a query and scores."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol, Self, TypeAlias

import numpy as np

from squash import kernels
from squash.arrays import F32, F64, I64, AnyArray
from squash.kernels import Rotation
from squash.values import dataclass

Space: TypeAlias = Literal["l2", "dot"]
"""`l2`: a distance is the squared L2 distance; `dot`: the negated inner product."""

Codes: TypeAlias = Mapping[str, AnyArray]
"""Named arrays, stored by a segment as they are."""


@dataclass(frozen=True, slots=True)
class ArraySpec:
    """One array of a codec's codes: its leading axis counts rows, low-bit blocks or clusters."""

    name: str
    per: Literal["row", "block", "cluster"]
    dtype: str
    """As NumPy writes it, little-endian."""
    shape: tuple[int, ...] = ()
    """Its other axes."""

    @property
    def item_bytes(self) -> int:
        """The bytes of one row, block or cluster."""
        return np.dtype(self.dtype).itemsize * math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A query, projected, with its look-up tables where a codec keeps some for all clusters."""

    space: Space
    projected: F64
    """float64 [D]; in space `l2` the mean is taken off first."""
    offset: float
    """`<q, mean>` in space `dot`, 0 in `l2`."""
    signs: kernels.SignTable | None = None
    tables: F64 | None = None

    def distances_to(self, centers: F32) -> F64:
        """Return float64 [c], the distances to projected centers float32 [c, D]."""
        if self.space == "l2":
            return kernels.centroid_scan(centers, self.projected, squared=True)
        return -(kernels.centroid_scan(centers, self.projected, squared=False) + self.offset)


class Codec(Protocol):
    """Quantised vectors of one space: immutable once trained, the same on every machine.

    D is the projected dimension. Distances, estimates and lower bounds are those of `Space`;
    smaller is nearer. All arrays are C-contiguous.
    """

    @property
    def name(self) -> str:
        """The codec's name, as stored."""
        ...

    @property
    def version(self) -> int:
        """The version of its stored form."""
        ...

    @property
    def dimension(self) -> int:
        """The vectors' dimension d."""
        ...

    @property
    def space(self) -> Space:
        """What a distance is."""
        ...

    @property
    def rotation(self) -> Rotation:
        """What `project` does when it has taken the mean off."""
        ...

    @property
    def mean(self) -> F32:
        """float32 [d]."""
        ...

    @property
    def scannable(self) -> bool:
        """Whether its codes are what `kernels.scan` reads."""
        ...

    @property
    def stored_specs(self) -> tuple[ArraySpec, ...]:
        """The arrays that segments of this version hold; `readable` makes `specs` of them."""
        ...

    def readable(self, codes: Codes, cluster_begins: I64) -> Codes:
        """Return stored codes in the form that `encode` gives and the scans read."""
        ...

    @property
    def specs(self) -> tuple[ArraySpec, ...]:
        """The arrays that `encode` gives, in stored order."""
        ...

    @property
    def low_keep_share(self) -> float:
        """The share of rows that must pass the low-bit codes for their ranking to be trusted."""
        ...

    def code_bytes_per_row(self) -> float:
        """Return the bytes of low-bit code, full code and factors of one row, without padding."""
        ...

    def project(self, vectors: F32) -> F32:
        """Project rows float32 [n, d] to float32 [n, D]; L2 distances stay as they are."""
        ...

    def encode(self, projected: F32, *, centers: F32, cluster_begins: I64) -> Codes:
        """Encode projected rows.

        Parameters
        ----------
        projected:
            float32 [n, D], rows side by side by cluster.
        centers:
            float32 [c, D], projected.
        cluster_begins:
            int64 [c + 1]; cluster i is rows `cluster_begins[i]:cluster_begins[i + 1]`, perhaps
            none.

        """
        ...

    def prepare(self, query: F32) -> Prepared:
        """Project a query float32 [d] and make its tables."""
        ...

    def low_scan(
        self,
        codes: Codes,
        *,
        clusters: I64,
        cluster_begins: I64,
        centers: F32,
        prepared: Prepared,
    ) -> tuple[I64, F32]:
        """Score all rows of some clusters by their low-bit codes.

        Returns
        -------
        int64 [m], the row numbers, cluster after cluster in the order given, and float32 [m], the
        low-bit estimates; in what unit is the codec's affair, smaller is nearer.

        """
        ...

    def full_scan(
        self,
        codes: Codes,
        *,
        rows: I64,
        row_clusters: I64,
        cluster_begins: I64,
        centers: F32,
        prepared: Prepared,
    ) -> tuple[F32, F32]:
        """Score some rows by their full codes.

        Parameters
        ----------
        codes, centers:
            As `encode` took and gave them.
        rows:
            int64 [m].
        row_clusters:
            int64 [m], the cluster of each.
        cluster_begins:
            int64 [c + 1].
        prepared:
            The query.

        Returns
        -------
        float32 [m], estimates of the distances; and float32 [m], lower bounds, which never exceed
        the distances (the slack for rounding is taken off already; see `bounds`).

        """
        ...

    def to_arrays(self) -> tuple[dict[str, Any], dict[str, AnyArray]]:
        """Return the codec as a JSON header and named arrays."""
        ...

    @classmethod
    def from_arrays(cls, header: Mapping[str, Any], array: Callable[[str], AnyArray]) -> Self:
        """Make a codec of what `to_arrays` gave; `array` returns an array by its name."""
        ...
