"""Slots are kept warm by calls that cost nearly nothing."""

import json
import threading
from types import SimpleNamespace

from squash.api import functions
from squash.clock import SystemClock
from squash.errors import UnavailableError
from squash.runtime.invokers import LambdaInvoker
from squash.runtime.warming import keep_warm
from squash.search.processor import Processor
from squash.search.spending import Spent
from templates import ROOT


class Recording:
    """An invoker that keeps what it was asked, and fails for one slot."""

    def __init__(self, answer, failing=None):
        self.calls, self._answer, self._failing = {}, answer, failing
        self._lock = threading.Lock()

    def invoke(self, role, payload, *, slot, timeout_s):
        with self._lock:
            self.calls[slot] = self.calls.get(slot, 0) + 1
        assert (role, timeout_s > 0) == ("processor", True)
        if slot == self._failing:
            raise UnavailableError("it crashed")
        return self._answer(payload)


class Nothing:
    """A meter of what nobody asks."""

    def spent(self):
        return Spent()


def test_every_slot_is_called_once_and_none_is_waited_for_in_vain():
    """One that fails is no error; the others are called all the same."""
    slots = [f"slot-{number}" for number in range(9)]
    invoker = Recording(lambda payload: payload, failing="slot-3")
    assert keep_warm(invoker, slots) == 8
    assert invoker.calls == dict.fromkeys(slots, 1)
    assert keep_warm(invoker, []) == 0


def test_a_processor_answers_without_looking_at_anything():
    """It opens no slot and reads no task: it says that nobody waits."""

    def slot_of(prefix):
        raise AssertionError(prefix)

    processor = Processor(slot_of, Nothing, SystemClock())
    answers = []
    keep_warm(Recording(lambda load: answers.append(processor.handle(json.loads(load)))), ["one"])
    assert answers[0]["error"]["type"] == "UnavailableError"


def test_the_coordinator_takes_it_from_the_schedule_and_from_no_door(tmp_path, monkeypatch):
    """An event of a door is a request, whatever stands in it."""
    called = Recording(lambda payload: payload)
    monkeypatch.setattr(
        LambdaInvoker, "invoke", lambda _, *asked, **named: called.invoke(*asked, **named)
    )
    environment = {"SQUASH_STORE": str(tmp_path), "SQUASH_AUTH": "none", "SQUASH_LOCAL": "1"}
    fleet = {"SQUASH_ALLOCATOR": "a", "SQUASH_PROCESSOR": "p", "SQUASH_SLOTS": "3"}
    told = {"keep_warm": True}
    assert functions.coordinator(environment)(told, None) == {"slots": 0, "answered": 0}
    handle = functions.coordinator(environment | fleet)
    assert handle(told, None) == {"slots": 3, "answered": 3}
    assert sorted(called.calls.values()) == [1, 1, 1]
    door = json.loads((ROOT / "events" / "coordinator-query.json").read_text(encoding="utf-8"))
    context = SimpleNamespace(aws_request_id="x", get_remaining_time_in_millis=lambda: 29_000)
    assert "statusCode" in handle(door | told, context)
    assert sorted(called.calls.values()) == [1, 1, 1]
