"""The HTTP API of the local cloud does as API Gateway does, before real processes."""

from __future__ import annotations

import base64
import http.client
import json
from urllib.parse import urlsplit

import pytest
from local_toys import request

from squash import limits
from squash.local import Fault, FaultKind


def test_a_request_becomes_an_event_of_format_2(shared):
    status, headers, body = request(
        shared.cloud.api_url,
        "POST",
        "/echo/a%20b/c/d?x=1&y=%C3%A9&x=2&empty",
        body='{"é": 1}'.encode(),
        headers={
            "Content-Type": "application/json", "X-Twice": "1", "Cookie": "a=b; c=d",
            "User-Agent": "tests",
        },
    )  # fmt: skip
    event = json.loads(body)
    assert status == 200
    assert headers["Apigw-Requestid"] == event["requestContext"]["requestId"]
    assert (event["version"], event["routeKey"]) == ("2.0", "ANY /echo/{name}/{rest+}")
    assert event["rawPath"] == event["requestContext"]["http"]["path"] == "/echo/a b/c/d"
    assert event["pathParameters"] == {"name": "a b", "rest": "c/d"}
    assert event["rawQueryString"] == "x=1&y=%C3%A9&x=2&empty"
    assert event["queryStringParameters"] == {"x": "1,2", "y": "é", "empty": ""}
    assert event["cookies"] == ["a=b", "c=d"]
    assert (event["body"], event["isBase64Encoded"]) == ('{"é": 1}', False)
    assert (event["headers"]["x-twice"], "cookie" in event["headers"]) == ("1", False)
    assert event["requestContext"]["http"]["method"] == "POST"
    assert event["requestContext"]["http"]["userAgent"] == "tests"
    assert event["requestContext"]["http"]["sourceIp"] == "127.0.0.1"
    assert "authorizer" not in event["requestContext"]


def test_headers_that_stand_twice_are_joined(shared):
    connection = http.client.HTTPConnection(urlsplit(shared.cloud.api_url).netloc)
    connection.putrequest("GET", "/echo/a/b")
    for value in ("1", "2"):
        connection.putheader("X-Twice", value)
    connection.endheaders()
    event = json.loads(connection.getresponse().read())
    connection.close()
    assert event["headers"]["x-twice"] == "1,2"
    assert "body" not in event
    assert "queryStringParameters" not in event


def test_a_header_that_is_no_utf8_reaches_the_function(shared):
    """What is in no encoding of text is "?" there: a client's mistake is no failure of ours."""
    connection = http.client.HTTPConnection(urlsplit(shared.cloud.api_url).netloc)
    connection.request("GET", "/echo/a/b", headers={"X-Odd": b"a\xffb", "Cookie": b"c=\xff"})
    answer = connection.getresponse()
    event = json.loads(answer.read())
    connection.close()
    assert answer.status == 200
    assert (event["headers"]["x-odd"], event["cookies"]) == ("a?b", ["c=?"])


@pytest.mark.parametrize(
    ("content_type", "body"),
    [("application/octet-stream", b"text"), ("application/json", b"\xff"), ("image/png", b"\x89P")],
)
def test_a_body_that_is_no_text_is_in_base64(shared, content_type, body):
    headers = {"Content-Type": content_type}
    _, _, text = request(shared.cloud.api_url, "PUT", "/echo/a/b", body=body, headers=headers)
    event = json.loads(text)
    assert event["isBase64Encoded"] is True
    assert base64.b64decode(event["body"]) == body


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        ({"statusCode": 201, "body": "made"}, 201, b"made"),
        ({"statusCode": 200, "body": "/w==", "isBase64Encoded": True}, 200, b"\xff"),
        ({"statusCode": "404"}, 404, b""),
        ({"hello": "there"}, 200, b'{"hello": "there"}'),
        ("text", 200, b"text"),
        ({"statusCode": "many"}, 500, b'{"message": "Internal Server Error"}'),
        (
            {"statusCode": 200, "body": {"not": "text"}},
            500,
            b'{"message": "Internal Server Error"}',
        ),
    ],
)
def test_an_answer_becomes_a_response(shared, answer, status, body):
    headers = {"Content-Type": "application/json"}
    sent = json.dumps(answer)
    got = request(shared.cloud.api_url, "POST", "/answer", body=sent, headers=headers)
    assert (got[0], got[2]) == (status, body)


@pytest.mark.parametrize(
    "answer",
    [
        *({"statusCode": status} for status in (0, 100, 600, 99_999, -1, True)),
        *({"statusCode": 200, "headers": {name: "x"}} for name in ("", "a b", "a\n", "é")),
        *({"statusCode": 200, "headers": {"a": text}} for text in ("b\nc: d", "b\r", "\0")),
        {"statusCode": 200, "cookies": ["a=b\r\nX: y"]},
    ],
    ids=str,
)
def test_an_answer_that_http_cannot_say_is_an_error(shared, answer):
    """Whoever asked gets the gateway's words, not half an answer or none."""
    got = request(shared.cloud.api_url, "POST", "/answer", body=json.dumps(answer))
    assert (got[0], json.loads(got[2])) == (500, {"message": "Internal Server Error"})


def test_headers_and_cookies_of_an_answer_are_passed_on(shared):
    answer = {
        "statusCode": 200,
        "headers": {"X-A": 1, "content-type": "a/b"},
        "cookies": ["a=b", "c=d"],
    }
    _, headers, _ = request(shared.cloud.api_url, "POST", "/answer", body=json.dumps(answer))
    assert (headers["x-a"], headers["content-type"]) == ("1", "a/b")
    assert headers.get_all("set-cookie") == ["a=b", "c=d"]


def test_the_gateway_refuses_in_its_own_words(toys):
    url = toys.cloud.api_url
    assert request(url, "GET", "/nowhere")[::2] == (404, b'{"message": "Not Found"}')
    assert request(url, "GET", "/answer")[0] == 404
    large = b"x" * (limits.HTTP_API_BODY_BYTES_MAX + 1)
    assert request(url, "POST", "/answer", body=large)[0] == 413
    # It fits the gateway, and not Lambda.
    assert request(url, "POST", "/answer", body=large[: 7 << 20])[0] == 413
    long = {"X-Long": "x" * limits.HTTP_API_HEADERS_BYTES_MAX}
    assert request(url, "POST", "/answer", headers=long)[0] == 431
    broken = request(url, "POST", "/answer", body="no JSON")
    assert broken[::2] == (500, b'{"message": "Internal Server Error"}')
    toys.cloud.set_faults([Fault(FaultKind.THROTTLE)])
    unavailable = request(url, "POST", "/answer", body="{}")
    assert unavailable[::2] == (503, b'{"message": "Service Unavailable"}')


def test_a_guarded_route_wants_a_signature_and_tells_who_signed(shared):
    url = shared.cloud.api_url
    assert request(url, "GET", "/guarded")[::2] == (403, b'{"message": "Forbidden"}')
    signed = {
        "Authorization": "AWS4-HMAC-SHA256 Credential=AKIDME/20261126/us-east-1/x/aws4_request"
    }
    status, _, body = request(url, "GET", "/guarded", headers=signed)
    assert status == 200
    iam = json.loads(body)["requestContext"]["authorizer"]["iam"]
    assert iam["accessKey"] == "AKIDME"
