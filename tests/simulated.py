"""Functions that call one another in time that passes only here.

A call is run when it is made, in a time of its own that branches off its caller's; how long it took
decides when its caller hears of it. So everything is deterministic, nothing sleeps, and every
moment at which something happened can be looked at afterwards.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain, repeat
from typing import Any

from squash.errors import SquashError, ThrottledError, UnavailableError
from squash.search.calls import Calling, CallPolicy
from squash.search.exchange import Done

START_MS = 1_700_000_000_000
HOP_MS = 10


@dataclass
class Clock:
    ms: int = START_MS

    def now_ms(self) -> int:
        return self.ms

    def sleep(self, seconds: float) -> None:
        self.ms += round(seconds * 1000)


class Ids:
    def new_id(self) -> str:
        raise AssertionError("nothing here is named")

    def jitter(self) -> float:
        return 0.5


@dataclass(frozen=True)
class Fate:
    """What becomes of one attempt: "ok", "fail", "throttle", "lose" (its answer), or an error."""

    kind: str = "ok"
    late_ms: int = 0
    cold: bool = False


@dataclass(frozen=True)
class Seen:
    """One attempt: when it was made, with what, and when its caller heard of it."""

    role: str
    slot: str | None
    payload: bytes
    at_ms: int
    heard_ms: int
    timeout_ms: float
    fate: Fate

    @property
    def deadline_ms(self) -> int:
        return json.loads(self.payload)["deadline_ms"]


Handler = Callable[["World", dict[str, Any]], dict[str, Any]]


@dataclass
class Cloud:
    """The functions, and what will become of each attempt, in the order in which they are made."""

    handlers: dict[str, Handler]
    fates: Iterator[Fate] = field(default_factory=lambda: repeat(Fate()))
    policy: CallPolicy = field(default_factory=CallPolicy)
    seen: list[Seen] = field(default_factory=list)

    def world(self, ms: int = START_MS) -> World:
        return World(self, Clock(ms))


def fates(*first: Fate) -> Iterator[Fate]:
    """Return these fates, and then only good ones."""
    return chain(first, repeat(Fate()))


@dataclass
class World:
    """One invocation's time, its calls under way, and its components."""

    cloud: Cloud
    clock: Clock
    under_way: list[tuple[int, int, int, bytes | SquashError]] = field(default_factory=list)
    took_ms: int = 0

    @property
    def calling(self) -> Calling:
        return Calling(self, lambda: self, self.clock, Ids(), self.cloud.policy)

    # An invoker

    def invoke(self, role: str, payload: bytes, *, slot: str | None, timeout_s: float) -> bytes:
        fate = next(self.cloud.fates)
        at, wait_ms = self.clock.ms, timeout_s * 1000.0
        try:
            answer, took = self._outcome(role, payload, fate)
            if took > wait_ms or fate.kind == "lose":
                took = int(wait_ms)
                raise UnavailableError("it took too long")
        except SquashError:
            took = int(wait_ms) if fate.kind == "lose" else HOP_MS
            took = min(took + fate.late_ms, int(wait_ms))
            raise
        finally:
            self.took_ms = took
            self.cloud.seen.append(Seen(role, slot, payload, at, at + took, wait_ms, fate))
        return answer

    def _outcome(self, role: str, payload: bytes, fate: Fate) -> tuple[bytes, int]:
        if fate.kind == "throttle":
            raise ThrottledError("too much at once", retry_after_ms=1)
        if fate.kind == "fail":
            raise UnavailableError("it crashed")
        there = World(self.cloud, Clock(self.clock.ms + HOP_MS))
        answer = self.cloud.handlers[role](there, json.loads(payload))
        took = there.clock.ms + fate.late_ms - self.clock.ms
        answer |= {"cold": fate.cold, "duration_ms": took - HOP_MS, "memory_mb": 2048}
        return json.dumps(answer).encode(), took + HOP_MS

    # An exchange

    def start(self, token: int, call: Callable[[], bytes]) -> None:
        outcome: bytes | SquashError
        try:
            outcome = call()
        except SquashError as error:
            outcome = error
        heapq.heappush(self.under_way, (self.clock.ms + self.took_ms, token, token, outcome))

    def next_done(self, wait_ms: int) -> Done | None:
        assert wait_ms > 0, "a wait of no time would be a busy one"
        until = self.clock.ms + wait_ms
        if self.under_way and self.under_way[0][0] <= until:
            at, _, token, outcome = heapq.heappop(self.under_way)
            self.clock.ms = max(self.clock.ms, at)
            return Done(token, at, outcome)
        self.clock.ms = until
        return None
