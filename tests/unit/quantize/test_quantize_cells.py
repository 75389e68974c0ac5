"""Bits follow variance, and cells follow Lloyd and Max."""

import numpy as np
import pytest

from squash.quantize.cells import bits_by_variance, lloyd_max, train_cells


def test_bits_go_to_the_largest_variance_first():
    """Each bit quarters what is left of a dimension's variance; none gets more than 8."""
    assert bits_by_variance(np.array([64.0, 4.0, 1.0]), 4).tolist() == [3, 1, 0]
    assert bits_by_variance(np.array([1e30, 1.0]), 12).tolist() == [8, 4]
    assert bits_by_variance(np.zeros(3), 24).tolist() == [8, 8, 8]
    assert bits_by_variance(np.zeros(3), 99).tolist() == [8, 8, 8]


def test_lloyd_max_finds_the_known_levels_of_a_normal():
    """Two bits of a normal distribution: edges 0 and 0.98, levels 0.45 and 1.51."""
    values = np.random.default_rng(0).standard_normal(200_000)
    edges, centroids = lloyd_max(values, 4)
    np.testing.assert_allclose(edges, [-0.98, 0, 0.98], atol=0.08)
    np.testing.assert_allclose(centroids, [-1.51, -0.45, 0.45, 1.51], atol=0.08)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 255, 256, 257])
@pytest.mark.parametrize("cells", [1, 2, 256])
def test_lloyd_max_takes_any_sample(count, cells):
    """With few or equal values, edges and centroids still ascend and are finite."""
    values = np.random.default_rng(count).integers(0, 3, count).astype(float)
    edges, centroids = lloyd_max(values, cells)
    assert len(edges) == cells - 1
    assert len(centroids) == cells
    assert np.isfinite(centroids).all()
    assert (np.diff(edges) >= 0).all()
    assert (np.diff(centroids) >= 0).all()


def test_every_value_lies_in_its_cell():
    """lower <= value < upper, for values beyond the sample too."""
    rng = np.random.default_rng(1)
    sample = rng.standard_normal((500, 9)).astype(np.float32) * np.arange(9, dtype=np.float32)
    cells = train_cells(sample, bits_total=27)
    assert cells.widths.sum() == 27
    rows = np.concatenate([sample, rng.standard_normal((50, 9)).astype(np.float32) * 100])
    at = cells.begins[:-1] + cells.codes(rows)
    assert (cells.lower[at] <= rows).all()
    assert (rows < cells.upper[at]).all()
    assert np.isneginf(cells.lower[cells.begins[:-1]]).all()
    assert np.isposinf(cells.upper[cells.begins[1:] - 1]).all()
