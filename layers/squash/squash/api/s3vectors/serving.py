"""The faces of this API, by function, made when the first request for one comes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Final

from squash.api.access import Gate
from squash.api.environment import S3VectorsSettings
from squash.api.s3vectors.calls import Endpoint
from squash.api.s3vectors.face import S3VectorsFace
from squash.api.s3vectors.gate import gate_beside
from squash.api.services import Services
from squash.api.telemetry import Telemetry
from squash.clock import Clock, IdSource

# A function loads those of its own.
_MODULES: Final[Mapping[str, tuple[str, ...]]] = {
    "coordinator": ("querying",),
    "documents": ("vectors",),
    "indexes": ("buckets", "indexes", "policy_endpoints", "tags"),
}

Handler = Callable[[dict[str, Any], Any], dict[str, Any]]


def make_face(
    function: str,
    services: Services,
    *,
    gate: Gate,
    settings: S3VectorsSettings,
    telemetry: Telemetry,
    clock: Clock,
    ids: IdSource,
) -> S3VectorsFace:
    """Make the face of one function.

    Parameters
    ----------
    function:
        Its name.
    services:
        What endpoints work with.
    gate:
        That of the function's other interface.
    settings:
        What the environment says of it.
    telemetry, clock, ids:
        As the face takes them.

    """
    endpoints: dict[str, Endpoint] = {}
    for name in _MODULES[function]:
        endpoints |= import_module(f"squash.api.s3vectors.{name}").ENDPOINTS
    return S3VectorsFace(
        function,
        endpoints,
        services,
        gate=gate_beside(gate, settings.signing_keys, store=services.database.store, clock=clock),
        telemetry=telemetry,
        clock=clock,
        ids=ids,
        region=settings.region,
        kms_key=settings.kms_key,
    )
