"""The roles as functions of Lambda, made of the environment's variables.

Each maker imports what its function runs and no more: that is what a cold start waits for.
"""
# ruff: noqa: PLC0415

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Protocol

from squash.clock import Clock, SystemClock, SystemIds
from squash.errors import InvalidArgumentError
from squash.limits import LOCAL_WHOLE_BYTES_MAX
from squash.planning.prices import architecture_of
from squash.runtime.freed_memory import give_back_freed_memory
from squash.runtime.settings import (
    FUNCTION_VARIABLE,
    MB_PER_VCPU,
    Settings,
    StorePlace,
    choose_kernels,
    memory_mb,
    read_costs,
    retained_bytes,
    tmp_bytes,
)
from squash.storage import ObjectStore, open_store
from squash.storage.s3_access import SILENT_S
from squash.storage.tmp import TmpFiles

if TYPE_CHECKING:
    from squash.model import EncoderPin, Inputs, Purpose
    from squash.runtime.encoding import EncodedFor, Encoding, Told
    from squash.runtime.fleet import FleetSettings
    from squash.search import Searcher
    from squash.search.calls import Calling

STORE_VARIABLE: Final = "SQUASH_STORE"
ENDPOINT_VARIABLE: Final = "AWS_ENDPOINT_URL_S3"


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


def make_calling(environment: Mapping[str, str], *, clock: Clock) -> Calling:
    """Return what a function calls others by; no client is made before the first call.

    Raises
    ------
    InvalidArgumentError
        If a variable is wrong.

    """
    from squash.runtime.fleet import read_fleet

    return _calling(read_fleet(environment), clock)


def make_searcher(environment: Mapping[str, str], calling: Calling) -> Searcher | None:
    """Return what the coordinator searches by; None if there is nobody to call.

    Raises
    ------
    InvalidArgumentError
        If a variable is wrong.

    """
    from squash.runtime.fleet import read_fleet
    from squash.search.distributed import DistributedSearcher, Fleet

    fleet = read_fleet(environment)
    if fleet.processor is None or fleet.allocator is None:
        return None
    return DistributedSearcher(
        calling,
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
    from squash.runtime.fleet import PROCESSOR_VARIABLE, read_fleet
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
    clock = SystemClock()
    return MeasuredRole(
        Processor(warm.slot_of, warm.meter, clock),
        clock=clock,
        memory_mb=memory_mb(environment),
    )


def make_encoder(environment: Mapping[str, str]) -> Role:
    """Return the encoder.

    Raises
    ------
    InvalidArgumentError
        If a variable is missing or wrong.

    """
    from squash.runtime.encoder_role import EncoderRole, StoreMeter
    from squash.runtime.encoders import EncoderRegistry
    from squash.runtime.local_encoding import LocalEncoding, encoder_folders
    from squash.storage import CountingStore

    clock, memory = SystemClock(), memory_mb(environment)
    store = CountingStore(store_of(environment))
    encoding = LocalEncoding(
        EncoderRegistry(store),
        encoder_folders(environment),
        clock=clock,
        threads=max(round(memory / MB_PER_VCPU), 1),
    )
    role = EncoderRole(encoding, lambda: StoreMeter(store), clock)
    return MeasuredRole(role, clock=clock, memory_mb=memory)


def make_encoding(environment: Mapping[str, str], calling: Callable[[], Calling]) -> Encoding:
    """Return what a function has texts and images encoded by: the function SQUASH_ENCODER names.

    Whoever calls nobody to encode waits for none of what that needs.
    """

    def make() -> Encoding:
        from squash.runtime.fleet import ENCODER_VARIABLE
        from squash.runtime.remote_encoding import POLICY, RemoteEncoding

        if not environment.get(ENCODER_VARIABLE):
            raise InvalidArgumentError(
                "this deployment has no encoder function, so that it takes vectors alone: send "
                f"vectors, or deploy one and name it by {ENCODER_VARIABLE}"
            )
        return RemoteEncoding(replace(calling(), policy=POLICY))

    return _EncodingLater(make)


class _EncodingLater:
    """An `Encoding` that is made when it is first used."""

    def __init__(self, make: Callable[[], Encoding]) -> None:
        self._make = make
        self._made: Encoding | None = None

    def encode(
        self,
        pin: EncoderPin,
        inputs: Inputs,
        *,
        purpose: Purpose,
        dimension: int,
        deadline_ms: int | None = None,
        told: Told | None = None,
    ) -> EncodedFor:
        """Encode inputs; see `Encoding.encode`."""
        if self._made is None:
            self._made = self._make()  # of two threads, one's is not kept
        return self._made.encode(
            pin, inputs, purpose=purpose, dimension=dimension, deadline_ms=deadline_ms, told=told
        )


def _calling(fleet: FleetSettings, clock: Clock) -> Calling:
    from squash.runtime.invokers import LambdaInvoker
    from squash.search.calls import Calling
    from squash.search.exchange import ThreadExchange, thread_pool

    invoker = LambdaInvoker(
        allocator=fleet.allocator or "",
        processor=fleet.processor or "",
        encoder=fleet.encoder or "",
        affinity=fleet.affinity,
        slots=fleet.slots,
    )
    pool = thread_pool()
    return Calling(
        invoker,
        lambda: ThreadExchange(pool, clock),
        clock,
        SystemIds(),
        make_ready=invoker.make_ready,
    )


def _with_allocator(fleet: FleetSettings, own_name: str | None) -> FleetSettings:
    return fleet if fleet.allocator else replace(fleet, allocator=own_name)


def store_of(
    environment: Mapping[str, str], *, writes: bool = False, awaited: bool = False
) -> ObjectStore:
    """Open the store of a function; nothing is read yet.

    Parameters
    ----------
    environment:
        Names it.
    writes:
        Whether most of what the function is asked for writes: what that needs is loaded now.
    awaited:
        Whether somebody waits for what it writes, which is small: a write that hangs is repeated
        while there is time to answer.

    Raises
    ------
    InvalidArgumentError
        If SQUASH_STORE is not set, or names no store.

    """
    location = environment.get(STORE_VARIABLE)
    if not location:
        raise InvalidArgumentError(f"{STORE_VARIABLE} is not set: name a store, as s3://bucket/x")
    # Every function comes here. Where Lambda is told to log DEBUG, botocore would log whole what it
    # sends and gets: signing keys, session tokens, vectors.
    logging.getLogger("botocore").setLevel(logging.INFO)
    return open_store(
        location,
        endpoint_url=environment.get(ENDPOINT_VARIABLE) or None,
        writes=writes,
        silent_s=SILENT_S if awaited else None,
    )


def settings_of(environment: Mapping[str, str]) -> Settings:
    """Read how a function uses its machine, and have it use that: its kernels, and its memory.

    Raises
    ------
    InvalidArgumentError
        If a variable is wrong.

    """
    choose_kernels(environment)
    if FUNCTION_VARIABLE in environment:
        give_back_freed_memory()  # a function is ended that takes more than it has
    remote = _is_remote(environment)
    return Settings(
        retained_bytes_max=retained_bytes(environment),
        whole_bytes_max=0 if remote else LOCAL_WHOLE_BYTES_MAX,
        billed=remote,
        costs=read_costs(environment),
        architecture=architecture_of(os.uname().machine),
        place=StorePlace(
            environment.get(STORE_VARIABLE, ""), environment.get(ENDPOINT_VARIABLE) or None
        ),
        memory_mb=memory_mb(environment),
    )


def tmp_of(environment: Mapping[str, str]) -> TmpFiles | None:
    """Return files behind the memory, in a function's own folder, if what is behind is remote."""
    most = tmp_bytes(environment)
    if most == 0 or not _is_remote(environment) or FUNCTION_VARIABLE not in environment:
        return None
    return TmpFiles(tempfile.gettempdir(), bytes_max=most)


def _is_remote(environment: Mapping[str, str]) -> bool:
    return environment.get(STORE_VARIABLE, "").startswith("s3://")
