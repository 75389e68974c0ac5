"""The paper's codec: principal axes, bits by variance, Lloyd-Max cells, packed into shared bytes.

| the paper                                    | stored field                  | bytes a row    |
| -------------------------------------------- | ----------------------------- | -------------- |
| low-bit OSQ index (section 2.2): signs       | `low` uint8 [n, ceil(D / 8)]  | ceil(D / 8)    |
| segments: cells packed, shared bytes         | `full` uint8 [n, w]           | w = bits / 8   |
| (ours, option `factors`) |r|                 | `norm` float32 [n]            | 4              |
| (ours, option `factors`) <r, x> / (|r| |x|)  | `cosine` float32 [n]          | 4              |
| (ours, space `dot` without factors) max |r|  | `reach` float32 [c, D]        | by cluster     |

Both byte pictures stand in squash.kernels.packing; bit `i % 8` of byte `i // 8` of `low` is set
where dimension i is not negative. r is the projected row, or with the option `residual` its
residual to its cluster's center; x are the centroids of its cells.

Without factors the estimate is the distance to the centroids x, and the lower bound that of the
nearest point of the row's cells (the paper's section 2.4.3). In space `dot` a cell without an end
has no nearest point; there a cluster's largest |r| in that dimension closes it. With factors, the
estimate rescales <q~, x> by |r|^2 / <r, x>, and the bound is that of the module `bounds`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Final, Self

import numpy as np

from squash import kernels
from squash.arrays import F32, F64, I64, U8, AnyArray, Mask
from squash.errors import DataError, InvalidArgumentError
from squash.kernels import alignments, product_limits
from squash.quantize.bounds import Frame, frame_of, norms_of
from squash.quantize.cells import WIDTH_BITS_MAX, Cells, train_cells
from squash.quantize.checks import (
    check_clusters,
    checked_array,
    checked_bool,
    checked_int,
    checked_space,
)
from squash.quantize.protocol import ArraySpec, Codes, Prepared, Space
from squash.quantize.transforms import mean_of, principal_axes, project_query, project_rows
from squash.values import dataclass

_FACTOR_BYTES: Final = 8
# Values encoded at once, and table entries held at once.
_CHUNK_VALUES: Final = 1 << 19
# A code this far off its row is not rescaled: the noise would be blown up with it.
_COSINE_LEAST: Final = 0.125
# A cosine in float32 is known to within this.
_COSINE_ERROR: Final = 2.0**-22


@dataclass(frozen=True, slots=True)
class OsqCodec:
    """The codec `osq`; see the module's page for what it stores."""

    space: Space
    factors: bool
    """Whether rows have the two factors of the rescaled estimate."""
    residual: bool
    """Whether a row's residual to its cluster's center is coded, or the row itself."""
    mean: F32
    """float32 [d]."""
    axes: F32
    """float32 [D, d], the principal axes; D = d."""
    cells: Cells

    name: ClassVar[str] = "osq"
    version: ClassVar[int] = 1
    scannable: ClassVar[bool] = False

    @classmethod
    def train(
        cls,
        sample: F32,
        *,
        space: Space,
        residuals: F32 | None = None,
        bits_per_dimension: int = 4,
        factors: bool = True,
        residual: bool = False,
    ) -> Self:
        """Fit axes and cells.

        Parameters
        ----------
        sample:
            float32 [s, d], vectors.
        space:
            What a distance is.
        residuals:
            float32 [s, d], the sample's differences to the centers of their clusters; needed with
            the option `residual`: axes and cells are then fitted to them.
        bits_per_dimension:
            1 to 8; so many times d bits are given out in all.
        factors, residual:
            See the class.

        Raises
        ------
        InvalidArgumentError
            If an option is wrong, or residuals are needed and not there.

        """
        bits = checked_int(bits_per_dimension, name="bits_per_dimension", most=WIDTH_BITS_MAX)
        mean = mean_of(sample)
        coded = sample.astype(np.float64) - mean
        if checked_bool(residual, name="residual"):
            if residuals is None:
                raise InvalidArgumentError(
                    "the codec option residual needs the sample's residuals: pass residuals=",
                    field="residuals",
                )
            coded = residuals.astype(np.float64)
        axes = principal_axes(coded)
        projected = (coded @ axes.T.astype(np.float64)).astype(np.float32)
        return cls(
            space=space,
            factors=checked_bool(factors, name="factors"),
            residual=residual,
            mean=mean,
            axes=axes,
            cells=train_cells(projected, bits_total=bits * sample.shape[1]),
        )

    @property
    def dimension(self) -> int:
        """The vectors' dimension d, which is also the projected one."""
        return len(self.mean)

    @property
    def low_keep_share(self) -> float:
        """The share of rows that must pass the low-bit codes for their ranking to be trusted.

        A sign of a principal axis says little of distances, less of inner products, and counts of
        differing signs do not compare between residuals to different centers. The paper keeps 10 %
        of all rows; with the few that our clusters leave, that would cost recall.
        """
        return 0.8 if self.residual or self.space == "dot" else 0.5

    @property
    def specs(self) -> tuple[ArraySpec, ...]:
        """The arrays that `encode` gives, in stored order."""
        common = (
            ArraySpec("low", "row", "|u1", ((self.dimension + 7) // 8,)),
            ArraySpec("full", "row", "|u1", (kernels.packed_bytes(self.cells.widths),)),
        )
        if self.factors:
            return (*common, ArraySpec("norm", "row", "<f4"), ArraySpec("cosine", "row", "<f4"))
        if self.space == "dot":
            return (*common, ArraySpec("reach", "cluster", "<f4", (self.dimension,)))
        return common

    @property
    def stored_specs(self) -> tuple[ArraySpec, ...]:
        """The arrays that segments hold: the same."""
        return self.specs

    def readable(self, codes: Codes, cluster_begins: I64) -> Codes:
        """Return the codes as they are."""
        del cluster_begins
        return codes

    @property
    def rotation(self) -> F32:
        """The axes, as `kernels.prepare` takes them."""
        return self.axes

    def code_bytes_per_row(self) -> float:
        """Return the bytes of low-bit code, full code and factors of one row."""
        full = kernels.packed_bytes(self.cells.widths)
        return float((self.dimension + 7) // 8 + full + (_FACTOR_BYTES if self.factors else 0))

    def project(self, vectors: F32) -> F32:
        """Turn rows float32 [n, d] to the principal axes; distances stay as they are."""
        return project_rows(vectors, mean=self.mean, rotation=self.axes)

    def encode(self, projected: F32, *, centers: F32, cluster_begins: I64) -> Codes:
        """Encode projected rows float32 [n, D]; see `Codec.encode`."""
        rows, dimension = projected.shape
        check_clusters(rows, centers=centers, cluster_begins=cluster_begins)
        labels = np.repeat(np.arange(len(centers)), np.diff(cluster_begins))
        codes: dict[str, AnyArray] = {
            "low": np.empty((rows, (dimension + 7) // 8), dtype=np.uint8),
            "full": np.empty((rows, kernels.packed_bytes(self.cells.widths)), dtype=np.uint8),
        }
        if self.factors:
            codes["norm"] = np.empty(rows, dtype=np.float32)
            codes["cosine"] = np.empty(rows, dtype=np.float32)
        elif self.space == "dot":
            codes["reach"] = np.zeros(centers.shape, dtype=np.float32)
        size = max(1, _CHUNK_VALUES // max(1, dimension))
        for begin in range(0, rows, size):
            part = slice(begin, min(begin + size, rows))
            coded = projected[part] - centers[labels[part]] if self.residual else projected[part]
            cells = self.cells.codes(coded)
            codes["low"][part] = _packed_signs(coded >= 0)
            codes["full"][part] = kernels.pack_rows(cells, self.cells.widths)
            if self.factors:
                codes["norm"][part], codes["cosine"][part] = self._factors(coded, cells)
            elif self.space == "dot":
                np.maximum.at(codes["reach"], labels[part], np.abs(coded))
        return codes

    def _factors(self, coded: F32, cells: U8) -> tuple[F64, F64]:
        rows = coded.astype(np.float64)
        values = self.cells.values(cells).astype(np.float64)
        norms = norms_of(rows)
        scale = norms * norms_of(values)
        cosines = np.vecdot(rows, values) / np.where(scale > 0, scale, 1.0)
        return norms, np.clip(cosines, -1.0, 1.0)

    def prepare(self, query: F32) -> Prepared:
        """Project a query float32 [d]; where rows are coded as they are, make its tables."""
        projected, offset = project_query(
            query, mean=self.mean, rotation=self.axes, centered=self.space == "l2"
        )
        tables = None
        # The same for all clusters unless the query's residual or a cluster's reach enters.
        if self.factors if self.space == "dot" else not self.residual:
            tables = self._tables(projected[None], reach=None)
        return Prepared(self.space, projected, offset, tables=tables)

    def low_scan(
        self,
        codes: Codes,
        *,
        clusters: I64,
        cluster_begins: I64,
        centers: F32,
        prepared: Prepared,
    ) -> tuple[I64, F32]:
        """Score all rows of some clusters by their signs; see `Codec.low_scan`.

        The estimates are Hamming distances, in bits.
        """
        lengths = np.diff(cluster_begins)[clusters]
        rows = kernels.concatenated_ranges(cluster_begins[:-1][clusters], lengths)
        queries = prepared.projected[None]
        row_queries = np.zeros(len(rows), dtype=np.int64)
        if self.residual and self.space == "l2":
            queries = queries - centers[clusters].astype(np.float64)
            row_queries = np.repeat(np.arange(len(clusters)), lengths)
        signs = _packed_signs(queries >= 0)
        counts = kernels.hamming_scan(codes["low"], rows, queries=signs, row_queries=row_queries)
        return rows, counts.astype(np.float32)

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
        """Score some rows by their full codes; see `Codec.full_scan`."""
        del cluster_begins
        seen = centers if self.residual else np.zeros_like(centers)
        frame = frame_of(prepared, centers=seen, row_clusters=row_clusters)
        first, second = np.empty(len(rows)), np.empty(len(rows))
        for part, tables, row_tables in self._table_parts(frame, codes, prepared):
            first[part], second[part] = kernels.table_sums(
                codes["full"],
                rows[part],
                widths=self.cells.widths,
                tables=tables,
                row_tables=row_tables,
            )
        if self.factors:
            return _rescaled(
                frame,
                norms=codes["norm"][rows].astype(np.float64),
                cosines=codes["cosine"][rows].astype(np.float64),
                dots=first,
                code_norms=np.sqrt(second),
            )
        if self.space == "dot":
            first += frame.center_distances
            second += frame.center_distances
            norms = norms_of(codes["reach"].astype(np.float64))[row_clusters]
        else:
            # Where the bound could be too high, |q~ - r| is below its root, so |r| is below this.
            norms = frame.query_norms + np.sqrt(second)
        return frame.finish_distances(norms, first, second)

    def _table_parts(
        self, frame: Frame, codes: Codes, prepared: Prepared
    ) -> Iterator[tuple[I64, F64, I64]]:
        """Give rows (places in the scan) in parts whose tables are of bounded size."""
        if prepared.tables is not None:
            places = np.arange(len(frame.row_places))
            yield places, prepared.tables, np.zeros(len(places), dtype=np.int64)
            return
        size = max(1, _CHUNK_VALUES // max(1, len(self.cells.lower)))
        for begin in range(0, len(frame.clusters), size):
            inside = (frame.row_places >= begin) & (frame.row_places < begin + size)
            places = np.flatnonzero(inside)
            clusters = frame.clusters[begin : begin + size]
            queries = frame.queries.astype(np.float64)
            if self.space == "dot":
                queries = np.repeat(queries, len(clusters), axis=0)
            else:
                queries = queries[begin : begin + size]
            reach = None if self.factors or self.space == "l2" else codes["reach"][clusters]
            yield places, self._tables(queries, reach=reach), frame.row_places[places] - begin

    def _tables(self, queries: F64, *, reach: F32 | None) -> F64:
        """Make the look-up tables of query residuals float64 [t, D].

        Returns
        -------
        float64 [2, t, cells]. With factors: shares of <q~, x> and of |x|^2. Without: shares of
        the distance to the centroids, and to the nearest points of the cells (space `dot`: shares
        of the negated inner product with r).

        """
        dimensions = self.cells.dimensions()
        centroids = self.cells.centroids.astype(np.float64)
        query = queries[:, dimensions]
        if self.factors:
            return np.stack([query * centroids, np.broadcast_to(centroids**2, query.shape)])
        lower = self.cells.lower.astype(np.float64)
        upper = self.cells.upper.astype(np.float64)
        if self.space == "l2":
            gaps = np.maximum(np.maximum(lower - query, query - upper), 0.0)
            return np.stack([np.square(query - centroids), np.square(gaps)])
        if reach is None:
            raise InvalidArgumentError("cells without ends need the clusters' reach: pass codes")
        ends = reach[:, dimensions].astype(np.float64)
        most = np.where(query >= 0, np.minimum(upper, ends), np.maximum(lower, -ends))
        return np.stack([-query * centroids, -query * most])

    def to_arrays(self) -> tuple[dict[str, Any], dict[str, AnyArray]]:
        """Return the codec as a JSON header and named arrays."""
        header = {
            "codec": self.name,
            "codec_version": self.version,
            "dimension": self.dimension,
            "space": self.space,
            "factors": self.factors,
            "residual": self.residual,
        }
        return header, {
            "mean": self.mean,
            "axes": self.axes,
            "widths": self.cells.widths,
            "lower": self.cells.lower,
            "centroids": self.cells.centroids,
        }

    @classmethod
    def from_arrays(cls, header: Mapping[str, Any], array: Callable[[str], AnyArray]) -> Self:
        """Make a codec of what `to_arrays` gave.

        Raises
        ------
        DataError
            If the header or an array is not what it must be.

        """
        dimension = checked_int(header.get("dimension"), name="dimension", stored=True)
        widths = checked_array(array, "widths", (dimension,), dtype=np.uint8)
        if int(widths.max()) > WIDTH_BITS_MAX:
            raise DataError(
                f"the codec's array 'widths' holds {int(widths.max())}, beyond {WIDTH_BITS_MAX}: "
                "the object is damaged. Run `squash verify` and restore it from a copy."
            )
        cells = (int(kernels.cell_begins(widths)[-1]),)
        return cls(
            space=checked_space(header.get("space"), stored=True),
            factors=checked_bool(header.get("factors"), name="factors", stored=True),
            residual=checked_bool(header.get("residual"), name="residual", stored=True),
            mean=checked_array(array, "mean", (dimension,)),
            axes=checked_array(array, "axes", (dimension, dimension)),
            cells=Cells(
                widths,
                checked_array(array, "lower", cells),
                checked_array(array, "centroids", cells),
            ),
        )


def _rescaled(
    frame: Frame, *, norms: F64, cosines: F64, dots: F64, code_norms: F64
) -> tuple[F32, F32]:
    scale = np.where(code_norms > 0, code_norms, 1.0)
    # Where the code is a poor one, its projection alone is the better estimate.
    good = cosines >= _COSINE_LEAST
    factors = np.where(good, 1 / np.where(good, cosines, 1.0), cosines)
    products = dots * norms * factors / scale
    limits = product_limits(
        norms,
        query_norms=frame.query_norms,
        alignment=alignments(dots, query_norms=frame.query_norms, code_norms=code_norms),
        cosine_least=np.maximum(cosines - _COSINE_ERROR, -1.0),
        cosine_most=np.minimum(cosines + _COSINE_ERROR, 1.0),
    )
    return frame.finish(norms, products, limits)


def _packed_signs(signs: Mask) -> U8:
    return np.packbits(signs, axis=1, bitorder="little")
