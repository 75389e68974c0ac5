"""The stages of a build, and what one task of a stage is told."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final, Self

from squash.errors import InvalidArgumentError
from squash.values import dataclass


class Stage(StrEnum):
    """A step of a build; a stage begins when the one before it is done."""

    PLAN = "plan"
    ENCODE = "encode"
    SAMPLE = "sample"
    TRAIN = "train"
    ASSIGN = "assign"
    KEYS = "keys"
    ASSEMBLE = "assemble"
    CALIBRATE = "calibrate"
    PUBLISH = "publish"


STAGES: Final = tuple(Stage)
"""In their order."""
MAPPED: Final = frozenset({Stage.ENCODE, Stage.SAMPLE, Stage.ASSIGN, Stage.KEYS, Stage.ASSEMBLE})
"""Those of many tasks, one a batch; the others are one task, batch 0."""


@dataclass(frozen=True, slots=True)
class Task:
    """One task: what a function is invoked with."""

    index: str
    build: str
    """The build's id, 32 hexadecimal digits."""
    stage: Stage
    batch: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the event of the function `builder`."""
        return {
            "index": self.index,
            "build": self.build,
            "stage": self.stage.value,
            "batch": self.batch,
        }

    @classmethod
    def from_json(cls, event: Mapping[str, Any]) -> Self:
        """Read an event.

        Raises
        ------
        InvalidArgumentError
            If it names no task.

        """
        try:
            index, build, batch = event["index"], event["build"], event.get("batch", 0)
            stage = Stage(event["stage"])
        except (KeyError, ValueError, TypeError) as error:
            raise InvalidArgumentError(
                'a task is {"index": name, "build": id, "stage": '
                f'{" | ".join(STAGES)}, "batch": number}}, not {dict(event)!r:.200}'
            ) from error
        if not (isinstance(index, str) and isinstance(build, str) and type(batch) is int):
            raise InvalidArgumentError("a task's index and build are strings, its batch a number")
        return cls(index, build, stage, batch)
