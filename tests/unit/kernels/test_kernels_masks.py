"""The row loops of filters agree with their plain twins."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from squash.kernels import masks

SIZES = [0, 1, 7, 8, 9, 31, 32, 33, 63, 64, 65, 255, 256, 1000]


@pytest.mark.parametrize("rows", SIZES)
def test_ids_are_those_of_the_plain_twin(rows):
    """Ids at both ends of uint32."""
    rng = np.random.default_rng(rows)
    ids = rng.choice(np.array([0, 1, 5, 6, 2**32 - 2, 2**32 - 1], dtype=np.uint32), rows)
    for first, last in ((0, 1), (0, 0), (1, 6), (5, 2**32 - 1), (0, 2**32 - 1)):
        wanted = [first <= int(i) < last for i in ids]
        assert_array_equal(masks.ids_within(ids, first, last), wanted)


@pytest.mark.parametrize("words", SIZES)
def test_bits_have_their_places(words):
    """Bit j of word i is place 32 i + j."""
    bitmap = np.random.default_rng(words).integers(0, 1 << 32, words).astype(np.uint32)
    wanted = [
        32 * i + j for i, word in enumerate(bitmap.tolist()) for j in range(32) if word >> j & 1
    ]
    assert masks.bit_places(bitmap).tolist() == wanted
