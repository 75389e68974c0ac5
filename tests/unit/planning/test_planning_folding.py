"""When a fold rebuilds, what it writes anew, and what it joins."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from squash.limits import EXACT_ROWS_MAX, FOLD_ROWS_MIN
from squash.planning import (
    FoldFacts,
    PartitionCounts,
    choose_partitions,
    join_partitions,
    measures_recall,
    pending_rows_max,
    why_rebuild,
)

FACTS = FoldFacts(10_000, 4_096, trained=True, rows_trained=10_000, energy_ratio=1.0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, None),
        ({"rows": 20_000}, None),
        ({"rows": 5_000}, None),
        ({"energy_ratio": 1.1}, None),
        ({"energy_ratio": None}, None),
        ({"trained": False}, "nothing is trained"),
        ({"rows": 4_096}, "exactly"),
        ({"rows": 20_001}, "10000 were trained on"),
        ({"rows": 4_999}, "10000 were trained on"),
        ({"energy_ratio": 1.2}, "1.20 times"),
        ({"codec_fits": False}, "codec"),
        ({"rows": 3_000_000}, "were trained on"),
        ({"rows": 3_000_000, "thrifty": True}, None),
        ({"rows": 3_000_000, "thrifty": True, "codec_fits": False}, "codec"),
        ({"rows": 20_001, "thrifty": True}, "were trained on"),
    ],
)
def test_a_rebuild_has_a_reason(changes, words):
    """Each rule alone brings one about, and at its bound it does not."""
    facts = FoldFacts(**{name: getattr(FACTS, name) for name in FoldFacts.__slots__} | changes)
    reason = why_rebuild(facts)
    assert reason is None if words is None else words in reason


@st.composite
def counted(draw):
    count = draw(st.integers(1, 30))
    rows = st.lists(st.integers(0, 60), min_size=count, max_size=count)
    return PartitionCounts(*(np.array(draw(rows)) for _ in range(3)))


@given(counts=counted(), thrifty=st.booleans(), rows_max=st.sampled_from([40, 1_000]))
def test_what_is_chosen(counts, thrifty, rows_max):
    """Crowded and dead partitions always are; all with pending rows, or enough of them."""
    chosen = choose_partitions(counts, rows_max=rows_max, thrifty=thrifty)
    stored = counts.live + counts.dead
    assert chosen[stored > rows_max].all()
    assert chosen[counts.dead * 10 > np.maximum(stored, 1)].all()
    if not thrifty:
        assert chosen[counts.pending > 0].all()
    else:
        assert counts.pending[~chosen].sum() <= pending_rows_max(int(counts.live.sum())) // 2
        assert (counts.pending[~chosen] <= 0.12 * np.maximum(stored[~chosen], 1)).all()


def test_a_thrifty_fold_writes_no_more_than_it_must():
    """Rows that fall everywhere alike are folded until half of what may wait is left."""
    live = np.full(400, 30_000)
    pending = np.full(400, 200)
    chosen = choose_partitions(
        PartitionCounts(live, np.zeros(400, int), pending), rows_max=65_536, thrifty=True
    )
    left = int(pending[~chosen].sum())
    most = pending_rows_max(int(live.sum())) // 2
    assert most - 200 < left <= most
    # The bound that its docstring gives.
    written = int((live + pending)[chosen].sum())
    assert written / (80_000 - left) <= 1 + 30_000 * 400 / most


@given(counts=counted(), seed=st.integers(0, 99), data=st.data())
def test_groups_take_every_chosen_partition_once(counts, seed, data):
    """Small ones are joined where a neighbour has room; no group grows above the cap by that."""
    count = len(counts.live)
    chosen = np.array(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)))
    centers = np.random.default_rng(seed).normal(size=(count, 3)).astype(np.float32)
    groups = join_partitions(counts, centers, chosen, rows_target=24, rows_max=40)
    taken = [one for group in groups for one in group]
    assert len(taken) == len(set(taken))
    assert set(np.flatnonzero(chosen).tolist()) <= set(taken)
    for group in groups:
        assert any(chosen[group])
        if len(group) > 1:
            assert counts.after[group].sum() <= 40
    stored = np.maximum(counts.live + counts.dead, 1)
    shares = [counts.pending[group].sum() / stored[group].sum() for group in groups]
    assert shares == sorted(shares, reverse=True)


def test_a_small_partition_goes_to_its_nearest_neighbour():
    """Not to the nearer one that is full, nor to one that is empty."""
    counts = PartitionCounts(
        np.array([5, 38, 20, 20, 0]), np.zeros(5, int), np.array([1, 0, 0, 0, 0])
    )
    centers = np.array([[0.0], [1.0], [2.0], [3.0], [0.5]], dtype=np.float32)
    chosen = np.array([True, False, False, False, False])
    assert join_partitions(counts, centers, chosen, rows_target=24, rows_max=40) == [[0, 2]]


def test_recall_is_measured_when_most_is_read_or_much_has_changed():
    """A quarter of the rows, or half of them written anew."""
    assert measures_recall(rows=100, rewritten=50, changed=0)
    assert measures_recall(rows=100, rewritten=1, changed=26)
    assert not measures_recall(rows=100, rewritten=49, changed=25)


def test_what_may_wait_grows_with_the_root():
    """A small index waits for as many rows as it would search exactly."""
    assert pending_rows_max(0) == EXACT_ROWS_MAX
    assert pending_rows_max(1) == FOLD_ROWS_MIN
    assert pending_rows_max(4_000_000) == 2 * pending_rows_max(1_000_000)
