"""States after builds and restorations: what changes, what is refused, and what claims hold."""

from __future__ import annotations

from dataclasses import replace

import pytest

from squash.errors import ConflictError, InvalidArgumentError
from squash.index.commits import Commit, DeleteKeys, PutSegments, Replace
from squash.index.state import Claim, State, apply, building, claimed_until
from squash.limits import FOLD_CLAIM_MS
from squash.maintain.bulk.replaced_part import SinceBase, fresh_replaced
from squash.model import ObjectRef, SegmentRef

BUILD = "b" * 32
BITMAP = ObjectRef("segments/s1/deleted-00000000000000000002", 2, 9)


def segment(name: str) -> SegmentRef:
    return SegmentRef(id=name, kind="flat", rows=9, as_of=0, objects={})


def after(state: State, *operations, time_ms: int = 1000) -> State:
    for operation in operations:
        number = state.sequence + 1
        state = apply(state, Commit(number, f"{number:032x}", time_ms, operation))
    return state


def begun() -> State:
    return after(State(), PutSegments((segment("s1"),)), PutSegments((segment("s2"),)))


def build(state: State, base: int, **more) -> Replace:
    inputs = tuple(one.id for one in state.segments if one.as_of <= base)
    return Replace(inputs, (), (segment("b1"),), None, base, content="build", **more)


def test_a_build_changes_records_and_later_puts_apply_to_it():
    """It is a change, ends claims, and its segments are as of its base."""
    state = after(begun(), Replace((), (), (), None, 2, build=BUILD, lasts_ms=100))
    state = after(state, PutSegments((segment("s4"),)))
    done = after(state, build(state, 3))
    assert (done.changed, done.content, done.claim) == (5, 5, None)
    assert {one.id: one.as_of for one in done.segments} == {"s4": 4, "b1": 3}


def test_no_fold_of_what_was_before_comes_after():
    """Though its inputs are live, as those of a restoration are."""
    state = begun()
    back = Replace(("s1", "s2"), (), (segment("s1"),), None, 2, content="restore", restored=1)
    state = after(state, back)
    with pytest.raises(ConflictError, match="meanwhile"):
        after(state, Replace(("s1",), (), (segment("o"),), None, 2))
    folded = after(state, Replace(("s1",), (), (segment("o"),), None, 3))
    assert folded.changed == 3
    with pytest.raises(ConflictError, match="meanwhile"):
        after(state, build(state, 2))


def test_a_restoration_replaces_all_and_brings_its_bitmaps():
    """Its segments are as if put by it, with the rows that were dead then."""
    state = begun()
    gone = replace(segment("s1"), deleted=BITMAP)
    operation = Replace(("s1", "s2"), (), (gone,), None, 2, content="restore", restored=1)
    done = after(state, operation)
    assert done.segments == (replace(gone, as_of=3, deleted_as_of=3),)
    for wrong in (replace(operation, inputs=("s1",)), replace(operation, base=1)):
        with pytest.raises((ConflictError, InvalidArgumentError)):
            after(state, wrong)
    begins = after(state, replace(operation, inputs=(), begins=True))
    assert begins.segments == state.segments
    assert (begins.changed, begins.content, begins.sequence) == (2, 0, 3)


def test_claims_of_builds():
    """They hold by whatever clock is later, for their own time; folds neither end nor take them."""
    state = after(begun(), Replace((), (), (), None, 2, build=BUILD, lasts_ms=10 * FOLD_CLAIM_MS))
    claim = state.claim
    assert claim == Claim(2, 1000, BUILD, 10 * FOLD_CLAIM_MS)
    assert building(state, 0) == claim
    assert building(state, 999 + 10 * FOLD_CLAIM_MS) == claim
    assert building(state, 1000 + 10 * FOLD_CLAIM_MS) is None
    assert claimed_until(state) == 2
    for operation in (
        Replace((), (), (), None, 3),
        Replace(("s1",), (), (), None, 3),
        DeleteKeys(["a"]),
    ):
        assert after(state, operation).claim == claim
    assert after(state, Replace((), (), (), None, 2, build=BUILD, lasts_ms=0)).claim is None
    later = after(state, DeleteKeys(["a"]), time_ms=1000 + 10 * FOLD_CLAIM_MS)
    assert after(later, Replace((), (), (), None, 4)).claim == Claim(4, later.time_ms)


def followed(*operations, base=2) -> SinceBase:
    commits = {n: Commit(n, f"{n:032x}", 0, one) for n, one in enumerate(operations, base + 1)}
    since = SinceBase(BUILD, base, "f" * 32, commit_at=commits.get)
    since.follow(base + len(operations))
    return since


def test_old_segments_are_found_however_they_were_folded():
    """By what folds took, not by what they read."""
    put = PutSegments((segment("n1"), segment("n2")))
    state = replace(begun(), segments=tuple(map(segment, ["s1", "o1", "o2", "n3"])))
    since = followed(
        put,
        Replace(("s2",), (1,), (segment("o1"),), None, 3),
        Replace(("n1", "n2"), (3,), (segment("n3"),), None, 5),
        Replace(("o1",), (), (segment("o2"),), None, 6),
        Replace((), (), (), None, 6),
    )
    assert since.inputs(state) == ["s1", "o1", "o2"]
    assert fresh_replaced(replace(state, fresh=(1, 2, 5)), 2) == [1, 2]


@pytest.mark.parametrize(
    ("last", "match"),
    [
        (Replace(("s1", "n1"), (), (), None, 3), "mixed"),
        (Replace(("s1",), (3,), (), None, 3), "mixed"),
        (Replace(("n1",), (2,), (), None, 3), "mixed"),
        (Replace((), (), (), None, 3, content="build"), "build has replaced"),
        (Replace((), (), (), None, 3, content="restore"), "restoration has replaced"),
    ],
)
def test_what_ends_a_build(last, match):
    """A mixed fold, another build, a restoration; or a commit that is gone."""
    put = PutSegments((segment("n1"),))
    with pytest.raises(ConflictError, match=match):
        followed(put, last)
    followed(put, replace(last, inputs=("n1",), fresh=(), content=None))
    followed(put, Replace((), (), (), None, 3, content="restore", begins=True))
    with pytest.raises(ConflictError, match="not there any more"):
        SinceBase(BUILD, 2, "f" * 32, commit_at=lambda _: None).follow(3)
