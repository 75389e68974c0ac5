"""Codes come back as they were packed, and lie where docs/format.md says."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from squash import kernels

EDGES = [0, 1, 7, 8, 9, 31, 32, 33, 63, 64, 65, 255, 256]


@pytest.mark.parametrize("width", range(9))
@pytest.mark.parametrize("rows", [0, 1, 33])
@pytest.mark.parametrize("dimension", [1, 2, 7, 8, 9, 64, 65])
def test_every_width_round_trips(width: int, rows: int, dimension: int) -> None:
    """Rows of one width come back, in the fewest bytes."""
    rng = np.random.default_rng(width)
    codes = rng.integers(0, 1 << width, size=(rows, dimension)).astype(np.uint8)
    widths = np.full(dimension, width, np.uint8)
    packed = kernels.pack_rows(codes, widths)
    assert packed.shape == (rows, -(-width * dimension // 8))
    np.testing.assert_array_equal(kernels.unpack_rows(packed, widths), codes)


@settings(max_examples=80, deadline=None)
@given(
    widths=st.lists(st.integers(0, 8), min_size=1, max_size=40),
    rows=st.integers(0, 9),
    seed=st.integers(0, 999),
)
def test_mixed_widths_round_trip_and_lie_bit_by_bit(widths, rows, seed) -> None:
    """Dimensions may straddle bytes; the bits are those of a plain writer."""
    rng = np.random.default_rng(seed)
    codes = np.stack([rng.integers(0, 1 << w, size=rows) for w in widths], axis=1).astype(np.uint8)
    packed = kernels.pack_rows(codes, np.array(widths, np.uint8))
    np.testing.assert_array_equal(kernels.unpack_rows(packed, np.array(widths, np.uint8)), codes)
    for row in range(rows):
        text = "".join(f"{int(c):0{w}b}" for c, w in zip(codes[row], widths, strict=True) if w)
        text += "0" * (-len(text) % 8)
        expected = [int(text[i : i + 8], 2) for i in range(0, len(text), 8)]
        assert packed[row].tolist() == expected


@pytest.mark.parametrize("dimension", [1, 2, 3, 50, 127, 128])
def test_nibbles_round_trip(dimension: int) -> None:
    """Low nibbles hold the first half of the dimensions, high ones the second."""
    codes = np.random.default_rng(1).integers(0, 16, size=(9, dimension)).astype(np.uint8)
    packed = kernels.pack_nibbles(codes)
    half = -(-dimension // 2)
    assert packed.shape == (9, half)
    np.testing.assert_array_equal(kernels.unpack_nibbles(packed, dimension), codes)
    for j in range(dimension):
        byte = packed[:, j if j < half else j - half]
        np.testing.assert_array_equal(byte & 15 if j < half else byte >> 4, codes[:, j])


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.sampled_from([0, 1, 5, 31, 32, 33, 64, 70]), min_size=1, max_size=6),
    dimension=st.sampled_from([1, 3, 4, 5, 8, 31, 50]),
    seed=st.integers(0, 999),
)
def test_low_blocks_are_those_of_a_plain_writer_and_scan_right(sizes, dimension, seed) -> None:
    """Each sign is one bit at its place, and a scan gives each row's sum of signed values."""
    rng = np.random.default_rng(seed)
    begins = np.concatenate(([0], np.cumsum(sizes)))
    positive = rng.random((int(begins[-1]), dimension)) < 0.5
    blocks = kernels.pack_low(positive, begins)
    starts = kernels.block_begins(begins)
    plain = np.zeros_like(blocks)
    for cluster, size in enumerate(sizes):
        for i in range(size):
            block, lane = starts[cluster] + i // 32, i % 32
            for j in range(dimension):
                if positive[begins[cluster] + i, j]:
                    plain[block, j // 4, lane % 16] |= 1 << (j % 4 + 4 * (lane // 16))
    np.testing.assert_array_equal(blocks, plain)
    query = rng.normal(size=dimension).astype(np.float32)
    clusters = rng.permutation(len(sizes))[: rng.integers(1, len(sizes) + 1)]
    rows = np.concatenate([np.arange(begins[c], begins[c + 1]) for c in clusters])
    got = kernels.low_products(
        blocks, kernels.low_table(query), clusters=clusters, cluster_begins=begins
    )
    expected = np.where(positive[rows], 1.0, -1.0) @ query.astype(np.float64)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("dimension", EDGES[1:])
def test_hamming_counts_differing_signs(dimension: int) -> None:
    """Padding bits never count."""
    rng = np.random.default_rng(2)
    rows, query = rng.random((17, dimension)) < 0.5, rng.random(dimension) < 0.5
    got = kernels.hamming(kernels.pack_signs(rows), kernels.pack_signs(query[None])[0])
    np.testing.assert_array_equal(got, (rows != query).sum(axis=1))
