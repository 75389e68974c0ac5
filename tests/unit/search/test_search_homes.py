"""Partitions that lie near one another are in one slot, and each node finds the same."""

from collections import Counter
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import squash
from squash.maintain import BuildOptions
from squash.planning.slots import SLOT_PARTITIONS, by_rendezvous, slot_names
from squash.quantize.transforms import principal_spread
from squash.search import homes
from squash.search.homes import homes_of, neighbouring

OPTIONS = BuildOptions(
    partition_rows_target=20, partition_rows_max=25, cluster_rows_target=5, calibration_queries=5,
    exact_rows_max=8,
)  # fmt: skip


@given(st.integers(0, 1 << 30), st.integers(0, 90), st.integers(1, 20), st.integers(1, 5))
@settings(deadline=None)
def test_groups_are_even(seed, count, groups, dimension):
    """None is larger by more than one than another, also of places that are all alike."""
    rng = np.random.default_rng(seed)
    places = rng.integers(-1, 2, (count, dimension)).astype(np.float64)
    found = Counter(dict.fromkeys(range(groups), 0))
    found.update(neighbouring(places, groups).tolist())
    assert set(found) == set(range(groups))
    assert max(found.values()) - min(found.values()) <= 1


@given(st.integers(0, 1 << 30), st.integers(2, 9))
@settings(deadline=None)
def test_groups_are_of_neighbours(seed, groups):
    """Places in lumps far from one another are divided by lumps."""
    rng = np.random.default_rng(seed)
    lump = rng.permutation(np.repeat(np.arange(groups), 6))
    middles = 10_000.0 * rng.standard_normal((groups, 8))
    places = middles[lump] + rng.standard_normal((len(lump), 8))
    found = neighbouring(places, groups)
    assert len(set(zip(lump.tolist(), found.tolist(), strict=True))) == groups


@given(st.integers(0, 1 << 30), st.integers(2, 60), st.integers(1, 16))
@settings(deadline=None)
def test_what_is_turned_round_is_divided_alike(seed, count, groups):
    """Which end of an axis is its first is chance to who finds it, and must not be here."""
    rng = np.random.default_rng(seed)
    places = rng.standard_normal((count, 6)) * [9, 5, 3, 2, 1.5, 1]
    order = rng.permutation(count)
    found, again = neighbouring(places, groups), neighbouring(places[order], groups)
    assert found[order].tolist() == again.tolist()
    with patch.object(homes, "principal_spread", lambda *given: -principal_spread(*given)):
        assert neighbouring(places, groups).tolist() == found.tolist()


@pytest.fixture(scope="module")
def view():
    rng = np.random.default_rng(1)
    index = squash.connect("memory://homes").create_index("x", dimension=4, metric="euclidean")
    index.put(keys=[f"k{i}" for i in range(900)], vectors=rng.normal(size=(900, 4)))
    index.optimize(options=OPTIONS)
    return index._session.view("strong")


def test_an_index_uses_the_slots_that_its_name_prefers(view):
    """As many as its partitions pay for; all of a slot lie on one side of a plane, or so."""
    partitions = len(view.partitions)
    assert partitions > 3 * SLOT_PARTITIONS
    slots = slot_names(64)
    found = homes_of(view, slots)
    assert len(found) == partitions
    used = -(-partitions // SLOT_PARTITIONS)
    assert set(found) == set(by_rendezvous(view.entry.prefix, slots)[:used])
    counts = Counter(found).values()
    assert max(counts) - min(counts) <= 1
    assert homes_of(view, slots) is found
    assert set(homes_of(view, slots[:2])) == set(slots[:2])
    assert homes_of(view, slots) == found


def test_near_partitions_are_together(view):
    """Of the partitions nearest to a point, more share a slot than would by chance."""
    table, home = view.clusters.table(), np.array(homes_of(view, slot_names(4)))
    rng = np.random.default_rng(2)
    near, chance = [], []
    for _ in range(200):
        point = rng.normal(size=4)
        order = np.argsort(np.square(table.centers - point).sum(axis=1))
        partitions = list(dict.fromkeys(table.partition[order].tolist()))[:4]
        near.append(len(set(home[partitions])))
        chance.append(len(set(home[rng.permutation(len(home))[:4]])))
    assert np.mean(near) < 0.8 * np.mean(chance)
