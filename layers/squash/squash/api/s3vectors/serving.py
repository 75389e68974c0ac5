"""The faces of this API, by function, made when the first request for one comes."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, Final

from squash.api.access import Gate
from squash.api.environment import KeyPlace
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
_REGION: Final = "us-east-1"

Handler = Callable[[dict[str, Any], Any], dict[str, Any]]


def make_face(
    function: str,
    services: Services,
    *,
    gate: Gate,
    signing_keys: Sequence[KeyPlace],
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
    signing_keys:
        Where the keys lie that secrets of access keys are derived from.
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
        gate=gate_beside(gate, signing_keys, store=services.database.store, clock=clock),
        telemetry=telemetry,
        clock=clock,
        ids=ids,
        region=os.environ.get("AWS_REGION") or _REGION,
        kms_key=os.environ.get("SQUASH_KMS_KEY_ARN", ""),
    )
