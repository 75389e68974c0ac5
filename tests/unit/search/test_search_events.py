"""Envelopes: what one function says, the other reads; everything else is refused."""

import base64
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from squash import errors
from squash.errors import (
    CommitUnknownError,
    InternalError,
    InvalidArgumentError,
    PartialAnswerError,
    SquashError,
    ThrottledError,
    TooLargeError,
)
from squash.limits import ANSWER_BODY_BYTES_MAX, CALL_BYTES_MAX, REQUEST_BODY_BYTES_MAX
from squash.planning.tree import NO_TREE, Node, Place, Tree
from squash.search.events import (
    Answered,
    Request,
    answer_event,
    error_event,
    open_answer,
    open_request,
    pack_request,
)
from squash.search.spending import Spent
from squash.storage import StoreCounts

PLACES = st.sampled_from([NO_TREE, Place(Tree(3, 2)), Place(Tree(3, 2), Node(4, 1))])
SPENT = st.builds(
    Spent,
    *[st.integers(0, 99)] * 2,
    st.floats(0, 9),
    *[st.integers(0, 99)] * 2,
    st.dictionaries(st.sampled_from(["get", "range"]), st.integers(1, 9)),
    *[st.integers(0, 99)] * 5,
)


@given(st.binary(max_size=99), st.integers(0, 1 << 50), PLACES, st.booleans(), st.booleans())
@settings(deadline=None)
def test_requests(body, deadline_ms, place, allow_partial, may_hedge):
    """A request is read as it was sent."""
    for kind in ("allocate", "process"):
        request = Request(kind, body, deadline_ms, place, allow_partial, may_hedge)
        event = json.loads(pack_request(request))
        assert open_request(event, kind) == request


GOOD = {"v": 1, "kind": "process", "body": "", "deadline_ms": 5}


@pytest.mark.parametrize(
    "change",
    [{"v": 2}, {"kind": "allocate"}, {"kind": None}, {"body": 3}, {"body": "!"}, {"body": "é"},
     {"body": None}, {"deadline_ms": "5"}, {"deadline_ms": 5.5}, {"deadline_ms": True},
     {"deadline_ms": 10**400},
     {"place": 7}, {"place": [3, 2]}, {"place": [0, 1, 0, 1]}, {"place": [3, 2, 0, "1"]}],
)  # fmt: skip
def test_events_that_are_no_requests(change):
    """An event of anybody else's is refused, and says that releases are mixed."""
    assert open_request(GOOD, "process").deadline_ms == 5
    with pytest.raises(InvalidArgumentError, match="one release"):
        open_request(GOOD | change, "process")
    with pytest.raises(InvalidArgumentError):
        open_request({}, "process")


@pytest.mark.parametrize("name", ["v", "kind", "deadline_ms"])
def test_what_is_quoted_of_an_event_is_short(name):
    """A refusal goes back as an answer, which must not be as long as what it refuses."""
    with pytest.raises(InvalidArgumentError) as caught:
        open_request(GOOD | {name: "x" * 10_000_000}, "process")
    assert len(str(caught.value)) < 400


@given(st.binary(max_size=99), SPENT, st.booleans())
@settings(deadline=None)
def test_answers(body, spent, cold):
    """An answer is read as it was given, and costs its own invocation and those below it."""
    event = answer_event(Answered(body, spent))
    event |= {"cold": cold, "duration_ms": 500, "memory_mb": 2048}
    answered, total = open_answer(json.dumps(event).encode())
    assert answered.body == body
    assert total.invocations == spent.invocations + 1
    assert total.invocations_cold == spent.invocations_cold + cold
    assert total.gb_seconds == pytest.approx(spent.gb_seconds + 1.0)
    assert total.store_kinds == spent.store_kinds
    assert (total.parts_from_memory, total.parts_from_tmp, total.parts_from_store) == (
        spent.parts_from_memory, spent.parts_from_tmp, spent.parts_from_store,
    )  # fmt: skip


def test_sums():
    """What is spent adds up, requests by kind."""
    total = Spent()
    total.add(Spent(1, 1, 0.5, 1, 1, {"get": 1}, 1, 10, 1, 2, 3))
    total.add_store(StoreCounts(3, 2, 20, 0, {"get": 2, "range": 1}))
    total.add(total)
    assert total == Spent(2, 2, 1.0, 2, 2, {"get": 6, "range": 2}, 6, 60, 2, 4, 6)


def make(kind):
    if kind is ThrottledError:
        return kind("slow down", retry_after_ms=7, index="papers")
    if kind is CommitUnknownError:
        return kind("who knows", commit_id="abc", index="papers")
    if kind is PartialAnswerError:
        return kind("some", missing=("p1", "p2"), index="papers")
    return kind("what", index="papers", key="k", field="f", object_key="o")


@pytest.mark.parametrize("kind", sorted(errors.HTTP_STATUS, key=lambda kind: kind.__name__))
def test_errors(kind):
    """Every error comes back as what it was, with all that it knows; what it cost counts."""
    error = make(kind)
    event = error_event(error, Spent(invocations=2))
    back, spent = open_answer(json.dumps(event).encode())
    assert type(back) is kind
    assert vars(back) == vars(error)
    assert str(back) == str(error)
    assert spent.invocations == 3


def test_errors_that_are_not_known():
    """An error of another release, or of no class of ours, is an internal one."""

    class OddError(SquashError):
        pass

    back, _ = open_answer(json.dumps(error_event(OddError("odd"))).encode())
    assert type(back) is InternalError
    event = {"v": 1, "error": {"type": "NewError", "message": "new"}}
    back, _ = open_answer(json.dumps(event).encode())
    assert type(back) is InternalError
    assert "NewError" in str(back)


@pytest.mark.parametrize(
    "payload",
    [b"", b"null", b"[]", b"{}", b'{"v": 2}', b'{"v": 1}', b'{"v": 1, "body": "!"}',
     b'{"v": 1, "body": "", "spent": {}}', b'{"v": 1, "error": {}}', b"\xff",
     b'{"v": 1, "body": "", "duration_ms": 1' + b"0" * 400 + b"}",
     b'{"v": 1, "error": {"type": "ThrottledError", "message": "", "retry_after_ms": Infinity}}'],
)  # fmt: skip
def test_payloads_that_are_no_answers(payload):
    """What no function of ours answers is an error that says so."""
    with pytest.raises(InternalError, match="one release"):
        open_answer(payload)


def test_the_largest():
    """The longest bodies fit a call's limit; an answer that is longer is refused."""
    request = Request("allocate", bytes(REQUEST_BODY_BYTES_MAX), 1 << 50, Place(Tree(3, 2)), True)
    assert len(pack_request(request)) <= CALL_BYTES_MAX
    event = answer_event(Answered(bytes(ANSWER_BODY_BYTES_MAX)))
    assert len(json.dumps(event)) <= CALL_BYTES_MAX
    assert len(base64.b64decode(event["body"])) == ANSWER_BODY_BYTES_MAX
    with pytest.raises(TooLargeError, match="top_k"):
        answer_event(Answered(bytes(ANSWER_BODY_BYTES_MAX + 1)))
