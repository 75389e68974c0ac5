"""A path through points: each once, the same for the same, never longer than their own order."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from squash.training import ordering, short_path

SIZES = [0, 1, 2, 3, 4, 7, 8, 31, 64, 129]


def length(points: np.ndarray, order: np.ndarray) -> float:
    steps = np.diff(points[order].astype(np.float64), axis=0)
    return float(np.sqrt((steps**2).sum(axis=1)).sum())


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1000),
    count=st.sampled_from(SIZES),
    dimension=st.sampled_from([1, 2, 5]),
    scale=st.sampled_from([0.0, 1e-18, 1.0, 1e18]),
    lattice=st.booleans(),
)
def test_a_path(seed: int, count: int, dimension: int, scale: float, *, lattice: bool) -> None:
    """Each point once, a second call the same, no longer than as given; ties and all alike too."""
    points = np.random.default_rng(seed).normal(size=(count, dimension))
    points = ((np.round(points) if lattice else points) * scale).astype(np.float32)
    path = short_path(points)
    assert path.dtype == np.int64
    assert sorted(path.tolist()) == list(range(count))
    np.testing.assert_array_equal(short_path(points.copy()), path)
    before = length(points, np.arange(count))
    assert length(points, path) <= before * (1 + 1e-12)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1000), count=st.integers(2, 40))
def test_points_of_a_line_come_as_they_lie(seed: int, count: int) -> None:
    """On a line no path is shorter than from one end to the other."""
    along = np.random.default_rng(seed).permutation(count).astype(np.float32)
    found = along[short_path(np.outer(along, [3.0, 4.0]).astype(np.float32))]
    assert found.tolist() in ([*range(count)], [*range(count)][::-1])


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), count=st.integers(3, 30))
def test_no_part_is_better_turned(seed: int, count: int) -> None:
    """With passes enough, turning any part round, ends included, makes the path no shorter."""
    points = np.random.default_rng(seed).normal(size=(count, 3)).astype(np.float32)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ordering, "_PASSES_MAX", 1_000)
        path = short_path(points)
    least = length(points, path)
    for first in range(count):
        for last in range(first + 2, count + 1):
            turned = np.concatenate((path[:first], path[first:last][::-1], path[last:]))
            assert length(points, turned) >= least * (1 - 1e-7)


def test_too_many_points_keep_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """What would take the square of much is left as it is; one fewer is not."""
    monkeypatch.setattr(ordering, "POINTS_MAX", 40)
    points = np.random.default_rng(5).normal(size=(41, 2)).astype(np.float32)
    assert short_path(points).tolist() == list(range(41))
    assert short_path(points[:-1]).tolist() != list(range(40))
