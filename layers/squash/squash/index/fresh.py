"""The fresh part of an index: what is in no partition, how much that is, and whose turn it is."""

from __future__ import annotations

from squash.index.commits import PutRows
from squash.index.live import Opened
from squash.index.state import State, claimed_in_vain, claimed_until
from squash.limits import (
    EXACT_ROWS_MAX,
    FLATTEN_AGAIN_COMMITS,
    FLATTEN_BYTES,
    FLATTEN_COMMITS,
    FRESH_BYTES_MAX,
    FRESH_COMMITS_MAX,
    FRESH_FOLD_SHARE,
    FRESH_ROWS_MAX,
)
from squash.model import SegmentRef
from squash.planning import pending_rows_max
from squash.values import dataclass


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


def passed_limit(part: FreshPart, *, soon: bool = False, times: float = 1.0) -> PassedLimit | None:
    """Return the limit that is reached; None if there is none.

    What a fold would only make another flat segment of may have any length: an index so small is
    searched exactly anyhow. And a fold leaves some rows outside of many partitions, at most half
    of `pending_rows_max`: limits are never so low that none could be kept.

    Parameters
    ----------
    part:
        What is in no partition.
    soon:
        Whether the limits are asked for at which a fold should come, rather than those at which
        writes are refused.
    times:
        How many times these an import may bring.

    """
    share = FRESH_FOLD_SHARE if soon else times
    found = [PassedLimit("FRESH_COMMITS_MAX", int(share * FRESH_COMMITS_MAX), part.commits)]
    if part.rows_in_partitions or part.rows > EXACT_ROWS_MAX:
        left = pending_rows_max(part.rows_in_partitions) if part.rows_in_partitions else 0
        left *= 1 if soon else 2
        row_bytes = part.bytes / max(part.rows, 1)
        rows_max = max(int(share * FRESH_ROWS_MAX), left)
        bytes_max = max(int(share * FRESH_BYTES_MAX), int(left * row_bytes))
        found.append(PassedLimit("FRESH_ROWS_MAX", rows_max, part.rows))
        found.append(PassedLimit("FRESH_BYTES_MAX", bytes_max, part.bytes))
    return next((one for one in found if one.value >= one.limit), None)


def segment_bytes(segment: SegmentRef) -> int:
    """Return the length of all objects of a segment."""
    return sum(ref.bytes for ref in segment.objects.values())


def unclaimed(state: State) -> tuple[int, ...]:
    """Return the fresh commits that no fold has claimed: those that may be flattened."""
    until = claimed_until(state)
    return tuple(sequence for sequence in state.fresh if sequence > until)


def flatten_due(opened: Opened) -> bool:
    """Tell if who made the last commit is the one to flatten.

    That is the commit with which the fresh ones became so many, or of so many bytes. Numbers of
    commits are taken once, so it is one writer's turn; if that one died, another's some commits
    later. What a fold had claimed and left is more than so many at once: there whoever comes first.
    """
    fresh = unclaimed(opened.state)
    if not fresh or fresh[-1] != opened.sequence:
        return False
    beyond = len(fresh) - FLATTEN_COMMITS
    if beyond >= 0 and (beyond % FLATTEN_AGAIN_COMMITS == 0 or claimed_in_vain(opened.state)):
        return True
    size = sum(opened.commits[sequence].stored_bytes for sequence in fresh)
    before = size - opened.commits[fresh[-1]].stored_bytes
    return size // FLATTEN_BYTES > before // FLATTEN_BYTES
