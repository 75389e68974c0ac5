"""What all rooms do with arrays."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from squash.arrays import distinct


@given(
    arrays(st.sampled_from([np.int64, np.uint8]), st.integers(0, 40), elements=st.integers(0, 9))
)
def test_distinct_values_are_those_of_numpy(values):
    """Each once, ascending, of the same type; none of none."""
    found = distinct(values)
    assert found.dtype == values.dtype
    np.testing.assert_array_equal(found, np.unique(values))
