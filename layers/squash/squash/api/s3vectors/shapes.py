"""The members of each operation and their constraints, checked in the service's own words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from squash.api.s3vectors.operations import Operation


def checked(operation: Operation, members: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an operation's members as they are to be used.

    Raises
    ------
    ServiceError
        A ValidationException with every field that is wrong.

    """
    del operation
    return {name: value for name, value in members.items() if value is not None}
