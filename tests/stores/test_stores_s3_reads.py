"""What S3 answers to reads, in our words; how often it is asked, where, and as whom."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from scripted_s3 import (
    CLOSE,
    Answer,
    Request,
    ScriptedS3,
    found,
    part,
    refusal,
    scripted_s3,
)

from forking import forked
from https_server import https_server
from squash.clock import SystemClock
from squash.errors import (
    ChecksumError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    SquashError,
    ThrottledError,
    UnauthenticatedError,
    UnavailableError,
)
from squash.storage.s3 import S3Store
from squash.storage.s3_access import Credentials, S3Access
from squash.storage.s3_reads import S3ReadError, S3Reads

FILES = {"AWS_CONFIG_FILE": "config", "AWS_SHARED_CREDENTIALS_FILE": "credentials"}


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path) -> None:
    """Only what a test sets has a say."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    for name, file in FILES.items():
        monkeypatch.setenv(name, str(tmp_path / file))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKID")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def s3() -> Iterator[ScriptedS3]:
    with scripted_s3() as server:
        yield server


@pytest.fixture
def store(s3) -> S3Store:
    return S3Store("bucket", "p", endpoint_url=s3.url, region="eu-west-1")


READS = {
    "get": lambda store: store.get("k"),
    "get_ranges": lambda store: store.get_ranges("k", [(0, 1)]),
    "list": lambda store: list(store.list("")),
    "list_folders": lambda store: list(store.list_folders("")),
}
AT_ONCE = [
    ("Odd", 403, PermissionDeniedError),
    ("", 403, PermissionDeniedError),
    ("AccessDenied", 403, PermissionDeniedError),
    ("InvalidAccessKeyId", 403, UnauthenticatedError),
    ("SignatureDoesNotMatch", 403, UnauthenticatedError),
    ("RequestTimeTooSkewed", 403, UnauthenticatedError),
    ("ExpiredToken", 400, UnauthenticatedError),
    ("ThrottlingException", 400, ThrottledError),
    ("RequestTimeout", 400, UnavailableError),
    ("NoSuchBucket", 404, NotFoundError),
    ("InvalidRequest", 400, InvalidArgumentError),
    ("MethodNotAllowed", 405, InvalidArgumentError),
]
REPEATED = [
    ("SlowDown", 503, ThrottledError),
    ("", 429, ThrottledError),
    ("InternalError", 500, UnavailableError),
    ("", 502, UnavailableError),
]


def rest_of(body: bytes, asked: Request, *, tag: str = '"1"') -> Answer:
    """Return what S3 answers who asks for all from some byte on."""
    start, stop = asked.headers["range"].removeprefix("bytes=").split("-")
    return part(body[int(start) : int(stop or len(body)) + 1], int(start), len(body), tag=tag)


def refused(read, store: S3Store) -> type[SquashError]:
    """Return the kind of error that a read ends in."""
    with pytest.raises(SquashError) as caught:
        READS[read](store)
    assert caught.value.__cause__ is not None
    assert "Debug" not in str(caught.value)
    return type(caught.value)


@pytest.mark.parametrize("read", READS)
def test_a_read_that_hangs_is_repeated(s3, monkeypatch, read):
    """Long before a function is ended that waits for it: one that brings nothing brings no more."""
    monkeypatch.setattr("squash.storage.s3_reads.SILENT_S", 0.3)
    store = S3Store("bucket", "p", endpoint_url=s3.url, region="eu-west-1")
    over = threading.Event()

    def hanging(_: Request) -> Answer:
        over.wait(20)
        return refusal(404, "NoSuchBucket")

    listed = b"<ListBucketResult></ListBucketResult>"
    answer = found(listed) if "list" in read else part(b"a", 0, 1)
    s3.answers(hanging, found(b"a") if read == "get" else answer)
    try:
        READS[read](store)
        assert len(s3.requests) == 2
    finally:
        over.set()


@pytest.mark.parametrize(("code", "status", "expected"), AT_ONCE)
@pytest.mark.parametrize("read", READS)
def test_refusals(s3, store, read, code, status, expected):
    """Each answer of S3 is the error by which a caller knows what to do, from whatever reads."""
    s3.answers(refusal(status, code))
    assert refused(read, store) is expected
    assert len(s3.requests) == 1


@pytest.mark.parametrize(("code", "status", "expected"), REPEATED)
def test_what_may_be_over_soon_is_asked_again(s3, store, code, status, expected):
    """A fault of the server's, and to be too fast, is met by waiting, four times in all."""
    s3.answers(refusal(status, code))
    assert refused("get", store) is expected
    assert len(s3.requests) == 4
    s3.answers(refusal(status, code), refusal(status, code), found(b"ok"))
    assert store.get("k") == b"ok"
    assert len(s3.requests) == 3


def test_lost_connections_are_made_again(s3, store):
    """A connection that closes without an answer is none; what never answers is unavailable."""
    s3.answers(CLOSE, found(b"ok"))
    assert store.get("k") == b"ok"
    s3.answers(CLOSE)
    assert refused("get", store) is UnavailableError
    assert len(s3.requests) == 4


def test_broken_streams_are_read_on(s3, store):
    """Of a body that breaks off the rest is asked for, of the very same object."""
    body = bytes(range(200)) * 2000
    s3.answers(found(body, sent=150_000), lambda asked: rest_of(body, asked))
    assert store.get("k") == body
    first, second = s3.requests
    assert "range" not in first.headers
    assert "range" in second.headers
    s3.answers(found(body, sent=150_000), lambda asked: rest_of(body, asked, tag='"2"'))
    assert refused("get", store) is UnavailableError


def test_absent_only_if_s3_says_so(s3, store):
    """None is given for NoSuchKey alone; another 404 is an error."""
    s3.answers(refusal(404, "NoSuchKey"))
    assert store.get("k") is None
    with pytest.raises(ChecksumError, match="missing"):
        store.get_ranges("k", [(0, 1)])
    for code in ("", "NoSuchUpload", "Odd"):
        s3.answers(refusal(404, code))
        assert refused("get", store) is InvalidArgumentError


def test_ranges_are_coalesced(s3, store):
    """Near ranges are one request; what ends before, or has nothing there, is damaged."""
    s3.answers(part(b"0123456789", 0, 10))
    got = store.get_ranges("k", [(8, 10), (0, 2)])
    assert [bytes(one) for one in got] == [b"89", b"01"]
    assert [one.headers["range"] for one in s3.requests] == ["bytes=0-9"]
    assert s3.requests[0].path == "/bucket/p/k"
    s3.answers(part(b"01234", 0, 5))
    with pytest.raises(ChecksumError, match="5 bytes"):
        store.get_ranges("k", [(0, 8)])
    s3.answers(refusal(416, "InvalidRange"))
    with pytest.raises(ChecksumError, match="fewer bytes"):
        store.get_ranges("k", [(5, 8)])


@pytest.mark.parametrize(
    "name", ["a b", "ä/ö", "a%20b", "a~b", "a#b", "a?b", "{*}", "a+b", "a&b=c", "日本", "[x]'\"|^`"]
)
def test_keys_are_asked_for_as_they_are(s3, store, name):
    """Whatever a key may hold stands in the path escaped once, by UTF-8."""
    from urllib.parse import unquote

    s3.answers(found(b"ok"))
    assert store.get(name) == b"ok"
    assert unquote(s3.requests[0].path) == f"/bucket/p/{name}"


def test_a_bucket_elsewhere_is_asked_there(s3, store):
    """S3 says in which region a bucket is to who asks in another; it is asked there from then."""
    wrong = refusal(400, "AuthorizationHeaderMalformed")
    there = refusal(200, x_amz_bucket_region="sa-east-1")
    s3.answers(wrong, there, found(b"ok"))
    assert store.get("k") == b"ok"
    asked = [one.headers["authorization"].split(",")[0] for one in s3.requests]
    assert [one.method for one in s3.requests] == ["GET", "HEAD", "GET"]
    assert "/eu-west-1/s3/" in asked[0]
    assert "/sa-east-1/s3/" in asked[2]
    s3.answers(found(b"again"))
    assert store.get("k") == b"again"
    assert "/sa-east-1/s3/" in s3.requests[0].headers["authorization"]


@pytest.mark.parametrize(("read", "expected"), [("list", ["k"]), ("list_folders", [])])
def test_a_listing_of_a_bucket_elsewhere(s3, store, read, expected):
    """A listing that comes first finds the bucket, too."""
    there = refusal(200, x_amz_bucket_region="sa-east-1")
    listing = Answer(
        200,
        b"<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>p/k</Key>"
        b"<Size>1</Size><LastModified>2026-11-27T12:00:00.000Z</LastModified></Contents>"
        b"</ListBucketResult>",
    )
    s3.answers(refusal(301, "PermanentRedirect"), there, listing)
    assert [getattr(one, "key", one) for one in READS[read](store)] == expected
    assert "/sa-east-1/s3/" in s3.requests[-1].headers["authorization"]


@pytest.mark.parametrize("status", [200, 404])
def test_a_bucket_that_is_nowhere_else_is_refused(s3, store, status):
    """Where nobody knows of another region, what was refused is."""
    s3.answers(refusal(301, "PermanentRedirect"), refusal(status))
    with pytest.raises(InvalidArgumentError, match="AWS_REGION"):
        store.get("k")


def test_who_asks(s3, monkeypatch, tmp_path):
    """Keys of the environment, with their token; else those of a profile."""
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")
    s3.answers(found(b"ok"))
    S3Store("bucket", "p", endpoint_url=s3.url, region="eu-west-1").get("k")
    assert "Credential=AKID/" in s3.requests[0].headers["authorization"]
    assert s3.requests[0].headers["x-amz-security-token"] == "token"
    assert s3.requests[0].headers["user-agent"] == "squash-search"
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.delenv("AWS_SESSION_TOKEN")
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    monkeypatch.setenv("AWS_PROFILE", "work")
    (tmp_path / "config").write_text("[profile work]\nregion = ap-south-1\n")
    (tmp_path / "credentials").write_text(
        "[work]\naws_access_key_id = WORK\naws_secret_access_key = s\n"
    )
    s3.answers(found(b"ok"))
    S3Store("bucket", "p", endpoint_url=s3.url).get("k")
    assert "Credential=WORK/" in s3.requests[0].headers["authorization"]
    assert "/ap-south-1/s3/" in s3.requests[0].headers["authorization"]


def test_writes_go_where_reads_go(s3, monkeypatch):
    """AWS_REGION alone is enough, also for what botocore does, which looks at another variable."""
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    monkeypatch.setenv("AWS_REGION", "ca-central-1")
    store = S3Store("bucket", "p", endpoint_url=s3.url)
    s3.answers(found(b"ok"))
    store.get("k")
    assert "/ca-central-1/s3/" in s3.requests[0].headers["authorization"]
    assert store.writes().access().region == "ca-central-1"


HOSTS = [
    ({}, "s3.us-east-1.amazonaws.com"),
    ({"AWS_DEFAULT_REGION": "us-east-1"}, "s3.us-east-1.amazonaws.com"),
    ({"AWS_DEFAULT_REGION": "eu-west-1"}, "s3.eu-west-1.amazonaws.com"),
    ({"AWS_DEFAULT_REGION": "cn-north-1"}, "s3.cn-north-1.amazonaws.com.cn"),
    ({"AWS_DEFAULT_REGION": "us-gov-west-1"}, "s3.us-gov-west-1.amazonaws.com"),
    (
        {"AWS_DEFAULT_REGION": "us-east-1", "AWS_USE_FIPS_ENDPOINT": "true"},
        "s3-fips.us-east-1.amazonaws.com",
    ),
    (
        {"AWS_DEFAULT_REGION": "us-east-1", "AWS_USE_DUALSTACK_ENDPOINT": "true"},
        "s3.dualstack.us-east-1.amazonaws.com",
    ),
    (
        {"AWS_DEFAULT_REGION": "ca-central-1", "AWS_USE_DUALSTACK_ENDPOINT": "true"},
        "s3.dualstack.ca-central-1.amazonaws.com",
    ),
]


@pytest.mark.parametrize(("variables", "host"), HOSTS)
def test_hosts_as_the_configuration_has_them(monkeypatch, variables, host):
    """Where botocore is asked, reads go to the host of a region, which can be told for another."""
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    access = S3Store("bucket", "").writes().access()
    assert access.endpoint_url == f"https://{host}"
    assert access.bucket_url("bucket") == (f"https://bucket.{host}", True)
    there = access.moved("ap-south-1").endpoint_url
    assert there == f"https://{host}".replace(access.region, "ap-south-1")


def test_nobody_asks(s3, monkeypatch):
    """Without any keys nothing is sent, and what to do is said."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    s3.answers(found(b"ok"))
    store = S3Store("bucket", "p", endpoint_url=s3.url, region="eu-west-1")
    with pytest.raises(UnauthenticatedError, match="AWS_PROFILE"):
        store.get("k")
    assert not s3.requests
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(UnauthenticatedError):
        S3Store("bucket", "p", endpoint_url=s3.url, region="eu-west-1")


def test_keys_that_change_are_asked_for_again(s3):
    """Keys are taken to last some minutes, and then those of that moment are taken."""

    class Later(SystemClock):
        def now_ms(self) -> int:
            return super().now_ms() - 3_600_000

    def keys() -> Credentials:
        made.append(Credentials(f"KEY{len(made)}", "secret", None))
        return made[-1]

    for clock, expected in ((SystemClock(), {"KEY0"}), (Later(), {"KEY0", "KEY1", "KEY2"})):
        made: list[Credentials] = []
        reads = S3Reads("bucket", S3Access(s3.url, "eu-west-1", keys), clock)
        s3.answers(found(b"ok"))
        for _ in range(3):
            reads.get("k")
        used = {one.headers["authorization"].split("=")[1][:4] for one in s3.requests}
        assert used == expected


def test_whom_is_trusted(tmp_path, monkeypatch):
    """A server is trusted whose certificate is by who the system, or AWS_CA_BUNDLE, names."""
    with https_server(tmp_path) as (url, authority):
        with pytest.raises(UnavailableError):
            S3Store("bucket", "", endpoint_url=url, region="eu-west-1").get("k")
        monkeypatch.setenv("AWS_CA_BUNDLE", str(authority))
        store = S3Store("bucket", "", endpoint_url=url, region="eu-west-1")
        assert store.get("k") == b""
        monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "none"))
        with pytest.raises(InvalidArgumentError, match="AWS_CA_BUNDLE"):
            S3Store("bucket", "", endpoint_url=url, region="eu-west-1")


def test_a_proxy_is_gone_through(s3, monkeypatch):
    """What is asked of another machine goes through the proxy that the environment names."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, s3.url)
    s3.answers(found(b"ok"))
    store = S3Store("bucket", "", endpoint_url="http://s3.example.test", region="eu-west-1")
    assert store.get("k") == b"ok"
    assert [one.path for one in s3.requests] == ["http://s3.example.test/bucket/k"]


# Asks, is interrupted while it waits, and says what it ended by; on one core, where a signal comes
# as often before the wait as in it.
INTERRUPTED = """
import os
from squash.storage.s3 import S3Store
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
store = S3Store("bucket", "", endpoint_url={url!r}, region="eu-west-1")
for _ in range({times}):
    try:
        store.get("k")
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


def test_an_interrupt_ends_the_wait():
    """Ctrl-C ends a process that waits for an S3 which says nothing, long before its time-outs."""
    times = 200
    with socket.create_server(("127.0.0.1", 0)) as silent, ExitStack() as held:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        program = INTERRUPTED.format(url=url, times=times)
        asking = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True
        )
        late = threading.Timer(60, asking.kill)
        late.start()
        held.callback(late.cancel)
        with asking:
            for _ in range(times):
                connection, _ = silent.accept()
                held.enter_context(connection)
                connection.recv(1)  # it has asked, and waits
                asking.send_signal(signal.SIGINT)
                assert asking.stdout.readline() == "interrupted\n"
            assert asking.wait(timeout=20) == 0


def test_an_error_keeps_the_answer(s3):
    """What is raised has S3's code and status, and none of the client's own structures."""
    s3.answers(refusal(403, "AccessDenied"))
    reads = S3Reads("b", S3Access(s3.url, "eu-west-1", Credentials("a", "b", None)), SystemClock())
    with pytest.raises(S3ReadError) as caught:
        reads.get("k")
    assert caught.value.response == {
        "Error": {"Code": "AccessDenied"},
        "ResponseMetadata": {"HTTPStatusCode": 403},
    }
    assert "secret" not in str(caught.value)


def test_a_forked_child_is_refused_what_it_would_wait_for_for_ever(s3, store):
    """The threads that read are the parent's; which goes on."""
    s3.answers(found(b"a"))
    assert store.get("k") == b"a"

    def refused() -> int:
        anew = S3Store("bucket", "p", endpoint_url=s3.url, region="eu-west-1")
        seen = 0
        for one in (store, anew):
            for read in READS.values():
                with pytest.raises(InvalidArgumentError, match="forked off one that had read"):
                    read(one)
                seen += 1
        return 7 if seen == 2 * len(READS) else 1

    assert forked(refused) == 7
    assert store.get("k") == b"a"


def test_a_forked_child_writes_by_connections_of_its_own(s3, store):
    """Of one that both have, each could get what the other was answered."""
    s3.answers(Answer(200))
    store.put("k", b"a")
    before = store.writes()

    def written() -> int:
        store.put("k", b"b")
        return 7 if store.writes() is not before else 1

    assert forked(written) == 7
    store.put("k", b"c")
    assert store.writes() is before
