"""The fresh part of an index: what is in no partition, how much that is, and whose turn it is."""

from __future__ import annotations

from dataclasses import dataclass

from squash.index.commits import PutRows
from squash.index.live import Opened
from squash.limits import (
    EXACT_ROWS_MAX,
    FLATTEN_AGAIN_COMMITS,
    FLATTEN_BYTES,
    FLATTEN_COMMITS,
    FRESH_BYTES_MAX,
    FRESH_COMMITS_MAX,
    FRESH_ROWS_MAX,
)
from squash.model import SegmentRef


@dataclass(frozen=True, slots=True)
class FreshPart:
    """What queries measure exactly, since no partition holds it; dead rows count too."""

    commits: int
    """That hold rows themselves."""
    rows: int
    """Of these commits and of flat segments."""
    bytes: int
    rows_in_partitions: int


def fresh_part(opened: Opened) -> FreshPart:
    """Measure the fresh part by what was read already."""
    rows = size = in_partitions = 0
    for sequence in opened.state.fresh:
        commit = opened.commits[sequence]
        size += commit.stored_bytes
        if isinstance(commit.operation, PutRows):
            rows += len(commit.operation.rows)
    for segment in opened.state.segments:
        if segment.kind == "flat":
            rows += segment.rows
            size += segment_bytes(segment)
        else:
            in_partitions += segment.rows
    return FreshPart(len(opened.state.fresh), rows, size, in_partitions)


@dataclass(frozen=True, slots=True)
class PassedLimit:
    """A limit of the fresh part that was reached: its name, its value, and what there is."""

    name: str
    limit: int
    value: int


def passed_limit(part: FreshPart, *, share: float = 1.0) -> PassedLimit | None:
    """Return the limit of which a share is reached; None if there is none.

    What a fold would only make another flat segment of may have any length: an index so small is
    searched exactly anyhow.
    """
    found = [PassedLimit("FRESH_COMMITS_MAX", FRESH_COMMITS_MAX, part.commits)]
    if part.rows_in_partitions or part.rows > EXACT_ROWS_MAX:
        found.append(PassedLimit("FRESH_ROWS_MAX", FRESH_ROWS_MAX, part.rows))
        found.append(PassedLimit("FRESH_BYTES_MAX", FRESH_BYTES_MAX, part.bytes))
    return next((one for one in found if one.value >= share * one.limit), None)


def segment_bytes(segment: SegmentRef) -> int:
    """Return the length of all objects of a segment."""
    return sum(ref.bytes for ref in segment.objects.values())


def flatten_due(opened: Opened) -> bool:
    """Tell if who made the last commit is the one to flatten.

    That is the commit with which the fresh ones became so many, or of so many bytes. Numbers of
    commits are taken once, so it is one writer's turn; if that one died, another's some commits
    later.
    """
    fresh = opened.state.fresh
    if not fresh or fresh[-1] != opened.sequence:
        return False
    beyond = len(fresh) - FLATTEN_COMMITS
    if beyond >= 0 and beyond % FLATTEN_AGAIN_COMMITS == 0:
        return True
    size = sum(opened.commits[sequence].stored_bytes for sequence in fresh)
    before = size - opened.commits[fresh[-1]].stored_bytes
    return size // FLATTEN_BYTES > before // FLATTEN_BYTES
