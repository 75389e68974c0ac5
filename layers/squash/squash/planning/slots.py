"""Which slots an index uses: warm containers are found again by rendezvous hashing.

A slot is a place that calls can be sent to so that they meet a container which has loaded what
they need (docs/decisions/0012). A name scores every slot by a hash of both; it prefers the highest
score. If slots are added or removed, only the names move that must.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np

from squash.arrays import U64
from squash.limits import MIB, SLOTS_MAX

SLOT_PARTITIONS: Final = 8
"""An index is spread over no more slots than have so many partitions each,"""
SLOT_BYTES: Final = 512 * MIB
"""or so much to read: some 0.6 of what functions of 1,769 MB retain."""
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
    ordered = sorted(slots)
    scores = _scores(_hashes([name]), _hashes(ordered))
    return [ordered[place] for place in np.lexsort((np.arange(len(ordered)), ~scores)).tolist()]


def slot_of(name: str, slots: Iterable[str]) -> str:
    """Return the slot that a name prefers.

    It depends on nothing else. With one slot more, a name stays or moves to the new one; with one
    less, only those of the slot that went away move.
    """
    return by_rendezvous(name, slots)[0]


def slots_used(partitions: int, index_bytes: int, slots: int) -> int:
    """Return how many slots an index is spread over.

    What a query takes of a slot is far less than a call costs: fewer slots are fewer calls, and
    fewer that start a container, as long as what they hold is kept.

    Parameters
    ----------
    partitions, index_bytes:
        Of the index: what a search may read.
    slots:
        How many there are.

    """
    wanted = max(-(-partitions // SLOT_PARTITIONS), -(-index_bytes // SLOT_BYTES), 1)
    return min(wanted, partitions, slots)


def _hashes(names: Sequence[str]) -> U64:
    digests = [hashlib.blake2b(name.encode(), digest_size=_SCORE_BYTES).digest() for name in names]
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


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
