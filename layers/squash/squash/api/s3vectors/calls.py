"""What the endpoints of this API are given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from squash.api.access import Caller
from squash.api.s3vectors.operations import Operation
from squash.api.s3vectors.resources import Place, Resource
from squash.api.services import Services
from squash.values import dataclass


@dataclass(frozen=True, slots=True)
class Asked:
    """A request: admitted, its members checked, its resource found in them and allowed.

    `resource` is None where the operation is about the account. `by_policy` tells that the bucket's
    policy allows this on all that the resource holds, whichever names the caller's key is for.
    """

    operation: Operation
    members: Mapping[str, Any]
    caller: Caller
    place: Place
    resource: Resource | None = None
    left_ms: Callable[[], int] | None = None
    by_policy: bool = False

    @property
    def target(self) -> Resource:
        """The resource of an operation that has one."""
        if self.resource is None:
            raise ValueError(f"{self.operation.name} is about no resource")
        return self.resource


Answer: TypeAlias = Mapping[str, Any]
Endpoint: TypeAlias = Callable[[Services, Asked], Answer]
