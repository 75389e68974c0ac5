"""The model of `bench/scale.py`: counts, stages, limits and waits hold together."""

import re
import sys
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from templates import ROOT

sys.path.insert(0, str(ROOT / "bench"))

import scale_queries
from amounts import examples
from cost_fit import FITTED_PATH, load
from cost_model import price
from cost_steps import Asked, Deployed
from report import dollars
from scale_build import build_cost, makespan, ratios, with_splits
from scale_cut import SEGMENT_BYTES, cut, kmeans_work, snapshot_bytes
from scale_inputs import KINDS, Fit, Inputs, fit, least_relative, work_of_stage
from scale_limits import all_limits, beyond, met, segment_bytes
from scale_platform import ACCOUNT, AWS, GRANTED, LOCAL, Spread
from scale_queries import possible, sized, waits
from squash import limits
from squash.maintain.bulk.stages import STAGES, Stage

DIMENSIONS = (128, 384, 768, 1_024)
SIZES = (10**6, 10**7, 10**8, 10**9, 10**10)
ASSUMED = load(FITTED_PATH).assumptions
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
    every = all_limits(FIT, ASSUMED, AWS)
    found = met(every, dimension)
    assert [rows for _, rows in found] == sorted(rows for _, rows in found)
    for one, rows in found:
        assert one.used(rows, dimension) <= one.most
        assert one.used(round(rows * 1.01) + 2, dimension) > one.most
    assert not beyond(every, 10**6, dimension, "stops")
    assert beyond(every, 10**12, dimension, "stops")


def test_limits_are_those_of_the_library():
    """The model's limits move with `squash.limits`; a segment's bytes are those written."""
    by_name = {one.name: one.most for one in all_limits(FIT, ASSUMED, AWS)}
    hours = by_name["hours from the first object to the commit"]
    assert hours == limits.COMMIT_WITHIN_MS / 3.6e6
    assert by_name["time of a task of `train`"] == limits.LAMBDA_TIMEOUT_S_MAX
    assert by_name["slots that hold the index"] == limits.SLOTS_MAX
    assert segment_bytes() == pytest.approx(SEGMENT_BYTES, rel=0.03)


def waited(deployed, rows, dimension, cold, platform=AWS, draws=2_000):
    """Return what queries of an index wait for."""
    asked = Asked(rows, warm=1.0 - cold, dimension=dimension)
    return waits(ASSUMED, deployed, asked, platform, draws=draws)


@pytest.mark.parametrize("dimension", [128, 1_024])
def test_waits_hold_together(dimension):
    """Quantiles ascend; cold containers and more rows only add; the same seed, the same answer."""
    one = sized(ASSUMED, 10**7, dimension)
    found = [waited(one, 10**7, dimension, cold) for cold in (0.0, 0.02, 0.2)]
    for each in found:
        assert 0 < each.p50 <= each.p95 <= each.p99
    for less, more in pairwise(found):
        assert less.p99 < more.p99
        assert less.rounds < more.rounds
    assert found[1] == waited(one, 10**7, dimension, 0.02)
    larger = waited(sized(ASSUMED, 10**9, dimension), 10**9, dimension, 0.2)
    assert larger.p99 > found[2].p99
    assert waited(one, 10**7, dimension, 0.0, LOCAL).p50 < found[0].p50


@pytest.mark.parametrize("held", [True, False])
@pytest.mark.parametrize("rows", [10**5, 10**6, 10**8])
def test_with_nothing_drawn_a_query_takes_what_its_price_says(monkeypatch, rows, held):
    """One model: of warm containers, and about so of cold ones; the call is waited, too."""
    monkeypatch.setattr(scale_queries, "CPU_SPREAD", 0.0)
    spreads = {name: getattr(AWS, name).p50 for name in ("get", "invoke", "start")}
    still = replace(AWS, **{name: Spread(p50, p50) for name, p50 in spreads.items()})
    one = sized(ASSUMED, rows, 768) if held else Deployed()
    # What is missed is a part of a round, which is drawn: the mean of such is not the median.
    near = 0.001 if held or rows < 10**8 else 0.2
    found = waited(one, rows, 768, 0.0, still, draws=50)
    assert found.p50 - AWS.invoke.p50 == pytest.approx(
        price(ASSUMED, one, Asked(rows)).ms, rel=near
    )
    cold = waited(one, rows, 768, 1.0, still, draws=50)
    told = price(ASSUMED, one, Asked(rows, warm=0.0)).ms
    assert cold.p50 - AWS.invoke.p50 == pytest.approx(told, rel=0.05 if held else 0.2)


def dollars_of(page, beginning, row, columns):
    """Return cells of a row of the first table behind some words."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    text = text[text.index(beginning) :]
    line = re.search(rf"^\| {re.escape(row)} \|.*$", text, re.MULTILINE)[0]
    cells = [cell.strip() for cell in line.split("|")[1:-1]]
    return [float(cells[column]) for column in columns]


@pytest.mark.parametrize("rows", [1, 10, 100])
@pytest.mark.parametrize("usual", [True, False])
def test_both_pages_tell_the_same_dollars(rows, usual):
    """Of 768 dimensions without a filter, warm, 2 % and 20 % cold, to the last digit of either."""
    cost = dollars_of(
        "benchmarks.md",
        "**As deployed by default**" if usual else "**With as many slots as hold the index**",
        f"{rows} million, 100 %",
        (4, 5, 6),
    )
    scale = dollars_of(
        "scale.md",
        "As deployed by default (" if usual else "## Dollars a million queries",
        f"{rows} million x 768",
        (6, 7, 8) if usual else (1, 2, 3),
    )
    assert [dollars(value) for value in scale] == [dollars(value) for value in cost]


def test_what_is_not_held_is_read():
    """Eight slots hold a million; of a hundred million each query reads pages, in more rounds."""
    small, large = (waited(Deployed(), rows, 768, 0.0) for rows in (10**6, 10**8))
    assert (small.rounds, small.requests) == (1.0, 1.0)
    assert large.rounds == pytest.approx(3.0)
    assert large.requests > 20
    assert not possible(sized(ASSUMED, 10**10, 768))
    assert possible(Deployed())
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
