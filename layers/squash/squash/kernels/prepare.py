"""A query made ready: rotated, with its table of signs and its distances to all centers."""

from __future__ import annotations

from typing import Final

import numpy as np

from squash.arrays import F32, F64, U8, AnyArray
from squash.kernels import native
from squash.kernels.lanes import lanes8, lanes16
from squash.kernels.low_scan import ENTRIES, ENTRY_MAX, SIGNS
from squash.kernels.native_table import native_table
from squash.kernels.packing import GROUP_DIMENSIONS, low_groups
from squash.kernels.rotations import HadamardRotation, Rotation, rotated
from squash.kernels.tables import ClusterTable, PreparedQuery

# Values multiplied at once: 4 MiB of float64.
_CHUNK_VALUES: Final = 1 << 19


def prepare(
    table: ClusterTable, rotation: Rotation, mean: F32, query: F32, *, unit: bool = False
) -> PreparedQuery:
    """Rotate a query, make its table of signs, and measure its distances to all centers.

    These are what clusters are taken by: squared ones with the table's spreads, if it has any.

    Parameters
    ----------
    table:
        The clusters; its space says what a distance is.
    rotation:
        float32 [D, d], or one without a matrix.
    mean:
        float32 [d].
    query:
        float32 [d].
    unit:
        Whether it is scaled to length one first, as cosine wants it.

    """
    chosen = native.active()
    if chosen is not None:
        return _prepare_natively(chosen, table, rotation, mean, query, unit=unit)
    wide = query.astype(np.float64)
    if unit:
        wide = (wide / np.sqrt(lanes8(wide * wide))).astype(np.float32).astype(np.float64)
    offset = 0.0
    if table.space == "l2":
        wide -= mean
    else:
        offset = float(lanes8(wide * mean))
    if isinstance(rotation, HadamardRotation):
        projected = rotated(rotation, wide)
    else:
        projected = _products(rotation, wide)
    entries, step, base = _sign_entries(projected)
    narrow = projected.astype(np.float32)
    if table.space == "l2":
        distances = _squared_distances(table.centers, narrow)
        if table.spreads is not None:
            distances += table.spreads
    else:
        distances = -(_narrow_products(table.centers, narrow) + np.float32(offset))
    return PreparedQuery(projected, offset, entries, step, base, distances)


def prepare_projected(table: ClusterTable, projected: F32) -> PreparedQuery:
    """Make a query ready for scans of a table that is projected already.

    Parameters
    ----------
    table:
        What is scanned.
    projected:
        float32 [D]; in space `dot` rotated only, and distances are then without its product with
        the mean.

    Returns
    -------
    What `prepare` gives, but for the distances to the centers, which are zeros.

    """
    wide = projected.astype(np.float64)
    entries, step, base = _sign_entries(wide)
    return PreparedQuery(wide, 0.0, entries, step, base, np.zeros(len(table.rows), np.float32))


def _prepare_natively(
    chosen: native.Native,
    table: ClusterTable,
    rotation: Rotation,
    mean: F32,
    query: F32,
    *,
    unit: bool,
) -> PreparedQuery:
    kept = native_table(table)
    dimension, vector_dimension = table.centers.shape[1], len(mean)
    by = kept.rotation(rotation, mean)
    asked = np.ascontiguousarray(query, dtype=np.float32)
    projected = np.empty(dimension, dtype=np.float64)
    entries = np.empty((low_groups(dimension), ENTRIES), dtype=np.uint8)
    distances = np.empty(len(table.centers), dtype=np.float32)
    space = kept.take_workspace()
    chosen.prepare(
        kept.at,
        by.at,
        native.address(asked),
        vector_dimension,
        unit,
        native.address(projected),
        native.address(entries),
        native.address(distances),
        space.scalars_at,
        space.scratch(dimension + vector_dimension),
    )
    offset, step, base = space.scalars
    kept.give_workspace(space)
    return PreparedQuery(projected, offset, entries, step, base, distances)


def _products(axes: F32, wide: F64) -> F64:
    found = np.empty(len(axes), dtype=np.float64)
    for part in _chunks(*axes.shape):
        found[part] = lanes8(axes[part] * wide)
    return found


def _squared_distances(centers: F32, query: F32) -> F32:
    found = np.empty(len(centers), dtype=np.float32)
    for part in _chunks(*centers.shape):
        differences = centers[part] - query
        found[part] = lanes16(differences * differences)
    return found


def _narrow_products(centers: F32, query: F32) -> F32:
    found = np.empty(len(centers), dtype=np.float32)
    for part in _chunks(*centers.shape):
        found[part] = lanes16(centers[part] * query)
    return found


def _chunks(rows: int, dimension: int) -> list[slice]:
    size = max(1, _CHUNK_VALUES // max(1, dimension))
    return [slice(begin, begin + size) for begin in range(0, rows, size)]


def _sign_entries(projected: F64) -> tuple[U8, float, float]:
    """Return the entries uint8 [groups, 16], their step and their base."""
    groups = low_groups(len(projected))
    padded = np.zeros(groups * GROUP_DIMENSIONS, dtype=np.float64)
    padded[: len(projected)] = projected
    values = padded.reshape(groups, GROUP_DIMENSIONS)
    least = -_added(np.abs(values))
    step = 2.0 * -float(least.min(initial=0.0)) / ENTRY_MAX
    # The groups one after another: NumPy's own sum may add in another order.
    base = 0.0
    for part in least.tolist():
        base += part
    entries = np.zeros((groups, ENTRIES), dtype=np.uint8)
    if step > 0.0:
        sums = _added(values[:, None, :] * SIGNS)
        entries[:] = np.clip(np.rint((sums - least[:, None]) / step), 0, ENTRY_MAX)
    return entries, step, base


def _added(values: AnyArray) -> F64:
    """Return ((q0 + q1) + q2) + q3 of float64 [.., 4]."""
    sums = ((values[..., 0] + values[..., 1]) + values[..., 2]) + values[..., 3]
    return np.asarray(sums, dtype=np.float64)
