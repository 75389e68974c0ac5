"""Values that hold vectors, compared."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from squash.model import Answer, Match, Record, RecordPage, Usage

VECTOR = np.array([1.0, 2.0], dtype=np.float32)
RECORD = Record("a", VECTOR, {"year": 2000, "tags": ["x"]})
MATCH = Match("a", 0.5, {"year": 2000}, VECTOR)


@pytest.mark.parametrize("value", [RECORD, MATCH])
def test_what_is_the_same_is_equal(value):
    """Vectors are compared number by number; so are values that hold such values."""
    same = replace(value, vector=VECTOR.copy(), metadata=dict(value.metadata))
    assert value == same
    assert hash(value) == hash(same)
    assert len({value, same}) == 1
    for other in (
        replace(value, key="b"),
        replace(value, metadata=None),
        replace(value, metadata={"year": 2001}),
        replace(value, vector=None),
        replace(value, vector=np.array([1.0, 3.0], dtype=np.float32)),
        replace(value, vector=np.array([1.0], dtype=np.float32)),
        "a",
        None,
    ):
        assert value != other
        assert other != value
    bare = replace(value, vector=None, metadata=None)
    assert bare == replace(bare)


def test_records_are_no_matches():
    """What is alike in all that both have is not the same."""
    assert RECORD != MATCH
    assert replace(MATCH, distance=0.25) != MATCH


def test_answers_and_pages_are_compared():
    """So that a test of who uses them may hold one against another."""
    page = RecordPage((RECORD,), None)
    assert page == RecordPage((replace(RECORD, vector=VECTOR.copy()),), None)
    answer = Answer((MATCH,), Usage(), 1)
    assert answer == Answer((replace(MATCH, vector=VECTOR.copy()),), Usage(), 1)
    assert answer != Answer((replace(MATCH, vector=2 * VECTOR),), Usage(), 1)
