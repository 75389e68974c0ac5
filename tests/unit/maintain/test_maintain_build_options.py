"""The sizes of partitions, where vectors have many dimensions."""

import pytest

from squash.limits import (
    DIMENSION_MAX,
    PARTITION_BYTES_MAX,
    PARTITION_ROWS_MAX,
    PARTITION_ROWS_TARGET,
)
from squash.maintain import BuildOptions


@pytest.mark.parametrize("dimension", [1, 96, 1_024])
def test_up_to_1024_dimensions_it_is_rows_that_count(dimension):
    fitted = BuildOptions().fitted(dimension)
    assert fitted.partition_rows_target == PARTITION_ROWS_TARGET
    assert fitted.partition_rows_max == PARTITION_ROWS_MAX


@pytest.mark.parametrize("dimension", [1_025, 2_000, DIMENSION_MAX])
def test_beyond_it_is_bytes(dimension):
    fitted = BuildOptions().fitted(dimension)
    assert 4 * dimension * fitted.partition_rows_max <= PARTITION_BYTES_MAX
    assert fitted.partition_rows_target == fitted.partition_rows_max // 2


def test_what_was_asked_for_is_never_made_larger():
    small = BuildOptions(partition_rows_target=8, partition_rows_max=16)
    assert small.fitted(DIMENSION_MAX) == small
