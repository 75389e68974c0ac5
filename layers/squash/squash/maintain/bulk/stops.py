"""What ended an attempt before its time: noted by whoever is first.

Only that a person gave the build up is noted over it.
"""

from __future__ import annotations

import json
from typing import Any, Literal, TypeAlias

from squash.maintain.bulk import keys
from squash.maintain.bulk.records import read_attempt, read_json, write_json
from squash.storage import ObjectStore
from squash.values import dataclass

StopState: TypeAlias = Literal["cancelled", "failed", "stopped"]


@dataclass(frozen=True, slots=True)
class Stop:
    """Why an attempt goes on no further.

    Parameters
    ----------
    state:
        "cancelled" by a person; "failed" by an error; "stopped" by a limit or an interruption.
    reason:
        In words.
    stage:
        What was at work; empty where that is not known.
    input, row:
        The file that caused it, by its URL, and the row of it, from 0, where that is known.
    at_ms:
        When, by the clock of who noted it.

    """

    state: StopState
    reason: str
    at_ms: int
    stage: str = ""
    input: str | None = None
    row: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return JSON values; what is not known is left out."""
        said = {"reason": self.reason, "state": self.state, "stage": self.stage}
        where = {"input": self.input, "row": self.row}
        known = {name: value for name, value in where.items() if value is not None}
        return {**said, **known, "at_ms": self.at_ms}


def note_stop(store: ObjectStore, build: str, stop: Stop, *, attempt: int | None = None) -> bool:
    """Note what ended an attempt, the latest if none is named; False if that was noted before.

    Raises
    ------
    NotFoundError
        If it was never started.

    """
    number = read_attempt(store, build).number if attempt is None else attempt
    data = json.dumps(stop.to_json(), ensure_ascii=False, separators=(",", ":")).encode()
    return store.put_if_absent(keys.stop_key(build, number), data)


def note_cancelled(store: ObjectStore, build: str, at_ms: int) -> None:
    """Note that a build is given up; of an attempt that had ended already it stays known why.

    Raises
    ------
    NotFoundError
        If it was never started.

    """
    number = read_attempt(store, build).number
    if note_stop(store, build, Stop("cancelled", "cancelled", at_ms), attempt=number):
        return
    key = keys.stop_key(build, number)
    before: dict[str, Any] | None = read_json(store, key, dict)
    if before is not None and before.get("state") != "cancelled":
        write_json(store, key, {**before, "state": "cancelled"})
