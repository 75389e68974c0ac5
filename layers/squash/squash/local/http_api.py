"""The HTTP API: requests become events of payload format 2.0, answers become responses."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

from aiohttp import web
from multidict import CIMultiDict

from squash.clock import Clock, IdSource
from squash.errors import UnavailableError
from squash.limits import (
    HTTP_API_BODY_BYTES_MAX,
    HTTP_API_HEADERS_BYTES_MAX,
    HTTP_API_TIMEOUT_S,
    LAMBDA_REQUEST_BYTES_MAX,
)
from squash.local.account import Account
from squash.local.calls import AnswerDroppedError, Call, Outcome, RefusedError
from squash.local.invoke_api import read_body, request_id
from squash.local.routes import Match, Routes
from squash.local.template.values import ACCOUNT_ID

_TEXT_TYPES: Final = ("text/", "application/json", "application/javascript", "application/xml")
_CREDENTIAL: Final = re.compile(r"AWS4-HMAC-SHA256 Credential=([^/,\s]+)/")
_API_ID: Final = "local"
# Of a response, what the server says by itself.
_OWN_HEADERS: Final = {"content-length", "transfer-encoding", "connection"}


class HttpApi:
    """Answers on the HTTP API's port."""

    def __init__(
        self,
        account: Account,
        routes: Routes,
        *,
        clock: Clock,
        ids: IdSource,
        timeout_s: float = HTTP_API_TIMEOUT_S,
    ) -> None:
        self._account = account
        self._routes = routes
        self._clock = clock
        self._ids = ids
        self._timeout_s = timeout_s

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        identifier = request_id(self._ids)
        body = await read_body(request, HTTP_API_BODY_BYTES_MAX)
        headers_bytes = sum(len(name) + len(value) for name, value in request.raw_headers)
        if headers_bytes > HTTP_API_HEADERS_BYTES_MAX:
            return _message(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, identifier)
        if body is None:
            return _message(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, identifier)
        path = _path(request.raw_path)
        match = self._routes.find(request.method, path)
        if match is None:
            return _message(HTTPStatus.NOT_FOUND, identifier)
        authorizer = None
        if match.route.iam:
            authorizer = _iam_context(request.headers.get("Authorization", ""))
            if authorizer is None:
                return _message(HTTPStatus.FORBIDDEN, identifier)
        event = self._event(request, body, path=path, match=match, identifier=identifier)
        if authorizer is not None:
            event["requestContext"]["authorizer"] = {"iam": authorizer}
        return await self._answer(match, event, identifier)

    async def _answer(self, match: Match, event: dict[str, Any], identifier: str) -> web.Response:
        payload = json.dumps(event, ensure_ascii=False).encode()
        if len(payload) > LAMBDA_REQUEST_BYTES_MAX:
            return _message(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, identifier)
        call = Call(request_id=request_id(self._ids), payload=payload)
        running = asyncio.ensure_future(self._account.invoke(match.route.function, call))
        # The function goes on by itself when the gateway no longer waits.
        done, _ = await asyncio.wait({running}, timeout=self._timeout_s)
        if not done:
            running.add_done_callback(asyncio.Future.exception)
            return _message(HTTPStatus.SERVICE_UNAVAILABLE, identifier)
        try:
            outcome = running.result()
        except (RefusedError, AnswerDroppedError, UnavailableError):
            return _message(HTTPStatus.SERVICE_UNAVAILABLE, identifier)
        return response_of(outcome, identifier)

    def _event(
        self,
        request: web.BaseRequest,
        body: bytes,
        *,
        path: str,
        match: Match,
        identifier: str,
    ) -> dict[str, Any]:
        query = request.raw_path.partition("?")[2]
        now_ms = self._clock.now_ms()
        host = request.headers.get("Host", "")
        headers = _joined((name.lower(), value) for name, value in request.headers.items())
        cookies = headers.pop("cookie", None)
        peer = request.transport and request.transport.get_extra_info("peername")
        source = peer[0] if peer else ""
        headers |= {
            "x-forwarded-for": source,
            "x-forwarded-port": host.rpartition(":")[2],
            "x-forwarded-proto": "http",
        }
        event: dict[str, Any] = {
            "version": "2.0",
            "routeKey": match.route.key,
            "rawPath": path,
            "rawQueryString": query,
            "headers": headers,
            "requestContext": {
                "accountId": ACCOUNT_ID,
                "apiId": _API_ID,
                "domainName": host,
                "domainPrefix": _API_ID,
                "http": {
                    "method": request.method,
                    "path": path,
                    "protocol": "HTTP/1.1",
                    "sourceIp": source,
                    "userAgent": headers.get("user-agent", ""),
                },
                "requestId": identifier,
                "routeKey": match.route.key,
                "stage": "$default",
                "time": datetime.fromtimestamp(now_ms / 1000, UTC).strftime(
                    "%d/%b/%Y:%H:%M:%S +0000"
                ),
                "timeEpoch": now_ms,
            },
            "isBase64Encoded": False,
        }
        if cookies is not None:
            event["cookies"] = [part.strip() for part in cookies.split(";")]
        if query:
            event["queryStringParameters"] = _joined(parse_qsl(query, keep_blank_values=True))
        if match.parameters:
            event["pathParameters"] = dict(match.parameters)
        if body:
            event["body"], event["isBase64Encoded"] = _encoded(
                body, headers.get("content-type", "")
            )
        return event


def _path(target: str) -> str:
    """Decode a request's path; API Gateway also cuts it at a question mark that was encoded."""
    return unquote(target.partition("?")[0]).partition("?")[0]


def _joined(pairs: Any) -> dict[str, str]:
    """Join the values of a name that stands several times."""
    values: dict[str, str] = {}
    for name, value in pairs:
        values[name] = f"{values[name]},{value}" if name in values else value
    return values


def _encoded(body: bytes, content_type: str) -> tuple[str, bool]:
    """Return a body as text if its type says so and it is, else in base64."""
    if not content_type or content_type.lower().startswith(_TEXT_TYPES):
        try:
            return body.decode(), False
        except UnicodeDecodeError:
            pass
    return base64.b64encode(body).decode(), True


def _iam_context(authorization: str) -> dict[str, Any] | None:
    """Tell what API Gateway would of a signed request; here the signature is not checked."""
    match = _CREDENTIAL.match(authorization)
    if match is None:
        return None
    return {
        "accessKey": match[1],
        "accountId": ACCOUNT_ID,
        "callerId": match[1],
        "cognitoIdentity": None,
        "principalOrgId": None,
        "userArn": f"arn:aws:iam::{ACCOUNT_ID}:user/{match[1]}",
        "userId": match[1],
    }


def response_of(outcome: Outcome, identifier: str) -> web.Response:
    """Turn a function's answer into a response; what is no such answer becomes 500."""
    if outcome.error_type is not None:
        return _message(HTTPStatus.INTERNAL_SERVER_ERROR, identifier)
    answer = json.loads(outcome.payload)
    if not (isinstance(answer, Mapping) and "statusCode" in answer):
        answer = {
            "statusCode": 200,
            "headers": {"content-type": "application/json"},
            "body": answer if isinstance(answer, str) else json.dumps(answer),
        }
    try:
        status = int(answer["statusCode"])
        body = answer.get("body") or ""
        data = base64.b64decode(body) if answer.get("isBase64Encoded") else body.encode()
        headers = CIMultiDict[str]()
        for name, value in (answer.get("headers") or {}).items():
            if name.lower() not in _OWN_HEADERS:
                headers[name] = str(value)
        for cookie in answer.get("cookies") or []:
            headers.add("Set-Cookie", cookie)
    except (ValueError, TypeError, AttributeError, binascii.Error):
        return _message(HTTPStatus.INTERNAL_SERVER_ERROR, identifier)
    headers.setdefault("Content-Type", "text/plain; charset=utf-8")
    headers["Apigw-Requestid"] = identifier
    return web.Response(status=status, headers=headers, body=data)


def _message(status: HTTPStatus, identifier: str) -> web.Response:
    """Answer as API Gateway itself does."""
    # Python 3.13 words two of these anew; API Gateway does not.
    phrase = {HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "Request Entity Too Large"}.get(
        status, status.phrase
    )
    return web.Response(
        status=status,
        body=json.dumps({"message": phrase}).encode(),
        content_type="application/json",
        headers={"Apigw-Requestid": identifier},
    )
