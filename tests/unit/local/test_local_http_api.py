"""What the gateway makes of requests, and what it does when a function takes too long."""

from __future__ import annotations

import asyncio
import http.client
import json
from urllib.parse import quote

import pytest
from aiohttp import web

from squash.clock import SystemClock, SystemIds
from squash.limits import LAMBDA_REQUEST_BYTES_MAX
from squash.local.calls import Outcome, Refusal, RefusedError
from squash.local.function_url import UrlFace
from squash.local.http_api import HttpApi
from squash.local.routes import Routes
from squash.local.template import FunctionUrl, Route


class PatientAccount:
    """Never answers, and notes whether its call was given up."""

    def __init__(self):
        self.calls = []
        self.given_up = False

    async def invoke(self, name, call):
        self.calls.append(name)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.given_up = True
            raise


def test_the_gateway_gives_up_waiting_and_the_function_goes_on():
    account = PatientAccount()

    async def run():
        routes = Routes([Route("GET", "/slow", "slow")])
        api = HttpApi(account, routes, clock=SystemClock(), ids=SystemIds(), timeout_s=0.0)
        server = web.Server(api.serve)
        listening = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        answer = await asyncio.to_thread(get, port)
        listening.close()
        await server.shutdown(0.1)
        return answer, account.given_up

    assert asyncio.run(run()) == ((503, b'{"message": "Service Unavailable"}'), False)
    assert account.calls == ["slow"]


def get(port):
    connection = http.client.HTTPConnection("127.0.0.1", port)
    try:
        connection.request("GET", "/slow")
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


class NotingAccount:
    """Answers at once, and keeps the events."""

    def __init__(self):
        self.events = []

    async def invoke(self, name, call):
        self.events.append(json.loads(call.payload))
        payload = b'{"statusCode": 200, "body": "done"}'
        return Outcome(payload=payload, error_type=None, log=b"", duration_ms=1.0, init_ms=None)


def noted(method, target, *, body=b"", headers=()):
    """Send one request as it stands; return the status, the body, and the events made of it."""

    def api(account):
        routes = Routes([Route("ANY", "/tags/{arn+}", "tags"), Route("POST", "/PutVectors", "put")])
        return HttpApi(account, routes, clock=SystemClock(), ids=SystemIds())

    return asked(api, method, target, body=body, headers=headers)


def asked_url(method, target, *, iam=False, account=None, body=b"", headers=()):
    """The same of a function's URL."""

    def api(account):
        url = FunctionUrl("squash-coordinator", iam)
        return UrlFace(account, url, clock=SystemClock(), ids=SystemIds())

    return asked(api, method, target, body=body, headers=headers, account=account)


def asked(api, method, target, *, body, headers, account=None):
    account = account or NotingAccount()

    async def run():
        server = web.Server(api(account).serve)
        listening = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        answer = await asyncio.to_thread(send, port, method, target, body, headers)
        listening.close()
        await server.shutdown(0.1)
        return answer

    return *asyncio.run(run()), account.events


def send(port, method, target, body, headers):
    connection = http.client.HTTPConnection("127.0.0.1", port)
    try:
        connection.putrequest(method, target, skip_accept_encoding=True)
        for name, value in (*headers, ("content-length", str(len(body)))):
            connection.putheader(name, value)
        connection.endheaders(body)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def test_a_path_comes_decoded_with_its_slashes_and_the_query_as_it_was_sent():
    arn = "arn:aws:s3vectors:us-east-1:123456789012:bucket/b/index/i"
    target = f"/tags/{quote(arn, safe='')}?tagKeys=a%20b&tagKeys=c"
    status, _, (event,) = noted("DELETE", target, headers=[("x-one", "a"), ("X-One", "b")])
    assert status == 200
    assert event["rawPath"] == event["requestContext"]["http"]["path"] == f"/tags/{arn}"
    assert event["pathParameters"] == {"arn": arn}
    assert event["rawQueryString"] == "tagKeys=a%20b&tagKeys=c"
    assert event["queryStringParameters"] == {"tagKeys": "a b,c"}
    assert event["headers"]["x-one"] == "a,b"


@pytest.mark.parametrize("character", [b"x", b'"'])
def test_what_lambda_does_not_take_the_gateway_refuses_and_counts_escapes(character):
    """An event is JSON, and its body a string in it: a quote takes two bytes there."""
    kind = [("content-type", "application/json")]
    width = len(json.dumps(character.decode())) - 2
    fits = (LAMBDA_REQUEST_BYTES_MAX - 4_096) // width
    status, _, (event,) = noted("POST", "/PutVectors", body=fits * character, headers=kind)
    assert (status, len(event["body"])) == (200, fits)
    most = LAMBDA_REQUEST_BYTES_MAX // width
    status, body, events = noted("POST", "/PutVectors", body=most * character, headers=kind)
    assert (status, json.loads(body)) == (413, {"message": "Request Entity Too Large"})
    assert events == []


def test_a_url_hands_on_the_path_as_it_came_and_has_no_routes():
    """It is the function's own, and every path and method leads to it."""
    status, body, (event,) = asked_url("PATCH", "/v1/%70apers?a=%20b", body=b"{}")
    assert (status, body) == (200, b"done")
    assert event["rawPath"] == event["requestContext"]["http"]["path"] == "/v1/%70apers"
    assert event["routeKey"] == event["requestContext"]["routeKey"] == "$default"
    assert event["rawQueryString"] == "a=%20b"
    assert "pathParameters" not in event
    context = event["requestContext"]
    assert (context["accountId"], context["domainPrefix"]) == ("anonymous", "squash-coordinator")
    assert ".lambda-url." in context["domainName"]
    assert "authorizer" not in context
    assert event["body"] == "{}"


def test_a_url_with_iam_wants_a_signature_and_tells_who_signed():
    assert asked_url("GET", "/", iam=True) == (403, b'{"Message": "Forbidden"}', [])
    signed = "AWS4-HMAC-SHA256 Credential=AKIDME/20261126/us-east-1/lambda/aws4_request"
    status, _, (event,) = asked_url("GET", "/", iam=True, headers=[("authorization", signed)])
    assert status == 200
    assert event["requestContext"]["authorizer"]["iam"]["accessKey"] == "AKIDME"


class FailingAccount(NotingAccount):
    """Answers by what it was given."""

    def __init__(self, found):
        super().__init__()
        self.found = found

    async def invoke(self, name, call):
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


@pytest.mark.parametrize(
    ("found", "status"),
    [
        (RefusedError(Refusal.THROTTLED, "Rate Exceeded."), 429),
        (RefusedError(Refusal.INVALID, "no"), 502),
        (
            Outcome(
                payload=b"{}",
                error_type="Unhandled",
                log=b"",
                duration_ms=1.0,
                init_ms=None,
            ),
            502,
        ),
    ],
)
def test_a_url_is_throttled_by_concurrency_and_a_crash_is_a_bad_gateway(found, status):
    assert asked_url("POST", "/", account=FailingAccount(found))[0] == status


def test_a_url_takes_what_lambda_takes():
    body = LAMBDA_REQUEST_BYTES_MAX * b"x"
    assert asked_url("POST", "/", body=body)[0] == 413
    assert asked_url("POST", "/", body=body + b"x")[0] == 413
