"""What HTTP requests become for a function, and its answers for who asked: payload format 2.0."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qsl

from aiohttp import web
from multidict import CIMultiDict

from squash.limits import HTTP_API_HEADERS_BYTES_MAX
from squash.local.calls import Outcome
from squash.local.invoke_api import read_body
from squash.local.template.values import ACCOUNT_ID

_TEXT_TYPES: Final = ("text/", "application/json", "application/javascript", "application/xml")
_CREDENTIAL: Final = re.compile(r"AWS4-HMAC-SHA256 Credential=([^/,\s]+)/")
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_LINE: Final = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
_STATUSES: Final = range(200, 600)
# Of a response, what the server says by itself.
_OWN_HEADERS: Final = {"content-length", "transfer-encoding", "connection"}


async def body_of(request: web.BaseRequest, bytes_max: int) -> bytes | HTTPStatus:
    """Read the body of a request; where it, or its headers, are too long, say so."""
    body = await read_body(request, bytes_max)
    headers_bytes = sum(len(name) + len(value) for name, value in request.raw_headers)
    if headers_bytes > HTTP_API_HEADERS_BYTES_MAX:
        return HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
    return HTTPStatus.REQUEST_ENTITY_TOO_LARGE if body is None else body


def event_of(
    request: web.BaseRequest,
    body: bytes,
    *,
    path: str,
    route_key: str,
    identifier: str,
    now_ms: int,
    context: Mapping[str, Any],
) -> dict[str, Any]:
    """Make the event of a request.

    Parameters
    ----------
    request, body:
        As they came.
    path, route_key, identifier, now_ms:
        What stands in the event for them.
    context:
        What else stands in `requestContext`: who is asked, and by whom.

    """
    query = request.raw_path.partition("?")[2]
    headers = _joined((name.lower(), value) for name, value in request.headers.items())
    cookies = headers.pop("cookie", None)
    peer = request.transport and request.transport.get_extra_info("peername")
    source = peer[0] if peer else ""
    headers |= {
        "x-forwarded-for": source,
        "x-forwarded-port": request.headers.get("Host", "").rpartition(":")[2],
        "x-forwarded-proto": "http",
    }
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": route_key,
        "rawPath": path,
        "rawQueryString": query,
        "headers": headers,
        "requestContext": {
            **context,
            "http": {
                "method": request.method,
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": source,
                "userAgent": headers.get("user-agent", ""),
            },
            "requestId": identifier,
            "routeKey": route_key,
            "stage": "$default",
            "time": datetime.fromtimestamp(now_ms / 1000, UTC).strftime("%d/%b/%Y:%H:%M:%S +0000"),
            "timeEpoch": now_ms,
        },
        "isBase64Encoded": False,
    }
    if cookies is not None:
        event["cookies"] = [part.strip() for part in cookies.split(";")]
    if query:
        event["queryStringParameters"] = _joined(parse_qsl(query, keep_blank_values=True))
    if body:
        event["body"], event["isBase64Encoded"] = _encoded(body, headers.get("content-type", ""))
    return event


def payload_of(event: Mapping[str, Any]) -> bytes:
    """Write an event as Lambda takes it: of a header that is no UTF-8, such bytes as "?"."""
    return json.dumps(event, ensure_ascii=False).encode(errors="replace")


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


def iam_context(authorization: str) -> dict[str, Any] | None:
    """Tell what AWS would of a signed request; here the signature is not checked."""
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


def response_of(outcome: Outcome) -> web.Response | None:
    """Turn a function's answer into a response; None for an error, and what is no such answer.

    Of what cannot be said in HTTP, a status or a header, nothing is sent: whoever asked would wait.
    """
    if outcome.error_type is not None:
        return None
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
            headers.add("Set-Cookie", str(cookie))
    except (ValueError, TypeError, AttributeError, binascii.Error):
        return None
    sayable = all(_NAME.fullmatch(name) and _LINE.fullmatch(text) for name, text in headers.items())
    if status not in _STATUSES or not sayable:
        return None
    headers.setdefault("Content-Type", "text/plain; charset=utf-8")
    return web.Response(status=status, headers=headers, body=data)
