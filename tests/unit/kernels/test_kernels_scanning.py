"""The scan of clusters equals a loop over rows; its bounds hold; what it prunes is far."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amounts import examples
from scan_scenes import make_scene, moved, prepared_query, random_query, random_scene
from squash import kernels
from squash.errors import InternalError

KINDS = ["clustered", "duplicate", "zero", "far"]
SCALES = [1e-20, 1e-3, 1.0, 1e12]


def all_rows(table, words):
    """Return (cluster, partition, row, block, place) of each admitted row."""
    out = []
    for c in range(len(table.rows)):
        for r in range(int(table.rows[c])):
            word = int(words[table.first_block[c] + r // 32])
            if (word >> (r % 32)) & 1:
                out.append((c, int(table.partition[c]), int(table.first_row[c]) + r))
    return out


@settings(max_examples=examples(60, least=25), deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    dimension=st.sampled_from([1, 2, 3, 4, 5, 8, 9, 31, 33, 64, 65]),
    space=st.sampled_from(["l2", "dot"]),
    kind=st.sampled_from(KINDS),
    scale=st.sampled_from(SCALES),
    keep=st.sampled_from([1, 5, 40, 100_000]),
)
def test_a_scan_without_pruning_is_the_codecs_full_scan(seed, dimension, space, kind, scale, keep):
    """Estimates are the codec's, to the rounding of the query; bounds lie below the distances."""
    scene = random_scene(seed, dimension=dimension, space=space, kind=kind, scale=scale)
    table = scene.table
    query = random_query(seed, scene, scale)
    got = kernels.scan(
        table,
        np.arange(len(table.rows)),
        None,
        prepared_query(scene, query),
        keep=keep,
        reach=0.0,
        share_min=2.0,
        bounds=True,
    )
    rows = all_rows(table, table.alive)
    assert got.admitted == got.ranked == len(rows)
    assert got.low_scanned == got.pruned == 0
    assert len(got.row) == min(keep, len(rows))
    places = table.row_base[got.partition] + got.row
    order = np.lexsort((places, got.estimates))
    assert order.tolist() == list(range(len(order)))
    assert len(set(places.tolist())) == len(places)
    assert set(zip(got.partition.tolist(), got.row.tolist(), strict=True)) <= {
        (p, r) for _, p, r in rows
    }
    wide = query.astype(np.float64)
    for p, r, bound in zip(got.partition, got.row, got.lower_bounds, strict=True):
        row = table.vectors[p][r].astype(np.float64)
        true = ((row - wide) ** 2).sum() if space == "l2" else -(row @ wide)
        magnitude = np.abs(row) @ np.abs(wide)
        assert bound <= true + 1e-12 * (abs(true) + magnitude)
    if len(rows) <= keep:
        assert got.least_left == math.inf


@settings(max_examples=examples(60, least=25), deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    dimension=st.sampled_from([1, 4, 9, 33, 65]),
    space=st.sampled_from(["l2", "dot"]),
    kind=st.sampled_from(KINDS),
)
def test_pruning_drops_only_rows_and_counts_them(seed, dimension, space, kind):
    """Signs never make a row better than its full code does, and counts add up."""
    scene = random_scene(seed, dimension=dimension, space=space, kind=kind, scale=1.0)
    table = scene.table
    query = prepared_query(scene, random_query(seed, scene, 1.0))
    clusters = np.argsort(query.distances, kind="stable")
    every = kernels.scan(
        table, clusters, None, query, keep=10, reach=0.0, share_min=2.0, bounds=True
    )
    # A reach beyond any error prunes nothing that could be kept.
    safe = kernels.scan(
        table, clusters, None, query, keep=10, reach=1e6, share_min=0.0, bounds=True
    )
    quick = kernels.scan(
        table, clusters, None, query, keep=10, reach=1.0, share_min=0.0, bounds=True
    )
    for one in (safe, quick):
        assert one.admitted == every.admitted
        assert one.ranked + one.pruned == one.admitted
        assert one.low_scanned >= one.pruned
        assert len(one.row) == len(every.row)
        assert (one.estimates >= every.estimates).all()
    if space == "l2" and kind == "clustered":
        np.testing.assert_array_equal(safe.row, every.row)
        np.testing.assert_array_equal(safe.estimates, every.estimates)


def test_rank_values_are_the_farther_of_the_codecs_estimates():
    """Without reach a row of a scanned cluster is ranked by its low-bit or its full estimate."""
    rng = np.random.default_rng(3)
    vectors = rng.standard_normal((600, 48)).astype(np.float32)
    for space in ("l2", "dot"):
        scene = make_scene(rng, [vectors], [[200, 400]], space=space)
        query = rng.standard_normal(48).astype(np.float32)
        codes = scene.codec.encode(
            scene.codec.project(vectors),
            centers=scene.table.centers,
            cluster_begins=scene.begins[0],
        )
        seen = {
            "cluster_begins": scene.begins[0],
            "centers": scene.table.centers,
            "prepared": scene.codec.prepare(query),
        }
        _, low = scene.codec.low_scan(codes, clusters=np.array([0, 1]), **seen)
        full, _ = scene.codec.full_scan(
            codes, rows=np.arange(600), row_clusters=np.repeat([0, 1], [200, 400]), **seen
        )
        got = kernels.scan(
            scene.table,
            np.array([0, 1]),
            None,
            prepared_query(scene, query),
            keep=600,
            reach=0.0,
            share_min=0.0,
            bounds=False,
        )
        assert got.low_scanned == got.ranked == 600
        assert 100 < (low > full).sum() < 500
        wanted = np.maximum(low, full)[got.row]
        np.testing.assert_allclose(got.estimates, wanted, rtol=0.02, atol=0.3)


def test_only_admitted_rows_are_kept_and_few_are_gathered():
    """A bitmap admits rows; a cluster of which little is admitted is not scanned on signs."""
    rng = np.random.default_rng(8)
    vectors = rng.standard_normal((640, 16)).astype(np.float32)
    scene = make_scene(rng, [vectors], [[320, 320]], space="l2")
    possible = np.zeros_like(scene.table.alive)
    possible[:10] = 0xFFFFFFFF
    possible[12] = 0b1001
    got = kernels.scan(
        scene.table,
        np.array([0, 1]),
        possible,
        prepared_query(scene, vectors[0]),
        keep=20,
        reach=1.0,
        share_min=0.05,
        bounds=False,
    )
    assert got.admitted == 322
    assert got.low_scanned == 320
    assert 0 < got.pruned <= 300
    assert got.ranked == 322 - got.pruned
    assert (got.row < 320).sum() + np.isin(got.row, [384, 387]).sum() == len(got.row)


def test_a_partition_that_is_not_loaded_is_named():
    """Scanning, or reading vectors, before loading raises a typed error."""
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((40, 8)).astype(np.float32)
    scene = make_scene(rng, [vectors, vectors], [[40], [40]], space="l2")
    query = prepared_query(scene, vectors[0])
    scene.table.full[1] = None
    scene.table.vectors[1] = None
    options = {"keep": 5, "reach": 1.0, "share_min": 0.0, "bounds": False}
    kernels.scan(scene.table, np.array([0]), None, query, **options)
    with pytest.raises(InternalError, match="partition 1"):
        kernels.scan(scene.table, np.array([0, 1]), None, query, **options)
    with pytest.raises(InternalError, match="partition 1"):
        kernels.row_distances("dot", vectors[0], scene.table, np.array([0, 1]), np.array([0, 0]))


@pytest.mark.parametrize("dimension", [1, 3, 4, 5, 65])
@pytest.mark.parametrize("shift", [0, 1])
def test_blocks_come_back(dimension, shift):
    """Packing and splitting are inverse, with padding of zeros, at any address."""
    rng = np.random.default_rng(dimension)
    begins = np.array([0, 0, 1, 33, 70])
    signs = rng.random((70, dimension)) < 0.5
    norm = rng.standard_normal(70).astype(np.float32)
    secant, shifts, sine = (rng.standard_normal(70).astype(np.float16) for _ in range(3))
    packed = kernels.pack_blocks(
        signs, norm=norm, secant=secant, shift=shifts, sine=sine, cluster_begins=begins
    )
    assert packed.shape == (4, 16 * kernels.low_groups(dimension) + 320)
    low, *factors = kernels.split_blocks(moved(packed, shift), dimension)
    np.testing.assert_array_equal(low, kernels.pack_low(signs, begins))
    places = kernels.concatenated_ranges(kernels.block_begins(begins)[:-1] * 32, np.diff(begins))
    for got, given_ in zip(factors, (norm, secant, shifts, sine), strict=True):
        assert got.dtype == given_.dtype
        np.testing.assert_array_equal(got.reshape(-1)[places], given_)
        assert np.delete(got.reshape(-1), places).sum() == 0
