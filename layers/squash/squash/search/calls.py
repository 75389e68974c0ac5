"""Calling functions: many beside one another, under one deadline.

A call that failed is made once more. One that was throttled waits and tries again for as long as
there is time. One that is late beside its siblings is made a second time, at its slot's replica,
and the first answer counts. `Caller` is the only place that knows of any of this: below it lies an
`Invoker`, that makes one call, and an `Exchange`, that waits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import field
from functools import partial
from typing import Final, Literal, Protocol, TypeAlias

from squash.clock import Clock, IdSource
from squash.errors import (
    InternalError,
    PartialAnswerError,
    SquashError,
    ThrottledError,
    UnavailableError,
)
from squash.planning.deadlines import nest
from squash.planning.tree import NO_TREE, Place
from squash.search.events import Answered, Kind, Request, open_answer, pack_request
from squash.search.exchange import Done, Exchange
from squash.search.spending import Spent
from squash.values import dataclass

_WAIT_MS_MAX: Final = 1 << 40  # more than anybody waits; much more no clock can count

Role: TypeAlias = Literal["allocator", "processor", "encoder"]
_KINDS: Final[dict[Role, Kind]] = {
    "allocator": "allocate",
    "processor": "process",
    "encoder": "encode",
}


class Invoker(Protocol):
    """Makes one call and waits for its answer."""

    def invoke(self, role: str, payload: bytes, *, slot: str | None, timeout_s: float) -> bytes:
        """Call a function.

        Parameters
        ----------
        role:
            "allocator", "processor" or "encoder".
        payload:
            A request, as `squash.search.events` packs it.
        slot:
            Which of the processors, by the slot's name or its replica's.
        timeout_s:
            How long to wait.

        Raises
        ------
        UnavailableError
            If it failed, or did not answer in time.
        ThrottledError
            If it was refused because too much runs at once.

        """
        ...


@dataclass(frozen=True, slots=True)
class CallPolicy:
    """When a call is made again.

    Parameters
    ----------
    hedge_factor:
        A call is late if it takes so many times the median of its siblings that are done,
        once half of them are.
    hedge_floor_ms:
        No call is late before this: a second one costs as much as the first.
    hedge_blind_ms:
        A processor's call is late after this if there is nothing to hold it against; an allocator's
        after one more for each level of calls below it, so that who is next to what is late helps
        it first: each above would have the whole subtree done again.
    hedge_share:
        How many of all calls may be hedged, of an invocation; at least one.
    throttle_first_ms, throttle_longest_ms:
        How long a throttled call waits, doubling, with jitter.

    """

    hedge_factor: float = 2.0
    hedge_floor_ms: int = 50
    hedge_blind_ms: int = 2_000
    hedge_share: float = 0.1
    throttle_first_ms: int = 50
    throttle_longest_ms: int = 2_000


@dataclass(frozen=True, slots=True)
class Call:
    """A call to be made.

    Parameters
    ----------
    role:
        Whom.
    body:
        A container's bytes.
    what:
        What is missing from the answer if this call has none.
    slot, replica:
        Of a processor: where its data is warm, and where a second call goes.
    place:
        Of an allocator: where it stands in the tree.

    """

    role: Role
    body: bytes
    what: str
    slot: str | None = None
    replica: str | None = None
    place: Place = NO_TREE


@dataclass(slots=True, eq=False)
class _Pending:
    """A call and what has become of it."""

    call: Call
    payload: bytes
    started_ms: int
    running: int = 0
    retried: bool = False
    hedged: bool = False
    throttles: int = 0
    again_ms: int | None = None
    took_ms: int = 0
    outcome: Answered | SquashError | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Calls that were launched together: siblings, by whose time lateness is told."""

    calls: Sequence[_Pending]

    @property
    def height(self) -> int:
        """How many levels of calls they make below them: none, if they are processors'."""
        place = self.calls[0].call.place if self.calls else NO_TREE
        return 0 if place.tree is None else place.tree.depth - place.node.level + 1


@dataclass(frozen=True, slots=True)
class Calling:
    """The components with which an invocation calls others; made once a process.

    Parameters
    ----------
    invoker:
        Makes a call.
    exchange:
        Makes an exchange, one for each invocation.
    clock, ids:
        Time; jitter.
    policy:
        When a call is made again.
    make_ready:
        Begins to make what calls need, and waits for nothing: whoever is to call has something to
        read before.

    """

    invoker: Invoker
    exchange: Callable[[], Exchange]
    clock: Clock
    ids: IdSource
    policy: CallPolicy = field(default_factory=CallPolicy)
    make_ready: Callable[[], None] | None = None

    def caller(
        self, deadline_ms: int, *, allow_partial: bool = False, may_hedge: bool = True
    ) -> Caller:
        """Return the caller of one invocation; see `Caller`."""
        if self.make_ready is not None:
            self.make_ready()
        return Caller(self, deadline_ms, allow_partial=allow_partial, may_hedge=may_hedge)


class Caller:
    """Makes the calls of one invocation, which must answer until a deadline.

    Parameters
    ----------
    calling:
        The components.
    deadline_ms:
        When the invocation itself must have answered, in milliseconds since 1970 UTC. The calls
        are given less, so that there is time to answer even if they take all of theirs.
    allow_partial:
        Whether a call without an answer is told by None rather than by an error.
    may_hedge:
        Whether late calls are made a second time. An invocation that is a second one itself makes
        none: where all are late, each level of a tree would double what the one above has doubled.

    """

    def __init__(
        self,
        calling: Calling,
        deadline_ms: int,
        *,
        allow_partial: bool = False,
        may_hedge: bool = True,
    ) -> None:
        self.spent = Spent()
        self._invoker = calling.invoker
        self._exchange = calling.exchange()
        self._clock = calling.clock
        self._ids = calling.ids
        self._policy = calling.policy
        self._allow_partial = allow_partial
        self._hedging = may_hedge
        now_ms = self._clock.now_ms()
        self._nested = nest(now_ms, min(deadline_ms, now_ms + _WAIT_MS_MAX))
        self._batches: list[Batch] = []
        self._attempts: list[_Pending] = []
        self._calls = 0

    def launch(self, calls: Sequence[Call]) -> Batch:
        """Begin calls; they run while the caller does other work."""
        now = self._clock.now_ms()
        batch = Batch(
            [_Pending(call, self._payload(call, may_hedge=self._hedging), now) for call in calls]
        )
        self._batches.append(batch)
        self._calls += len(batch.calls)
        for one in batch.calls:
            self._start(one, one.call.slot)
        return batch

    def _payload(self, call: Call, *, may_hedge: bool) -> bytes:
        return pack_request(
            Request(
                _KINDS[call.role],
                call.body,
                self._nested.answer_by_ms,
                call.place,
                self._allow_partial,
                may_hedge,
            )
        )

    def gather(self, batch: Batch) -> list[bytes | None]:
        """Wait for the answers of a batch; the calls of others are looked after meanwhile.

        Returns
        -------
        The answers' bodies, in the order of the calls; None for one that is missing, which only
        `allow_partial` allows.

        Raises
        ------
        PartialAnswerError
            If a call failed twice, or had no answer in time.
        ThrottledError
            If a call was throttled for as long as there was time.
        SquashError
            That a function answered with, other than `UnavailableError`.

        """
        while True:
            for one in batch.calls:
                self._raise_if_final(one)
            if all(one.outcome is not None for one in batch.calls):
                break
            self._turn()
        self._batches.remove(batch)
        return [
            one.outcome.body if isinstance(one.outcome, Answered) else None for one in batch.calls
        ]

    def check_time(self) -> None:
        """Refuse to begin work that nobody waits for.

        Raises
        ------
        UnavailableError
            If it is too late to call anyone.

        """
        if self._clock.now_ms() >= self._nested.give_up_ms:
            raise UnavailableError(
                "the query's deadline passed before its work began: give it more timeout_ms, or "
                "repeat it"
            )

    def total(self) -> Spent:
        """Return what was spent until now; calls that still run count as calls."""
        total = Spent()
        total.add(self.spent)
        total.invocations += sum({id(one): one.running for one in self._attempts}.values())
        return total

    def _turn(self) -> None:
        """Do what is due, then take in one call that is done, or wait for what is due next."""
        now = self._clock.now_ms()
        if now >= self._nested.give_up_ms:
            self._give_up()
            return
        due = self._nested.give_up_ms
        for batch in self._batches:
            late_ms = self._late_ms(batch)
            for one in batch.calls:
                at = self._due_ms(one, late_ms)
                if at is not None and at <= now:
                    self._again(one)
                    return
                due = due if at is None else min(due, at)
        done = self._exchange.next_done(due - now)
        if done is not None:
            self._take_in(done)

    def _start(self, one: _Pending, slot: str | None) -> None:
        left_ms = self._nested.give_up_ms - self._clock.now_ms()
        if left_ms <= 0:
            one.outcome = _late(one.call)
            return
        token = len(self._attempts)
        self._attempts.append(one)
        one.running += 1
        one.again_ms = None
        self._exchange.start(
            token,
            partial(
                self._invoker.invoke,
                one.call.role,
                one.payload,
                slot=slot,
                timeout_s=left_ms / 1000.0,
            ),
        )

    def _due_ms(self, one: _Pending, late_ms: float) -> int | None:
        """Return when a call is to be made again if nothing happens, or None."""
        if one.outcome is not None:
            return None
        if one.again_ms is not None:
            return one.again_ms
        if one.hedged or not self._may_hedge():
            return None
        return one.started_ms + math.ceil(late_ms)

    def _again(self, one: _Pending) -> None:
        if one.again_ms is None:
            one.hedged = True
            one.payload = self._payload(one.call, may_hedge=False)
            self.spent.hedges += 1
            self._start(one, one.call.replica or one.call.slot)
        else:
            one.started_ms = self._clock.now_ms()
            self._start(one, one.call.slot)

    def _may_hedge(self) -> bool:
        most = max(1, math.floor(self._policy.hedge_share * self._calls))
        return self._hedging and self.spent.hedges < most

    def _late_ms(self, batch: Batch) -> float:
        """Return after how long a call of a batch is late."""
        took = sorted(one.took_ms for one in batch.calls if isinstance(one.outcome, Answered))
        if 2 * len(took) < len(batch.calls) or not took:
            return self._policy.hedge_blind_ms * (1 + batch.height)
        median = (took[(len(took) - 1) // 2] + took[len(took) // 2]) / 2
        return max(self._policy.hedge_factor * median, self._policy.hedge_floor_ms)

    def _take_in(self, done: Done) -> None:
        """Take in what one attempt came to; of a call that has its answer it only costs."""
        one = self._attempts[done.token]
        one.running -= 1
        outcome: Answered | SquashError
        if isinstance(done.outcome, SquashError):
            outcome = done.outcome
            # What was refused was not run; what ran and failed is billed, for how long is not told.
            self.spent.invocations += not isinstance(outcome, ThrottledError)
        else:
            outcome, spent = _opened(done.outcome)
            self.spent.add(spent)
        if one.outcome is not None:
            return
        if isinstance(outcome, Answered):
            one.took_ms = done.at_ms - one.started_ms
            one.outcome = outcome
        elif isinstance(outcome, ThrottledError):
            self._throttled(one, outcome)
        elif not isinstance(outcome, UnavailableError) or isinstance(outcome, PartialAnswerError):
            # It would come to the same again; below an answer in part all was tried twice.
            one.outcome = outcome
        elif not one.running:
            self._failed(one, outcome)

    def _throttled(self, one: _Pending, error: ThrottledError) -> None:
        if one.running:
            return
        longest = min(
            self._policy.throttle_first_ms * 2**one.throttles, self._policy.throttle_longest_ms
        )
        one.throttles += 1
        wait_ms = longest * (0.5 + 0.5 * self._ids.jitter())
        again_ms = self._clock.now_ms() + max(math.ceil(wait_ms), 1)
        if again_ms >= self._nested.give_up_ms:
            one.outcome = error
        else:
            one.again_ms = again_ms

    def _failed(self, one: _Pending, error: UnavailableError) -> None:
        if one.retried:
            one.outcome = error
            return
        one.retried = True
        self.spent.retries += 1
        one.started_ms = self._clock.now_ms()
        self._start(one, one.call.slot)

    def _give_up(self) -> None:
        for batch in self._batches:
            for one in batch.calls:
                if one.outcome is None:
                    one.outcome = _late(one.call)

    def _raise_if_final(self, one: _Pending) -> None:
        error = one.outcome
        if error is None or isinstance(error, Answered):
            return
        lost = isinstance(error, UnavailableError | ThrottledError)
        if lost and self._allow_partial:
            return
        if not lost or isinstance(error, PartialAnswerError | ThrottledError):
            raise error
        raise PartialAnswerError(
            f"{one.call.what} could not be searched ({error}): repeat the query, or ask with "
            "allow_partial for what there is",
            missing=(one.call.what,),
        ) from error


def _opened(answer: bytes) -> tuple[Answered | SquashError, Spent]:
    """Read what a function answered; what no function of this release does is an error, too."""
    try:
        return open_answer(answer)
    except InternalError as error:
        return error, Spent(invocations=1)


def _late(call: Call) -> UnavailableError:
    return UnavailableError(f"the {call.role} did not answer before the query's deadline")
