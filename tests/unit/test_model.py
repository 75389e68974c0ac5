"""Matches made many at once are those that are made one by one."""

import copy
import pickle
from dataclasses import FrozenInstanceError, asdict, replace

import pytest

from squash.model import Match, make_matches

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


def test_fields_of_unequal_number():
    """As many of every field, or none is made."""
    with pytest.raises(ValueError, match="zip"):
        make_matches(["a", "b"], [0.5], [None], [None])
