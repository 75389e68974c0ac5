"""The roles as functions of Lambda, made of the environment's variables.

Each maker imports what its function runs and no more: that is what a cold start waits for.
"""
# ruff: noqa: PLC0415

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol, cast

from squash.clock import Clock, SystemClock, SystemIds
from squash.errors import InvalidArgumentError
from squash.limits import MIB, SLOTS_MAX
from squash.planning.shape import Shape, read_shape
from squash.planning.slots import slot_names
from squash.runtime.invokers import AFFINITIES, Affinity, LambdaInvoker
from squash.runtime.prices import architecture_of
from squash.runtime.settings import (
    MEMORY_VARIABLE,
    Settings,
    choose_kernels,
    read_costs,
    retained_bytes,
    tmp_bytes,
)
from squash.search.calls import Calling
from squash.search.exchange import ThreadExchange, thread_pool
from squash.search.searcher import Searcher
from squash.storage import ObjectStore, open_store
from squash.storage.tmp import TmpFiles

STORE_VARIABLE: Final = "SQUASH_STORE"
ALLOCATOR_VARIABLE: Final = "SQUASH_ALLOCATOR"
PROCESSOR_VARIABLE: Final = "SQUASH_PROCESSOR"
AFFINITY_VARIABLE: Final = "SQUASH_AFFINITY"
SLOTS_VARIABLE: Final = "SQUASH_SLOTS"
SHAPE_VARIABLE: Final = "SQUASH_SHAPE"
ENDPOINT_VARIABLE: Final = "AWS_ENDPOINT_URL_S3"
FUNCTION_VARIABLE: Final = "AWS_LAMBDA_FUNCTION_NAME"
TMP_FOLDER: Final = "/tmp"  # noqa: S108 - what Lambda gives a function; `TmpFiles` makes its own in it

_SLOTS: Final = "8"
_MB_PER_VCPU: Final = 1769.0
_LOCAL_WHOLE_BYTES_MAX: Final = 512 * MIB


class Role(Protocol):
    """Answers the events of one function."""

    def handle(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """Answer an event."""
        ...


class MeasuredRole:
    """A role that tells with every answer what its call took.

    Parameters
    ----------
    role:
        Answers.
    clock:
        Tells how long that took.
    memory_mb:
        What the function has.

    """

    def __init__(self, role: Role, *, clock: Clock, memory_mb: int) -> None:
        self._role = role
        self._clock = clock
        self._memory_mb = memory_mb
        self._cold = True

    def handle(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """Answer an event."""
        cold, self._cold = self._cold, False
        began_ms = self._clock.now_ms()
        answer = self._role.handle(event)
        return answer | {
            "cold": cold,
            "duration_ms": self._clock.now_ms() - began_ms,
            "memory_mb": self._memory_mb,
        }


@dataclass(frozen=True, slots=True)
class FleetSettings:
    """Whom a function calls, and how.

    Parameters
    ----------
    allocator, processor:
        The functions' names; None if there is nobody to call.
    affinity, slots:
        How partitions find the containers that hold them.
    shape:
        Who answers, whatever it costs; None for what pays.
    memory_mb:
        Of this function.

    """

    allocator: str | None
    processor: str | None
    affinity: Affinity
    slots: tuple[str, ...]
    shape: Shape | None
    memory_mb: int

    @property
    def vcpus(self) -> float:
        """How many cores this function has; the others are taken to have as many."""
        return self.memory_mb / _MB_PER_VCPU if self.memory_mb else float(os.cpu_count() or 1)


def read_fleet(environment: Mapping[str, str]) -> FleetSettings:
    """Read whom a function calls.

    Raises
    ------
    InvalidArgumentError
        With the variable that is wrong.

    """
    affinity = environment.get(AFFINITY_VARIABLE) or "tenant"
    if affinity not in AFFINITIES:
        raise InvalidArgumentError(
            f"{AFFINITY_VARIABLE} is one of {', '.join(AFFINITIES)}, not {affinity!r:.80}"
        )
    slots = environment.get(SLOTS_VARIABLE) or _SLOTS
    if not slots.isdecimal() or not 1 <= int(slots) <= SLOTS_MAX:
        raise InvalidArgumentError(
            f"{SLOTS_VARIABLE} is a whole number from 1 to {SLOTS_MAX}, not {slots!r:.80}"
        )
    memory = environment.get(MEMORY_VARIABLE) or "0"
    if not memory.isdecimal():
        raise InvalidArgumentError(f"{MEMORY_VARIABLE} is a number of MB, not {memory!r:.80}")
    return FleetSettings(
        allocator=environment.get(ALLOCATOR_VARIABLE) or None,
        processor=environment.get(PROCESSOR_VARIABLE) or None,
        affinity=cast("Affinity", affinity),
        slots=slot_names(int(slots)),
        shape=_shape(environment.get(SHAPE_VARIABLE)),
        memory_mb=int(memory),
    )


def make_searcher(environment: Mapping[str, str], *, clock: Clock) -> Searcher | None:
    """Return what the coordinator searches by; None if there is nobody to call.

    Raises
    ------
    InvalidArgumentError
        If a variable is wrong.

    """
    fleet = read_fleet(environment)
    if fleet.processor is None or fleet.allocator is None:
        return None
    from squash.search.distributed import DistributedSearcher, Fleet

    return DistributedSearcher(
        _calling(fleet, clock),
        Fleet(fleet.slots, fleet.vcpus, retained_bytes(environment), fleet.shape),
        costs=read_costs(environment),
    )


def make_allocator(environment: Mapping[str, str]) -> Role:
    """Return the allocator.

    Raises
    ------
    InvalidArgumentError
        If a variable is missing or wrong.

    """
    from squash.runtime.warm_views import WarmViews
    from squash.search.allocator import Allocator

    clock, fleet, settings = SystemClock(), read_fleet(environment), settings_of(environment)
    if fleet.processor is None:
        raise InvalidArgumentError(f"{PROCESSOR_VARIABLE} is not set: name the function to call")
    # An allocator calls those below it by its own name, where no other is given.
    fleet = _with_allocator(fleet, environment.get(FUNCTION_VARIABLE))
    warm = WarmViews(
        store_of(environment),
        settings=settings,
        clock=clock,
        ids=SystemIds(),
        tmp=tmp_of(environment),
    )
    allocator = Allocator(
        _calling(fleet, clock),
        warm.view_at,
        slots=fleet.slots,
        costs=settings.costs,
        meter=warm.meter,
    )
    return MeasuredRole(allocator, clock=clock, memory_mb=fleet.memory_mb)


def make_processor(environment: Mapping[str, str]) -> Role:
    """Return the processor.

    Raises
    ------
    InvalidArgumentError
        If a variable is missing or wrong.

    """
    from squash.runtime.warm_slots import WarmSlots
    from squash.search.processor import Processor

    warm = WarmSlots(
        store_of(environment), settings=settings_of(environment), tmp=tmp_of(environment)
    )
    return MeasuredRole(
        Processor(warm.slot_of, warm.meter),
        clock=SystemClock(),
        memory_mb=read_fleet(environment).memory_mb,
    )


def _calling(fleet: FleetSettings, clock: Clock) -> Calling:
    invoker = LambdaInvoker(
        allocator=fleet.allocator or "",
        processor=fleet.processor or "",
        affinity=fleet.affinity,
        slots=fleet.slots,
    )
    pool = thread_pool()
    return Calling(invoker, lambda: ThreadExchange(pool, clock), clock, SystemIds())


def _with_allocator(fleet: FleetSettings, own_name: str | None) -> FleetSettings:
    return fleet if fleet.allocator else replace(fleet, allocator=own_name)


def _shape(text: str | None) -> Shape | None:
    try:
        return read_shape(text) if text else None
    except ValueError as error:
        raise InvalidArgumentError(f"{SHAPE_VARIABLE}: {error}") from error


def store_of(environment: Mapping[str, str]) -> ObjectStore:
    """Open the store of a function; nothing is read yet.

    Raises
    ------
    InvalidArgumentError
        If SQUASH_STORE is not set, or names no store.

    """
    location = environment.get(STORE_VARIABLE)
    if not location:
        raise InvalidArgumentError(f"{STORE_VARIABLE} is not set: name a store, as s3://bucket/x")
    return open_store(location, endpoint_url=environment.get(ENDPOINT_VARIABLE) or None)


def settings_of(environment: Mapping[str, str]) -> Settings:
    """Read how a function uses its machine, and let the kernels that it names serve.

    Raises
    ------
    InvalidArgumentError
        If a variable is wrong.

    """
    choose_kernels(environment)
    remote = _is_remote(environment)
    return Settings(
        retained_bytes_max=retained_bytes(environment),
        whole_bytes_max=0 if remote else _LOCAL_WHOLE_BYTES_MAX,
        billed=remote,
        costs=read_costs(environment),
        architecture=architecture_of(os.uname().machine),
    )


def tmp_of(environment: Mapping[str, str]) -> TmpFiles | None:
    """Return files behind the memory, in a function's own folder, if what is behind is remote."""
    most = tmp_bytes(environment)
    if most == 0 or not _is_remote(environment) or FUNCTION_VARIABLE not in environment:
        return None
    return TmpFiles(TMP_FOLDER, bytes_max=most)


def _is_remote(environment: Mapping[str, str]) -> bool:
    return environment.get(STORE_VARIABLE, "").startswith("s3://")
