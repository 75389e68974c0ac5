"""Function URLs: every request at the port of one becomes a call of its function."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Final

from aiohttp import web

from squash.clock import Clock, IdSource
from squash.errors import UnavailableError
from squash.limits import LAMBDA_REQUEST_BYTES_MAX
from squash.local.account import Account
from squash.local.calls import AnswerDroppedError, Call, Refusal, RefusedError
from squash.local.http_events import body_of, event_of, iam_context, payload_of, response_of
from squash.local.invoke_api import request_id
from squash.local.template import FunctionUrl
from squash.local.template.values import ACCOUNT_ID, REGION

_ROUTE_KEY: Final = "$default"


class UrlFace:
    """Answers on the port of a function's URL."""

    def __init__(self, account: Account, url: FunctionUrl, *, clock: Clock, ids: IdSource) -> None:
        self._account = account
        self._url = url
        self._clock = clock
        self._ids = ids

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        identifier = request_id(self._ids)
        body = await body_of(request, LAMBDA_REQUEST_BYTES_MAX)
        if isinstance(body, HTTPStatus):
            return _message(body, identifier)
        caller = None
        if self._url.iam:
            caller = iam_context(request.headers.get("Authorization", ""))
            if caller is None:
                return _message(HTTPStatus.FORBIDDEN, identifier)
        prefix = self._url.function
        event = event_of(
            request,
            body,
            # Encoded as it came, unlike that of an HTTP API.
            path=request.raw_path.partition("?")[0],
            route_key=_ROUTE_KEY,
            identifier=identifier,
            now_ms=self._clock.now_ms(),
            context={
                "accountId": "anonymous" if caller is None else ACCOUNT_ID,
                "apiId": prefix,
                "authentication": None,
                "domainName": f"{prefix}.lambda-url.{REGION}.on.aws",
                "domainPrefix": prefix,
                **({} if caller is None else {"authorizer": {"iam": caller}}),
            },
        )
        payload = payload_of(event)
        if len(payload) > LAMBDA_REQUEST_BYTES_MAX:
            return _message(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, identifier)
        return await self._answer(payload, identifier)

    async def _answer(self, payload: bytes, identifier: str) -> web.Response:
        # The id of the request is that of the call; no gateway gives up waiting before Lambda does.
        call = Call(request_id=identifier, payload=payload)
        try:
            outcome = await self._account.invoke(self._url.function, call)
        except RefusedError as error:
            throttled = error.refusal is Refusal.THROTTLED
            status = HTTPStatus.TOO_MANY_REQUESTS if throttled else HTTPStatus.BAD_GATEWAY
            return _message(status, identifier)
        except (AnswerDroppedError, UnavailableError):
            return _message(HTTPStatus.BAD_GATEWAY, identifier)
        response = response_of(outcome)
        if response is None:
            return _message(HTTPStatus.BAD_GATEWAY, identifier)
        response.headers["x-amzn-RequestId"] = identifier
        return response


def _message(status: HTTPStatus, identifier: str) -> web.Response:
    """Answer as Lambda itself does, in its spelling; the words are not held to its own."""
    return web.Response(
        status=status,
        body=json.dumps({"Message": status.phrase}).encode(),
        content_type="application/json",
        headers={"x-amzn-RequestId": identifier},
    )
