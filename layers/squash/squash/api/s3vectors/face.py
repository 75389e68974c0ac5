"""The service's API on one function: who asks, for what, may they; then the call and its answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from squash.api.access import Gate
from squash.api.handling import EventHandler, LeftMs, Seen
from squash.api.members import shown
from squash.api.problems import MethodNotAllowedError
from squash.api.requests import HttpRequest
from squash.api.s3vectors.authorize import CHANGES_POLICY, authorize, stored_policy
from squash.api.s3vectors.bodies import members_of, refuse_too_large, written
from squash.api.s3vectors.calls import Asked, Endpoint
from squash.api.s3vectors.kept import KeptPolicies
from squash.api.s3vectors.operations import OPERATIONS, Operation, methods_of, operation_of
from squash.api.s3vectors.problems import ServiceError, body_of, refusal_of
from squash.api.s3vectors.resources import (
    Place,
    Resource,
    bucket_resource,
    index_resource,
    new_index_resource,
    tagged_resource,
)
from squash.api.s3vectors.validation import checked
from squash.api.services import Services
from squash.api.telemetry import Telemetry
from squash.clock import Clock, IdSource

_JSON: Final = "application/json"


class S3VectorsFace(EventHandler):
    """Answers the events of an HTTP API for the operations of one function.

    Parameters
    ----------
    function:
        Whose operations.
    endpoints:
        By the names of these operations.
    services:
        What endpoints work with.
    gate, telemetry, clock, ids:
        Tells who asks; is told of every request; time; names for requests that have none.
    region:
        Of the deployment.
    kms_key:
        ARN of the KMS key that it stores all with; empty if S3's own keys do it.

    """

    def __init__(
        self,
        function: str,
        endpoints: Mapping[str, Endpoint],
        services: Services,
        *,
        gate: Gate,
        telemetry: Telemetry,
        clock: Clock,
        ids: IdSource,
        region: str,
        kms_key: str = "",
    ) -> None:
        super().__init__(telemetry=telemetry, clock=clock, ids=ids)
        self._function = function
        self._endpoints = endpoints
        self._services = services
        self._gate = gate
        self._place = Place(region=region, kms_key=kms_key)

    def _answered(self, request: HttpRequest, seen: Seen, left_ms: LeftMs | None) -> dict[str, Any]:
        place = replace(self._place, account=request.account or self._place.account)
        body = self._result(request, place, seen, left_ms)
        return _answer(200, body, {}, request.id)

    def _refused(self, error: Exception, seen: Seen, request_id: str) -> dict[str, Any]:
        refusal = refusal_of(error, OPERATIONS.get(seen.route))
        return _answer(refusal.status, body_of(refusal.document), refusal.headers, request_id)

    def _result(
        self, request: HttpRequest, place: Place, seen: Seen, left_ms: LeftMs | None
    ) -> str:
        # The signature is over the body: what is too long to be read cannot be admitted either.
        refuse_too_large(operation_of(request.method, request.path), request)
        # No credential, no answer: not even which operations there are.
        caller = self._gate.admit(request)
        seen.caller = caller.name
        operation = self._operation(request)
        seen.route = operation.name
        members = checked(operation, members_of(operation, request))
        resource = _resource(operation, members, place)
        if resource is not None:
            seen.index = resource.name if resource.index else resource.bucket
        asked = _allowed(
            Asked(operation, members, caller, place, resource, left_ms), self._services.policies
        )
        try:
            return written(operation, self._endpoints[operation.name](self._services, asked))
        finally:
            # Also when it failed: it may have been done all the same.
            if resource is not None and operation.name in CHANGES_POLICY:
                self._services.policies.forget(resource.bucket)

    def _operation(self, request: HttpRequest) -> Operation:
        operation = operation_of(request.method, request.path)
        if operation is not None and operation.function == self._function:
            return operation
        methods = methods_of(request.path)
        if operation is None and methods:
            raise MethodNotAllowedError(
                f"{shown(request.path)} is asked with {', '.join(methods)}, not with "
                f"{shown(request.method)}",
                allowed=methods,
            )
        raise ServiceError("UnknownOperationException", "There is no such operation")


def _resource(operation: Operation, members: Mapping[str, Any], place: Place) -> Resource | None:
    if operation.on == "account":
        return None
    if operation.on == "resource":
        return tagged_resource(members, place)
    if operation.name == "CreateIndex":
        return new_index_resource(members, place)
    if operation.on == "bucket":
        return bucket_resource(members, place)
    return index_resource(members, place)


def _allowed(asked: Asked, policies: KeptPolicies) -> Asked:
    """Refuse what the caller is not allowed to; note if the bucket's policy allows it."""
    by_policy = authorize(asked, lambda bucket: stored_policy(policies, bucket, asked.place))
    return replace(asked, by_policy=by_policy)


def _answer(status: int, body: str, headers: Mapping[str, str], request_id: str) -> dict[str, Any]:
    return {
        "statusCode": status,
        "headers": {"content-type": _JSON, "x-amzn-RequestId": request_id, **headers},
        "body": body,
        "isBase64Encoded": False,
    }
