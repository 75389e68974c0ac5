"""What a build has made, before a commit names it: its segments, and what they share."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from squash.errors import DataError, UnavailableError
from squash.index.references import (
    MALFORMED,
    object_from_json,
    object_to_json,
    segment_from_json,
    segment_to_json,
)
from squash.maintain.bulk.keys import folder
from squash.model import ObjectRef, SegmentRef
from squash.storage import ObjectStore


@dataclass(frozen=True, slots=True)
class Outcome:
    """What `calibrate` leaves and `publish` commits.

    Parameters
    ----------
    segments:
        All of them, in the order of their buckets and parts; of partitions, in the order in which
        the trained object lists them.
    trained:
        What the partitions share; None if there are none.

    """

    segments: tuple[SegmentRef, ...]
    trained: ObjectRef | None

    @property
    def rows(self) -> int:
        """Return how many rows the segments hold."""
        return sum(segment.rows for segment in self.segments)

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "version": 1,
            "segments": [segment_to_json(segment) for segment in self.segments],
            "trained": object_to_json(self.trained) if self.trained else None,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read what `to_json` gave; what `MALFORMED` lists if it did not."""
        return cls(
            segments=tuple(segment_from_json(one) for one in value["segments"]),
            trained=object_from_json(value["trained"]) if value["trained"] else None,
        )


def outcome_key(build: str) -> str:
    """Return the key of what a build has made: JSON."""
    return f"{folder(build)}outcome"


def write_outcome(store: ObjectStore, build: str, outcome: Outcome) -> None:
    """Store it; the same outcome gives the same bytes."""
    text = json.dumps(outcome.to_json(), ensure_ascii=False, separators=(",", ":"))
    store.put(outcome_key(build), text.encode())


def read_outcome(store: ObjectStore, build: str) -> Outcome:
    """Return what a build has made.

    Raises
    ------
    UnavailableError
        If `calibrate` has not written it yet.
    DataError
        If it cannot be read.

    """
    key = outcome_key(build)
    data = store.get(key)
    if data is None:
        raise UnavailableError(f"build {build} is not calibrated yet: it cannot be published")
    try:
        return Outcome.from_json(json.loads(bytes(data)))
    except MALFORMED as error:
        raise DataError(
            f"{key} cannot be read ({error!r}): start the build anew", object_key=key
        ) from error
