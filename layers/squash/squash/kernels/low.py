"""The low-bit codes: one bit a dimension, in blocks of 32 rows.

A block holds, for each group of 4 dimensions, 16 bytes: byte j has the nibble of row j in its low
half and that of row j + 16 in its high half; bit i of a nibble is set where dimension 4·group + i
is positive. So one 16-entry table look-up (pshufb, tbl, vpermb) serves 16 rows at once::

    block b, group g      byte 0          byte 1         ...  byte 15
                        r16 | r0        r17 | r1              r31 | r15
"""

from __future__ import annotations

import numpy as np

from squash.arrays import F32, I64, U8, Mask
from squash.limits import CODE_BLOCK_ROWS

_GROUP = 4
_HALF = CODE_BLOCK_ROWS // 2
_CHUNK_BLOCKS = 2_048


def block_begins(cluster_begins: I64) -> I64:
    """Return where each cluster's blocks begin: every cluster starts a block of its own."""
    blocks = -(-np.diff(cluster_begins) // CODE_BLOCK_ROWS)
    return np.concatenate((np.zeros(1, np.int64), np.cumsum(blocks)))


def pack_low(positive: Mask, cluster_begins: I64) -> U8:
    """Pack signs into blocks.

    Parameters
    ----------
    positive:
        bool [n, d], rows side by side by cluster.
    cluster_begins:
        int64 [c + 1].

    Returns
    -------
    uint8 [blocks, ceil(d / 4), 16]; rows that only fill up a block are zero.

    """
    rows, dimension = positive.shape
    begins = block_begins(cluster_begins)
    groups = -(-dimension // _GROUP)
    places = _places(cluster_begins, begins)
    padded = np.zeros((int(begins[-1]) * CODE_BLOCK_ROWS, groups * _GROUP), dtype=np.uint8)
    padded[places, :dimension] = positive[:rows]
    weights = np.array([1, 2, 4, 8], dtype=np.uint8)
    nibbles = (padded.reshape(-1, groups, _GROUP) * weights).sum(axis=2, dtype=np.uint8)
    halves = nibbles.reshape(-1, 2, _HALF, groups)
    return np.ascontiguousarray((halves[:, 0] | halves[:, 1] << 4).transpose(0, 2, 1))


def low_table(query: F32) -> F32:
    """Return float32 [ceil(d / 4), 16]: the product of 4 dimensions with every sign nibble."""
    groups = -(-len(query) // _GROUP)
    padded = np.zeros(groups * _GROUP, dtype=np.float32)
    padded[: len(query)] = query
    nibble = np.arange(1 << _GROUP)[:, None] >> np.arange(_GROUP) & 1
    return np.asarray(padded.reshape(groups, _GROUP) @ (2.0 * nibble - 1.0).T, dtype=np.float32)


def low_products(blocks: U8, table: F32, *, clusters: I64, cluster_begins: I64) -> F32:
    """Return <q, signs> of every row of some clusters.

    Parameters
    ----------
    blocks:
        uint8 [blocks, groups, 16], as `pack_low` gives them.
    table:
        float32 [groups, 16], as `low_table` gives it.
    clusters:
        int64 [m].
    cluster_begins:
        int64 [c + 1].

    Returns
    -------
    float32, one a row, in the order of `clusters`.

    """
    begins = block_begins(cluster_begins)
    first, last = begins[clusters], begins[clusters + 1]
    wanted = np.repeat(first - np.concatenate(([0], np.cumsum(last - first)[:-1])), last - first)
    wanted = wanted + np.arange(len(wanted))
    sums = np.empty((len(wanted), CODE_BLOCK_ROWS), dtype=np.float32)
    flat = np.ascontiguousarray(table).ravel()
    offsets = (np.arange(len(table), dtype=np.intp) << _GROUP)[:, None]
    for start in range(0, len(wanted), _CHUNK_BLOCKS):
        part = slice(start, start + _CHUNK_BLOCKS)
        packed = blocks[wanted[part]]
        sums[part, :_HALF] = flat[(packed & 15) + offsets].sum(axis=1)
        sums[part, _HALF:] = flat[(packed >> 4) + offsets].sum(axis=1)
    lengths = cluster_begins[clusters + 1] - cluster_begins[clusters]
    ends = np.cumsum(last - first) * CODE_BLOCK_ROWS
    starts = ends - (last - first) * CODE_BLOCK_ROWS
    kept = np.repeat(starts - np.concatenate(([0], np.cumsum(lengths)[:-1])), lengths)
    return np.asarray(sums.ravel()[kept + np.arange(len(kept))])


def _places(cluster_begins: I64, begins: I64) -> I64:
    """Where each row lies among the rows of all blocks."""
    lengths = np.diff(cluster_begins)
    shift = np.repeat(begins[:-1] * CODE_BLOCK_ROWS - cluster_begins[:-1], lengths)
    return shift + np.arange(len(shift))
