"""Calls: tried again, hedged, and never later than the deadline."""

from __future__ import annotations

import itertools
import json
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulated import HOP_MS, START_MS, Cloud, Fate, fates
from squash.clock import SystemClock
from squash.errors import (
    DataError,
    InternalError,
    PartialAnswerError,
    SquashError,
    ThrottledError,
    UnavailableError,
)
from squash.search.calls import Call, CallPolicy
from squash.search.events import Answered, answer_event, error_event, open_request
from squash.search.exchange import ThreadExchange, thread_pool
from squash.search.messages import read_task

DEADLINE_MS = START_MS + 10_000


def echo(world, event):
    request = open_request(event, "process")
    world.clock.ms += 5
    return answer_event(Answered(b"!" + request.body))


def calls(count: int) -> list[Call]:
    return [
        Call("processor", b"%d" % number, f"part {number}", f"slot-{number}", f"slot-{number}:r1")
        for number in range(count)
    ]


def asked(cloud: Cloud, count: int, *, deadline_ms: int = DEADLINE_MS, allow_partial=False):
    world = cloud.world()
    caller = world.calling.caller(deadline_ms, allow_partial=allow_partial)
    try:
        found = caller.gather(caller.launch(calls(count)))
    except SquashError as error:
        found = error
    return found, caller, world


def cloud_of(*first: Fate, **more) -> Cloud:
    return Cloud({"processor": more.pop("handler", echo)}, fates(*first), **more)


def test_all_are_begun_at_once():
    """Calls run beside one another: many take as long as one; each body comes back to its call."""
    cloud = cloud_of()
    found, caller, world = asked(cloud, 20)
    assert found == [b"!%d" % number for number in range(20)]
    assert {one.at_ms for one in cloud.seen} == {START_MS}
    assert world.clock.ms == START_MS + 2 * HOP_MS + 5
    spent = caller.total()
    assert (spent.invocations, spent.invocations_cold, spent.retries, spent.hedges) == (20, 0, 0, 0)
    assert spent.gb_seconds == pytest.approx(20 * 2.0 * 0.005)


def test_what_calls_need_is_begun_before_the_first():
    """Who is going to call has it made ready at once, whatever it still does before it calls."""
    began: list[int] = []
    world = cloud_of().world()
    calling = replace(world.calling, make_ready=lambda: began.append(1))
    assert not began
    caller = calling.caller(DEADLINE_MS)
    assert began == [1]
    assert caller.gather(caller.launch(calls(1))) == [b"!0"]
    assert began == [1]


def test_a_deadline_that_no_clock_reaches():
    """Who has a number for one that is none waits as anybody does, by a clock of its own."""
    found, _, _ = asked(cloud_of(), 1, deadline_ms=1 << 53)
    assert found == [b"!0"]
    answer = json.dumps(answer_event(Answered(b"!"))).encode()
    threads = ThreadExchange(thread_pool(), SystemClock())
    assert threads.next_done(1) is None
    calling = replace(
        cloud_of().world().calling,
        invoker=SimpleNamespace(invoke=lambda *_, **__: time.sleep(0.05) or answer),
        exchange=lambda: threads,
    )
    caller = calling.caller(1 << 53, may_hedge=False)
    assert caller.gather(caller.launch(calls(1))) == [b"!"]


def test_what_comes_after_the_answer_is_not_read():
    """While functions are deployed a straggler may answer as another release: it counts no more.

    Before there is an answer it is an error, and is not asked again: it would be the same.
    """
    answered = []

    def handler(world, event):
        answered.append(event)
        return {"v": 99} if len(answered) == 1 else echo(world, event)

    cloud = cloud_of(Fate(late_ms=3_000), Fate(late_ms=6_000), handler=handler)
    found, caller, world = asked(cloud, 2)
    assert found == [b"!0", b"!1"]
    assert world.clock.ms > START_MS + 6_000
    assert (caller.total().hedges, caller.total().invocations) == (1, 3)
    answered.clear()
    found, caller, _ = asked(cloud_of(handler=handler), 1)
    assert isinstance(found, InternalError)
    assert "one release" in str(found)
    assert (len(answered), caller.total().invocations) == (1, 1)


@pytest.mark.parametrize("kind", ["fail", "throttle"])
def test_a_call_that_failed_is_made_again(kind):
    """One failure, or some throttling, is made good by another try at the same slot."""
    cloud = cloud_of(Fate(kind))
    found, caller, _ = asked(cloud, 3)
    assert found == [b"!0", b"!1", b"!2"]
    again = [one for one in cloud.seen if one.slot == "slot-0"]
    assert [one.fate.kind for one in again] == [kind, "ok"]
    assert caller.total().retries == (kind == "fail")
    assert caller.total().invocations == 3 + (kind == "fail")


def test_a_call_that_failed_twice():
    """A second failure is an error that names what is missing; partly, there is the rest."""
    twice = (Fate("fail"), Fate(), Fate("fail"))
    found, _, _ = asked(cloud_of(*twice), 2)
    assert isinstance(found, PartialAnswerError)
    assert found.missing == ("part 0",)
    assert "part 0" in str(found)
    assert "allow_partial" in str(found)
    found, _, _ = asked(cloud_of(*twice), 2, allow_partial=True)
    assert found == [None, b"!1"]


def test_throttled_until_the_deadline():
    """Who is throttled waits longer and longer, and says so when the time is over."""
    cloud = cloud_of(*[Fate("throttle")] * 100)
    found, caller, world = asked(cloud, 1)
    assert isinstance(found, ThrottledError)
    assert world.clock.ms < DEADLINE_MS
    times = [one.at_ms for one in cloud.seen]
    waits = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert 4 < len(waits) < 20
    assert waits == sorted(waits)
    assert caller.total().invocations == 0


def test_a_straggler_is_hedged():
    """One that takes more than twice the median goes to the replica, once, and that answer counts.

    The first of them is billed as well, though nobody waits for it.
    """
    cloud = cloud_of(Fate(late_ms=5_000))
    found, caller, world = asked(cloud, 4)
    assert found == [b"!0", b"!1", b"!2", b"!3"]
    hedges = [one for one in cloud.seen if one.slot == "slot-0:r1"]
    assert [one.at_ms - START_MS for one in hedges] == [50]
    assert world.clock.ms == START_MS + 50 + 2 * HOP_MS + 5
    assert (caller.total().hedges, caller.total().invocations) == (1, 5)


def test_the_median_decides():
    """Where all take long, none is late before twice their median."""
    late = [Fate(late_ms=300)] * 3
    cloud = cloud_of(Fate(late_ms=600), *late)
    asked(cloud, 4)
    assert [one.at_ms - START_MS for one in cloud.seen if one.slot.endswith(":r1")] == []
    cloud = cloud_of(Fate(late_ms=700), *late)
    asked(cloud, 4)
    took = 300 + 2 * HOP_MS + 5
    assert [one.at_ms - START_MS for one in cloud.seen if one.slot.endswith(":r1")] == [2 * took]


def test_a_single_straggler():
    """A call without siblings is hedged as well, after a while."""
    cloud = cloud_of(Fate("lose"))
    found, _, world = asked(cloud, 1)
    assert found == [b"!0"]
    assert world.clock.ms == START_MS + CallPolicy().hedge_blind_ms + 2 * HOP_MS + 5


def test_hedges_are_few():
    """No more than a share of the calls is hedged, however many are late."""
    late = [Fate(late_ms=400)] * 15
    cloud = cloud_of(*late)
    found, caller, _ = asked(cloud, 40)
    assert len(found) == 40
    assert caller.total().hedges == 4


@pytest.mark.parametrize("error", [DataError("torn", object_key="x"), InternalError("oh")])
def test_what_another_try_cannot_mend(error):
    """An error of another kind comes back as it is, at once, and even if a part would do."""
    cloud = cloud_of(handler=lambda _world, _event: error_event(error))
    for allow_partial in (False, True):
        found, _, _ = asked(cloud, 2, allow_partial=allow_partial)
        assert type(found) is type(error)
        assert str(found) == str(error)
        assert found.object_key == error.object_key
    assert len(cloud.seen) == 4


@pytest.mark.parametrize(
    ("error", "tries"),
    [(UnavailableError("S3 is away"), 2), (PartialAnswerError("x", missing=("y",)), 1)],
)
def test_errors_that_are_answered(error, tries):
    """What a function says was unavailable is tried again, unless it has been, further down."""
    cloud = cloud_of(handler=lambda _world, _event: error_event(error))
    found, caller, _ = asked(cloud, 1)
    assert isinstance(found, PartialAnswerError)
    assert found.missing == (("part 0",) if tries == 2 else ("y",))
    assert len(cloud.seen) == caller.total().invocations == tries


def test_an_answer_of_another_release():
    """What is no answer is an error of its own."""
    found, _, _ = asked(cloud_of(handler=lambda _world, _event: {"v": 2}), 1)
    assert isinstance(found, InternalError)
    assert "one release" in str(found)


@pytest.mark.parametrize("what", ["event", "message"])
def test_a_function_of_another_release(what):
    """One that does not know what it is asked is asked again: soon one that knows it answers.

    Nobody's request is wrong, nor what is stored; if it goes on so, the query is to be repeated.
    """

    def handler(_world, event):
        try:
            request = open_request(event | {"v": 2} if what == "event" else event, "process")
            raise AssertionError(read_task(request.body))
        except SquashError as error:
            return error_event(error)

    cloud = cloud_of(handler=handler)
    found, caller, _ = asked(cloud, 1)
    assert isinstance(found, PartialAnswerError)
    assert "one release" in str(found)
    assert len(cloud.seen) == caller.total().invocations == 2
    turn = iter((handler, echo))
    found, _, _ = asked(cloud_of(handler=lambda *said: next(turn)(*said)), 1)
    assert found == [b"!0"]


FATES = st.builds(
    Fate,
    st.sampled_from(["ok", "ok", "fail", "throttle", "lose"]),
    st.sampled_from([0, 0, 20, 400, 20_000]),
    st.booleans(),
)


@given(st.lists(FATES, max_size=30), st.integers(0, 8), st.integers(0, 5_000), st.booleans())
@settings(deadline=None)
def test_whatever_happens(first, count, left_ms, allow_partial):
    """Nothing is lost or doubled, no deadline is passed, and an error comes only with a reason."""
    cloud = cloud_of(*first)
    deadline_ms = START_MS + left_ms
    found, caller, world = asked(cloud, count, deadline_ms=deadline_ms, allow_partial=allow_partial)
    assert world.clock.ms <= deadline_ms
    for one in cloud.seen:
        assert one.at_ms + one.timeout_ms <= deadline_ms
        assert one.deadline_ms <= deadline_ms
    by_slot: dict[str, list[str]] = {}
    for one in cloud.seen:
        by_slot.setdefault(one.slot.removesuffix(":r1"), []).append(one.fate.kind)
    for kinds in by_slot.values():
        assert sum(kind != "throttle" for kind in kinds) <= 3  # the first, a retry, a hedge
    spent = caller.total()
    assert spent.hedges <= max(1, count // 10)
    ran = sum(one.fate.kind != "throttle" for one in cloud.seen)
    assert ran <= spent.invocations <= len(cloud.seen)  # of those under way, nobody knows yet
    if isinstance(found, SquashError):
        assert isinstance(found, PartialAnswerError | ThrottledError)
        assert not allow_partial
        assert any(one.fate.kind != "ok" or one.fate.late_ms for one in cloud.seen) or left_ms < 30
    else:
        want = [b"!%d" % number for number in range(count)]
        assert [f or w for f, w in zip(found, want, strict=True)] == want
        assert allow_partial or None not in found
