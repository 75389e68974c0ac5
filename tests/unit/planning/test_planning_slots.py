"""Slots: stable when their number changes, and no more than pay."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from squash.planning.slots import (
    SLOT_BYTES,
    SLOT_PARTITIONS,
    by_rendezvous,
    home_of,
    is_replica,
    replica_of,
    slot_names,
    slot_of,
    slots_used,
    stand_in,
)

NAMES = st.lists(st.text("0123456789abcdef", min_size=1, max_size=32), unique=True, max_size=60)
SLOTS = st.integers(1, 40).map(slot_names)


@given(NAMES, st.integers(1, 40))
@settings(deadline=None)
def test_one_slot_more_takes_from_all(names, count):
    """With one slot more a name stays, or goes to the new one."""
    fewer, more = slot_names(count), slot_names(count + 1)
    for name in names:
        assert slot_of(name, more) in {slot_of(name, fewer), more[-1]}


@given(NAMES, st.integers(2, 40), st.data())
@settings(deadline=None)
def test_one_slot_less_moves_its_own(names, count, data):
    """Without a slot, only the names that it held move."""
    slots = slot_names(count)
    gone = data.draw(st.sampled_from(slots))
    left = [slot for slot in slots if slot != gone]
    for name in names:
        before = slot_of(name, slots)
        assert slot_of(name, left) == before or before == gone


def test_preferences_are_even():
    """Of many names each slot is preferred by about its share."""
    slots = slot_names(16)
    counts = Counter(slot_of(f"{number:032x}", slots) for number in range(16_000))
    assert all(850 < counts[slot] < 1150 for slot in slots)


@given(st.integers(1, 5_000), st.integers(0, 1 << 40), st.integers(1, 1_024))
@settings(deadline=None)
def test_as_many_slots_as_pay(partitions, index_bytes, slots):
    """Some, no more than there are, nor than partitions; and more only if it is more to hold."""
    used = slots_used(partitions, index_bytes, slots)
    assert 1 <= used <= min(partitions, slots)
    assert used <= slots_used(partitions + 1, index_bytes, slots)
    assert used <= slots_used(partitions, 2 * index_bytes, slots)
    assert used <= slots_used(partitions, index_bytes, slots + 1) <= used + 1
    few = partitions <= (used - 1) * SLOT_PARTITIONS
    assert used == 1 or not (few and index_bytes <= (used - 1) * SLOT_BYTES)


@given(st.text(max_size=20), SLOTS)
@settings(deadline=None)
def test_order_of_preference(name, slots):
    """The first slot by preference is the slot preferred; all slots are there."""
    order = by_rendezvous(name, slots)
    assert order[0] == slot_of(name, slots)
    assert sorted(order) == sorted(slots)


@given(SLOTS)
@settings(deadline=None)
def test_replicas(slots):
    """A replica is known by its name; in a pool another slot stands in, always the same."""
    for slot in slots:
        replica = replica_of(slot)
        assert (is_replica(slot), is_replica(replica)) == (False, True)
        assert home_of(replica) == home_of(slot) == slot
        assert stand_in(slot, slots) == slot
        assert stand_in(replica, slots) in slots
        assert (stand_in(replica, slots) == slot) == (len(slots) == 1)


@pytest.mark.parametrize("count", [0, -1, 1025])
def test_too_few_and_too_many(count):
    """A number of slots out of its range is refused."""
    with pytest.raises(ValueError, match="slots, not"):
        slot_names(count)
