"""What calls spent, summed up the tree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Self

from squash.storage import StoreCounts
from squash.values import dataclass


@dataclass(slots=True)
class Spent:
    """What was spent elsewhere than in this process.

    Parameters
    ----------
    invocations, invocations_cold:
        Calls that reached a function, and those of them that started a container.
    gb_seconds:
        Memory times duration of those that answered, as Lambda bills it.
    retries, hedges:
        Calls made again after a failure, and beside one that was late.
    store_kinds:
        Requests to the store by kind, of the functions called.
    store_rounds, store_bytes:
        Rounds of them, and what they read.
    parts_from_memory, parts_from_tmp, parts_from_store:
        Where what they needed came from; see `Usage`.

    """

    invocations: int = 0
    invocations_cold: int = 0
    gb_seconds: float = 0.0
    retries: int = 0
    hedges: int = 0
    store_kinds: dict[str, int] = field(default_factory=dict)
    store_rounds: int = 0
    store_bytes: int = 0
    parts_from_memory: int = 0
    parts_from_tmp: int = 0
    parts_from_store: int = 0

    def add(self, other: Spent) -> None:
        """Add what another spent."""
        self.invocations += other.invocations
        self.invocations_cold += other.invocations_cold
        self.gb_seconds += other.gb_seconds
        self.retries += other.retries
        self.hedges += other.hedges
        self._add_kinds(other.store_kinds)
        self.store_rounds += other.store_rounds
        self.store_bytes += other.store_bytes
        self.parts_from_memory += other.parts_from_memory
        self.parts_from_tmp += other.parts_from_tmp
        self.parts_from_store += other.parts_from_store

    def add_store(self, counts: StoreCounts) -> None:
        """Add what this process asked of its store."""
        self._add_kinds(counts.by_kind)
        self.store_rounds += counts.rounds
        self.store_bytes += counts.bytes_in

    def _add_kinds(self, kinds: Mapping[str, int]) -> None:
        for kind, count in kinds.items():
            self.store_kinds[kind] = self.store_kinds.get(kind, 0) + count

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "invocations": self.invocations,
            "invocations_cold": self.invocations_cold,
            "gb_seconds": self.gb_seconds,
            "retries": self.retries,
            "hedges": self.hedges,
            "store_kinds": self.store_kinds,
            "store_rounds": self.store_rounds,
            "store_bytes": self.store_bytes,
            "parts": [self.parts_from_memory, self.parts_from_tmp, self.parts_from_store],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read back what `to_json` gave.

        Raises
        ------
        KeyError, TypeError, ValueError, AttributeError
            If it is not that.

        """
        memory, tmp, store = (int(count) for count in value["parts"])
        return cls(
            invocations=int(value["invocations"]),
            invocations_cold=int(value["invocations_cold"]),
            gb_seconds=float(value["gb_seconds"]),
            retries=int(value["retries"]),
            hedges=int(value["hedges"]),
            store_kinds={str(kind): int(count) for kind, count in value["store_kinds"].items()},
            store_rounds=int(value["store_rounds"]),
            store_bytes=int(value["store_bytes"]),
            parts_from_memory=memory,
            parts_from_tmp=tmp,
            parts_from_store=store,
        )
