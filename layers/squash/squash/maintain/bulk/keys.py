"""Where the objects of a build lie, below the index's own prefix, and what it names its segments.

Everything but segments and the trained object lies under ``builds/<id>/``. A segment's id begins
with the first half of the build's: so garbage collection knows whose it is before a commit names
it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final

from squash.index import object_keys
from squash.maintain.bulk.stages import Stage

BUILDS: Final = "builds/"
BUILD_DIGITS: Final = 16
"""Of a build's id, with which the ids of its segments begin."""


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
    """Return the key of what ended an attempt before its time: JSON."""
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


def segment_id(build: str, bucket: int, part: int, objects: Mapping[str, bytes]) -> str:
    """Return the id of a segment that holds these objects: part `part` of a bucket.

    Other bytes make another id. A processor of another kind may round otherwise; and a task that
    runs twice at once, or one that outlived the attempt it was of, must not write over what the
    other has reported.
    """
    whole = hashlib.blake2b(digest_size=8, usedforsecurity=False)
    whole.update(f"{build}/{bucket}/{part}".encode())
    for name in sorted(objects):
        whole.update(f"/{name}/{len(objects[name])}/".encode())
        whole.update(objects[name])
    return build[:BUILD_DIGITS] + whole.hexdigest()


def trained_key(build: str, data: bytes) -> str:
    """Return the key of the trained object that the partitions of a build share; see above."""
    whole = hashlib.blake2b(f"{build}/trained/".encode(), digest_size=8, usedforsecurity=False)
    whole.update(data)
    return object_keys.trained_key(f"{build[:BUILD_DIGITS]}{whole.hexdigest()}")


def commit_id(build: str) -> str:
    """Return the id of the commit that publishes a build."""
    return _digest(f"{build}/commit") + _digest(f"commit/{build}")


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8, usedforsecurity=False).hexdigest()
