"""What is made as a draft is what its class makes: matches many at once, and answers."""

import copy
import pickle
from dataclasses import FrozenInstanceError, asdict, replace

import pytest

from squash.drafts import make_answer, make_level, make_matches, make_usage_here
from squash.model import (
    Answer,
    Level,
    Match,
    Usage,
)

FIELDS = [("a", 0.5, {"x": 1}, None), ("b", 1.5, None, None), ("c", 2.5, None, [1.0])]


def test_matches_made_at_once():
    """They equal, show and type as those made one by one, and go through copies and pickles."""
    made = make_matches(*zip(*FIELDS, strict=True))
    plain = tuple(Match(*fields) for fields in FIELDS)
    assert made == plain
    assert repr(made) == repr(plain)
    assert {type(one) for one in made} == {Match}
    assert copy.deepcopy(made) == plain
    assert pickle.loads(pickle.dumps(made)) == plain  # noqa: S301 - ours
    assert [asdict(one) for one in made] == [asdict(one) for one in plain]
    assert replace(made[0], key="z") == replace(plain[0], key="z")
    assert make_matches([], [], [], []) == ()


def test_they_are_frozen():
    """No field of theirs can be set, added or removed."""
    (match,) = make_matches(["a"], [0.5], [None], [None])
    with pytest.raises(FrozenInstanceError):
        match.key = "b"
    with pytest.raises(FrozenInstanceError):
        del match.distance
    with pytest.raises((AttributeError, TypeError)):
        object.__setattr__(match, "more", 1)


def test_the_rest_of_an_answer():
    """Levels, usage and answers are those that their classes make, and as frozen."""
    levels = (make_level("merge", 20, 10),)
    usage = make_usage_here((1, 2), (3, 4, 5), (6, 7, 8), 0.5, levels)
    asked = []
    answer = make_answer((), lambda: asked.append(1) or usage, 9, None, ("slot-1",))
    assert (answer.snapshot, answer.missing, asked) == (9, ("slot-1",), [])
    plain = Usage(1, 2, 3, 4, 5, 6, 7, 8, cost_usd=0.5, levels=(Level("merge", 20, 10),))
    assert (answer, repr(answer)) == (
        Answer((), plain, 9, None, ("slot-1",)),
        repr(Answer((), plain, 9, None, ("slot-1",))),
    )
    for one in (answer, usage, levels[0]):
        assert replace(one) == one
        assert pickle.loads(pickle.dumps(one)) == one  # noqa: S301 - ours
        with pytest.raises(FrozenInstanceError):
            setattr(one, next(iter(type(one).__slots__)), 1)
    assert asked == [1], "usage is made once, when somebody looks at it"
    with pytest.raises(FrozenInstanceError):
        answer.usage = usage
    with pytest.raises(AttributeError, match="'Answer' object has no attribute 'more'"):
        _ = answer.more


def test_fields_of_unequal_number():
    """As many of every field, or none is made."""
    with pytest.raises(ValueError, match="zip"):
        make_matches(["a", "b"], [0.5], [None], [None])
