"""Every native variant of scan, distances, refine and gathering gives its twin's bits."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amounts import examples
from scan_scenes import make_scene, moved, prepared_query, random_query, random_scene
from squash import kernels
from squash.errors import InternalError
from squash.kernels import native

VARIANTS = native.variants()[1:]
DIMENSIONS = [*range(1, 18), 31, 32, 33, 63, 64, 65, 100, 127, 128, 129, 130, 255, 256, 257, 384]
METRICS = ["cosine", "euclidean", "dot"]

pytestmark = pytest.mark.skipif(not VARIANTS, reason="no native kernels on this machine")


def same_bits(one, other):
    """Hold two arrays, or records of arrays, to the same bits."""
    if dataclasses.is_dataclass(one):
        for field in dataclasses.fields(one):
            same_bits(getattr(one, field.name), getattr(other, field.name))
        return
    a, b = np.asarray(one), np.asarray(other)
    assert a.dtype == b.dtype
    assert a.shape == b.shape
    assert a.tobytes() == b.tobytes()


def each_agrees(call):
    """Compare a call under every variant with the twins."""
    with native.use(native.NUMPY):
        truth = call()
    for name in VARIANTS:
        with native.use(name):
            same_bits(call(), truth) if dataclasses.is_dataclass(truth) else [
                same_bits(one, other) for one, other in zip(call(), truth, strict=True)
            ]
    return truth


def agree_on_scene(seed, *, dimension, space, kind, scale):
    """Scan, gather and refine one scene in all ways."""
    scene = random_scene(seed, dimension=dimension, space=space, kind=kind, scale=scale)
    rng = np.random.default_rng(seed)
    table = scene.table
    query = random_query(seed, scene, scale)
    prepared = prepared_query(scene, query)
    masked = table.alive & rng.integers(0, 2**32, len(table.alive)).astype(np.uint32)
    sparse = masked & rng.integers(0, 2**32, len(table.alive)).astype(np.uint32) & np.uint32(0x88)
    clusters = np.argsort(prepared.distances, kind="stable")
    if rng.random() < 0.3:
        clusters = clusters[: rng.integers(0, len(clusters) + 1)]
    possible = [None, masked, sparse][rng.integers(3)]
    ranked = each_agrees(
        lambda: kernels.scan(
            table,
            clusters,
            possible,
            prepared,
            keep=int(np.random.default_rng(seed).choice([0, 1, 2, 8, 31, 100, 5000])),
            reach=0.7,
            share_min=[0.0, 0.05, 0.5, 2.0][seed % 4],
            bounds=seed % 3 == 0,
        )
    )
    each_agrees(lambda: kernels.gather_rows(table, clusters, possible))
    metric, k = METRICS[seed % 3], [1, 2, 10, 100][seed % 4]
    each_agrees(
        lambda: kernels.refine(
            metric,
            query,
            table,
            ranked.partition,
            ranked.row,
            lower_bounds=ranked.lower_bounds,
            k=k,
        )
    )


@settings(max_examples=examples(150, least=25), deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    dimension=st.sampled_from(DIMENSIONS),
    space=st.sampled_from(["l2", "dot"]),
    kind=st.sampled_from(["clustered", "duplicate", "zero", "far"]),
    scale=st.sampled_from([1e-20, 1e-3, 1.0, 1e12]),
)
def test_variants_scan_as_the_twins_do(seed, dimension, space, kind, scale):
    """Rows, estimates, bounds and counts agree, whatever is masked, kept and pruned."""
    agree_on_scene(seed, dimension=dimension, space=space, kind=kind, scale=scale)


@pytest.mark.parametrize("dimension", [513, 1027, 1030])
def test_variants_scan_where_sums_outgrow_sixteen_bits(dimension):
    """So do rows of very many dimensions."""
    for seed in range(1):
        agree_on_scene(seed, dimension=dimension, space="l2", kind="clustered", scale=1.0)


@pytest.mark.slow
@settings(max_examples=1000, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    dimension=st.integers(1, 300),
    space=st.sampled_from(["l2", "dot"]),
    kind=st.sampled_from(["clustered", "duplicate", "zero", "far"]),
    scale=st.sampled_from([1e-20, 1e-12, 1e-3, 1.0, 1e6, 1e12]),
)
def test_variants_scan_as_the_twins_do_at_length(seed, dimension, space, kind, scale):
    """The same, on many more scenes."""
    agree_on_scene(seed, dimension=dimension, space=space, kind=kind, scale=scale)


@pytest.mark.parametrize("keep", [100, 4096, 4097, 30_000, 100_000])
def test_variants_keep_many(keep):
    """Room for many rows is made, and ties at the last place go to the first row."""
    rng = np.random.default_rng(keep)
    vectors = rng.integers(0, 2, (20_000, 12)).astype(np.float32)
    scene = make_scene(rng, [vectors], [[500] * 40], space="l2")
    prepared = prepared_query(scene, vectors[7])
    ranked = each_agrees(
        lambda: kernels.scan(
            scene.table,
            np.arange(40),
            None,
            prepared,
            keep=keep,
            reach=1.0,
            share_min=0.0,
            bounds=True,
        )
    )
    assert len(ranked.row) == min(keep, 20_000)


@settings(max_examples=examples(100, least=25), deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    metric=st.sampled_from(METRICS),
    dtype=st.sampled_from([np.float32, np.float16]),
    dimension=st.sampled_from(DIMENSIONS),
    count=st.sampled_from([0, 1, 2, 6, 7, 33]),
    scale=st.sampled_from([1e-20, 1.0, 1e12]),
    shift=st.sampled_from([0, 2, 1]),
)
def test_variants_measure_as_the_twins_do(seed, metric, dtype, dimension, count, scale, shift):
    """Distances have the same bits, for both widths of floats, at any address."""
    rng = np.random.default_rng(seed)
    if dtype == np.float16:
        scale = {1e-20: 1e-6}.get(scale, 1.0)
    vectors = moved((rng.standard_normal((count, dimension)) * scale).astype(dtype), shift)
    query = (rng.standard_normal(dimension) * scale).astype(np.float32)
    if count:
        vectors[0] = query.astype(dtype)
    if count > 1:
        vectors[1] = 0
    rows = rng.integers(0, count, 20) if count else np.empty(0, dtype=np.int64)
    each_agrees(
        lambda: (
            kernels.exact_distances(metric, query, vectors),
            kernels.exact_distances(metric, query, vectors, rows),
        )
    )


@pytest.mark.parametrize("name", native.variants())
def test_what_is_not_loaded_or_does_not_fit_is_refused_by_all(name):
    """Missing partitions, and queries of another table, raise before anything is read."""
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((40, 8)).astype(np.float32)
    scene = make_scene(rng, [vectors, vectors], [[40], [40]], space="l2")
    query = prepared_query(scene, vectors[0])
    scene.table.full[1] = None
    scene.table.vectors[1] = None
    options = {"keep": 5, "reach": 1.0, "share_min": 0.0, "bounds": False}
    zeros = np.zeros(2, dtype=np.int64)
    with native.use(name):
        kernels.scan(scene.table, np.array([0]), None, query, **options)
        with pytest.raises(InternalError, match="partition 1"):
            kernels.scan(scene.table, np.array([0, 1]), None, query, **options)
        with pytest.raises(InternalError, match="partition 1"):
            kernels.row_distances("dot", vectors[0], scene.table, np.array([0, 1]), zeros)
        for k in (1, 10):
            with pytest.raises(InternalError, match="partition 1"):
                kernels.refine(
                    "dot",
                    vectors[0],
                    scene.table,
                    np.array([0, 1]),
                    zeros,
                    lower_bounds=np.full(2, -np.inf, dtype=np.float32),
                    k=k,
                )
        with pytest.raises(IndexError):
            kernels.exact_distances("dot", vectors[0], vectors, np.array([40]))
