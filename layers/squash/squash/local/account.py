"""The account: all functions, the limits they share, and what is wrong on demand."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import field
from itertools import cycle
from typing import Final

from squash.errors import NotFoundError, UnavailableError
from squash.limits import (
    LAMBDA_CONCURRENCY_MAX,
    LAMBDA_TENANT_CONTAINERS_MAX,
)
from squash.local.calls import AnswerDroppedError, Call, Outcome, Refusal, RefusedError
from squash.local.containers import Container
from squash.local.faults import FaultKind, Faults
from squash.local.processes import Launcher
from squash.local.template import Function
from squash.values import dataclass

_EVICTION_ROUND_SECONDS: Final = 5.0
_THROTTLED_WAIT_SECONDS_MAX: Final = 10.0


@dataclass(frozen=True, slots=True)
class Policy:
    """How containers are kept.

    Attributes
    ----------
    concurrency:
        How many calls run at once, over all functions.
    containers_max:
        How many containers are kept before one that is idle goes, the longest unused first.
    idle_s:
        After how long an idle one goes.
    async_retry_s:
        How long to wait before a failed asynchronous call is run again, and again.

    """

    concurrency: int = LAMBDA_CONCURRENCY_MAX
    containers_max: int = 64
    idle_s: float = 600.0
    async_retry_s: tuple[float, float] = (1.0, 2.0)


@dataclass(slots=True)
class Counts:
    """What a function has done so far; `billed_gb_s` as Lambda would bill it, starts included."""

    calls: int = 0
    cold: int = 0
    errors: int = 0
    throttled: int = 0
    timed_out: int = 0
    killed: int = 0
    evicted: int = 0
    async_given_up: int = 0
    duration_ms: float = 0.0
    billed_gb_s: float = 0.0


@dataclass(slots=True)
class Pool:
    """The containers of one function."""

    function: Function
    launcher: Launcher
    make: Callable[[str | None], Container]
    containers: dict[str, Container] = field(default_factory=dict)
    idle: list[Container] = field(default_factory=list)
    counts: Counts = field(default_factory=Counts)

    @property
    def busy(self) -> int:
        """How many run a call, or start for one."""
        return len(self.containers) - len(self.idle)


class Account:
    """Runs calls, as Lambda does: in a warm container if one is free, else in a new one."""

    def __init__(self, pools: Mapping[str, Pool], *, policy: Policy, faults: Faults) -> None:
        self.pools = pools
        self.policy = policy
        self.faults = faults
        self.observe: Callable[[Function, Outcome], None] = lambda *_: None
        self._loop = asyncio.get_running_loop()
        self._later: set[asyncio.Task[None]] = set()
        self._living: set[Container] = set()  # those that were killed included, until they go
        self._evicting = asyncio.ensure_future(self._evict_now_and_then())

    def pool(self, name: str) -> Pool:
        """Return a function's pool, by its name or its logical id.

        Raises
        ------
        NotFoundError
            If there is no such function.

        """
        if name in self.pools:
            return self.pools[name]
        for pool in self.pools.values():
            if pool.function.logical_id == name:
                return pool
        raise NotFoundError(f"there is no function {name}, but {', '.join(self.pools)}")

    def containers(self) -> Iterator[Container]:
        """All that live, idle or not."""
        for pool in self.pools.values():
            yield from pool.containers.values()

    async def invoke(self, name: str, call: Call) -> Outcome:
        """Run a call and wait for its outcome.

        Raises
        ------
        RefusedError
            If it is not run.
        AnswerDroppedError
            If a fault loses its answer.

        """
        pool = self.pools[name]
        _check_tenant(pool.function, call.tenant)
        faults = self.faults.befall(name)
        if FaultKind.THROTTLE in faults:
            pool.counts.throttled += 1
            raise RefusedError(
                Refusal.THROTTLED, "Rate Exceeded.", reason="CallerRateLimitExceeded"
            )
        container = await self._container(pool, call.tenant)
        killing: asyncio.TimerHandle | None = None
        if FaultKind.KILL in faults:
            delay_s = faults[FaultKind.KILL].delay_ms / 1000
            if delay_s > 0:
                killing = self._loop.call_later(delay_s, self._kill, pool, container)
            else:
                # Not by a timer: a quick function would have answered before that came round.
                self._kill(pool, container)
        try:
            outcome = await container.serve(call)
        except BaseException:
            container.kill()
            raise
        finally:
            if killing is not None:
                killing.cancel()
            if container.usable:
                pool.idle.append(container)
            else:
                pool.containers.pop(container.name, None)
        _count(pool, outcome)
        self.observe(pool.function, outcome)
        if FaultKind.DELAY in faults:
            await asyncio.sleep(faults[FaultKind.DELAY].delay_ms / 1000)
        if FaultKind.DROP in faults:
            raise AnswerDroppedError
        return outcome

    def invoke_later(self, name: str, call: Call) -> None:
        """Run a call whose caller does not wait, again if it fails.

        Raises
        ------
        RefusedError
            If it cannot be run at all.

        """
        _check_tenant(self.pools[name].function, call.tenant)
        task = asyncio.ensure_future(self._persist(name, call))
        self._later.add(task)
        task.add_done_callback(self._later.discard)

    async def _persist(self, name: str, call: Call) -> None:
        waits = cycle(self.policy.async_retry_s)
        throttled_s = 0.1
        for attempt in range(self.pools[name].function.async_attempts):
            if attempt:
                await asyncio.sleep(next(waits))
            while True:
                try:
                    outcome = await self.invoke(name, call)
                except RefusedError:
                    # Throttling uses up no attempt.
                    await asyncio.sleep(throttled_s)
                    throttled_s = min(2 * throttled_s, _THROTTLED_WAIT_SECONDS_MAX)
                    continue
                except AnswerDroppedError:
                    return
                except UnavailableError:
                    failed = True  # no container started
                else:
                    failed = outcome.error_type is not None
                break
            if not failed:
                return
        self.pools[name].counts.async_given_up += 1

    async def settled(self) -> None:
        """Wait until every asynchronous call is through."""
        while self._later:
            await asyncio.wait(self._later)

    async def _container(self, pool: Pool, tenant: str | None) -> Container:
        """Take an idle container, else start one."""
        function = pool.function
        if function.reserved is not None and pool.busy >= function.reserved:
            self._throttle(pool, "ReservedFunctionConcurrentInvocationLimitExceeded")
        if sum(other.busy for other in self.pools.values()) >= self.policy.concurrency:
            self._throttle(pool, "ConcurrentInvocationLimitExceeded")
        # The one used last: the others may then be given up.
        for position in range(len(pool.idle) - 1, -1, -1):
            if pool.idle[position].tenant == tenant and pool.idle[position].usable:
                return pool.idle.pop(position)
        full = function.per_tenant and len(pool.containers) >= LAMBDA_TENANT_CONTAINERS_MAX
        if full and not self._evict_from([pool]):
            self._throttle(pool, "ConcurrentInvocationLimitExceeded")
        if sum(len(other.containers) for other in self.pools.values()) >= (
            self.policy.containers_max
        ):
            self._evict_from(list(self.pools.values()))
        container = pool.make(tenant)
        pool.containers[container.name] = container
        self._living.add(container)
        container.ended.add_done_callback(lambda _: self._forget(pool, container))
        try:
            await container.start()
        except BaseException:
            # Else it were busy for ever.
            pool.containers.pop(container.name)
            self._living.discard(container)
            raise
        return container

    @staticmethod
    def _throttle(pool: Pool, reason: str) -> None:
        pool.counts.throttled += 1
        raise RefusedError(Refusal.THROTTLED, "Rate Exceeded.", reason=reason)

    def _evict_from(self, pools: list[Pool]) -> bool:
        """End the container that has been idle longest; False if none is idle."""
        idle = [(one.used_at, one.name, pool) for pool in pools for one in pool.idle]
        if not idle:
            return False
        _, name, pool = min(idle, key=lambda entry: entry[0])
        self._evict(pool, pool.containers[name])
        return True

    def _evict(self, pool: Pool, container: Container) -> None:
        pool.counts.evicted += 1
        pool.idle.remove(container)
        pool.containers.pop(container.name)
        container.kill()

    def evict_idle(self, *, older_than_s: float) -> int:
        """End what has been idle for so long; returns how many."""
        horizon = self._loop.time() - older_than_s
        old = [
            (pool, one)
            for pool in self.pools.values()
            for one in pool.idle
            if one.used_at <= horizon
        ]
        for pool, container in old:
            self._evict(pool, container)
        return len(old)

    async def _evict_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(_EVICTION_ROUND_SECONDS)
            self.evict_idle(older_than_s=self.policy.idle_s)
            # Those that a burst of calls has left; at once, the next burst would start them anew.
            pools = list(self.pools.values())
            while sum(len(pool.containers) for pool in pools) > self.policy.containers_max:
                if not self._evict_from(pools):
                    break

    def kill(self, name: str, *, container: str | None = None) -> int:
        """Kill a function's containers, or one of them; returns how many there were.

        Raises
        ------
        NotFoundError
            If there is no such function.

        """
        pool = self.pool(name)
        doomed = [
            one for one in pool.containers.values() if container is None or one.name == container
        ]
        for one in doomed:
            self._kill(pool, one)
        return len(doomed)

    @staticmethod
    def _kill(pool: Pool, container: Container) -> None:
        """Kill a container; one that runs a call is taken out when the call has failed."""
        pool.counts.killed += 1
        if container in pool.idle:
            pool.idle.remove(container)
            pool.containers.pop(container.name)
        container.kill()

    def _forget(self, pool: Pool, container: Container) -> None:
        """Take out a container that has ended, maybe by itself."""
        self._living.discard(container)
        if container in pool.idle:
            pool.idle.remove(container)
            pool.containers.pop(container.name)

    async def close(self) -> None:
        """End all containers, and what started them."""
        self._evicting.cancel()
        for task in self._later:
            task.cancel()
        living = list(self._living)
        for container in living:
            container.kill()
        for pool in self.pools.values():
            await pool.launcher.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_THROTTLED_WAIT_SECONDS_MAX):
                await asyncio.gather(*(container.ended for container in living))


def _check_tenant(function: Function, tenant: str | None) -> None:
    if function.per_tenant and tenant is None:
        raise RefusedError(
            Refusal.INVALID,
            "Add a valid tenant ID in your request because you're invoking a function with "
            "tenant isolation enabled.",
        )
    if tenant is not None and not function.per_tenant:
        raise RefusedError(
            Refusal.INVALID,
            "Remove the tenant ID from your request because the function you're invoking does "
            "not have tenant isolation enabled.",
        )


def _count(pool: Pool, outcome: Outcome) -> None:
    counts = pool.counts
    counts.calls += 1
    counts.cold += outcome.init_ms is not None
    counts.errors += outcome.error_type is not None
    counts.timed_out += outcome.error_type == "Sandbox.Timedout"
    counts.duration_ms += outcome.duration_ms
    billed_ms = round(outcome.duration_ms + (outcome.init_ms or 0.0) + 0.5)
    counts.billed_gb_s += billed_ms / 1000 * pool.function.memory_mb / 1024
