"""Signature Version 4: AWS's own examples, what must be signed, when, and how refusals read."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import quote

import pytest

from signing import NOW_MS, signed_event
from squash import limits
from squash.api.requests import request_of
from squash.api.s3vectors.problems import ServiceError, refusal_of
from squash.api.s3vectors.signing import (
    canonical_paths,
    canonical_query,
    is_signed_with,
    read_signature,
    sign,
    signing_key,
)

KEY_ID = "SQKA0123456789ABCDEF"
SECRET = "q" * 43
ARN = "arn:aws:s3vectors:us-east-1:123456789012:bucket/media/index/a.b-c"
EXAMPLE_SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"  # noqa: S105 - of AWS's documentation
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def made(**changes):
    return signed_event(**({"key_id": KEY_ID, "secret": SECRET} | changes))


def read(event, now_ms=NOW_MS):
    return read_signature(request_of(event, fallback_id="r"), now_ms)


def admitted(event, now_ms=NOW_MS):
    request = request_of(event, fallback_id="r")
    return is_signed_with(SECRET, read_signature(request, now_ms), request)


def refusal(event, now_ms=NOW_MS):
    """The code and the words of a refusal."""
    with pytest.raises(ServiceError) as caught:
        read(event, now_ms)
    told = refusal_of(caught.value)
    assert told.status in {400, 403}
    assert SECRET not in str(caught.value)
    return told.code.removesuffix("Exception"), told.document["message"]


def test_the_signing_key_of_the_documentations_example():
    key = signing_key(EXAMPLE_SECRET, "20150830", "us-east-1", "iam", "aws4_request")
    assert key.hex() == "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9"


@pytest.mark.parametrize(
    ("service", "host", "query", "more", "expected"),
    [
        ("service", "example.amazonaws.com", "", {},
         "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("iam", "iam.amazonaws.com", "Action=ListUsers&Version=2010-05-08",
         {"content-type": "application/x-www-form-urlencoded; charset=utf-8"},
         "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"),
    ],
)  # fmt: skip
def test_the_signatures_of_the_documentations_examples(service, host, query, more, expected):
    time = "20150830T123600Z"
    headers = more | {"host": host, "x-amz-date": time}
    lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
    names = ";".join(headers)
    canonical = "\n".join(("GET", "/", canonical_query(query), lines, names, EMPTY))
    scope = f"20150830/us-east-1/{service}/aws4_request"
    key = signing_key(EXAMPLE_SECRET, *scope.split("/"))
    assert sign(key, time, scope, canonical) == expected


@pytest.mark.parametrize(
    ("query", "canonical"),
    [
        ("", ""), ("b=2&a=1", "a=1&b=2"), ("a=2&a=1", "a=1&a=2"), ("a", "a="), ("a=%7e", "a=~"),
        ("Param2=x&Param1=y", "Param1=y&Param2=x"), ("a=+%20", "a=%20%20"), ("a=%2B", "a=%2B"),
        ("a=b=c", "a=b%3Dc"), ("%E1%88%B4=bar", "%E1%88%B4=bar"), ("a=%ff", "a=%FF"), ("&", "=&="),
    ],
)  # fmt: skip
def test_canonical_queries(query, canonical):
    assert canonical_query(query) == canonical


def test_a_path_with_an_arn_is_rebuilt_as_clients_encode_it():
    """All of it, or without the colons, or without the slashes too; each encoded once more."""
    assert canonical_paths("/tags/a:b/c") == [
        "/tags/a%253Ab%252Fc", "/tags/a%3Ab%252Fc", "/tags/a%3Ab/c",
    ]  # fmt: skip
    assert canonical_paths("/tags/a%3Ab%2Fc") == ["/tags/a%253Ab%252Fc"]
    assert canonical_paths("/QueryVectors") == ["/QueryVectors"]


@pytest.mark.parametrize("kept", ["", ":", ":/"])
def test_clients_encode_an_arn_each_in_its_way(kept):
    """Whichever it is, and whether the gateway hands the path on decoded or as it came."""
    sent = "/tags/" + quote(ARN, safe=kept)
    event = made(method="GET", path=sent)
    assert event["rawPath"] == f"/tags/{ARN}"
    assert admitted(event)
    assert admitted(event | {"rawPath": sent})
    assert not admitted(event | {"rawPath": f"/tags/{ARN}x"})


def test_a_body_is_hashed_as_it_came_as_text_or_not():
    assert admitted(made(body='{"é": 1}'.encode(), text=True))
    assert admitted(made(body=b"\xff\x00"))
    assert not admitted(made(body=b"{}", text=True) | {"body": "{} "})


@pytest.mark.parametrize("region", ["us-east-1", "eu-south-2", "anything"])
def test_any_region_is_as_good(region):
    event = made(region=region)
    assert read(event).region == region
    assert admitted(event)


def test_values_are_trimmed_and_their_spaces_are_one():
    event = made(headers={"x-amz-a": "  a   b  "})
    event["headers"]["x-amz-a"] = "a b "
    assert admitted(event)


def test_several_values_of_a_header_are_joined():
    event = made(headers={"x-amz-a": "a,b"})
    assert admitted(event)
    event["headers"]["x-amz-a"] = "b,a"
    assert not admitted(event)


def test_a_bodys_stated_hash_must_be_its_hash():
    """What stands for no hash, or for chunks, is another than the body's."""
    right = made(headers={"x-amz-content-sha256": EMPTY})
    assert admitted(right)
    for other in ("UNSIGNED-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", EMPTY[:-1], "", "é"):
        assert not admitted(made(headers={"x-amz-content-sha256": other}))
        event = made(headers={"x-amz-content-sha256": EMPTY})
        event["headers"]["x-amz-content-sha256"] = other
        assert not admitted(event)


def test_a_bodys_stated_hash_is_compared_also_where_another_was_signed():
    """A client that signs the body's hash, and states another in the header."""
    event = made(headers={"x-amz-content-sha256": EMPTY})
    names = ("host", "x-amz-content-sha256", "x-amz-date")
    for stated in (EMPTY, "UNSIGNED-PAYLOAD"):
        event["headers"]["x-amz-content-sha256"] = stated
        lines = "".join(f"{name}:{event['headers'][name]}\n" for name in names)
        canonical = "\n".join(("POST", "/QueryVectors", "", lines, ";".join(names), EMPTY))
        signature = read(event)
        key = signing_key(SECRET, *signature.scope.split("/"))
        digits = sign(key, signature.time, signature.scope, canonical)
        replaced(signature.digits, digits)(event)
        assert admitted(event) == (stated == EMPTY)


def test_a_header_that_is_signed_must_be_there():
    """Though nothing were its value."""
    event = made(headers={"x-amz-a": ""})
    assert admitted(event)
    del event["headers"]["x-amz-a"]
    assert not admitted(event)


@pytest.mark.parametrize(
    ("offset_s", "words"),
    [
        (limits.SIGNATURE_SKEW_S_MAX + 1,
         "Signature expired: {signed} is now earlier than {near} ({now} - 5 min.)"),
        (-limits.SIGNATURE_SKEW_S_MAX - 1,
         "Signature not yet current: {signed} is still later than {near} ({now} + 5 min.)"),
    ],
)  # fmt: skip
def test_a_signature_of_another_time_is_refused_with_what_the_clocks_say(offset_s, words):
    def shown(ms):
        return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y%m%dT%H%M%SZ")

    now_ms = NOW_MS + 1000 * offset_s
    edge = 1000 * limits.SIGNATURE_SKEW_S_MAX * (1 if offset_s > 0 else -1)
    expected = words.format(signed=shown(NOW_MS), near=shown(now_ms - edge), now=shown(now_ms))
    assert refusal(made(), now_ms) == ("InvalidSignature", expected)
    assert admitted(made(), NOW_MS + edge)


def replaced(old, new):
    def change(event):
        event["headers"]["authorization"] = event["headers"]["authorization"].replace(old, new)

    return change


def header(name, value):
    def change(event):
        event["headers"][name] = value
        if value is None:
            del event["headers"][name]

    return change


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (header("authorization", None), "MissingAuthenticationToken", "Missing Authentication"),
        (header("authorization", " "), "MissingAuthenticationToken", "Missing Authentication"),
        (header("authorization", SECRET), "IncompleteSignature", "algorithm"),
        (header("authorization", f"Bearer sqk_{SECRET}"), "IncompleteSignature", "algorithm"),
        (replaced("HMAC-SHA256", "ECDSA-P256-SHA256"), "IncompleteSignature", "algorithm"),
        (replaced("Credential=", "Kredential="), "IncompleteSignature", "'Credential'"),
        (replaced("SignedHeaders=", ""), "IncompleteSignature", "'SignedHeaders'"),
        (replaced(", Signature", ", Credential=a, Signature"), "IncompleteSignature", "other"),
        (replaced("Signature=", "Signature=A"), "IncompleteSignature", "64"),
        (replaced("/aws4_request", ""), "IncompleteSignature", "5 slash-delimited"),
        (replaced("/aws4_request", "/aws5"), "InvalidSignature", "terminator"),
        (replaced("/s3vectors/", "/s3/"), "InvalidSignature", "correct service: 's3vectors'"),
        (replaced("/us-east-1/", "/?/"), "InvalidSignature", "region"),
        (replaced("/20261126/", "/20261125/"), "InvalidSignature", "'20261125' != '20261126'"),
        (replaced("/20261126/", "/today/"), "InvalidSignature", "YYYYMMDD"),
        (replaced("host;", ""), "InvalidSignature", "'Host'"),
        (replaced(";x-amz-date", ""), "InvalidSignature", "'x-amz-date'"),
        (header("x-amz-b", "1"), "InvalidSignature", "'x-amz-b'"),
        (replaced("host;", "Host;"), "IncompleteSignature", "lower case"),
        (replaced("host;", "host;host;"), "IncompleteSignature", "each once"),
        (replaced("host;", ";".join(f"a{i:03}" for i in range(64)) + ";host;"),
         "IncompleteSignature", "64"),
        (header("x-amz-date", None), "IncompleteSignature", "'X-Amz-Date'"),
        (header("x-amz-date", "20261399T000000Z"), "IncompleteSignature", "'X-Amz-Date'"),
        (header("x-amz-date", "now"), "IncompleteSignature", "'X-Amz-Date'"),
        (header("x-amz-security-token", "t"), "UnrecognizedClient", "security token"),
    ],
)  # fmt: skip
def test_what_no_secret_could_make_good_is_refused_with_its_reason(change, code, words):
    event = made()
    change(event)
    found, message = refusal(event)
    assert found == code
    assert words in message


def test_a_sessions_token_is_refused_also_when_it_is_signed():
    event = made(token="session")  # noqa: S106 - it is none
    assert refusal(event)[0] == "UnrecognizedClient"


@pytest.mark.parametrize("name", ["X-Amz-Signature", "x-amz-algorithm", "X-Amz-Credential"])
def test_a_signature_in_the_query_is_refused_with_or_without_a_header(name):
    code, words = refusal(made(params=[(name, "x")]))
    assert (code, "query string" in words) == ("IncompleteSignature", True)
    event = made(params=[(name, "x")])
    del event["headers"]["authorization"]
    assert refusal(event)[0] == "IncompleteSignature"


def test_a_date_header_tells_the_time_where_there_is_no_other():
    """As older clients send it: HTTP's form of a time."""
    event = made(headers={"Date": "Thu, 01 Jan 1970 00:00:00 GMT"})
    names = event["headers"]["authorization"].split("SignedHeaders=")[1].split(",")[0]
    assert "date" in names.split(";")
    assert "x-amz-date" not in event["headers"]
    assert event["headers"]["date"].startswith("Thu, 26 Nov 2026 10:20:31")
    assert admitted(event)
    for never in (
        "yesterday",
        "Sat, 28 Nov 99999999999 05:00:00 GMT",
        "Fri, 31 Dec 9999 23:59:59 -2359",
    ):
        header("date", never)(event)
        assert refusal(event)[0] == "IncompleteSignature"
    header("date", "Thu, 26 Nov 2026 10:20:31 GMT")(event)
    replaced("date;host", "host")(event)
    assert refusal(event)[0] == "InvalidSignature"
