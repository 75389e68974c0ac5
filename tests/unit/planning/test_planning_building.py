"""How a build's rows are dealt out, and what it is thought to take."""

import inspect
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amounts import examples
from squash.limits import BUILD_KEY_RANGE_ROWS
from squash.planning import build_costs, choose_rows
from squash.planning.build_costs import (
    BuildFacts,
    Workers,
    estimate_build,
    estimate_stages,
    spent_usd,
)
from squash.planning.building import (
    cut_pieces,
    deal,
    key_range_begins,
    key_range_count,
    piece_rows_max,
    places_in_pieces,
    sample_pieces,
)
from squash.training import clustering


@given(st.lists(st.integers(0, 50), max_size=8), st.integers(0, 1000), st.integers(1, 20))
def test_every_row_lies_in_one_piece(blocks, first, rows_max):
    """Pieces tile a file's rows, are within the limit and span no two blocks."""
    pieces = list(cut_pieces(blocks, first=first, rows_max=rows_max))
    rows = [row for start, count in pieces for row in range(start, start + count)]
    assert rows == list(range(first, first + sum(blocks)))
    assert all(0 < count <= rows_max for _, count in pieces)
    starts = {start for start, _ in pieces}
    ends = first + np.cumsum([0, *blocks])
    assert starts >= {int(end) for end, count in zip(ends, blocks, strict=False) if count}
    sizes = [-(-block // rows_max) for block in blocks]
    assert len(pieces) == sum(sizes)


@given(st.lists(st.integers(0, 100), max_size=60), st.integers(1, 300), st.integers(1, 20))
def test_every_piece_lies_in_one_batch(weights, target, batches_max):
    """Batches tile the pieces, none is empty, and there are not more than may be."""
    begins = deal(weights, target=target, batches_max=batches_max)
    assert begins[0] == 0
    assert begins[-1] == len(weights)
    assert all(a < b for a, b in itertools.pairwise(begins))
    assert len(begins) - 1 <= batches_max
    wanted = max(1, min(math.ceil(sum(weights) / target), batches_max))
    for a, b in itertools.pairwise(begins):
        # What is beyond an equal share is less than the two things at its edges.
        assert sum(weights[a:b]) <= sum(weights) / wanted + max(weights)


def test_pieces_are_smaller_where_rows_are_long():
    """Either limit holds, and rows whose file has much of them count as long ones."""
    limits = {"rows_max": 1000, "bytes_max": 1 << 20}
    assert piece_rows_max(2, **limits) == 1000
    assert piece_rows_max(1024, **limits) == 256
    assert piece_rows_max(2, **limits, file_row_bytes=1 << 16) == 16
    assert piece_rows_max(2, **limits, file_row_bytes=1 << 30) == 1


@given(st.lists(st.integers(0, 40), min_size=1, max_size=10), st.data())
def test_each_drawn_row_is_found_in_its_piece(piece_rows, data):
    """The places in all pieces are the rows that were drawn, no more and no fewer."""
    total = sum(piece_rows)
    wanted = data.draw(st.integers(0, total))
    chosen = choose_rows(total, wanted, seed=7) if total else np.empty(0, np.int64)
    places = places_in_pieces(chosen, piece_rows)
    firsts = np.cumsum([0, *piece_rows])
    found = [row + first for some, first in zip(places, firsts, strict=False) for row in some]
    assert found == chosen.tolist()
    assert sum(map(len, places)) == wanted
    for some, rows in zip(places, piece_rows, strict=True):
        assert all(0 <= row < rows for row in some)


def test_pieces_give_to_the_sample_by_their_rows():
    """A piece's share of the sample is about its share of the rows."""
    piece_rows = [1_000, 10_000, 0, 40_000, 49_000]
    places = places_in_pieces(choose_rows(100_000, 10_000, seed=3), piece_rows)
    for some, rows in zip(places, piece_rows, strict=True):
        expected = rows / 10
        assert abs(len(some) - expected) <= 6 * math.sqrt(expected)


def test_of_many_pieces_some_are_drawn():
    """All are taken as long as they may be; else as many as may, by chance, in their order."""
    assert sample_pieces(5, pieces_max=5, seed=1) == (0, 1, 2, 3, 4)
    drawn = sample_pieces(1000, pieces_max=100, seed=1)
    assert len(set(drawn)) == 100
    assert list(drawn) == sorted(drawn)
    assert drawn == sample_pieces(1000, pieces_max=100, seed=1)
    assert drawn != sample_pieces(1000, pieces_max=100, seed=2)
    assert 300 < np.mean(drawn) < 700


@settings(max_examples=examples(60, least=25))
@given(st.lists(st.integers(0, 2**64 - 1), max_size=50), st.integers(1, 9))
def test_each_hash_lies_in_the_range_of_its_first_bits(hashes, ranges):
    """Ranges tile the hashes; which one a hash is in follows from its first 32 bits alone."""
    sorted_ = np.sort(np.array(hashes, dtype=np.uint64))
    begins = key_range_begins(sorted_, ranges)
    assert begins[0] == 0
    assert begins[-1] == len(hashes)
    for k in range(ranges):
        for one in sorted_[begins[k] : begins[k + 1]].tolist():
            assert (one >> 32) * ranges >> 32 == k


def test_there_are_as_many_key_ranges_as_rows_need():
    """One at least, and each with no more rows than a task holds."""
    assert [key_range_count(n) for n in (1, BUILD_KEY_RANGE_ROWS)] == [1, 1]
    assert key_range_count(BUILD_KEY_RANGE_ROWS + 1) == 2


def facts(rows=10_000_000, dimension=384, **more):
    values = {
        "rows": rows, "dimension": dimension, "input_bytes": rows * dimension * 4,
        "pieces": 200, "sampled_rows": rows, "sample_rows": 174_762, "encodes": False,
        "keyed": True, "flat": False, "partition_rows_target": 25_000,
        "cluster_rows_target": 512, "calibration_queries": 400,
        "tasks": {"sample": 30, "assign": 30, "keys": 2},
    }  # fmt: skip
    return BuildFacts(**{**values, **more})


def test_an_estimate_counts_what_training_does():
    """Planning and training do not import each other: these numbers stand in both."""
    iterations = inspect.signature(clustering.kmeans).parameters["iterations"].default
    whole = clustering._WHOLE_PASSES
    assert whole == build_costs._KMEANS_WHOLE_PASSES
    assert clustering._NEAR_CENTERS * (iterations - whole) == build_costs._KMEANS_NEAR
    assert build_costs._CENTERS_FLAT_MAX == clustering._FLAT_CLUSTERS_MAX
    assert build_costs._GROUPS_SEARCHED == clustering._GROUPS_SEARCHED


def test_an_estimate_adds_up():
    """The whole is the sum of its stages; more rows, texts and memory take and cost more."""
    functions = Workers(count=100, memory_mb=1769, states=True)
    stages = estimate_stages(facts(), functions)
    whole = estimate_build(facts(), stages)
    assert whole.cost_usd == pytest.approx(sum(stage.cost_usd for stage in stages))
    assert whole.seconds == pytest.approx(sum(stage.seconds for stage in stages))
    assert [stage.stage for stage in stages] == [
        "plan", "sample", "train", "assign", "keys", "assemble", "calibrate", "publish"
    ]  # fmt: skip
    assert all(stage.cost_usd > 0 and stage.seconds > 0 for stage in stages)

    def of(**more):
        return estimate_build(facts(**more), estimate_stages(facts(**more), functions))

    tasks = {"sample": 30, "assign": 30, "keys": 2, "encode": 600}
    assert of(rows=20_000_000).cost_usd > whole.cost_usd
    assert of(encodes=True, tasks=tasks).cost_usd > 10 * whole.cost_usd
    assert of(dimension=768).cpu_s > whole.cpu_s


def test_the_rates_give_what_was_measured():
    """CPU of the builds of docs/benchmarks.md, which are on one thread, within a quarter."""
    for rows, dimension, measured_s in ((1_042_700, 128, 38.6), (176_037, 384, 14.4)):
        some = facts(rows, dimension, sample_rows=min(rows, 262_144), keyed=False)
        whole = estimate_build(some, estimate_stages(some, Workers()))
        assert 0.75 * measured_s < whole.cpu_s < 1.25 * measured_s


def test_flat_builds_make_few_objects():
    """Without partitions there is nothing to train, and little to store."""
    some = facts(rows=500, flat=True, sample_rows=500)
    whole = estimate_build(some, estimate_stages(some, Workers()))
    assert whole.partitions == whole.clusters == 0
    assert whole.objects < 10


def test_what_is_not_billed_costs_nothing():
    """On one's own disk and machine requests and time are free; a function's never are."""
    requests = {"get": 1000, "put": 1000}
    assert spent_usd(0, 0.0, requests, Workers(billed=False)) == 0
    assert spent_usd(0, 0.0, requests, Workers()) == pytest.approx(1000 * 5.4e-6)
    alone = spent_usd(10, 100.0, {}, Workers(memory_mb=1769))
    assert alone == pytest.approx(10 * 0.2e-6 + 100 * 13.3334e-6)
    assert spent_usd(10, 100.0, {}, Workers(memory_mb=1769, states=True)) > alone
