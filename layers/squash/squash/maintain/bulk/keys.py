"""Where the objects of a build lie, below the index's own prefix, and what it names its segments.

Everything but segments and the trained object lies under ``builds/<id>/``. A segment's id begins
with the first half of the build's: so garbage collection knows whose it is before a commit names
it.
"""

from __future__ import annotations

import hashlib
from typing import Final

from squash.maintain.bulk.stages import Stage

BUILDS: Final = "builds/"
_HALF: Final = 16


def folder(build: str) -> str:
    """Return what the keys of a build's objects begin with."""
    return f"{BUILDS}{build}/"


def request_key(build: str) -> str:
    """Return the key of what was asked: JSON, written once, before all else."""
    return f"{folder(build)}request"


def attempt_key(build: str, number: int) -> str:
    """Return the key of a start (number 1) or a resumption: JSON, written once."""
    return f"{folder(build)}attempts/{number:06d}"


def stop_key(build: str, attempt: int) -> str:
    """Return the key of what ended an attempt before its time: JSON, written once."""
    return f"{folder(build)}stops/{attempt:06d}"


def plan_key(build: str) -> str:
    """Return the key of the plan: JSON."""
    return f"{folder(build)}plan"


def items_key(build: str, stage: Stage) -> str:
    """Return the key of the batches of a mapped stage: a JSON list of tasks, for the map."""
    return f"{folder(build)}items/{stage.value}"


def done_key(build: str, stage: Stage, batch: int) -> str:
    """Return the key of a task's report: JSON; a task that has one is done."""
    return f"{folder(build)}done/{stage.value}-{batch:06d}"


def part_key(build: str, name: str, number: int) -> str:
    """Return the key of what a task leaves for later stages, such as ``runs/00000012``."""
    return f"{folder(build)}{name}/{number:08d}"


def model_key(build: str) -> str:
    """Return the key of what training learned."""
    return f"{folder(build)}model"


def segment_id(build: str, bucket: int, part: int) -> str:
    """Return the id of a segment: part `part` of a bucket."""
    return build[:_HALF] + _digest(f"{build}/{bucket}/{part}")


def trained_key(build: str) -> str:
    """Return the key of the trained object that the partitions of a build share."""
    return f"trained/{build[:_HALF]}{_digest(f'{build}/trained')}"


def commit_id(build: str) -> str:
    """Return the id of the commit that publishes a build."""
    return _digest(f"{build}/commit") + _digest(f"commit/{build}")


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8, usedforsecurity=False).hexdigest()
