"""The arithmetic of `bench/cost.py`: parts of a bill, what is cold, what is missed."""

import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from templates import ROOT, read

sys.path.insert(0, str(ROOT / "bench"))

from cost import PEERS, SIZES
from cost_fit import FITTED_PATH, VARIED, assumptions, load, save, slope, varied
from cost_model import MILLION, PARTS, idle_usd, index_bytes, price, sized
from cost_steps import (
    RETAINED_SHARE,
    Asked,
    Assumptions,
    Deployed,
    clusters_needed,
    coordinator_start,
    missed,
    slowness,
    steps,
)
from scale_cut import partitions
from squash.planning.shape import FAN_OUT, NONE

SHARES = (1.0, 0.1, 0.01)
ASSUMED = Assumptions(
    handler_ms=1.0,
    search_ms=0.5,
    needed={1.0: 10.0, 0.1: 40.0, 0.01: 150.0},
    growth={1.0: 0.25, 0.1: 0.3, 0.01: 0.5},
)


@pytest.mark.parametrize("warm", [1.0, 0.98])
def test_a_bill_by_hand(warm):
    """One function that holds its index: its work, a round to S3, a call, a request, and starts."""
    deployed = Deployed(coordinator_mb=1769.0)
    alone = price(ASSUMED, deployed, Asked(10_000, warm=warm), shape=NONE)
    gb_ms = 1769 / 1024 * 13.3334e-9
    assert alone.invocations_each == 1.0
    assert alone.store_wait == pytest.approx(1e6 * 30 * gb_ms)
    assert alone.invocations == pytest.approx(0.20)
    assert alone.requests == pytest.approx(0.40)
    assert (alone.http, alone.logs) == pytest.approx((1.00, 0.604 / 2))
    assert (alone.calls_wait, alone.processors) == pytest.approx((0.0, 0.0))
    assert 1e6 * 1.6 * gb_ms <= alone.coordinator <= 1e6 * 2.1 * gb_ms
    read_ms = (4e6 + 632 + 10_000 / 512 * (768 * 4 + 8)) / 70e6 * 1e3
    start_ms = 300 + 40 + 45 + 25 + 632e-6 * 38 + (3 + 3) * 30 + read_ms
    cold = 1e6 * (1 - warm) * (start_ms * gb_ms + (3 + 8) * 0.4e-6 + 2 * 5e-6)
    assert alone.cold == pytest.approx(cold)
    waited = price(ASSUMED, deployed, Asked(10_000), shape=NONE).ms
    assert alone.ms == pytest.approx(waited + (1 - warm) * (150 + start_ms))


def test_by_default_is_what_the_template_deploys():
    """Memory, slots and /tmp are read from it; so is what is retained, by its value."""
    parameters, usual = read("template.yaml")["Parameters"], Deployed()
    for name, value in (
        ("CoordinatorMemory", usual.coordinator_mb),
        ("ProcessorMemory", usual.processor_mb),
        ("ProcessorTmp", usual.tmp_mb),
        ("Slots", usual.slots),
        ("RetainedShare", RETAINED_SHARE),
        ("Architecture", usual.architecture),
        ("QueryUrl", "on" if usual.door == "url" else "off"),
        ("Metrics", "on" if usual.metrics else "off"),
        ("LogLevel", "INFO" if usual.lines else "WARN"),
    ):
        assert parameters[name]["Default"] == value, name


def test_less_memory_is_a_slower_coordinator_and_no_other():
    """Below a core what it does by itself takes longer in proportion, calls and merging too."""
    asked = Asked(MILLION, 0.1)
    whole, half = (
        steps(ASSUMED, Deployed(coordinator_mb=memory), asked, shape=FAN_OUT)
        for memory in (1769.0, 884.5)
    )
    assert slowness(884.5) == 2.0
    assert half.own_ms == pytest.approx(2.0 * whole.own_ms)
    assert half.plan_ms == pytest.approx(2.0 * whole.plan_ms)
    assert (half.between_ms, half.process_ms) == (whole.between_ms, whole.process_ms)
    assert whole.ms == pytest.approx(price(ASSUMED, Deployed(coordinator_mb=1769.0), asked).ms)


def test_a_filter_has_a_cold_coordinator_ask_for_each_partition():
    """One request more for each partition, and a round, beside what it reads."""
    plain, filtered = (
        coordinator_start(ASSUMED, Deployed(), Asked(MILLION, share)) for share in (1.0, 0.1)
    )
    assert filtered.gets - plain.gets == partitions(MILLION) == 40
    assert filtered.rounds - plain.rounds == 1.0
    assert filtered.mb - plain.mb == pytest.approx(13.0)


def test_a_door_costs_what_it_costs_and_nothing_else():
    """The URL is the API without its charge and its log; lines and metrics are logs alone."""
    asked = Asked(MILLION, 0.1)
    usual = price(ASSUMED, Deployed(), asked)
    url = price(ASSUMED, Deployed(door="url"), asked)
    assert usual.total - url.total == pytest.approx(1.00 + 0.299 / 2)
    mute = price(ASSUMED, Deployed(door="url", lines=False), asked)
    assert (mute.logs, url.total - mute.total) == pytest.approx((0.0, 0.305 / 2))
    told = price(ASSUMED, Deployed(metrics=True), asked)
    assert told.total - usual.total == pytest.approx(0.512 / 2)
    eventual = price(ASSUMED, Deployed(eventual=True), asked)
    assert (eventual.requests, eventual.store_wait) == (0.0, 0.0)


def test_the_cheaper_door_is_under_both_peers():
    """As the bill is published: consistent, warm, of what was measured last."""
    one = load(FITTED_PATH).assumptions
    for rows in (MILLION, 10 * MILLION):
        bill = price(one, sized(one, rows, door="url"), Asked(rows, 0.1))
        assert bill.total < min(prices[rows] for prices in PEERS.values())


@given(
    st.sampled_from(SIZES),
    st.sampled_from(SHARES),
    st.floats(0.5, 1.0),
    st.sampled_from([1, 10, 100]),
)
def test_bills_hold_together(rows, share, warm, queries):
    """Parts are none below zero and add up; cold starts are all that a cold share adds."""
    asked = Asked(rows, share, warm, queries)
    bill = price(ASSUMED, Deployed(), asked)
    parts = [getattr(bill, name) for name in PARTS]
    assert min(parts) >= 0.0
    assert bill.total == pytest.approx(sum(parts))
    all_warm = price(ASSUMED, Deployed(), replace(asked, warm=1.0))
    assert all_warm.cold == pytest.approx(0.0)
    assert bill.total - bill.cold == pytest.approx(all_warm.total)


def test_x86_costs_a_quarter_more_by_the_second():
    """The parts that are GB-seconds cost by the price of one, the others the same."""
    asked = Asked(MILLION, 0.1)
    arm, x86 = (
        price(ASSUMED, Deployed(architecture=name), asked, shape=FAN_OUT)
        for name in ("arm64", "x86_64")
    )
    for name in ("coordinator", "store_wait", "calls_wait", "processors"):
        assert getattr(x86, name) == pytest.approx(getattr(arm, name) * 16.6667 / 13.3334)
    for name in ("invocations", "requests", "http", "logs"):
        assert getattr(x86, name) == getattr(arm, name)


def test_what_is_held_is_not_read():
    """Containers that hold an index miss nothing; those that do not miss pages, then codes too."""
    asked = Asked(100 * MILLION, 0.1)
    assert missed(ASSUMED, sized(ASSUMED, asked.rows), asked).requests == pytest.approx(0.0)
    all_codes = missed(ASSUMED, Deployed(slots=60), asked)
    assert 20 < all_codes.requests < 26
    assert all_codes.rounds == 1.0
    fewer = missed(replace(ASSUMED, refined=13), Deployed(slots=60), asked)
    assert fewer.requests == pytest.approx(all_codes.requests / 2)
    assert missed(ASSUMED, Deployed(), asked).rounds == 2.0


@pytest.mark.parametrize("rows", SIZES)
def test_small_and_large(rows):
    """An index that is held costs under S3 Vectors at 1 and 10 million; idle, what S3 asks."""
    peers = {MILLION: 9.05, 10 * MILLION: 63.0}
    bill = price(ASSUMED, sized(ASSUMED, rows), Asked(rows, 0.1))
    assert bill.total < peers.get(rows, 63.0)
    assert idle_usd(ASSUMED, rows) == pytest.approx(rows * (3650 + 6.016) * 0.023e-9, rel=1e-4)
    assert index_bytes(ASSUMED, rows, 384) < 0.6 * index_bytes(ASSUMED, rows)


@pytest.mark.parametrize("name", VARIED)
def test_varied(name):
    """Every assumption that is varied can be, and moves the bill of a cold, unheld index."""
    asked = Asked(100 * MILLION, 0.1, 0.8)
    usual = price(ASSUMED, Deployed(), asked).total
    assert (
        price(varied(ASSUMED, name, 2.0), Deployed(), asked).total != usual or name == "search_ms"
    )


def test_clusters_needed():
    """A power of how many there are, and never more than these."""
    assert clusters_needed(ASSUMED, 512_000, 0.1) == pytest.approx(40.0)
    assert clusters_needed(ASSUMED, 51_200_000, 0.01) == pytest.approx(1_500.0)
    assert clusters_needed(ASSUMED, 512, 0.01) == 1.0


def test_slope_and_fit(tmp_path):
    """Measured sizes give powers, at least what prudence wants; what is fitted is read again."""
    assert slope([1, 10, 100], [3, 6, 12]) == pytest.approx(0.30103)
    sizes = [
        {
            "rows": rows,
            "clusters": rows // 500,
            "bytes": {"codes": 500 * rows, "vectors": 3072 * rows, "attributes": 13 * rows},
            "refined": rows // 25_000,
            "handler_ms": 1.0,
            "shares": {
                f"{share:g}": {
                    "needed": needed,
                    "call_ms": 0.5,
                    "modelled_ms": [0.1, 0.1],
                    "recall": 0.96,
                }
                for share, needed in zip(SHARES, (10, rows / 5000, rows / 1000), strict=True)
            },
        }
        for rows in (50_000, 500_000)
    ]
    found = assumptions({"sizes": sizes})
    assert found.growth == pytest.approx({1.0: 0.25, 0.1: 1.0, 0.01: 1.0})
    assert found.needed == pytest.approx({1.0: 10.0, 0.1: 100.0, 0.01: 500.0})
    assert found.search_ms == pytest.approx(0.3)
    assert (found.code_bytes, found.stored_bytes, found.refined) == (500, 3585, 20)
    path = tmp_path / "fitted.json"
    save(path, {"sizes": sizes, "processor": "one"}, measured="2026-11-26")
    again = load(path)
    assert (again.assumptions, again.rows) == (found, (50_000, 500_000))
    assert (again.measured, again.processor, again.recall[0.01]) == ("2026-11-26", "one", 0.96)
