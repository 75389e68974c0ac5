"""What all rooms do with arrays."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from squash.arrays import by_lines, distinct


@given(
    arrays(st.sampled_from([np.int64, np.uint8]), st.integers(0, 40), elements=st.integers(0, 9))
)
def test_distinct_values_are_those_of_numpy(values):
    """Each once, ascending, of the same type; none of none."""
    found = distinct(values)
    assert found.dtype == values.dtype
    np.testing.assert_array_equal(found, np.unique(values))


@pytest.mark.parametrize("shape", [0, 1, 7, 384, (0, 3), (3, 0), (5, 13), (2, 3, 4)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.int64])
def test_what_begins_with_a_line(shape, dtype):
    """Wherever memory comes from, an array begins with a line, is whole, and is its own."""
    made = [by_lines(shape, dtype) for _ in range(20)]
    for number, array in enumerate(made):
        assert array.shape == np.empty(shape).shape
        assert array.dtype == dtype
        assert array.flags.c_contiguous
        assert array.flags.writeable
        assert not array.size or array.ctypes.data % 64 == 0
        array[...] = number
    for number, array in enumerate(made):
        assert (array == number).all()
