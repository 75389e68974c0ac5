"""The row loops of filters agree with their plain twins."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from squash.kernels import masks

SIZES = [0, 1, 7, 8, 9, 31, 32, 33, 63, 64, 65, 255, 256, 1000]


@pytest.mark.parametrize("rows", SIZES)
def test_truth_is_that_of_the_plain_twins(rows):
    """Look-up, AND, OR and NOT, on views that are read-only or strided as well."""
    rng = np.random.default_rng(rows)
    table = rng.integers(0, 3, 256).astype(np.uint8)
    cells = rng.integers(0, 256, 2 * rows).astype(np.uint8)[::2]
    cells.flags.writeable = False
    left = masks.apply_table(cells, table)
    assert_array_equal(left, table[cells])
    right = masks.apply_table(cells[::-1], table)
    pairs = list(zip(left, right, strict=True))
    assert_array_equal(masks.both(left.copy(), right), [min(pair) for pair in pairs])
    assert_array_equal(masks.either(left.copy(), right), [max(pair) for pair in pairs])
    assert_array_equal(masks.negate(left.copy()), [2 - int(x) for x in left])
    sure, possible = masks.sure_and_possible(left)
    assert_array_equal(sure, [x == 2 for x in left])
    assert_array_equal(possible, [x > 0 for x in left])


@pytest.mark.parametrize("rows", SIZES)
def test_bits_and_ids_are_those_of_the_plain_twins(rows):
    """Signatures of all 64 bits, and ids at both ends of uint32."""
    rng = np.random.default_rng(rows)
    signatures = rng.integers(0, 2**64, rows, dtype=np.uint64) & np.uint64(0x8000_0000_0000_0109)
    for sure, possible in ((0, 0), (1, 1), (1 << 63, 1 << 63 | 9), (0, 2**64 - 1)):
        wanted = [2 if int(s) & sure else int(bool(int(s) & possible)) for s in signatures]
        assert_array_equal(masks.bits_truth(signatures, sure=sure, possible=possible), wanted)
    ids = rng.choice(np.array([0, 1, 5, 6, 2**32 - 2, 2**32 - 1], dtype=np.uint32), rows)
    for first, last in ((0, 1), (0, 0), (1, 6), (5, 2**32 - 1), (0, 2**32 - 1)):
        wanted = [first <= int(i) < last for i in ids]
        assert_array_equal(masks.ids_within(ids, first, last), wanted)
