"""Which of many is looked at first, where there may be no time for all of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def in_turn(names: Iterable[str], turn: object) -> list[str]:
    """Return names in an order that is another one at every turn.

    In one and the same order, those behind something that takes all the time there is would never
    be come to; shuffled by the turn, each is before it about every other time.
    """
    return sorted(names, key=lambda name: _place(f"{turn!a}/{name!a}".encode()))


def _place(text: bytes) -> bytes:
    return hashlib.blake2b(text, digest_size=8, usedforsecurity=False).digest()
