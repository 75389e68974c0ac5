"""Lambda's invoke API, as boto3 speaks it, and beside it the local cloud's own control calls."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Awaitable, Callable
from typing import Any, Final
from urllib.parse import unquote

from aiohttp import web

from squash.clock import IdSource
from squash.errors import SquashError, UnavailableError
from squash.limits import (
    LAMBDA_ASYNC_REQUEST_BYTES_MAX,
    LAMBDA_LOG_TAIL_BYTES,
    LAMBDA_REQUEST_BYTES_MAX,
    LAMBDA_TENANT_ID_CHARACTERS_MAX,
)
from squash.local.account import Account
from squash.local.calls import (
    REFUSAL_STATUS,
    AnswerDroppedError,
    Call,
    Refusal,
    RefusedError,
)
from squash.local.template.values import function_arn

_PATH: Final = re.compile(r"/2015-03-31/functions/([^/]+)/invocations/?")
# A name, or an ARN in part or in full, with an alias or a version or without.
_NAME: Final = re.compile(
    r"(arn:aws:lambda:)?([a-z]{2}-[a-z]+-\d:)?(\d{12}:)?(function:)?"
    r"(?P<name>[a-zA-Z0-9-_.]+)(:(\$LATEST|[a-zA-Z0-9-_]+))?"
)
_TENANT: Final = re.compile(r"[a-zA-Z0-9._:/=+\-@ ]+")
_KINDS: Final = ("RequestResponse", "Event", "DryRun")
CONTROL_PREFIX: Final = "/_local/"

Control = Callable[[str, str, Any], Awaitable[Any]]


def request_id(ids: IdSource) -> str:
    """Return a new request's id, in the form of a UUID."""
    digits = ids.new_id()
    lengths = (8, 12, 16, 20, 32)
    return "-".join(digits[a:b] for a, b in zip((0, *lengths), lengths, strict=False))


class InvokeApi:
    """Answers on Lambda's port.

    Parameters
    ----------
    account:
        What runs the calls.
    ids:
        Makes request ids.
    control:
        Carries out the local cloud's own calls: method, what stands after ``/_local/``, and the
        JSON body, to what is answered as JSON.

    """

    def __init__(self, account: Account, *, ids: IdSource, control: Control) -> None:
        self._account = account
        self._ids = ids
        self._control = control

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        if request.path.startswith(CONTROL_PREFIX):
            return await self._serve_control(request)
        identifier = request_id(self._ids)
        try:
            return await self._invoke(request, identifier)
        except RefusedError as error:
            return _refusal(error, identifier)
        except UnavailableError as error:
            refused = RefusedError(Refusal.FAILED, str(error))
            return _refusal(refused, identifier)
        except AnswerDroppedError:
            return _dropped(request)

    async def _invoke(self, request: web.BaseRequest, identifier: str) -> web.StreamResponse:
        match = _PATH.fullmatch(request.raw_path.partition("?")[0])
        if match is None or request.method != "POST":
            raise RefusedError(
                Refusal.NOT_FOUND,
                "The local cloud knows Lambda's Invoke and nothing else of its API.",
            )
        kind = request.headers.get("X-Amz-Invocation-Type", _KINDS[0])
        if kind not in _KINDS:
            raise RefusedError(
                Refusal.INVALID, f"The invocation type {kind!r} is none of {', '.join(_KINDS)}."
            )
        limit = LAMBDA_ASYNC_REQUEST_BYTES_MAX if kind == "Event" else LAMBDA_REQUEST_BYTES_MAX
        payload = await read_body(request, limit)
        name = self._name(unquote(match[1]))
        if payload is None:
            raise RefusedError(
                Refusal.TOO_LARGE,
                f"Request must be smaller than {limit} bytes for the {kind} invocation type",
            )
        call = Call(
            request_id=identifier,
            payload=_checked(payload),
            tenant=_tenant(request.headers.get("X-Amz-Tenant-Id")),
            client_context=_client_context(request.headers.get("X-Amz-Client-Context")),
        )
        headers = {"x-amzn-RequestId": identifier}
        if kind == "DryRun":
            return web.Response(status=204, headers=headers)
        if kind == "Event":
            self._account.invoke_later(name, call)
            return web.Response(status=202, headers=headers)
        outcome = await self._account.invoke(name, call)
        headers["X-Amz-Executed-Version"] = "$LATEST"
        if outcome.error_type is not None:
            headers["X-Amz-Function-Error"] = "Unhandled"
        if request.headers.get("X-Amz-Log-Type") == "Tail":
            tail = base64.b64encode(outcome.log[-LAMBDA_LOG_TAIL_BYTES:])
            headers["X-Amz-Log-Result"] = tail.decode()
        return web.Response(body=outcome.payload, headers=headers, content_type="application/json")

    def _name(self, target: str) -> str:
        match = _NAME.fullmatch(target)
        name = match["name"] if match else target
        if name not in self._account.pools:
            raise RefusedError(Refusal.NOT_FOUND, f"Function not found: {function_arn(name)}")
        return name

    async def _serve_control(self, request: web.BaseRequest) -> web.StreamResponse:
        # A page in a browser can send a form to loopback, and not JSON.
        wants_json = request.method != "GET"
        if wants_json and request.content_type != "application/json":
            return _json({"message": "send application/json"}, status=415)
        text = await read_body(request, LAMBDA_ASYNC_REQUEST_BYTES_MAX)
        if text is None:
            message = f"send at most {LAMBDA_ASYNC_REQUEST_BYTES_MAX} bytes"
            return _json({"message": message}, status=413)
        try:
            document = json.loads(text) if text else None
            what = request.path.removeprefix(CONTROL_PREFIX)
            return _json(await self._control(request.method, what, document))
        except (SquashError, ValueError, RecursionError) as error:
            return _json({"message": str(error)}, status=400)


async def read_body(request: web.BaseRequest, limit: int) -> bytes | None:
    """Read a body; None if it is larger than the limit, of which then nothing is kept."""
    if request.headers.get("Expect", "").lower() == "100-continue" and request.transport:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    parts, size = [], 0
    async for part in request.content.iter_any():
        size += len(part)
        if size <= limit:
            parts.append(part)
        else:
            parts.clear()
    return b"".join(parts) if size <= limit else None


def _checked(payload: bytes) -> bytes:
    """Refuse what is not JSON, as Lambda does; an empty payload is an empty object."""
    if not payload:
        return b"{}"
    try:
        json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise RefusedError(
            Refusal.BAD_CONTENT, f"Could not parse request body into json: {error}"
        ) from error
    return payload


def _tenant(text: str | None) -> str | None:
    if text is not None and not (
        _TENANT.fullmatch(text) and len(text) <= LAMBDA_TENANT_ID_CHARACTERS_MAX
    ):
        raise RefusedError(Refusal.INVALID, f"The tenant ID is not valid: {text!r}")
    return text


def _client_context(text: str | None) -> str | None:
    if text is not None:
        try:
            base64.b64decode(text, validate=True).decode()
        except ValueError as error:  # whether it is no base64, or that of no text
            raise RefusedError(
                Refusal.BAD_CONTENT, "The client context is not base64 of text."
            ) from error
    return text


def _refusal(error: RefusedError, identifier: str) -> web.Response:
    document = {"Type": "User", "message": error.message, "Message": error.message}
    if error.reason is not None:
        document["Reason"] = error.reason
    response = _json(document, status=REFUSAL_STATUS[error.refusal])
    response.headers["x-amzn-RequestId"] = identifier
    response.headers["x-amzn-ErrorType"] = error.refusal
    return response


def _dropped(request: web.BaseRequest) -> web.Response:
    """Close the connection; what is answered then goes nowhere."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=503)


def _json(document: Any, *, status: int = 200) -> web.Response:
    return web.Response(
        body=json.dumps(document).encode(), status=status, content_type="application/json"
    )
