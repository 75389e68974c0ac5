"""What a build made, before it is published: its segments, and what its partitions share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from squash.errors import UnavailableError
from squash.index.references import (
    object_from_json,
    object_to_json,
    segment_from_json,
    segment_to_json,
)
from squash.maintain.bulk import keys
from squash.maintain.bulk.records import read_json, write_json
from squash.model import ObjectRef, SegmentRef
from squash.storage import ObjectStore
from squash.values import dataclass


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is to be published; of segments, `as_of` is still 0."""

    segments: tuple[SegmentRef, ...]
    trained: ObjectRef | None
    """None where all segments are flat."""
    rows: int

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "version": 1,
            "segments": [segment_to_json(segment) for segment in self.segments],
            "trained": None if self.trained is None else object_to_json(self.trained),
            "rows": self.rows,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read what `to_json` gave; what `MALFORMED` lists if it did not."""
        trained = value["trained"]
        return cls(
            tuple(segment_from_json(segment) for segment in value["segments"]),
            None if trained is None else object_from_json(trained),
            int(value["rows"]),
        )


def outcome_key(build: str) -> str:
    """Return the key of what a build made: JSON."""
    return f"{keys.folder(build)}outcome"


def read_outcome(store: ObjectStore, build: str) -> Outcome:
    """Return what a build made.

    Raises
    ------
    UnavailableError
        If it is not complete yet.
    DataError
        If it cannot be read.

    """
    found = read_json(store, outcome_key(build), Outcome.from_json)
    if found is None:
        raise UnavailableError(f"build {build} is not complete yet: it cannot be published")
    return found


def write_outcome(store: ObjectStore, build: str, outcome: Outcome) -> None:
    """Store what a build made; the same gives the same bytes."""
    write_json(store, outcome_key(build), outcome.to_json())
