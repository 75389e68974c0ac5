"""Rotations without a matrix are rotations, as good as random ones, and the same everywhere."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amounts import examples
from cluster_tables import random_table, shifted
from squash.errors import InternalError
from squash.kernels import FLIPS, HadamardRotation, native, prepare, rotate_rows, rotated

# Powers of two, and what lies beside them: there the two windows overlap least, or wholly.
DIMENSIONS = [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 96, 100, 127, 128, 129]
MORE = [200, 255, 256, 257, 300, 384, 511, 513, 768]


def matrix_of(rotation):
    """Return the matrix that a rotation amounts to, float64 [d, d]."""
    return rotated(rotation, np.eye(rotation.dimension)).T


@pytest.mark.parametrize("dimension", [*DIMENSIONS, *MORE])
def test_it_is_a_rotation(dimension):
    """Lengths and angles stay as they are, to what float64 rounds."""
    matrix = matrix_of(HadamardRotation.random(dimension, 3))
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(dimension), atol=1e-14)


def naive(rotation, row):
    """Rotate one row as the class says it, with the transforms as matrices."""
    dimension = rotation.dimension
    window = max(2**i for i in range(13) if 2**i <= dimension)
    transform = np.ones((1, 1))
    while len(transform) < window:
        transform = np.kron([[1, 1], [1, -1]], transform) / np.sqrt(2)
    row = row.copy()
    for step in range(FLIPS):
        for i in range(dimension):
            if rotation.flips[step, i // 8] >> (i % 8) & 1:
                row[i] = -row[i]
        if step % 2 == 0:
            row[:window] = transform @ row[:window]
        else:
            row[dimension - window :] = transform @ row[dimension - window :]
            row = np.concatenate([row[dimension - dimension // 4 :], row])[:dimension]
    return row


@pytest.mark.parametrize("dimension", [1, 2, 3, 6, 8, 13, 64, 100, 127])
def test_it_is_what_is_written(dimension):
    """Flips, transforms and moves are those of the class's page, and of docs/format.md."""
    rng = np.random.default_rng(dimension)
    rotation = HadamardRotation.random(dimension, 5)
    for row in (rng.standard_normal(dimension), np.ones(dimension)):
        np.testing.assert_allclose(rotated(rotation, row), naive(rotation, row), atol=1e-13)


@pytest.mark.parametrize("dimension", [64, 65, 96, 100, 127, 128, 129, 200, 255, 384, 500, 768])
def test_its_entries_are_as_those_of_a_random_rotation(dimension):
    """Their fourth moment is a normal number's, of every input and output, and none stands out.

    A vector along an axis, or one of few, then has its length spread as any other's. The mean of d
    fourth powers of normal numbers has a standard error of sqrt(96 / d); five are allowed.
    """
    matrix = matrix_of(HadamardRotation.random(dimension, 11)) * np.sqrt(dimension)
    assert np.mean(matrix**4) == pytest.approx(3, rel=0.1)
    for axis in (0, 1):
        assert np.max(np.mean(matrix**4, axis=axis)) < 3 + 5 * np.sqrt(96 / dimension)
    assert np.max(np.abs(matrix)) < 6


def test_the_seed_says_which():
    """The same seed gives the same rotation, and another one another."""
    one, again, other = (HadamardRotation.random(100, seed) for seed in (1, 1, 2))
    assert one.flips.tobytes() == again.flips.tobytes() != other.flips.tobytes()


def everywhere(rotation, mean, rows):
    """Return what each variant makes of rows, as bytes."""
    found = []
    for variant in native.variants():
        with native.use(variant):
            found.append(rotate_rows(rotation, mean, rows))
    assert all(one.dtype == np.float32 and one.shape == rows.shape for one in found)
    return {one.tobytes() for one in found}


@pytest.mark.parametrize("dimension", [*DIMENSIONS, *MORE])
def test_every_variant_has_the_same_bits(dimension):
    """Dimensions around every register's width, and around powers of two."""
    rng = np.random.default_rng(dimension)
    rows = shifted(rng.standard_normal((3, dimension)).astype(np.float32), 4)
    mean = shifted(rng.standard_normal(dimension).astype(np.float32), 12)
    rotation = HadamardRotation.random(dimension, 2)
    assert len(everywhere(rotation, mean, rows)) == 1


@given(
    seed=st.integers(0, 1 << 32),
    dimension=st.integers(1, 2100),
    count=st.integers(0, 9),
    scale=st.sampled_from([0.0, 1e-38, 1e-20, 1.0, 1e15, 1e36]),
)
@settings(max_examples=examples(40, least=25), deadline=None)
def test_variants_agree_on_any_rows(seed, dimension, count, scale):
    """Of any size, tiny and huge ones, signed zeros too."""
    rng = np.random.default_rng(seed)
    rows = (rng.standard_normal((count, dimension)) * scale).astype(np.float32)
    rows *= rng.integers(0, 2, rows.shape) * 2 - 1
    rows[rng.random(rows.shape) < 0.2] = 0
    mean = (rng.standard_normal(dimension) * scale).astype(np.float32)
    rotation = HadamardRotation.random(dimension, seed)
    assert len(everywhere(rotation, mean, rows)) == 1


@pytest.mark.skipif(len(native.variants()) == 1, reason="no native kernels were built here")
def test_what_the_kernels_cannot_read_is_refused():
    """Flips of another type, or apart in memory, never reach native code."""
    rotation = HadamardRotation.random(16, 0)
    mean, rows = np.zeros(16, np.float32), np.ones((2, 16), np.float32)
    for wrong in (rotation.flips.astype(np.int8), np.asfortranarray(rotation.flips)):
        with pytest.raises(InternalError, match="flips"):
            rotate_rows(HadamardRotation(wrong, 16), mean, rows)
    for wrong in (rotation.flips[:5], rotation.flips[:, :1]):
        with pytest.raises(InternalError, match="flips"):
            rotate_rows(HadamardRotation(np.ascontiguousarray(wrong), 16), mean, rows)


@pytest.mark.skipif(len(native.variants()) == 1, reason="no native kernels were built here")
@pytest.mark.parametrize(
    ("dimension", "means", "columns"), [(16, 16, 15), (16, 15, 16), (15, 16, 16)]
)
def test_other_dimensions_are_refused(dimension, means, columns):
    """Native code would read, or write, beyond an array's end."""
    rotation = HadamardRotation.random(dimension, 0)
    with pytest.raises(InternalError, match="another dimension"):
        rotate_rows(rotation, np.zeros(means, np.float32), np.ones((2, columns), np.float32))


@pytest.mark.skipif(len(native.variants()) == 1, reason="no native kernels were built here")
@pytest.mark.parametrize("rotation", [HadamardRotation.random(9, 0), np.eye(9, dtype=np.float32)])
def test_a_table_of_another_dimension_is_refused(rotation):
    """A query is not rotated into a place that is too small for it."""
    table = random_table(np.random.default_rng(0), np.zeros(3), dimension=8)
    with pytest.raises(InternalError, match="another dimension"):
        prepare(table, rotation, np.zeros(9, np.float32), np.ones(9, np.float32))
