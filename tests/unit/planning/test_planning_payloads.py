"""Payloads: every group fits, there and back."""

import base64
import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from squash import limits
from squash.errors import TooLargeError
from squash.planning.payloads import Part, split_payload

NOTHING = Part(0, 0)
PARTS = st.lists(st.builds(Part, st.integers(0, 60), st.integers(0, 60)), max_size=40)


@given(PARTS, st.integers(0, 40), st.integers(0, 40))
@settings(deadline=None)
def test_groups_fit_and_are_full(parts, shared_request, shared_answer):
    """Groups are not empty, keep the order, fit both limits, and none could take one more."""
    groups = split_payload(
        parts, Part(shared_request, shared_answer),
        request_bytes_max=100, answer_bytes_max=100,
    )  # fmt: skip
    assert [place for group in groups for place in group] == list(range(len(parts)))
    assert all(groups)

    def fits(places: range) -> bool:
        request = shared_request + sum(parts[place].request_bytes for place in places)
        answer = shared_answer + sum(parts[place].answer_bytes for place in places)
        return request <= 100 and answer <= 100

    assert all(fits(group) for group in groups)
    for group, following in itertools.pairwise(groups):
        assert not fits(range(group.start, following.start + 1))


@pytest.mark.parametrize(
    ("part", "advice"), [(Part(101, 0), "filter"), (Part(0, 101), "top_k|include")]
)
def test_what_fits_nowhere(part, advice):
    """One part beyond the limit is an error that says what to do; at the limit it fits."""
    whole = Part(min(part.request_bytes, 100), min(part.answer_bytes, 100))
    limits_ = {"request_bytes_max": 100, "answer_bytes_max": 100}
    assert split_payload([whole], NOTHING, **limits_) == [range(1)]
    with pytest.raises(TooLargeError, match=advice):
        split_payload([whole, part], NOTHING, **limits_)


def test_a_full_body_fits_a_call():
    """The longest body, in base64 within its envelope, is within Lambda's limit."""
    body = base64.b64encode(bytes(limits.REQUEST_BODY_BYTES_MAX)).decode()
    event = {"v": 1, "kind": "allocate", "body": body, "deadline_ms": 10**15}
    assert len(json.dumps(event)) <= limits.CALL_BYTES_MAX
    assert limits.ANSWER_BODY_BYTES_MAX <= limits.REQUEST_BODY_BYTES_MAX


def test_a_vector_fits_a_call():
    """The longest vector, with the most demanding filter's strings, is far from a call's limit."""
    vector = 4 * limits.DIMENSION_MAX
    assert vector * 100 < limits.REQUEST_BODY_BYTES_MAX
