"""Scans equal naive formulas: integers exactly, floats as their docstrings state."""

import numpy as np
import pytest

from squash import kernels


@pytest.mark.parametrize("dimension", [1, 3, 4, 50, 65, 1028, 1033])
@pytest.mark.parametrize("blocks", [[], [0], [2, 0, 1]])
def test_low_scan_equals_naive_sums(dimension, blocks):
    """Sums of table entries are exact, also where 16 bits would overflow."""
    rng = np.random.default_rng(dimension)
    signs = rng.integers(0, 2, (96, dimension)).astype(np.bool_)
    low = kernels.pack_low(signs, np.array([0, 96]))
    groups = kernels.low_groups(dimension)
    entries = np.maximum(rng.integers(0, 256, (groups, 16)), 250).astype(np.uint8)
    padded = np.zeros((96, groups * 4), dtype=np.int64)
    padded[:, :dimension] = signs
    nibbles = padded.reshape(96, groups, 4) @ [1, 2, 4, 8]
    naive = entries[np.arange(groups), nibbles].sum(axis=1, dtype=np.int64)
    got = kernels.low_scan(low, np.array(blocks, dtype=np.int64), entries)
    assert got.dtype == np.uint32
    assert got.tolist() == [int(n) for block in blocks for n in naive[32 * block :][:32]]


@pytest.mark.parametrize("dimension", [1, 2, 5, 50, 257])
@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e12])
def test_sign_table_is_within_its_rounding(dimension, scale):
    """Decoded sums are the inner products with the signs, to half a step a group."""
    rng = np.random.default_rng(dimension)
    query = rng.standard_normal(dimension) * scale
    table = kernels.sign_table(query)
    signs = rng.integers(0, 2, (64, dimension)).astype(np.bool_)
    low = kernels.pack_low(signs, np.array([0, 64]))
    got = table.products(kernels.low_scan(low, np.array([0, 1]), table.entries))
    limit = len(table.entries) * table.step * 0.5000001
    assert np.abs(got - (signs * 2.0 - 1.0) @ query).max() <= limit


def test_sign_table_of_zero_is_zero():
    """A query of zeros has products 0."""
    table = kernels.sign_table(np.zeros(9))
    assert table.products(np.zeros(2, dtype=np.uint32)).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("queries", [1, 3])
def test_grid_dots_equal_naive_products(bits, queries):
    """Half-integer codes multiply as float64 says, and their squares are exact."""
    rng = np.random.default_rng(bits)
    codes = rng.integers(0, 1 << bits, (40, 33)).astype(np.uint8)
    query = rng.standard_normal((queries, 33)).astype(np.float32)
    rows = rng.integers(0, 40, 70)
    row_queries = rng.integers(0, queries, 70)
    dots, squares = kernels.grid_dots(
        kernels.pack_grid(codes, bits), rows, bits=bits, queries=query, row_queries=row_queries
    )
    values = codes[rows] - ((1 << bits) - 1) / 2
    np.testing.assert_array_equal(squares, (values**2).sum(axis=1))
    np.testing.assert_allclose(
        dots, (values * query[row_queries].astype(float)).sum(axis=1), atol=1e-9
    )


def test_table_sums_equal_a_loop():
    """Each row sums the entries of its cells, for each kind of table."""
    rng = np.random.default_rng(3)
    widths = np.array([3, 0, 8, 1, 5], dtype=np.uint8)
    begins = kernels.cell_begins(widths)
    codes = (rng.integers(0, 256, (20, 5)) & ((1 << widths.astype(int)) - 1)).astype(np.uint8)
    tables = rng.standard_normal((2, 3, begins[-1]))
    rows, row_tables = rng.integers(0, 20, 50), rng.integers(0, 3, 50)
    got = kernels.table_sums(
        kernels.pack_rows(codes, widths), rows, widths=widths, tables=tables, row_tables=row_tables
    )
    for kind in range(2):
        naive = [
            sum(tables[kind, t, begins[j] + codes[row, j]] for j in range(5))
            for row, t in zip(rows, row_tables, strict=True)
        ]
        np.testing.assert_allclose(got[kind], naive)


def test_hamming_scan_counts_bits():
    """Differing bits are counted row by row against the row's own query."""
    rng = np.random.default_rng(0)
    signs = rng.integers(0, 256, (9, 3)).astype(np.uint8)
    queries = rng.integers(0, 256, (2, 3)).astype(np.uint8)
    rows, which = np.array([8, 0, 0, 3]), np.array([0, 1, 0, 1])
    naive = [
        sum(int(a ^ b).bit_count() for a, b in zip(signs[r], queries[w], strict=True))
        for r, w in zip(rows, which, strict=True)
    ]
    got = kernels.hamming_scan(signs, rows, queries=queries, row_queries=which)
    assert got.tolist() == naive


@pytest.mark.parametrize("count", [0, 1, 8, 65])
def test_distances_accumulate_in_float64(count):
    """Distances to centroids are those of float64, where float32 would cancel."""
    rng = np.random.default_rng(count)
    vectors = (rng.standard_normal((count, 7)) + 1e4).astype(np.float32)
    query = (rng.standard_normal(7) + 1e4).astype(np.float32)
    wide = vectors.astype(float)
    squared = ((wide - query) ** 2).sum(axis=1)
    products = (wide * query).sum(axis=1)
    np.testing.assert_allclose(kernels.centroid_scan(vectors, query, squared=False), products)
    np.testing.assert_allclose(
        kernels.centroid_scan(vectors, query, squared=True), squared, rtol=1e-13
    )


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 64])
@pytest.mark.parametrize("k", [0, 1, 7, 8, 9, 100])
def test_top_k_is_a_stable_sort_cut_short(count, k):
    """The k smallest come by value, then by place; ties, infinities and NaN included."""
    rng = np.random.default_rng(count * 10 + k)
    values = rng.choice([0.0, -0.0, 1.0, 2.0, np.inf, -np.inf, np.nan], count)
    order = sorted(range(count), key=lambda i: (np.isnan(values[i]), values[i], i))
    naive = np.argsort(values, kind="stable")[:k] if np.isnan(values).any() else order[:k]
    assert kernels.top_k(values, k).tolist() == list(naive)
