"""How far rows of length one lie from the centers of their clusters."""

import numpy as np
import pytest

from squash.quantize import train_codec, unit_spreads


@pytest.mark.parametrize("dimension", [3, 48, 64, 70, 200])
def test_spreads_are_the_mean_squared_distances(dimension: int) -> None:
    """Of rows of length one around their mean, whatever the codec turns and moves them by."""
    rng = np.random.default_rng(dimension)
    rows = rng.normal(size=(900, dimension)) + rng.normal(size=dimension)
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    codec = train_codec("residual", sample=rows, space="l2", seed=1)
    projected = codec.project(rows)
    member = rng.integers(0, 12, 900)
    centers = np.stack([projected[member == one].mean(axis=0) for one in range(12)])
    wanted = [
        ((projected[member == one] - centers[one]) ** 2).sum(axis=1).mean() for one in range(12)
    ]
    spreads = unit_spreads(codec, centers)
    assert spreads is not None
    assert spreads.dtype == np.float32
    np.testing.assert_allclose(spreads, wanted, atol=1e-5)


def test_a_center_farther_than_its_rows_can_be_has_no_spread() -> None:
    """A center need not be the mean of what lies around it now."""
    rows = np.eye(4, dtype=np.float32)
    codec = train_codec("residual", sample=rows, space="l2", seed=1)
    spreads = unit_spreads(codec, codec.project(2 * rows))
    assert spreads is not None
    assert spreads.tolist() == [0.0] * 4
