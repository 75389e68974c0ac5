"""The service's API on one function: who asks, for what, may they; then the call and its answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import unquote

from squash.api import strict_json
from squash.api.access import Gate
from squash.api.requests import HttpRequest, request_of
from squash.api.s3vectors.authorize import CHANGES_POLICY, authorize, stored_policy
from squash.api.s3vectors.calls import Answer, Asked, Endpoint
from squash.api.s3vectors.kept import KeptPolicies
from squash.api.s3vectors.operations import TAGS, Operation, operation_of
from squash.api.s3vectors.problems import ServiceError, body_of, invalid, refusal_of
from squash.api.s3vectors.resources import (
    Place,
    Resource,
    bucket_resource,
    index_resource,
    parse_arn,
)
from squash.api.s3vectors.shapes import checked
from squash.api.services import Services
from squash.api.telemetry import Telemetry, Told
from squash.clock import Clock, IdSource

_JSON: Final = "application/json"


class S3VectorsFace:
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
    ) -> None:
        self._function = function
        self._endpoints = endpoints
        self._services = services
        self._gate = gate
        self._telemetry = telemetry
        self._clock = clock
        self._ids = ids
        self._region = region

    def __call__(self, event: dict[str, Any], context: Any) -> dict[str, Any]:
        """Answer an event; whatever goes wrong is answered as the service would."""
        begun_ms = self._clock.now_ms()
        request_id = str(getattr(context, "aws_request_id", "") or self._ids.new_id())
        seen = _Seen()
        error: Exception | None = None
        try:
            request = request_of(event, fallback_id=request_id)
            request_id = request.id
            place = _place(event, self._region)
            left_ms = getattr(context, "get_remaining_time_in_millis", None)
            answer = _answer(200, self._answer(request, place, seen, left_ms), {}, request_id)
        except Exception as caught:  # noqa: BLE001 - a caller is always answered; the log says why
            error = caught
            refusal = refusal_of(caught)
            body = body_of(refusal.document)
            answer = _answer(refusal.status, body, refusal.headers, request_id)
        self._telemetry.answered(
            Told(
                request_id=request_id,
                route=seen.operation,
                status=answer["statusCode"],
                duration_ms=self._clock.now_ms() - begun_ms,
                caller=seen.caller,
                index=seen.index,
                error=error,
            )
        )
        return answer

    def _answer(
        self,
        request: HttpRequest,
        place: Place,
        seen: _Seen,
        left_ms: Callable[[], int] | None,
    ) -> str:
        # No credential, no answer: not even which operations there are.
        caller = self._gate.admit(request)
        seen.caller = caller.name
        operation = operation_of(request.method, request.path)
        if operation is None or operation.function != self._function:
            raise ServiceError("UnknownOperationException", "There is no such operation")
        seen.operation = operation.name
        members = checked(operation, _members(operation, request))
        resource = _resource(operation, members, place)
        if resource is not None:
            seen.index = resource.name if resource.index else resource.bucket
        asked = _allowed(
            Asked(operation, members, caller, place, resource, left_ms), self._services.policies
        )
        try:
            return _written(self._endpoints[operation.name](self._services, asked))
        finally:
            # Also when it failed: it may have been done all the same.
            if resource is not None and operation.name in CHANGES_POLICY:
                self._services.policies.forget(resource.bucket)


@dataclass(slots=True)
class _Seen:
    """How far a request came, for the log."""

    operation: str = "none"
    caller: str = ""
    index: str = ""


def _place(event: Mapping[str, Any], region: str) -> Place:
    account = str(event["requestContext"].get("accountId") or "")
    return Place(region=region, account=account) if account else Place(region=region)


def _members(operation: Operation, request: HttpRequest) -> dict[str, Any]:
    """Return what a request says: its body's members, its path's and its query's."""
    members: dict[str, Any] = {}
    if operation.method == "POST":
        data = request.data()
        try:
            members = strict_json.loads(data) if data else {}
        except strict_json.JsonError as error:
            raise invalid(f"The body is not JSON: {error}") from error
        if not isinstance(members, dict):
            raise invalid("The body is not a JSON object")
    if operation.on == "resource":
        members["resourceArn"] = unquote(request.path.removeprefix(TAGS))
        if operation.name == "UntagResource":
            members["tagKeys"] = request.values("tagKeys")
    return members


def _resource(operation: Operation, members: Mapping[str, Any], place: Place) -> Resource | None:
    if operation.on == "account":
        return None
    if operation.on == "resource":
        return parse_arn(members["resourceArn"], place, index=None)
    if operation.name == "CreateIndex":
        names = {name: members.get(name) for name in ("vectorBucketName", "vectorBucketArn")}
        return Resource(bucket_resource(names, place).bucket, members["indexName"])
    if operation.on == "bucket":
        return bucket_resource(members, place)
    return index_resource(members, place)


def _allowed(asked: Asked, policies: KeptPolicies) -> Asked:
    """Refuse what the caller is not allowed to; note if the bucket's policy allows it."""
    by_policy = authorize(asked, lambda bucket: stored_policy(policies, bucket, asked.place))
    return replace(asked, by_policy=by_policy)


def _written(answer: Answer) -> str:
    return json.dumps(answer, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _answer(status: int, body: str, headers: Mapping[str, str], request_id: str) -> dict[str, Any]:
    return {
        "statusCode": status,
        "headers": {"content-type": _JSON, "x-amzn-RequestId": request_id, **headers},
        "body": body,
        "isBase64Encoded": False,
    }
