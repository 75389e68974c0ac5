"""What botocore signs is admitted, and nothing that differs from it in what bears meaning."""

from __future__ import annotations

import base64
import copy
from urllib.parse import parse_qsl, quote, unquote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from signing import NOW_MS, signed_event
from squash.api.requests import request_of
from squash.api.s3vectors.operations import OPERATIONS
from squash.api.s3vectors.problems import ServiceError
from squash.api.s3vectors.signing import canonical_paths, is_signed_with, read_signature
from squash.limits import SIGNATURE_SKEW_S_MAX

KEY_ID = "SQKA0123456789ABCDEF"
SECRET = "q" * 43
SECRETS = st.text("ABCxyz019-_", min_size=43, max_size=43)
WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
# An ARN holds no percent sign, and a path that is "." or ".." is never sent.
RESOURCES = WORDS.filter(lambda arn: "%" not in arn and arn not in {"", ".", ".."})
PLAIN = [("POST", f"/{name}") for name, one in OPERATIONS.items() if one.on != "resource"]
TAGS = [(one.method, "/tags/") for one in OPERATIONS.values() if one.on == "resource"]
VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=20)
HEADERS = st.dictionaries(
    st.sampled_from(
        ["Content-Type", "X-Amz-Meta", "x-amz-user-agent", "AMZ-SDK-Request", "x-odd.name_1"]
    ),
    VALUES,
)


@st.composite
def requests(draw):
    """The arguments of `signed_event`."""
    method, path = draw(st.sampled_from(PLAIN + TAGS))
    if path == "/tags/":
        path += quote(draw(RESOURCES), safe="-_.~")
    body = b"" if method == "GET" else draw(WORDS).encode() or draw(st.binary(max_size=20))
    names = st.one_of(st.just("tagKeys"), WORDS)
    return {
        "method": method,
        "path": path,
        "params": draw(st.lists(st.tuples(names, WORDS), max_size=4)),
        "body": body,
        "headers": draw(HEADERS),
        "region": draw(st.sampled_from(["us-east-1", "eu-central-1", "local"])),
    }


def admitted(event, secret=SECRET, now_ms=NOW_MS):
    """Whether a request is admitted; refusals are the service's errors, or False."""
    request = request_of(event, fallback_id="r")
    try:
        signature = read_signature(request, now_ms)
    except ServiceError as error:
        assert secret not in str(error)
        return False
    return is_signed_with(secret, signature, request)


@given(requests(), SECRETS)
def test_what_botocore_signs_is_admitted(wanted, secret):
    """Whatever the operation, tags and query with any characters, headers with odd values."""
    event = signed_event(key_id=KEY_ID, secret=secret, **wanted)
    assert admitted(event, secret)
    # Where a gateway hands the path on as it came, the same was signed.
    raw = copy.deepcopy(event)
    raw["rawPath"] = wanted["path"]
    assert admitted(raw, secret)


def other_character(text, position):
    position %= len(text)
    return text[:position] + chr(ord(text[position]) ^ 1) + text[position + 1 :]


def in_header(name, change):
    def tamper(event, number):
        event["headers"][name] = change(event["headers"][name], number)

    return tamper


def in_credential(place):
    def tamper(event, number):
        header = event["headers"]["authorization"]
        credential = header.split("Credential=")[1].split(",")[0]
        parts = credential.split("/")
        parts[place] = other_character(parts[place], number)
        event["headers"]["authorization"] = header.replace(credential, "/".join(parts))

    return tamper


def body(event, number):
    data = base64.b64decode(event["body"])
    data = other_character(data.decode("latin-1"), number) if data else "x"
    event["body"] = base64.b64encode(data.encode("latin-1")).decode()


def longer_body(event, number):
    event["body"] = base64.b64encode(base64.b64decode(event["body"]) + b" ").decode()


def path(event, number):
    event["rawPath"] = "/" + other_character(event["rawPath"][1:], number)


def longer_path(event, number):
    event["rawPath"] += "/"


def method(event, number):
    http = event["requestContext"]["http"]
    http["method"] = "PUT" if http["method"] == "POST" else "POST"


def more_query(event, number):
    event["rawQueryString"] += ["&tagKeys=a", "&", "&x", "a=b"][number % 4]


def query_value(event, number):
    """One parameter's value is longer."""
    assume(event["rawQueryString"])
    pairs = event["rawQueryString"].split("&")
    pairs[number % len(pairs)] += "x"
    event["rawQueryString"] = "&".join(pairs)


def less_query(event, number):
    assume(event["rawQueryString"])
    pairs = event["rawQueryString"].split("&")
    del pairs[number % len(pairs)]
    event["rawQueryString"] = "&".join(pairs)


def signed_names(event):
    return event["headers"]["authorization"].split("SignedHeaders=")[1].split(",")[0].split(";")


def header_value(event, number):
    names = signed_names(event)
    event["headers"][names[number % len(names)]] += "x"


def header_gone(event, number):
    names = signed_names(event)
    del event["headers"][names[number % len(names)]]


def header_unsigned(event, number):
    """A name is left out of the list of those that are signed."""
    names = signed_names(event)
    fewer = [name for i, name in enumerate(names) if i != number % len(names)]
    event["headers"]["authorization"] = event["headers"]["authorization"].replace(
        f"SignedHeaders={';'.join(names)},", f"SignedHeaders={';'.join(fewer)},"
    )


def more_amz(event, number):
    event["headers"]["x-amz-target"] = "x"


TAMPERINGS = [
    body, longer_body, path, longer_path, method, more_query, query_value, less_query, header_value,
    header_gone, header_unsigned, more_amz, *map(in_credential, (1, 2, 3, 4)),
    in_header("host", other_character),
    in_header("x-amz-date", lambda value, _: value[:-2] + str((int(value[-2]) + 1) % 10) + "Z"),
    in_header("authorization", lambda value, n: value[:-64] + other_character(value[-64:], n)),
]  # fmt: skip


@pytest.mark.parametrize("tamper", TAMPERINGS, ids=lambda one: one.__name__)
@given(wanted=requests(), number=st.integers(0, 1_000))
def test_what_was_changed_on_its_way_is_refused(tamper, wanted, number):
    """Whichever part: a bit of the body, a character, a header more or less."""
    event = signed_event(key_id=KEY_ID, secret=SECRET, **wanted)
    before = copy.deepcopy(event)
    tamper(event, number)
    assume(event != before)
    assert not admitted(event)


@given(wanted=requests(), place=st.integers(0, 42))
def test_another_secret_is_refused(wanted, place):
    event = signed_event(key_id=KEY_ID, secret=SECRET, **wanted)
    assert not admitted(event, other_character(SECRET, place))


@given(requests(), st.integers(-2 * SIGNATURE_SKEW_S_MAX, 2 * SIGNATURE_SKEW_S_MAX))
def test_a_signature_holds_for_some_minutes_around_its_time(wanted, seconds):
    event = signed_event(key_id=KEY_ID, secret=SECRET, **wanted)
    inside = abs(seconds) <= SIGNATURE_SKEW_S_MAX
    assert admitted(event, now_ms=NOW_MS + 1000 * seconds) == inside


@given(WORDS, WORDS)
def test_paths_of_two_resources_are_never_signed_alike(one, other):
    """What may have been signed for a path decodes to what the path decodes to."""
    for arn in (one, other):
        for signed in canonical_paths(f"/tags/{arn}"):
            assert unquote(unquote(signed)) == unquote(f"/tags/{arn}")
    if unquote(one) != unquote(other):
        ours, theirs = canonical_paths(f"/tags/{one}"), canonical_paths(f"/tags/{other}")
        assert not set(ours) & set(theirs)


@given(st.lists(st.tuples(WORDS, WORDS), max_size=4), st.booleans())
def test_a_query_means_what_was_signed(pairs, form):
    """However its characters are encoded on their way, a gateway's plus signs for spaces too."""
    event = signed_event("DELETE", "/tags/arn", params=pairs, key_id=KEY_ID, secret=SECRET)
    event["rawQueryString"] = "&".join(
        "=".join(
            (quote(part, safe="!()*").replace("%20", "+") if form else quote(part, safe=":/"))
            for part in pair
        )
        for pair in pairs
    )
    assert admitted(event)
    assert parse_qsl(event["rawQueryString"], keep_blank_values=True) == pairs
