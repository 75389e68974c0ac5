"""The model of `bench/scale.py`: counts, stages, limits and waits hold together."""

import sys
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from templates import ROOT

sys.path.insert(0, str(ROOT / "bench"))

from amounts import examples
from scale_build import SEGMENT_BYTES, build_cost, makespan, ratios, with_splits
from scale_cut import cut, kmeans_work
from scale_inputs import KINDS, Asking, Fit, Inputs, fit, least_relative, work_of_stage
from scale_limits import all_limits, beyond, met, segment_bytes
from scale_platform import ACCOUNT, AWS, GRANTED, LOCAL
from scale_queries import Served, default, possible, sized, snapshot_bytes, waits
from squash import limits
from squash.maintain.bulk.stages import STAGES, Stage

DIMENSIONS = (128, 384, 768, 1_024)
SIZES = (10**6, 10**7, 10**8, 10**9, 10**10)
ASKING = Asking(11.0, 0.25, 0.75, 0.65, 1.0, 1.6, 38.0)
FIT = Fit(
    seconds={
        stage: {"tasks": 0.05, "rows": 1e-6, "values": 1e-8, "work": 1e-10} for stage in STAGES
    },
    row_bytes=120.0,
    value_bytes=4.7,
    objects_each=6.0,
    peak_mb={},
)


@given(st.integers(1, 10**11), st.sampled_from(DIMENSIONS), st.booleans(), st.integers(1, 3_000))
def test_a_cut_keeps_its_limits(rows, dimension, keyed, files):
    """Pieces cover all rows and none is too large; tasks and samples keep their bounds."""
    one = cut(rows, dimension, keyed=keyed, files=min(files, rows))
    assert one.pieces * one.piece_rows >= rows
    assert one.piece_rows <= limits.BUILD_PIECE_ROWS_MAX
    assert one.piece_rows * 4 * dimension <= limits.BUILD_PIECE_BYTES_MAX
    assert 1 <= one.clusters <= max(one.sample_rows // 8, 1)
    assert one.groups <= one.clusters
    assert 1 <= one.tasks[Stage.SAMPLE] <= one.tasks[Stage.ASSIGN] <= limits.BUILD_BATCHES_MAX
    assert one.sample_pieces <= limits.BUILD_SAMPLE_PIECES_MAX
    assert (one.tasks[Stage.KEYS] > 0) == keyed


@pytest.mark.parametrize("dimension", DIMENSIONS)
@pytest.mark.parametrize("platform", [ACCOUNT, GRANTED])
def test_builds_grow(dimension, platform):
    """Dollars, requests and bytes grow with the rows; stages add up; wider is no slower.

    Time may shrink by what two levels of centers save over one.
    """
    built = [build_cost(cut(rows, dimension), FIT, platform) for rows in SIZES]
    for less, more in pairwise(built):
        assert less.usd < more.usd
        assert less.seconds < more.seconds * 1.5
        for stage in less.stages:
            assert stage.requests.reads <= more.of(stage.stage).requests.reads
            assert stage.bytes_in <= more.of(stage.stage).bytes_in
    for one in built:
        assert one.usd == pytest.approx(sum(stage.usd for stage in one.stages))
        assert one.seconds == pytest.approx(sum(stage.seconds for stage in one.stages))
        assert all(stage.seconds >= max(stage.task_s * 0.5, stage.store_s) for stage in one.stages)
        narrow = build_cost(one.cut, FIT, replace(platform, concurrency=100))
        assert narrow.seconds >= one.seconds * 0.999


@given(st.integers(1, 5_000), st.floats(0.01, 500.0), st.integers(1, 2_000))
@settings(max_examples=examples(50, least=25), deadline=None)
def test_a_makespan_is_bounded(tasks, task_s, concurrency):
    """No sooner than the work allows, no later than one after the other; the same each time."""
    platform = replace(AWS, concurrency=concurrency)
    found = makespan(tasks, task_s, 1.0, platform)
    assert found == makespan(tasks, task_s, 1.0, platform)
    assert found >= 0.9 * task_s * tasks / min(tasks, concurrency) * 0.6
    starts = tasks / platform.child_starts_per_s + 10.0 * tasks / platform.ramp
    assert found <= 2.0 * tasks * task_s + starts + 2.0


def test_prefixes_that_split():
    """Twice the rate after each quarter of an hour: sooner than one prefix, at first as one."""
    assert with_splits(100.0, AWS) == 100.0
    assert with_splits(900.0, AWS) == 900.0
    assert with_splits(2_700.0, AWS) == pytest.approx(1_800.0)
    assert with_splits(1e6, AWS) == pytest.approx(3_600.0 + (1e6 - 900.0 * 15) / 16)


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_limits_are_met_once(dimension):
    """Below where a limit is met it holds, above it does not; the order is that of the rows."""
    every = all_limits(FIT, ASKING, AWS)
    found = met(every, dimension)
    assert [rows for _, rows in found] == sorted(rows for _, rows in found)
    for one, rows in found:
        assert one.used(rows, dimension) <= one.most
        assert one.used(round(rows * 1.01) + 2, dimension) > one.most
    assert not beyond(every, 10**6, dimension, "stops")
    assert beyond(every, 10**12, dimension, "stops")


def test_limits_are_those_of_the_library():
    """The model's limits move with `squash.limits`; a segment's bytes are those written."""
    by_name = {one.name: one.most for one in all_limits(FIT, ASKING, AWS)}
    hours = by_name["hours from the first object to the commit"]
    assert hours == limits.COMMIT_WITHIN_MS / 3.6e6
    assert by_name["time of a task of `train`"] == limits.LAMBDA_TIMEOUT_S_MAX
    assert by_name["slots that hold the index"] == limits.SLOTS_MAX
    assert segment_bytes() == pytest.approx(SEGMENT_BYTES, rel=0.03)


@pytest.mark.parametrize("dimension", [128, 1_024])
def test_waits_hold_together(dimension):
    """Quantiles ascend; cold containers and more rows only add; the same seed, the same answer."""
    one = sized(10**7, dimension, FIT)
    found = [waits(one, ASKING, FIT, AWS, cold=cold, draws=4_000) for cold in (0.0, 0.02, 0.2)]
    for each in found:
        assert 0 < each.p50 <= each.p95 <= each.p99
    for less, more in pairwise(found):
        assert less.p99 < more.p99
        assert less.usd < more.usd
        assert less.rounds < more.rounds
    assert found[1] == waits(one, ASKING, FIT, AWS, cold=0.02, draws=4_000)
    larger = waits(sized(10**9, dimension, FIT), ASKING, FIT, AWS, cold=0.2, draws=4_000)
    assert larger.p99 > found[2].p99
    near = waits(one, ASKING, FIT, LOCAL, cold=0.0, draws=4_000)
    assert near.p50 < found[0].p50


def test_what_is_not_held_is_read():
    """Eight slots hold a million; of a hundred million each query reads pages, in more rounds."""
    small, large = (
        waits(default(rows, 768), ASKING, FIT, AWS, cold=0.0, draws=2_000)
        for rows in (10**6, 10**8)
    )
    assert (small.rounds, small.requests) == (1.0, 1.0)
    assert large.rounds == pytest.approx(3.0)
    assert large.requests > 20
    assert not possible(sized(10**10, 768, FIT))
    assert possible(Served(10**6, 768, 8, 1_769.0))
    assert snapshot_bytes(10**9) > 20e6


def test_a_fit_finds_what_was_put_in():
    """Factors come back from noiseless sums, none is below zero, and stages fit one by one."""
    features = np.array([[1.0, 5.0], [2.0, 3.0], [4.0, 9.0]])
    assert least_relative(features, features @ [2.0, 0.5]) == pytest.approx([2.0, 0.5])
    assert least_relative(features, features @ [2.0, -0.1]).min() >= 0.0
    assert kmeans_work(10_000, 5_000, 8) < kmeans_work(10_000, 4_000, 8)


def test_measured_inputs_are_there():
    """`bench/scale.json` loads, and its fit gives every stage that ran something to do."""
    inputs = Inputs.load()
    learned = fit(inputs.runs)
    ran = {stage for run in inputs.runs for stage in run.stages}
    assert {Stage.TRAIN.value, Stage.ASSIGN.value, Stage.ASSEMBLE.value} <= ran
    for run in inputs.runs:
        for stage in (Stage.TRAIN, Stage.ASSIGN, Stage.ASSEMBLE):
            assert set(work_of_stage(stage, run.cut)) == set(KINDS)
            assert learned.cpu_s(stage, run.cut) > 0
    assert 0 < learned.value_bytes < 10


def test_ratios_leave_out_what_was_not_measured():
    """Predicted over measured, by quantity."""
    one = build_cost(cut(10**6, 128), FIT, LOCAL).of(Stage.ASSIGN)
    assert ratios(one, {"cpu_s": one.cpu_s / 2, "puts": 0.0, "other": 1.0}) == {
        "cpu_s": pytest.approx(2.0)
    }
