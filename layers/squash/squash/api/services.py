"""What the endpoints are given: a call, and the components that carry it out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from squash.api.access import Caller
from squash.api.build_runners import BackgroundRunner, BuildRunner, MachineRunner
from squash.api.environment import BuildMachine
from squash.api.opened import OpenIndexes
from squash.api.requests import HttpRequest, Reply
from squash.api.s3vectors.kept import KeptPolicies
from squash.clock import Clock
from squash.database import Database
from squash.storage import CountingStore
from squash.values import dataclass

CompactLater: TypeAlias = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Call:
    """A request, admitted.

    `index` is the name in its path, or empty; `document` its body, parsed, or None. `left_ms` tells
    how long the function may still run; None where nothing ends it.
    """

    request: HttpRequest
    caller: Caller
    index: str = ""
    document: Any = None
    left_ms: Callable[[], int] | None = None


@dataclass(frozen=True, slots=True)
class Services:
    """The components of the endpoints.

    `policies` are those of the vector buckets, as they were read lately. `compact_later` gives the
    compactor an event, see `squash.api.compacting`, and does not wait; None where there is no
    compactor. `build_runner` has bulk builds run.
    """

    database: Database
    opened: OpenIndexes
    catalogue_store: CountingStore
    policies: KeptPolicies
    build_runner: BuildRunner
    compact_later: CompactLater | None = None


Endpoint: TypeAlias = Callable[[Services, Call], Reply]


def make_services(
    database: Database,
    clock: Clock,
    *,
    compact_later: CompactLater | None = None,
    build_machine: BuildMachine | None = None,
) -> Services:
    """Make the components for a database."""
    runner: BuildRunner = (
        BackgroundRunner()
        if build_machine is None
        else MachineRunner(build_machine, architecture=database.settings.architecture)
    )
    counting = CountingStore(database.store)
    opened = OpenIndexes(database, counting, now_ms=clock.now_ms)
    policies = KeptPolicies(database, clock)
    return Services(database, opened, counting, policies, runner, compact_later)
