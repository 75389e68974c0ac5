"""Which slot holds which segment: warm containers are found again by rendezvous hashing.

A slot is a place that calls can be sent to so that they meet a container which has loaded what
they need (docs/decisions/0012). A segment scores every slot by a hash of both names; the highest
score is its home. If slots are added or removed, only the segments move that must.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final

from squash.limits import SLOTS_MAX

_SCORE_BYTES: Final = 8
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
    return sorted(slots, key=lambda slot: (_score(name, slot), slot), reverse=True)


def slot_of(name: str, slots: Iterable[str]) -> str:
    """Return the slot that a name prefers.

    It depends on nothing else. With one slot more, a name stays or moves to the new one; with one
    less, only those of the slot that went away move.
    """
    return max(slots, key=lambda slot: (_score(name, slot), slot))


def assign_slots(names: Iterable[str], slots: Sequence[str]) -> dict[str, str]:
    """Give every name of a snapshot a slot, no slot more than its share of them.

    The slowest slot is what a query waits for, and of a few dozen names some slot is preferred by
    twice as many as the others. So a slot takes ceil(n / slots), those that prefer it most; the
    rest go to the next slot they prefer that has room. It depends on the names and the slots
    alone, so that every node finds the same without asking.

    Parameters
    ----------
    names:
        All segments of the snapshot; the order does not matter.
    slots:
        The slots' names.

    """
    distinct = set(names)
    room = dict.fromkeys(slots, -(-len(distinct) // len(slots)))
    bids = sorted(
        ((_score(name, slot), name, slot) for name in distinct for slot in slots), reverse=True
    )
    taken: dict[str, str] = {}
    for _, name, slot in bids:
        if name not in taken and room[slot]:
            taken[name] = slot
            room[slot] -= 1
    return taken


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


def _score(name: str, slot: str) -> bytes:
    # A length before the name keeps ("ab", "c") and ("a", "bc") apart.
    text = f"{len(name)}:{name}{slot}".encode()
    return hashlib.blake2b(text, digest_size=_SCORE_BYTES).digest()
