"""Packing agrees with a bit-by-bit writer, and unpacking gives back what was packed."""

from itertools import pairwise

import numpy as np
import pytest

from squash import kernels
from squash.limits import CODE_BLOCK_ROWS

SIZES = [0, 1, 7, 8, 9, 31, 32, 33, 63, 64, 65]


def naive_stream(row, widths):
    """Write one row bit by bit."""
    bits = [
        (int(code) >> i) & 1
        for code, width in zip(row, widths, strict=True)
        for i in range(int(width))
    ]
    out = [0] * ((len(bits) + 7) // 8)
    for place, bit in enumerate(bits):
        out[place // 8] |= bit << (place % 8)
    return out


def naive_low(signs, begins):
    """Write the blocked layout bit by bit."""
    dimension = signs.shape[1]
    groups = -(-dimension // 4)
    blocks = []
    for begin, end in pairwise(begins):
        for first in range(begin, end, 32):
            block = np.zeros((groups, 16), dtype=np.uint8)
            for row in range(first, min(first + 32, end)):
                j, high = (row - first) % 16, (row - first) // 16
                for i in range(dimension):
                    block[i // 4, j] |= int(signs[row, i]) << (i % 4 + 4 * high)
            blocks.append(block)
    return np.array(blocks, dtype=np.uint8).reshape(-1, groups, 16)


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("dimension", [1, 2, 3, 7, 8, 9, 33])
@pytest.mark.parametrize("rows", [0, 1, 9])
def test_grid_codes_come_back(bits, dimension, rows):
    """Packing and unpacking are inverse for every width, odd dimension and no rows."""
    rng = np.random.default_rng(bits * 100 + dimension)
    codes = rng.integers(0, 1 << bits, (rows, dimension)).astype(np.uint8)
    packed = kernels.pack_grid(codes, bits)
    assert packed.shape == (rows, kernels.grid_bytes(dimension, bits))
    assert packed.flags.c_contiguous
    np.testing.assert_array_equal(
        kernels.unpack_grid(packed, bits=bits, dimension=dimension), codes
    )


@pytest.mark.parametrize("dimension", SIZES)
def test_mixed_widths_equal_the_naive_writer(dimension):
    """Codes of widths 0 to 8 are one little-endian bit stream a row, and come back."""
    rng = np.random.default_rng(dimension)
    widths = rng.integers(0, 9, dimension).astype(np.uint8)
    codes = (rng.integers(0, 256, (13, dimension)) & ((1 << widths.astype(int)) - 1)).astype(
        np.uint8
    )
    packed = kernels.pack_rows(codes, widths)
    assert packed.tolist() == [naive_stream(row, widths) for row in codes]
    np.testing.assert_array_equal(kernels.unpack_rows(packed, widths), codes)


def test_all_widths_zero_pack_to_nothing():
    """Dimensions without bits take no bytes and come back as cell 0."""
    widths = np.zeros(5, dtype=np.uint8)
    packed = kernels.pack_rows(np.zeros((3, 5), dtype=np.uint8), widths)
    assert packed.shape == (3, 0)
    assert kernels.unpack_rows(packed, widths).tolist() == [[0] * 5] * 3


def test_nibbles_put_the_first_half_low():
    """Byte i holds dimension i below and dimension ceil(d / 2) + i above."""
    packed = kernels.pack_nibbles(np.array([[1, 2, 3, 4, 5]], dtype=np.uint8))
    assert packed.tolist() == [[0x41, 0x52, 0x03]]


@pytest.mark.parametrize("dimension", [1, 3, 4, 5, 50, 63, 64, 65])
@pytest.mark.parametrize(
    "lengths", [[], [0], [1], [31], [32], [33, 0, 1], [64, 65], [0, 16, 17, 0, 255, 256]]
)
def test_low_layout_equals_the_naive_writer(dimension, lengths):
    """The blocked layout is what a bit-by-bit writer makes, padding being zero."""
    begins = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    rng = np.random.default_rng(len(lengths) + dimension)
    signs = rng.integers(0, 2, (begins[-1], dimension)).astype(np.bool_)
    low = kernels.pack_low(signs, begins)
    assert low.flags.c_contiguous
    np.testing.assert_array_equal(low, naive_low(signs, begins))
    assert kernels.block_begins(begins)[-1] == len(low)
    unpacked = kernels.unpack_low(low, dimension)
    for cluster, first in enumerate(kernels.block_begins(begins)[:-1]):
        part = unpacked[first * CODE_BLOCK_ROWS :][: begins[cluster + 1] - begins[cluster]]
        np.testing.assert_array_equal(part, signs[begins[cluster] : begins[cluster + 1]])


def test_concatenated_ranges_equal_a_loop():
    """Ranges are laid one after another, empty ones too, in the order given."""
    begins, lengths = np.array([7, 3, 100, 0]), np.array([2, 0, 3, 1])
    assert kernels.concatenated_ranges(begins, lengths).tolist() == [7, 8, 100, 101, 102, 0]
    none = np.zeros(0, dtype=np.int64)
    assert kernels.concatenated_ranges(none, none).tolist() == []
