"""How the rows of a bulk build are dealt out: pieces, batches, sample, ranges of keys.

All of it follows from counts of rows and a seed: whoever asks, wherever, is told the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from squash.arrays import I64, U64
from squash.limits import BUILD_KEY_RANGE_ROWS
from squash.planning.sampling import choose_rows

_VALUE_BYTES = 4
_HALF_BITS = 32


def piece_rows_max(
    dimension: int, *, rows_max: int, bytes_max: int, file_row_bytes: float = 0.0
) -> int:
    """Return how many rows a piece has at most.

    Parameters
    ----------
    dimension:
        d; a row's vector has 4·d bytes.
    rows_max, bytes_max:
        What holds for every piece.
    file_row_bytes:
        What a row takes in its file, where metadata may be much longer than vectors.

    """
    row_bytes = max(_VALUE_BYTES * dimension, file_row_bytes)
    return max(1, min(rows_max, int(bytes_max // row_bytes)))


def cut_pieces(blocks: Sequence[int], *, first: int, rows_max: int) -> Iterator[tuple[int, int]]:
    """Cut the rows of a file into pieces of nearly equal size that span no two blocks.

    Parameters
    ----------
    blocks:
        The rows of each block, such as a row group; a file without blocks is one.
    first:
        The number of the file's first row.
    rows_max:
        Of a piece.

    Yields
    ------
    (number of the first row, rows), ascending, none empty.

    """
    for rows in blocks:
        count = -(-rows // rows_max)
        for i in range(count):
            start, stop = rows * i // count, rows * (i + 1) // count
            yield first + start, stop - start
        first += rows


def deal(weights: Sequence[float], *, target: float, batches_max: int) -> tuple[int, ...]:
    """Deal things that lie side by side into batches of about equal weight.

    Parameters
    ----------
    weights:
        Of each thing, none below 0.
    target:
        The weight that a batch aims at; it is larger where there would be too many.
    batches_max:
        How many there are at most.

    Returns
    -------
    Where each batch begins, and one more: how many things there are; ``(0,)`` of none.

    """
    if not len(weights):
        return (0,)
    sums = np.cumsum(np.asarray(weights, dtype=np.float64))
    total = float(sums[-1])
    wanted = max(1, min(math.ceil(total / target), batches_max, len(weights)))
    # A thing belongs to the batch that its middle lies in.
    middle = sums - np.asarray(weights, dtype=np.float64) / 2
    batch = np.minimum((middle * wanted / max(total, 1e-300)).astype(np.int64), wanted - 1)
    begins = np.flatnonzero(np.diff(batch, prepend=-1))
    return (*begins.tolist(), len(weights))


def sample_pieces(pieces: int, *, pieces_max: int, seed: int) -> tuple[int, ...]:
    """Return the numbers of the pieces that a sample is drawn from, ascending.

    All of them, or, of more than `pieces_max`, as many as that, by chance.
    """
    if pieces <= pieces_max:
        return tuple(range(pieces))
    return tuple(choose_rows(pieces, pieces_max, seed=seed).tolist())


def places_in_pieces(chosen: I64, piece_rows: Sequence[int]) -> list[I64]:
    """Tell which rows of each piece were drawn.

    Parameters
    ----------
    chosen:
        int64 [s], ascending: numbers of rows, counted through the pieces that were drawn from.
    piece_rows:
        The rows of each of these pieces, in their order.

    Returns
    -------
    For each piece the places of its drawn rows, counted from its first: int64, ascending.

    """
    rows = np.asarray(piece_rows, dtype=np.int64)
    ends = np.cumsum(rows)
    cuts = [0, *np.searchsorted(chosen, ends).tolist()]
    starts = (ends - rows).tolist()
    return [
        chosen[first:last] - start
        for (first, last), start in zip(pairwise(cuts), starts, strict=True)
    ]


def key_range_count(rows: int) -> int:
    """Return into how many ranges the hashes of so many keys are dealt."""
    return max(1, -(-rows // BUILD_KEY_RANGE_ROWS))


def key_range_begins(first_halves: U64, ranges: int) -> I64:
    """Cut sorted hashes by range.

    Parameters
    ----------
    first_halves:
        uint64 [n], the first half of each hash, ascending.
    ranges:
        How many ranges there are, of equal width.

    Returns
    -------
    int64 [ranges + 1]: range k is positions begins[k] to begins[k + 1].

    """
    # The k-th range begins at the least hash h with floor((h >> 32) * ranges / 2^32) = k.
    edges = [-(-(k << _HALF_BITS) // ranges) << _HALF_BITS for k in range(1, ranges)]
    inner = np.searchsorted(first_halves, np.asarray(edges, dtype=np.uint64))
    return np.concatenate(([0], inner, [len(first_halves)])).astype(np.int64)
