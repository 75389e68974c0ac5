"""What requests cost, at list prices of us-east-1 in US dollars."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_READ_USD: Final = 0.40e-6
_WRITE_USD: Final = 5.0e-6
_USD: Final = {
    "get": _READ_USD,
    "range": _READ_USD,
    "put": _WRITE_USD,
    "list": _WRITE_USD,
    "delete": 0.0,
}


def request_cost_usd(requests: Mapping[str, int]) -> float:
    """Return what S3 asks for requests, by kind."""
    return sum(count * _USD[kind] for kind, count in requests.items())
