"""What a request says, read from its parts; and an answer, written; neither beyond what fits."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

from squash import strict_json
from squash.api.members import shown
from squash.api.requests import HttpRequest, answer_bytes
from squash.api.s3vectors.calls import Answer
from squash.api.s3vectors.operations import OPERATIONS, TAGS, Operation
from squash.api.s3vectors.problems import ServiceError, invalid
from squash.errors import TooLargeError
from squash.limits import HTTP_ANSWER_BYTES_MAX, HTTP_BODY_BYTES_MAX

_TAG_KEYS: Final = "tagKeys"
# A signature may stand in the query string: it is no member.
_SIGNATURE: Final = "x-amz-"
# Each record of a PutVectors request has this name once, unless its metadata has it too.
_PUT: Final = OPERATIONS["PutVectors"]
_ONE_VECTOR: Final = b'"float32"'
# Of what fits by the mean length of the records sent, so much is told: others may be longer.
_SHARE: Final = 0.95
_FEWER: Final[Mapping[str, tuple[str, str]]] = {
    "GetVectors": ("keys", "ask for at most {} keys in a request"),
    "ListVectors": ("vectors", "ask for at most {} by maxResults"),
    "QueryVectors": ("matches", "ask for at most {} by topK"),
}


def members_of(operation: Operation, request: HttpRequest) -> dict[str, Any]:
    """Return what a request says: the members of its body, of its path and of its query.

    Raises
    ------
    ServiceError
        If it is no JSON object, or has a query string where there is none.

    """
    members = _body(request) if operation.method == "POST" else {}
    if operation.on == "resource":
        if "resourceArn" in members:
            raise invalid("resourceArn stands in the path: leave it out of the body")
        members["resourceArn"] = unquote(request.path.removeprefix(TAGS))
    keys = [value for name, value in _query(request) if name == _TAG_KEYS]
    if operation.name == "UntagResource":
        members[_TAG_KEYS] = keys or None
    elif keys:
        raise invalid(f"{operation.name} takes no {_TAG_KEYS} in its query string: leave it out")
    return members


def refuse_too_large(operation: Operation | None, request: HttpRequest) -> None:
    """Refuse a body that is longer than is taken: before anything else looks at it.

    Raises
    ------
    ServiceError
        With how many vectors fit, if it brings some.

    """
    try:
        request.data()
    except TooLargeError as error:
        raise _too_large(operation, request) from error


def written(operation: Operation, answer: Answer) -> str:
    """Write an answer.

    Raises
    ------
    ServiceError
        If it is longer than Lambda lets through; it says how much to ask for.

    """
    body = json.dumps(answer, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    length = answer_bytes(body)
    if length <= HTTP_ANSWER_BYTES_MAX:
        return body
    count = len(answer.get("vectors", ()))
    what, way = _FEWER.get(operation.name, ("elements", "ask for less in a request"))
    raise ServiceError(
        "RequestTooLargeException",
        f"The answer with {count} {what} has {length} bytes, and at most {HTTP_ANSWER_BYTES_MAX} "
        f"can be given: {way.format(_fitting(count, length, HTTP_ANSWER_BYTES_MAX))}",
    )


def _body(request: HttpRequest) -> dict[str, Any]:
    data = request.data()
    if not data:
        return {}
    try:
        members = strict_json.loads(data)
    except strict_json.JsonError as error:
        where = f" at {shown(error.place)}" if error.place else ""
        raise invalid(f"The body is not JSON: {error}{where}") from error
    if not isinstance(members, dict):
        raise invalid("The body is not a JSON object")
    return members


def _too_large(operation: Operation | None, request: HttpRequest) -> ServiceError:
    data = request.body.encode(errors="replace")
    if request.body_is_base64:
        data = base64.b64decode(data)  # without regard to what is none: it is refused anyhow
    said = f"The request has {len(data)} bytes, and at most {HTTP_BODY_BYTES_MAX} are taken: "
    count = data.count(_ONE_VECTOR) if operation is _PUT else 0
    if count > 1:
        fitting = _fitting(count, len(data), HTTP_BODY_BYTES_MAX)
        said += f"of its {count} vectors, put at most {fitting} in a request"
    else:
        said += "send less in a request"
    return ServiceError("RequestTooLargeException", said)


def _fitting(count: int, length: int, most: int) -> int:
    """Return how many of `count` things of `length` bytes fit into `most` bytes."""
    return max(1, int(_SHARE * most * count / length))


def _query(request: HttpRequest) -> list[tuple[str, str]]:
    try:
        pairs = parse_qsl(request.query, keep_blank_values=True, errors="strict")
    except ValueError as error:
        raise invalid("The query string cannot be read: is it UTF-8?") from error
    for name, _ in pairs:
        if name != _TAG_KEYS and not name.lower().startswith(_SIGNATURE):
            raise invalid(f"The query string takes no {shown(name)!r}: leave it out")
    return pairs
