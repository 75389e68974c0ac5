"""The HTTP API: requests become events of payload format 2.0, answers become responses."""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import unquote

from aiohttp import web

from squash.clock import Clock, IdSource
from squash.errors import UnavailableError
from squash.limits import (
    HTTP_API_BODY_BYTES_MAX,
    HTTP_API_TIMEOUT_S,
    LAMBDA_REQUEST_BYTES_MAX,
)
from squash.local.account import Account
from squash.local.calls import AnswerDroppedError, Call, RefusedError
from squash.local.http_events import body_of, event_of, iam_context, payload_of, response_of
from squash.local.invoke_api import request_id
from squash.local.routes import Match, Routes
from squash.local.template.values import ACCOUNT_ID

_API_ID: Final = "local"


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
        body = await body_of(request, HTTP_API_BODY_BYTES_MAX)
        if isinstance(body, HTTPStatus):
            return _message(body, identifier)
        path = _path(request.raw_path)
        match = self._routes.find(request.method, path)
        if match is None:
            return _message(HTTPStatus.NOT_FOUND, identifier)
        authorizer = None
        if match.route.iam:
            authorizer = iam_context(request.headers.get("Authorization", ""))
            if authorizer is None:
                return _message(HTTPStatus.FORBIDDEN, identifier)
        event = self._event(
            request, body, path=path, match=match, identifier=identifier, authorizer=authorizer
        )
        return await self._answer(match, event, identifier)

    async def _answer(self, match: Match, event: dict[str, Any], identifier: str) -> web.Response:
        payload = payload_of(event)
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
        response = response_of(outcome)
        if response is None:
            return _message(HTTPStatus.INTERNAL_SERVER_ERROR, identifier)
        response.headers["Apigw-Requestid"] = identifier
        return response

    def _event(
        self,
        request: web.BaseRequest,
        body: bytes,
        *,
        path: str,
        match: Match,
        identifier: str,
        authorizer: dict[str, Any] | None,
    ) -> dict[str, Any]:
        context = {
            "accountId": ACCOUNT_ID,
            "apiId": _API_ID,
            "domainName": request.headers.get("Host", ""),
            "domainPrefix": _API_ID,
            **({} if authorizer is None else {"authorizer": {"iam": authorizer}}),
        }
        event = event_of(
            request,
            body,
            path=path,
            route_key=match.route.key,
            identifier=identifier,
            now_ms=self._clock.now_ms(),
            context=context,
        )
        if match.parameters:
            event["pathParameters"] = dict(match.parameters)
        return event


def _path(target: str) -> str:
    """Decode a request's path; API Gateway also cuts it at a question mark that was encoded."""
    return unquote(target.partition("?")[0]).partition("?")[0]


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
