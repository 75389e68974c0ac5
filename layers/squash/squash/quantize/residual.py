"""The default codec: a uniform grid on randomly rotated residuals (the family of extended RaBitQ).

A row x in the cluster of center c is stored as (letters of the papers 2405.12497 and 2409.09913,
and of the module `bounds`; r = P(x - mean) - c, s its signs, u its code, D dimensions):

| letter                          | stored field              | bytes a row           |
| ------------------------------- | ------------------------- | --------------------- |
| s, one bit a dimension          | in `blocks`: signs        | 4 ceil(D / 4) / 8     |
| |r|                             | in `blocks`: norm float32 | 4                     |
| (|r| |s|) / <r, s>              | in `blocks`: secant float16 | 2                   |
| <c, s> / <r, s>                 | in `blocks`: shift float16 | 2                    |
| sin of the angle between r, u   | in `blocks`: sine float16 | 2                     |
| u, B bits a dimension           | `full` uint8 [n, w]       | ceil(D / 2) at 4 bits |

    one row of `full` at 4 bits, D = 5:     | dim 3 dim 0 | dim 4 dim 1 | 0 dim 2 |
    one block of 32 rows:                   | signs | 32 norms | 32 secants | 32 shifts | 32 sines |

`blocks` is uint8 [blocks, block bytes] (squash.kernels.packing has the picture): a scan of signs
finds all that it needs in one stream. All factors but the norm are without dimension, so 16 bits
hold them for vectors of any length.
The sine stands in for <r, u>: near 1 a cosine of 16 bits says little of its angle, a sine near 0
says all. |u| is computed from the code, so that <r, u> = |r| |u| cos. A row that is its own center
has factors 0, and is as far as the center.

The low-bit estimate uses one table of <q', s> for all clusters, since with f = |r|^2 / <r, s>

    <q~, r> ~ f <q~, s> = f <q', s> - f <c, s> = f <q', s> - |r|^2 shift      (space l2)
    <q', r> ~ f <q', s>                                                      (space dot)

Version 3 rotates without a matrix; version 2, which vectors of few dimensions keep, by one. Version
1 stored what version 2 does in six arrays, with the cosine in the secant's place; `readable` lays
them out as blocks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final, Self

import numpy as np

from squash import kernels
from squash.arrays import F32, F64, I64, AnyArray
from squash.kernels import (
    FLIPS,
    HadamardRotation,
    Rotation,
    alignments,
    cosine_interval,
    product_limits,
    rescaling_cosines,
)
from squash.quantize.bounds import frame_of, norms_of
from squash.quantize.checks import check_clusters, checked_array, checked_int, checked_space
from squash.quantize.grid import BITS_MAX, grid_codes, grid_levels
from squash.quantize.protocol import ArraySpec, Codes, Prepared, Space
from squash.quantize.transforms import mean_of, project_query, project_rows, random_matrix
from squash.values import dataclass

VERSION: Final = 3
BLOCKS_VERSION: Final = 2
"""From this version on factors lie in blocks, beside the signs."""
# Below, a matrix is small, and signs are too few to make a rotation of.
_HADAMARD_DIMENSION_MIN: Final = 64
GROUP_BYTES: Final = 16
_SCANNED_BITS: Final = 4
_FACTOR_BYTES: Final = 10
_HALF_MAX: Final = 65504.0
# Values encoded at once: some hundred KiB, so that the search for the best code stays in cache.
_CHUNK_VALUES: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class ResidualCodec:
    """The codec `residual`; see the module's page for what it stores."""

    space: Space
    bits: int
    """B, the bits a dimension of the full code, sign included."""
    mean: F32
    """float32 [d]."""
    rotation: Rotation
    """Of version 3 a `HadamardRotation`, before it float32 [D, d], orthogonal; D = d."""
    version: int
    """The version its codes are stored in; `encode` gives the newest layout."""

    name: ClassVar[str] = "residual"
    low_keep_share: ClassVar[float] = 0.0

    @classmethod
    def train(cls, sample: F32, *, space: Space, seed: int, bits: int = 4) -> Self:
        """Take the mean of a sample float32 [s, d], and draw a rotation from the seed."""
        dimension = sample.shape[1]
        matrix = dimension < _HADAMARD_DIMENSION_MIN
        return cls(
            space=space,
            bits=checked_int(bits, name="bits", least=1, most=BITS_MAX),
            mean=mean_of(sample),
            rotation=(
                random_matrix(dimension, seed)
                if matrix
                else HadamardRotation.random(dimension, seed)
            ),
            version=BLOCKS_VERSION if matrix else VERSION,
        )

    @classmethod
    def layout(cls, *, space: Space, dimension: int, version: int) -> Self:
        """Return what the kernels' codes of a version are laid out like, with nothing trained."""
        nothing = np.zeros(dimension, dtype=np.float32)
        return cls(space, _SCANNED_BITS, nothing, np.empty((0, dimension), np.float32), version)

    @property
    def dimension(self) -> int:
        """The vectors' dimension d, which is also the projected one."""
        return len(self.mean)

    @property
    def scannable(self) -> bool:
        """Whether its codes are what `kernels.scan` reads: full codes of four bits."""
        return self.bits == _SCANNED_BITS

    @property
    def specs(self) -> tuple[ArraySpec, ...]:
        """The arrays that `encode` gives and `readable` makes, in stored order."""
        signs = GROUP_BYTES * kernels.low_groups(self.dimension)
        return (
            ArraySpec("blocks", "block", "|u1", (signs + kernels.BLOCK_FACTOR_BYTES,)),
            self._full_spec(),
        )

    @property
    def stored_specs(self) -> tuple[ArraySpec, ...]:
        """The arrays that a segment of this version holds."""
        if self.version >= BLOCKS_VERSION:
            return self.specs
        return (
            ArraySpec("low", "block", "|u1", (kernels.low_groups(self.dimension), GROUP_BYTES)),
            self._full_spec(),
            ArraySpec("norm", "row", "<f4"),
            ArraySpec("low_cosine", "row", "<f2"),
            ArraySpec("low_shift", "row", "<f2"),
            ArraySpec("sine", "row", "<f2"),
        )

    def _full_spec(self) -> ArraySpec:
        width = kernels.grid_bytes(self.dimension, self.bits)
        return ArraySpec("full", "row", "|u1", (width,))

    def readable(self, codes: Codes, cluster_begins: I64) -> Codes:
        """Return stored codes as `encode` gives them: those of version 1 laid out anew."""
        if self.version >= BLOCKS_VERSION:
            return codes
        first_rows = kernels.block_begins(cluster_begins)[:-1] * kernels.BLOCK_ROWS
        inside = kernels.concatenated_ranges(first_rows, np.diff(cluster_begins))
        cosines = codes["low_cosine"].astype(np.float64)
        blocks = kernels.pack_blocks(
            kernels.unpack_low(codes["low"], self.dimension)[inside],
            norm=codes["norm"],
            secant=_secants(cosines).astype(np.float16),
            shift=codes["low_shift"],
            sine=codes["sine"],
            cluster_begins=cluster_begins,
        )
        return {"blocks": blocks, "full": codes["full"]}

    def code_bytes_per_row(self) -> float:
        """Return the bytes of low-bit code, full code and factors of one row, without padding."""
        full = kernels.grid_bytes(self.dimension, self.bits)
        return kernels.low_groups(self.dimension) / 2 + full + _FACTOR_BYTES

    def project(self, vectors: F32) -> F32:
        """Rotate rows float32 [n, d] about the mean; distances stay as they are."""
        return project_rows(vectors, mean=self.mean, rotation=self.rotation)

    def encode(self, projected: F32, *, centers: F32, cluster_begins: I64) -> Codes:
        """Encode projected rows float32 [n, D]; see `Codec.encode`."""
        rows, dimension = projected.shape
        check_clusters(rows, centers=centers, cluster_begins=cluster_begins)
        labels = np.repeat(np.arange(len(centers)), np.diff(cluster_begins))
        signs = np.empty((rows, dimension), dtype=np.bool_)
        width = kernels.grid_bytes(dimension, self.bits)
        codes: dict[str, AnyArray] = {
            "full": np.empty((rows, width), dtype=np.uint8),
            "norm": np.empty(rows, dtype=np.float32),
            "secant": np.empty(rows, dtype=np.float16),
            "shift": np.empty(rows, dtype=np.float16),
            "sine": np.empty(rows, dtype=np.float16),
        }
        size = max(1, _CHUNK_VALUES // max(1, dimension))
        for begin in range(0, rows, size):
            part = slice(begin, min(begin + size, rows))
            wide_centers = centers[labels[part]].astype(np.float64)
            residuals = projected[part].astype(np.float64) - wide_centers
            signs[part] = residuals >= 0
            for name, values in self._encode_chunk(residuals, wide_centers).items():
                codes[name][part] = values
        blocks = kernels.pack_blocks(
            signs,
            norm=codes["norm"],
            secant=codes["secant"],
            shift=codes["shift"],
            sine=codes["sine"],
            cluster_begins=cluster_begins,
        )
        return {"blocks": blocks, "full": codes["full"]}

    def _encode_chunk(self, residuals: F64, centers: F64) -> dict[str, AnyArray]:
        norms = norms_of(residuals)
        some = norms > 0
        directions = np.abs(residuals) / np.where(some, norms, 1.0)[:, None]
        levels = grid_levels(directions.astype(np.float32), self.bits, version=self.version)
        negative = residuals < 0
        codes = grid_codes(levels, negative=negative, bits=self.bits)
        wide = levels.astype(np.float64)
        cosines = np.vecdot(wide, directions) / norms_of(wide)
        sines = np.sqrt(np.maximum(1 - cosines * cosines, 0.0))
        # <r, s> / |r|: at least 1 for any residual but 0.
        heights = directions.sum(axis=1)
        # A sign bit turned is the opposite: `np.where` would take five times as long.
        turned = negative.astype(np.uint64) << np.uint64(63)
        slants = (centers.view(np.uint64) ^ turned).view(np.float64).sum(axis=1)
        shifts = slants / np.where(some, norms * heights, 1.0)
        return {
            "full": kernels.pack_grid(codes, self.bits),
            "norm": norms.astype(np.float32),
            "secant": _secants(heights / math.sqrt(max(1, residuals.shape[1]))),
            "shift": np.where(some, np.clip(shifts, -_HALF_MAX, _HALF_MAX), 0.0),
            "sine": np.where(some, sines, 0.0),
        }

    def prepare(self, query: F32) -> Prepared:
        """Project a query float32 [d] and make its table of signs."""
        projected, offset = project_query(
            query, mean=self.mean, rotation=self.rotation, centered=self.space == "l2"
        )
        return Prepared(self.space, projected, offset, signs=kernels.sign_table(projected))

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

        The estimates are of the distance.
        """
        table = prepared.signs or kernels.sign_table(prepared.projected)
        lengths = np.diff(cluster_begins)[clusters]
        rows = kernels.concatenated_ranges(cluster_begins[:-1][clusters], lengths)
        all_blocks = kernels.block_begins(cluster_begins)
        block_counts = np.diff(all_blocks)[clusters]
        blocks = kernels.concatenated_ranges(all_blocks[:-1][clusters], block_counts)
        low, norm, secant, shift, _ = kernels.split_blocks(codes["blocks"], self.dimension)
        sums = kernels.low_scan(low, blocks, table.entries)
        # Padding rows end each cluster's last block: they are left out here.
        firsts = (np.cumsum(block_counts) - block_counts) * kernels.BLOCK_ROWS
        inside = kernels.concatenated_ranges(firsts, lengths)
        products = table.products(sums[inside])
        norms = norm[blocks].reshape(-1)[inside].astype(np.float64)
        secants = secant[blocks].reshape(-1)[inside].astype(np.float64)
        products *= norms * secants / math.sqrt(self.dimension)
        estimates = np.repeat(prepared.distances_to(centers[clusters]), lengths)
        if self.space == "l2":
            shifts = shift[blocks].reshape(-1)[inside].astype(np.float64)
            estimates += norms * norms * (1 + 2 * shifts) - 2 * products
        else:
            estimates -= products
        return rows, estimates.astype(np.float32)

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
        frame = frame_of(prepared, centers=centers, row_clusters=row_clusters)
        dots, squares = kernels.grid_dots(
            codes["full"],
            rows,
            bits=self.bits,
            queries=frame.queries,
            row_queries=frame.row_queries,
        )
        _, norm, _, _, sine = kernels.split_blocks(codes["blocks"], self.dimension)
        # Each cluster begins a block: padding rows lie before a row, besides the rows.
        padding = kernels.block_begins(cluster_begins) * kernels.BLOCK_ROWS - cluster_begins
        block, place = np.divmod(rows + padding[row_clusters], kernels.BLOCK_ROWS)
        norms = norm[block, place].astype(np.float64)
        sines = sine[block, place].astype(np.float64)
        code_norms = np.sqrt(squares)
        products = dots * norms / (code_norms * rescaling_cosines(sines))
        least, most = cosine_interval(sines)
        limits = product_limits(
            norms,
            query_norms=frame.query_norms,
            alignment=alignments(dots, query_norms=frame.query_norms, code_norms=code_norms),
            cosine_least=least,
            cosine_most=most,
        )
        return frame.finish(norms, products, limits)

    def to_arrays(self) -> tuple[dict[str, Any], dict[str, AnyArray]]:
        """Return the codec as a JSON header and named arrays."""
        header = {
            "codec": self.name,
            "codec_version": self.version,
            "dimension": self.dimension,
            "space": self.space,
            "bits": self.bits,
        }
        if isinstance(self.rotation, HadamardRotation):
            return header, {"mean": self.mean, "flips": self.rotation.flips}
        return header, {"mean": self.mean, "rotation": self.rotation}

    @classmethod
    def from_arrays(cls, header: Mapping[str, Any], array: Callable[[str], AnyArray]) -> Self:
        """Make a codec of what `to_arrays` gave.

        Raises
        ------
        DataError
            If the header or an array is not what it must be.

        """
        dimension = checked_int(header.get("dimension"), name="dimension", stored=True)
        version = checked_int(
            header.get("codec_version"), name="codec_version", most=VERSION, stored=True
        )
        rotation: Rotation
        if version == VERSION:
            shape = (FLIPS, -(-dimension // 8))
            flips = checked_array(array, "flips", shape, dtype=np.uint8)
            rotation = HadamardRotation(flips, dimension)
        else:
            rotation = checked_array(array, "rotation", (dimension, dimension))
        return cls(
            space=checked_space(header.get("space"), stored=True),
            bits=checked_int(header.get("bits"), name="bits", most=BITS_MAX, stored=True),
            mean=checked_array(array, "mean", (dimension,)),
            rotation=rotation,
            version=version,
        )


def _secants(cosines: F64) -> F64:
    """Return 1 / cosine, and 0 for the rows without a direction, whose cosine is 0."""
    secants = np.where(cosines > 0, 1.0 / np.where(cosines > 0, cosines, 1.0), 0.0)
    return np.minimum(secants, _HALF_MAX)
