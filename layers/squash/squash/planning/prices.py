"""What requests and functions cost, at list prices of us-east-1 in US dollars."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

Architecture: TypeAlias = Literal["x86_64", "arm64"]

_READ_USD: Final = 0.40e-6
_WRITE_USD: Final = 5.0e-6
_USD: Final = {
    "get": _READ_USD,
    "range": _READ_USD,
    "put": _WRITE_USD,
    "list": _WRITE_USD,
    "delete": 0.0,
}
INVOCATION_USD: Final = 0.20e-6
HTTP_REQUEST_USD: Final = 1.00e-6
"""Of the HTTP API, up to 512 kB each."""
LOGGED_GB_USD: Final = 0.50
STORED_GB_MONTH_USD: Final = 0.023
STATE_TRANSITION_USD: Final = 25.0e-6
"""Of a standard execution of Step Functions; each item of a distributed map is one more, too."""
GB_SECOND_USD: Final[Mapping[Architecture, float]] = {
    "x86_64": 16.6667e-6,
    "arm64": 13.3334e-6,
}


def request_cost_usd(requests: Mapping[str, int]) -> float:
    """Return what S3 asks for requests, by kind."""
    return sum(count * _USD[kind] for kind, count in requests.items())


def invocation_cost_usd(
    invocations: int, gb_seconds: float, *, architecture: Architecture
) -> float:
    """Return what Lambda asks for invocations that took so much memory for so long."""
    return invocations * INVOCATION_USD + gb_seconds * GB_SECOND_USD[architecture]


def transition_cost_usd(transitions: int) -> float:
    """Return what Step Functions asks for state transitions of standard executions."""
    return transitions * STATE_TRANSITION_USD


def logging_cost_usd(size_bytes: float) -> float:
    """Return what CloudWatch asks to take in logs of so many bytes."""
    return size_bytes / 1e9 * LOGGED_GB_USD


def storage_cost_usd(size_bytes: float, *, months: float = 1.0) -> float:
    """Return what S3 Standard asks to keep so many bytes."""
    return size_bytes / 1e9 * STORED_GB_MONTH_USD * months


def architecture_of(machine: str) -> Architecture:
    """Return what Lambda calls a machine, by the name that the machine gives itself."""
    return "arm64" if machine.lower() in {"aarch64", "arm64"} else "x86_64"
