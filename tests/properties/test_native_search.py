"""A search in one call gives what its operations give one after another, to the bit."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scan_scenes import random_query, random_scene
from squash import kernels
from squash.kernels import native
from squash.kernels.masks import MAYBE, NO, YES
from squash.kernels.tables import AND, LEAF, FilterProgram, Leaf

VARIANTS = [name for name in native.variants() if name != native.NUMPY]


COUNTS = ("rows_seen", "admitted", "low_scanned", "ranked", "kept", "read")


def plan_of(*, k, keep, gain, straight, anchor_rows):
    return kernels.SearchPlan(
        k=k, prior_rows=1024.0, thinning=1.0, inverse_need=np.full(513, gain),
        adverse=np.ones(513), need_against=4.0, anchor_rows=anchor_rows, exponent=3,
        keep=max(keep, k), reach=0.8, share_min=0.05,
        straight=kernels.Straight(*straight),
    )  # fmt: skip


def asked(
    scene, query, *, metric, k, keep, gain, straight, anchor_rows=20, possible=None, every=False
):
    """Search a scene; its bitmaps are those of a filter that was evaluated before."""
    table = scene.table
    counts = None
    bits = np.zeros(len(table.alive), dtype=np.uint32) if possible is None else possible
    if possible is not None:
        blocks = -(-table.rows // 32)
        ones = [int(np.bitwise_count(bits[b : b + n]).sum())
                for b, n in zip(table.first_block, blocks, strict=True)]  # fmt: skip
        counts = (np.array(ones, dtype=np.int64), np.array(ones, dtype=np.int64))
    plan = plan_of(k=k, keep=keep, gain=gain, straight=straight, anchor_rows=anchor_rows)
    return kernels.search(
        table, scene.codec.rotation, scene.codec.mean, query=query, metric=metric,
        plan=plan, overall=0.5, sure=bits, possible=bits, counts=counts,
        every=every,
    )  # fmt: skip


@pytest.mark.skipif(not VARIANTS, reason="no native kernels were built")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 1 << 30),
    dimension=st.sampled_from([1, 3, 8, 33, 64, 130]),
    metric=st.sampled_from(["euclidean", "cosine", "dot"]),
    kind=st.sampled_from(["clustered", "duplicate", "far"]),
    k=st.sampled_from([1, 5, 60, 1000]),
    keep=st.sampled_from([1, 20, 200]),
    gain=st.sampled_from([0.01, 0.3, 2.0]),
    straight=st.sampled_from([(-1, 0.0, 0.0), (30, 30.0, 0.0), (1000, 9.0, 7.5)]),
    anchor_rows=st.sampled_from([0, 20, kernels.UNANCHORED]),
    filtered=st.booleans(),
    every=st.booleans(),
)
def test_every_variant_searches_as_the_twins_do(
    seed, dimension, metric, kind, k, keep, gain, straight, anchor_rows, filtered, every
):
    """Rows, distances and counts agree."""
    space = "dot" if metric == "dot" else "l2"
    scene = random_scene(seed, dimension=dimension, space=space, kind=kind, scale=1.0)
    query = random_query(seed + 1, scene, 1.0)
    if metric == "cosine":
        query = query + np.float32(0.5)
    possible = None
    if filtered:
        words = np.random.default_rng(seed).integers(0, 1 << 32, len(scene.table.alive))
        possible = words.astype(np.uint32) & scene.table.alive
    options = {
        "metric": metric, "k": k, "keep": keep, "gain": gain, "straight": straight,
        "anchor_rows": anchor_rows, "every": every,
    }  # fmt: skip
    with native.use(native.NUMPY):
        wanted = asked(scene, query, **options, possible=possible)
    for variant in VARIANTS:
        with native.use(variant):
            got = asked(scene, query, **options, possible=possible)
        assert type(got) is type(wanted)
        if isinstance(got, kernels.StaysOpen):
            assert every  # more rows than are measured at once
            continue
        assert got.distances == wanted.distances
        assert sorted(zip(got.distances, got.partition, got.row, strict=True)) == sorted(
            zip(wanted.distances, wanted.partition, wanted.row, strict=True)
        )
        assert got.taken.tolist() == wanted.taken.tolist()
        for name in COUNTS:
            assert getattr(got, name) == getattr(wanted, name)


@pytest.mark.parametrize("variant", native.variants())
def test_what_is_not_loaded_is_named(variant):
    """A search of clusters whose partition lacks its codes or vectors says which it took."""
    scene = random_scene(3, dimension=8, space="l2", kind="clustered", scale=1.0)
    query = random_query(4, scene, 1.0)
    scene.table.vectors[0] = None
    with native.use(variant):
        got = asked(
            scene, query, metric="euclidean", k=1000, keep=20, gain=0.01, straight=(-1, 0.0, 0.0)
        )
    assert isinstance(got, kernels.Missing)
    assert len(got.taken) > 0


@pytest.mark.parametrize("variant", native.variants())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 1 << 30),
    dimension=st.sampled_from([1, 8, 33, 130]),
    metric=st.sampled_from(["euclidean", "cosine", "dot"]),
    kind=st.sampled_from(["clustered", "duplicate", "far"]),
    count=st.sampled_from([1, 2, 9]),
    k=st.sampled_from([1, 5, 60]),
    gain=st.sampled_from([0.01, 0.3, 2.0]),
    straight=st.sampled_from([(-1, 0.0, 0.0), (1000, 9.0, 7.5)]),
    unloaded=st.booleans(),
)
def test_a_batch_gives_what_single_searches_give(
    variant, seed, dimension, metric, kind, count, k, gain, straight, unloaded
):
    """Every query of a batch has its own answer, to the bit, whatever is beside it."""
    space = "dot" if metric == "dot" else "l2"
    scene = random_scene(seed, dimension=dimension, space=space, kind=kind, scale=1.0)
    queries = np.stack([random_query(seed + i, scene, 1.0) for i in range(count)])
    if metric == "cosine":
        queries = queries + np.float32(0.5)
    if unloaded:
        scene.table.vectors[0] = None
    bits = np.zeros(len(scene.table.alive), dtype=np.uint32)
    options = {"metric": metric, "k": k, "keep": 20, "gain": gain, "straight": straight}
    with native.use(variant):
        singles = [asked(scene, query, **options) for query in queries]
        batch = kernels.search_many(
            scene.table, scene.codec.rotation, scene.codec.mean, queries=queries,
            metric=metric, plan=plan_of(k=k, keep=20, gain=gain, straight=straight, anchor_rows=20),
            overall=np.full(count, 0.5), programs=[None] * count, sure=bits, possible=bits,
        )  # fmt: skip
    for single, got in zip(singles, batch, strict=True):
        assert type(got) is type(single)
        assert got.taken.tolist() == single.taken.tolist()
        if isinstance(single, kernels.Near):
            assert (got.distances, got.partition, got.row) == (
                single.distances, single.partition, single.row,
            )  # fmt: skip
            for name in COUNTS:
                assert getattr(got, name) == getattr(single, name)


@pytest.mark.parametrize("variant", native.variants())
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 1 << 30),
    k=st.sampled_from([1, 5, 60]),
    gain=st.sampled_from([0.01, 0.3]),
    straight=st.sampled_from([(-1, 0.0, 0.0), (1000, 9.0, 7.5)]),
    most=st.lists(st.sampled_from([-1, 0, 40, 1 << 40]), min_size=4, max_size=4),
)
def test_a_batch_by_lists_is_the_batch_without(variant, seed, k, gain, straight, most):
    """Rows, distances, clusters and counts agree, however many rows of lists may be asked."""
    rng = np.random.default_rng(seed)
    scene = random_scene(seed, dimension=8, space="l2", kind="clustered", scale=1.0)
    table = scene.table
    queries = np.stack([random_query(seed + i, scene, 1.0) for i in range(len(most))])
    rows = np.bincount(table.partition, table.rows, len(table.blocks)).astype(int)
    for name in ("a", "b"):
        table.columns[name] = [rng.integers(0, 4, count).astype(np.uint8) for count in rows]
    truths = [rng.choice([0, 2], 256).astype(np.uint8).tobytes() for _ in range(2 * len(most))]
    programs = [
        FilterProgram(
            ((LEAF, 0), (LEAF, 1), (AND, 0)),
            (Leaf("a", truths[2 * i]), Leaf("b", truths[2 * i + 1])),
        )
        for i in range(len(most) - 1)
    ]
    bits = np.zeros((2, len(table.alive)), dtype=np.uint32)

    def batch(listed_most):
        with native.use(variant):
            return kernels.search_many(
                table, scene.codec.rotation, scene.codec.mean, queries=queries,
                metric="euclidean",
                plan=plan_of(k=k, keep=20, gain=gain, straight=straight, anchor_rows=20),
                overall=np.full(len(most), 0.25), programs=[*programs, None],
                sure=bits[0], possible=bits[1], listed_most=listed_most,
            )  # fmt: skip

    wanted = batch(())
    assert any(isinstance(one, kernels.Near) for one in wanted)
    for name in ("a", "b"):
        table.listed[name] = kernels.list_rows(table, name)
    for left, right in zip(batch(most), wanted, strict=True):
        assert (left.distances, left.partition, left.row) == (
            right.distances, right.partition, right.row,
        )  # fmt: skip
        assert left.taken.tolist() == right.taken.tolist()
        for name in COUNTS:
            assert getattr(left, name) == getattr(right, name)


@pytest.mark.parametrize("variant", native.variants())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 1 << 30),
    k=st.sampled_from([1, 5, 60]),
    straight=st.sampled_from([(30, 30.0, 0.0), (1000, 9.0, 7.5)]),
    every=st.booleans(),
    unsure=st.booleans(),
    listed=st.booleans(),
    listed_most=st.sampled_from([-1, 0, 40, 1 << 40]),
    filtered_most=st.sampled_from([0, 25, 1 << 40]),
)
def test_a_program_in_a_search_is_what_it_says_of_all_clusters(
    variant, seed, k, straight, every, unsure, listed, listed_most, filtered_most
):
    """Whether lists serve it or not: by the twins, evaluated before, and in the search itself."""
    rng = np.random.default_rng(seed)
    scene = random_scene(seed, dimension=8, space="l2", kind="clustered", scale=1.0)
    table, query = scene.table, random_query(seed, scene, 1.0)
    rows = np.bincount(table.partition, table.rows, len(table.blocks)).astype(int)
    truths = [NO, YES, MAYBE] if unsure else [NO, YES]
    leaves = []
    for name in ("a", "b"):
        table.columns[name] = [rng.integers(0, 4, count).astype(np.uint8) for count in rows]
        leaves.append(Leaf(name, rng.choice(truths, 256).astype(np.uint8).tobytes()))
        if listed:
            table.listed[name] = kernels.list_rows(table, name)
    program = FilterProgram(((LEAF, 0), (LEAF, 1), (AND, 0)), tuple(leaves))
    plan = plan_of(k=k, keep=20, gain=0.3, straight=straight, anchor_rows=20)

    def found(**given):
        bits = np.zeros((2, len(table.alive)), dtype=np.uint32)
        return kernels.search(
            table, scene.codec.rotation, scene.codec.mean, query=query, metric="euclidean",
            plan=plan, overall=0.25, sure=bits[0], possible=bits[1], program=program, **given,
        )  # fmt: skip

    in_search = {
        "every": every,
        "listed_most": listed_most,
        "filtered_most": filtered_most,
    }
    bits = np.zeros((2, len(table.alive)), dtype=np.uint32)
    with native.use(native.NUMPY):
        counts = kernels.filter_clusters(table, program, np.arange(len(table.rows)), *bits)
        wanted = found(**in_search)
        before = kernels.search(
            table, scene.codec.rotation, scene.codec.mean, query=query, metric="euclidean",
            plan=plan, overall=0.25, sure=bits[0], possible=bits[1], program=program,
            counts=counts, every=every,
        )  # fmt: skip
    with native.use(variant):
        got = found(**in_search)
    assert type(got) is type(wanted)
    passing = int(counts[1].sum())
    if not isinstance(got, kernels.Near):
        assert isinstance(got, kernels.StaysOpen)
        open_ = passing > int(counts[0].sum()) or passing > min(plan.straight.most, filtered_most)
        assert open_ if every else isinstance(before, kernels.StaysOpen)
        for one in (got, wanted):
            assert (one.counts is not None) == every
            for mine, whole in zip(one.counts or (), counts, strict=False):
                assert mine.tolist() == whole.tolist()
        return
    assert (got.distances, got.taken.tolist()) == (before.distances, before.taken.tolist())
    assert (got.filtered, got.listed) == (wanted.filtered, wanted.listed)
    by_lists = got.listed > 0
    assert by_lists == (listed and listed_most == 1 << 40) or listed_most in {0, 40}
    assert by_lists or got.listed == (-1 if listed_most >= 0 else 0)
    assert got.filtered == (passing if every or by_lists else -1)
    for name in COUNTS:
        assert getattr(got, name) == getattr(wanted, name) == getattr(before, name)


@pytest.mark.skipif(not VARIANTS, reason="no native kernels were built")
@pytest.mark.parametrize("every", [False, True])
@pytest.mark.parametrize("key", ["k{}", "k" * 3_000 + "{}", 'with "quotes" {}', "\u00e9 {}"])
def test_a_search_reads_the_keys_of_what_it_found(key, every):
    """They are those that are read of the rows alone; none where one must be read as JSON."""
    scene = random_scene(5, dimension=8, space="l2", kind="clustered", scale=1.0)
    table, query = scene.table, random_query(6, scene, 1.0)
    rows = np.bincount(table.partition, table.rows, len(table.blocks)).astype(int)
    records = kernels.RecordTable(len(rows))
    plan = plan_of(k=7, keep=20, gain=0.3, straight=(100_000, 1e6, 0.0), anchor_rows=20)
    bits = np.zeros(len(table.alive), dtype=np.uint32)

    def found(records):
        return kernels.search(
            table, scene.codec.rotation, scene.codec.mean, query=query, metric="euclidean",
            plan=plan, overall=1.0, sure=bits, possible=bits, records=records, every=every,
        )  # fmt: skip

    assert found(None).keys is None
    assert found(records).keys is None  # They are not there yet.
    for partition, count in enumerate(rows):
        each = [
            json.dumps([key.format(f"{partition}:{row}"), {}], ensure_ascii=False,
                       separators=(",", ":")).encode()
            for row in range(count)
        ]  # fmt: skip
        ends = np.cumsum([0, *map(len, each)])
        records.put(partition, np.frombuffer(b"".join(each), dtype=np.uint8), ends)
    for _ in range(2):
        got = found(records)
        assert got.row
        if '"' in key:
            assert got.keys is None
            continue
        assert got.keys == records.keys(got.partition, got.row)
        assert got.keys == [
            key.format(f"{partition}:{row}")
            for partition, row in zip(got.partition, got.row, strict=True)
        ]
    assert found(None).keys is None
