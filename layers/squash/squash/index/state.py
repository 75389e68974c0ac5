"""What an index consists of after a commit, as a pure function of the log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace
from typing import Final, assert_never

from squash.errors import ConflictError, InternalError, InvalidArgumentError, NotFoundError
from squash.index.commits import (
    Commit,
    DeleteKeys,
    Dropped,
    Operation,
    PutRows,
    PutSegments,
    Replace,
)
from squash.limits import FOLD_CLAIM_MS
from squash.model import ObjectRef, SegmentRef
from squash.values import dataclass

# A writer who repeats a commit of unknown outcome finds it among so many.
RECENT_COMMITS_MAX: Final = 256


@dataclass(frozen=True, slots=True)
class Claim:
    """A fold that has begun, and would lose to whoever folds what it reads: others leave that.

    Or a build that will replace all that was there when it began: then nobody folds but who
    flattens later commits. Nothing depends on it but work that would be wasted.
    """

    base: int
    """It folds what was put up to this commit."""
    time_ms: int
    """When it began, or was renewed."""
    build: str | None = None
    """The build's id; None of a fold."""
    lasts_ms: int = FOLD_CLAIM_MS

    def holds(self, now_ms: int) -> bool:
        """Tell whether it is in force."""
        return now_ms - self.time_ms < self.lasts_ms


@dataclass(frozen=True, slots=True)
class State:
    """An index after the commit `sequence`.

    A row of a segment is dead if a commit later than the segment's `as_of` put or deleted its
    key; a fresh row is dead if a later commit did.
    """

    sequence: int = 0
    segments: tuple[SegmentRef, ...] = ()
    fresh: tuple[int, ...] = ()
    """Sequences of the commits that hold rows that are in no segment, ascending."""
    trained: ObjectRef | None = None
    recent: tuple[str, ...] = ()
    """The last commits' ids, the newest last."""
    time_ms: int = 0
    """When the last commit was made, by its writer's clock; never before the commit before it."""
    changed: int = 0
    """The last commit that changed records; later ones folded. 0 if none did."""
    content: int = 0
    """The last build or restoration, which made the records others: no fold of what was before
    may come after it. 0 if there was none."""
    claim: Claim | None = None
    """The last fold that said it had begun, until one of what it claimed is done."""
    snapshot_sequence: int = 0
    """The snapshot this was read from or written as; 0 if none."""
    log_bytes: int = 0
    """The length of all commits since that snapshot."""
    fresh_dead: Mapping[int, bytes] = field(default_factory=dict)
    """Packed bits of the fresh rows that were dead in that snapshot, where any were."""


def apply(state: State, commit: Commit) -> State:
    """Return the state after a commit.

    Raises
    ------
    ConflictError
        If the commit folds what is live no more.
    InvalidArgumentError
        If the commit contradicts itself.
    NotFoundError
        If the commit says that the index was dropped: there is no state after it.
    InternalError
        If it is not the next commit.

    """
    if commit.sequence != state.sequence + 1:
        raise InternalError(f"commit {commit.sequence} cannot follow {state.sequence}")
    operation = commit.operation
    after = _operate(state, commit.sequence, operation)
    folds = isinstance(operation, Replace) and not operation.changes
    # Writers of earlier releases wrote what their clocks said.
    time_ms = max(state.time_ms, commit.time_ms)
    return replace(
        after,
        sequence=commit.sequence,
        time_ms=time_ms,
        claim=_claim(state, operation, time_ms),
        changed=state.changed if folds else commit.sequence,
        content=commit.sequence if _changes_content(operation) else state.content,
        recent=(*state.recent, commit.commit_id)[-RECENT_COMMITS_MAX:],
        log_bytes=state.log_bytes + commit.stored_bytes,
    )


def claimed_until(state: State) -> int:
    """Return up to which commit what was put is being folded; 0 if nothing is."""
    claim = state.claim
    return claim.base if claim and claim.holds(state.time_ms) else 0


def claimed_in_vain(state: State) -> bool:
    """Tell if of what a fold said to take, and had the time for, nothing was taken since."""
    claim = state.claim
    return claim is not None and claim.build is None and not claim.holds(state.time_ms)


def building(state: State, now_ms: int) -> Claim | None:
    """Return the claim of a build that is running; None if none is."""
    claim = state.claim
    if claim is None or claim.build is None:
        return None
    # Where nothing is written, the time of the state stands still.
    return claim if claim.holds(max(now_ms, state.time_ms)) else None


def _changes_content(operation: Operation) -> bool:
    return isinstance(operation, Replace) and operation.changes


def _claim(state: State, operation: Operation, time_ms: int) -> Claim | None:
    claim = state.claim
    if not isinstance(operation, Replace) or operation.begins:
        return claim
    if operation.content is not None:
        return None
    of_build = claim is not None and claim.build is not None
    if operation.claims:
        if operation.build is not None:
            lasts_ms = operation.lasts_ms or 0
            return Claim(operation.base, time_ms, operation.build, lasts_ms) if lasts_ms else None
        return claim if of_build and building(state, time_ms) else Claim(operation.base, time_ms)
    if claim is None or of_build:
        return claim
    inputs = set(operation.inputs)
    taken = [*operation.fresh, *(one.as_of for one in state.segments if one.id in inputs)]
    return None if any(one <= claim.base for one in taken) else claim


def commits_needed(state: State) -> list[int]:
    """Return the sequences of the commits whose keys or rows a reader of `state` needs.

    These are the fresh ones, and all that may have killed a row since the bitmap of its segment,
    or since the snapshot for fresh rows.
    """
    floor = state.sequence
    for segment in state.segments:
        floor = min(floor, killed_until(segment))
    if state.fresh:
        floor = min(floor, max(state.snapshot_sequence, state.fresh[0]))
    later = range(floor + 1, state.sequence + 1)
    return [sequence for sequence in state.fresh if sequence <= floor] + list(later)


def committed_at(state: State, commit_id: str) -> int | None:
    """Return which commit has an id; None if none of the last `RECENT_COMMITS_MAX` has."""
    if commit_id not in state.recent:
        return None
    later = len(state.recent) - 1 - state.recent.index(commit_id)
    return state.sequence - later


def killed_until(segment: SegmentRef) -> int:
    """Return the commit up to which a segment's dead rows are known without the log."""
    return max(segment.as_of, segment.deleted_as_of)


def dropped() -> NotFoundError:
    """Make the error for whoever meets the end of the log of a dropped index."""
    return NotFoundError(
        "the index was dropped; if its name is listed still, that was broken off: drop it again, "
        "or create another, or wait until garbage is collected"
    )


def _operate(state: State, sequence: int, operation: Operation) -> State:
    match operation:
        case PutRows():
            return replace(state, fresh=(*state.fresh, sequence))
        case PutSegments(segments):
            added = tuple(
                replace(segment, as_of=sequence, deleted=None, deleted_as_of=0)
                for segment in segments
            )
            _refuse_twice(state.segments, added)
            return replace(state, segments=state.segments + added)
        case DeleteKeys():
            return state
        case Replace():
            return state if operation.begins else _replace(state, sequence, operation)
        case Dropped():
            raise dropped()
        case _:
            assert_never(operation)


def _replace(state: State, sequence: int, operation: Replace) -> State:
    inputs, fresh = set(operation.inputs), set(operation.fresh)
    if operation.base < state.content and not operation.claims:
        raise ConflictError(
            f"commit {state.content} has made the records of the index others meanwhile, by a "
            "build or a restoration: read the index again and fold what is there now"
        )
    live = {segment.id: segment for segment in state.segments}
    gone = sorted(inputs - live.keys()) + sorted(fresh - set(state.fresh))
    if gone:
        raise ConflictError(
            f"another fold has replaced {', '.join(map(str, gone[:3]))} meanwhile: read the index "
            "again and fold what is there now"
        )
    built_on = operation.trained_base
    if built_on is not None and (state.trained is None or state.trained.key != built_on):
        raise ConflictError(
            "another fold was first, and changed the partitions that this one meant to leave: "
            "read the index again and fold what is there now"
        )
    kept = tuple(segment for segment in state.segments if segment.id not in inputs)
    if operation.content is None:
        latest = max([live[one].as_of for one in inputs] + list(fresh), default=0)
    else:
        latest = _check_content(state, operation, kept)
    if not latest <= operation.base <= state.sequence:
        raise InvalidArgumentError(
            f"a fold of commits up to {latest} after commit {state.sequence} cannot have the base "
            f"{operation.base}: name the commit after which its inputs were read"
        )
    added = tuple(_added(segment, sequence, operation) for segment in operation.outputs)
    _refuse_twice(kept, added)
    return replace(
        state,
        segments=kept + added,
        fresh=tuple(one for one in state.fresh if one not in fresh),
        fresh_dead={one: bits for one, bits in state.fresh_dead.items() if one not in fresh},
        trained=operation.trained if operation.content else operation.trained or state.trained,
    )


def _check_content(state: State, operation: Replace, kept: tuple[SegmentRef, ...]) -> int:
    """Refuse a build that leaves commits it replaces, a restoration that leaves anything.

    Returns
    -------
    The earliest base that may be.

    """
    left = [one for one in state.fresh if one not in set(operation.fresh)]
    if operation.content == "build":
        if any(one <= operation.base for one in left) or any(
            one > operation.base for one in operation.fresh
        ):
            raise InvalidArgumentError(
                f"a build replaces the rows of all commits up to its base, {operation.base}, and "
                "of no others"
            )
        return 0
    if left or kept:
        raise ConflictError(
            "the index was written to meanwhile: read it again, and replace all that is there"
        )
    return state.sequence


def _added(segment: SegmentRef, sequence: int, operation: Replace) -> SegmentRef:
    """Return an output as the state holds it; a restored one is as if put with its dead rows."""
    if operation.content == "restore":
        return replace(segment, as_of=sequence, deleted_as_of=sequence)
    return replace(segment, as_of=operation.base, deleted=None, deleted_as_of=0)


def _refuse_twice(kept: tuple[SegmentRef, ...], added: tuple[SegmentRef, ...]) -> None:
    ids = [segment.id for segment in kept + added]
    if len(set(ids)) != len(ids):
        raise InvalidArgumentError("a segment of this id is there already: give each its own id")
