"""Which slot holds which segment: warm containers are found again by rendezvous hashing.

A slot is a place that calls can be sent to so that they meet a container which has loaded what
they need (docs/decisions/0012). A segment scores every slot by a hash of both names; the highest
score is its home. If slots are added or removed, only the segments move that must.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np

from squash.arrays import I64, U64
from squash.limits import SLOTS_MAX

_SCORE_BYTES: Final = 8
_SCORES_AT_ONCE: Final = 1 << 16  # half a megabyte of them: they stay in the cache
_REPLICA: Final = ":r1"


def slot_names(slots: int) -> tuple[str, ...]:
    """Return the slots' names, ``slot-0`` and on.

    Raises
    ------
    ValueError
        If there are none, or too many.

    """
    if not 1 <= slots <= SLOTS_MAX:
        raise ValueError(f"there are 1 to {SLOTS_MAX} slots, not {slots}")
    return tuple(f"slot-{number}" for number in range(slots))


def by_rendezvous(name: str, slots: Iterable[str]) -> list[str]:
    """Return slots in the order in which a name prefers them."""
    ordered = sorted(slots)
    scores = _scores(_hashes([name]), _hashes(ordered))
    return [ordered[place] for place in np.lexsort((np.arange(len(ordered)), ~scores)).tolist()]


def slot_of(name: str, slots: Iterable[str]) -> str:
    """Return the slot that a name prefers.

    It depends on nothing else. With one slot more, a name stays or moves to the new one; with one
    less, only those of the slot that went away move.
    """
    return by_rendezvous(name, slots)[0]


def assign_slots(names: Iterable[str], slots: Sequence[str]) -> dict[str, str]:
    """Give every name of a snapshot a slot, no slot more than its share of them.

    The slowest slot is what a query waits for, and of a few dozen names some slot is preferred by
    twice as many as the others. So a slot takes ceil(n / slots), those that prefer it most; the
    rest go to the next slot they prefer that has room. It depends on the names and the slots
    alone, so that every node finds the same without asking.

    Every name and every slot is hashed once, and how much a name prefers a slot is mixed from the
    two hashes: `_scores`. Names bid for the slots they prefer in rounds, see `_place`.

    Parameters
    ----------
    names:
        All segments of the snapshot; the order does not matter.
    slots:
        The slots' names.

    """
    distinct, ordered = sorted(set(names)), sorted(slots)
    if not distinct:
        return {}
    share = -(-len(distinct) // len(ordered))
    homes = _place(_hashes(distinct), _hashes(ordered), np.full(len(ordered), share))
    return {name: ordered[home] for name, home in zip(distinct, homes.tolist(), strict=True)}


def _hashes(names: Sequence[str]) -> U64:
    digests = [hashlib.blake2b(name.encode(), digest_size=_SCORE_BYTES).digest() for name in names]
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


def _place(names: U64, slots: U64, room: I64) -> I64:
    """Return int64 [n], the slot of each name.

    In each round every name that has none bids for the slot it prefers of those with room. A
    slot takes the highest bids that it has room for. The rounds are few: in each, some slot is
    filled, or all names are placed.
    """
    homes = np.full(len(names), -1, dtype=np.int64)
    room = room.copy()
    waiting = np.arange(len(names))
    while len(waiting):
        there = np.flatnonzero(room)
        bids, preferred = _preferred(names[waiting], slots[there])
        # By slot, the highest bids first; of equal ones the first name.
        order = np.lexsort((waiting, ~bids, preferred))
        counts = np.bincount(preferred, minlength=len(there))
        rank = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
        taken = order[rank < room[there][preferred[order]]]
        homes[waiting[taken]] = there[preferred[taken]]
        room[there] -= np.minimum(counts, room[there])
        waiting = np.delete(waiting, taken)
    return homes


def _preferred(names: U64, slots: U64) -> tuple[U64, I64]:
    """Return the highest score of each name, uint64 [n], and which slot's it is, int64 [n]."""
    best = np.empty(len(names), dtype=np.uint64)
    place = np.empty(len(names), dtype=np.int64)
    step = max(_SCORES_AT_ONCE // len(slots), 1)
    for first in range(0, len(names), step):
        scores = _scores(names[first : first + step, None], slots)
        at = scores.argmax(axis=1)
        place[first : first + step] = at
        best[first : first + step] = np.take_along_axis(scores, at[:, None], axis=1)[:, 0]
    return best, place


def _scores(names: U64, slots: U64) -> U64:
    """Mix hashes of names and slots: both, by exclusive or, through the end of SplitMix64."""
    mixed = names ^ slots
    mixed ^= mixed >> np.uint64(30)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return mixed


def replica_of(slot: str) -> str:
    """Return the name of a slot's replica, to which stragglers are hedged."""
    return slot + _REPLICA


def home_of(slot: str) -> str:
    """Return the slot that a replica stands in for; of a slot itself, the slot."""
    return slot.removesuffix(_REPLICA)


def is_replica(slot: str) -> bool:
    """Tell whether a name is that of a replica."""
    return slot.endswith(_REPLICA)


def stand_in(slot: str, slots: Sequence[str]) -> str:
    """Return which of a fixed pool's slots serves a name: a replica is the next slot it prefers.

    With a single slot there is no other.
    """
    home = home_of(slot)
    others = [one for one in slots if one != home]
    return slot_of(home, others) if is_replica(slot) and others else home
