"""The HTTP interface from outside: over a socket, on a real S3 endpoint, and fuzzed."""

from __future__ import annotations

import http.client
import json
import logging
import socket
import struct
import subprocess
import sys
import threading
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote
from uuid import uuid4

import boto3
import numpy as np
import pytest
from moto.server import ThreadedMotoServer

import squash
from model import ModelIndex
from squash.api import credentials, functions
from squash.api.access import KeyGate
from squash.api.serving import make_faces, make_server
from squash.clock import SystemClock, SystemIds
from squash.errors import UnavailableError
from squash.limits import HTTP_BODY_BYTES_MAX, SERVED_BODY_BYTES_MAX

ROOT = Path(__file__).resolve().parents[2]
EVENTS = ROOT / "tests" / "events"


@contextmanager
def served(database):
    """A server on any port of this machine, and the token of a key that may do everything."""
    clock, ids = SystemClock(), SystemIds()
    faces = make_faces(database, gate=KeyGate(database.store, clock), clock=clock, ids=ids)
    server = make_server(faces, port=0, ids=ids, clock=clock)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    made = credentials.create_key(
        database.store, scopes=["read", "write", "admin"], indexes=["*"], clock=clock
    )
    try:
        yield server.server_port, made.token
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def database():
    return squash.connect(f"memory://{uuid4().hex}")


def ask(port, method, path, body=None, *, token="", **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        given = {"authorization": f"Bearer {token}"} if token else {}
        given |= {"content-type": "application/json"} if body is not None else {}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body=body, headers=given)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def exchange(port, sent):
    """What is answered to these bytes and no more."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65_536), b""))


def test_it_listens_to_this_machine_alone(database):
    """And to its own names: a page elsewhere cannot point a name of its own here."""
    with served(database) as (port, token):
        status, headers, body = ask(port, "GET", "/v1/indexes", token=token)
        assert (status, json.loads(body)) == (200, {"indexes": []})
        assert headers["content-type"] == "application/json"
        assert ask(port, "GET", "/v1/indexes", token=token, host="evil.example")[0] == 421
        for name in ("localhost", "LocalHost"):
            assert ask(port, "GET", "/v1/indexes", token=token, host=f"{name}:{port}")[0] == 200
        server_address = socket.create_connection(("127.0.0.1", port))
        assert server_address.getpeername()[0] == "127.0.0.1"
        server_address.close()


def test_requests_that_cannot_be_read_are_refused(database):
    with served(database) as (port, token):
        for status, method, headers in (
            (411, "POST", {"transfer_encoding": "chunked"}),
            (400, "POST", {"content_length": "x"}),
            (413, "POST", {"content_length": str(1 << 50)}),
            (413, "POST", {"content_length": "9" * 5_000}),
        ):
            assert ask(port, method, "/v1/indexes", token=token, **headers)[0] == status
        status, headers, body = ask(port, "HEAD", "/v1/indexes", token=token)
        assert (status, headers["allow"], body) == (405, "GET, POST", b"")
        assert ask(port, "BREW", "/v1/indexes", token=token)[0] == 405
        assert ask(port, "POST", "/v1/indexes", b"\xff{", token=token)[0] == 400
        assert ask(port, "GET", "/v1/indexes/%2e%2e%2f_keys/vectors", token=token)[0] == 404
        assert ask(port, "GET", "/v1/indexes/%00/vectors", token=token)[0] == 400


def test_what_cannot_be_read_is_refused_in_json(database):
    """Whatever of it is quoted; and what is said twice, a body's length or a host, is not known."""
    with served(database) as (port, _):
        host = f"Host: 127.0.0.1:{port}\r\n".encode()
        twice = b"Content-Length: 2\r\nContent-Length: 9\r\n"
        for sent, status in (
            (b'GET /a"b\\c d HTTP/1.1\r\n', b"400"),
            (b"POST /v1/indexes HTTP/1.1\r\n" + twice, b"400"),
            (b"GET /v1/health HTTP/1.1\r\n" + host, b"400"),
            (b"GET /" + b'"' * 70_000 + b" HTTP/1.1\r\n", b"414"),
        ):
            head, _, body = exchange(port, sent + host + b"\r\n{}").partition(b"\r\n\r\n")
            assert head.split()[1] == status
            assert json.loads(body)["message"]


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ("no header\r\nContent-Length: {}", b"400"), ("Content-Length : {}", b"400"),
        ("Content-Length\t: {}", b"400"), (": a\r\nContent-Length: {}", b"400"),
        ("Content-Length:", b"400"), ("Content-Length:\r\n {}", b"400"),
        ("Transfer-Encoding:\r\nContent-Length: {}", b"411"),
        ("Transfer-Encoding : chunked", b"400"),
    ],
)  # fmt: skip
def test_a_body_whose_length_cannot_be_read_is_no_request(database, lines, status):
    """It is refused, and what was sent after the headers is not carried out."""
    with served(database) as (port, token):
        host = f"Host: 127.0.0.1:{port}\r\n"
        bearer = f"authorization: Bearer {token}\r\n"
        made = '{"name": "papers", "dimension": 2}'
        body = (
            f"POST /v1/indexes HTTP/1.1\r\n{host}{bearer}content-type: application/json\r\n"
            f"content-length: {len(made)}\r\n\r\n{made}"
        )
        sent = f"POST /v1/indexes HTTP/1.1\r\n{host}{lines.format(len(body))}\r\n\r\n{body}"
        answered = exchange(port, sent.encode())
        assert answered.split()[1] == status
        assert answered.count(b"HTTP/1.1") == 1
        assert ask(port, "GET", "/v1/indexes", token=token)[2] == b'{"indexes":[]}'
        folder = {"content_type": "multipart/form-data"}
        assert ask(port, "POST", "/v1/indexes", token=token, **folder)[0] == 415


def test_who_goes_away_in_the_middle_leaves_nothing_behind(database, capfd):
    """Part of a body is not taken for all of it, and no traceback tells of who did not wait."""
    with served(database) as (port, token):
        given = f"Host: localhost\r\nx-api-key: {token}\r\ncontent-type: application/json\r\n"
        cut = f"POST /v1/indexes HTTP/1.1\r\n{given}content-length: 90\r\n\r\n"
        whole = '{"name": "papers", "dimension": 2}'
        assert exchange(port, (cut + whole).encode()) == b""
        assert json.loads(ask(port, "GET", "/v1/indexes", token=token)[2]) == {"indexes": []}
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", port)) as one:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                one.sendall(f"GET /v1/indexes HTTP/1.1\r\n{given}\r\n".encode() * 50)
        assert ask(port, "GET", "/v1/health")[0] == 200
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize(("error", "told"), [(ConnectionResetError, False), (ValueError, True)])
def test_who_breaks_a_connection_off_leaves_no_traceback(error, told, capsys):
    """A client that was stopped is no failure; whatever else goes wrong is told."""

    def answer():
        raise error

    with make_server({}, port=0, ids=SystemIds(), clock=SystemClock()) as server:
        try:
            answer()
        except error:
            server.handle_error(None, ("127.0.0.1", 1))
    assert ("Traceback" in capsys.readouterr().err) == told


def test_many_connections_may_come_at_once():
    """Nobody waits to try again to connect, though none is answered yet."""
    with ExitStack() as stack:
        server = stack.enter_context(make_server({}, port=0, ids=SystemIds(), clock=SystemClock()))
        for _ in range(64):
            address = ("127.0.0.1", server.server_port)
            stack.enter_context(socket.create_connection(address, timeout=0.9))


def test_a_port_that_somebody_has_is_named(database):
    with (
        served(database) as (port, _),
        pytest.raises(UnavailableError, match=f"the port {port} cannot be had"),
    ):
        make_server({}, port=port, ids=SystemIds(), clock=SystemClock())


def test_a_put_that_is_too_large_gets_to_the_face_which_says_how_many_fit(database):
    """Up to what the service takes; S3 Vectors' clients read the error in their own words."""
    with served(database) as (port, token):
        long = b" " * (HTTP_BODY_BYTES_MAX + 1)
        path = "/v1/indexes/papers/vectors"
        status, headers, body = ask(port, "POST", path, long, token=token)
        assert (status, headers["content-type"]) == (413, "application/problem+json")
        assert b"send fewer records" in body
        status, headers, _ = ask(port, "POST", "/PutVectors", long)
        assert "x-amzn-ErrorType" in headers
        assert 400 <= status < 500
        over = b" " * (SERVED_BODY_BYTES_MAX + 1)
        for _ in range(5):  # its sender reads the answer, and no broken connection
            status, _, body = ask(port, "POST", path, over, token=token)
            assert (status, "fewer records" in json.loads(body)["message"]) == (413, True)


def test_paths_of_resources_come_with_their_slashes_and_by_every_method(database):
    """As boto3 sends them: percent-encoded, and known to the S3 Vectors face by what they are."""
    with served(database) as (port, _):
        arn = quote("arn:aws:s3vectors:us-east-1:123456789012:bucket/media/index/i", safe="")
        for method in ("GET", "POST", "DELETE", "PUT", "HEAD"):
            status, headers, body = ask(port, method, f"/tags/{arn}?tagKeys=a&tagKeys=b")
            assert (status, "x-amzn-ErrorType" in headers) == (403, True), method
            assert (body == b"") == (method == "HEAD")


def test_many_ask_at_once_and_each_gets_its_own_answer(database):
    """Threads share the handlers: no answer goes to another's request."""
    index = database.create_index("papers", dimension=2, metric="euclidean")
    index.put(keys=[str(i) for i in range(64)], vectors=[[i, 0] for i in range(64)])
    wrong = []

    def client(port, token, start):
        for i in range(start, 64, 8):
            body = json.dumps({"vector": [i, 0], "top_k": 1})
            status, _, data = ask(port, "POST", "/v1/indexes/papers/query", body, token=token)
            if status != 200 or json.loads(data)["matches"][0]["key"] != str(i):
                wrong.append((i, status, data))

    with served(database) as (port, token):
        threads = [threading.Thread(target=client, args=(port, token, i)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def fuzz(database, folder, *arguments):
    """Let schemathesis ask what infra/openapi.yaml promises; return what it says if not kept."""
    database.create_index("0", dimension=1, metric="euclidean").put(keys=["0"], vectors=[[0]])
    # A list that is too long passes a limit, and is told so by 413.
    (folder / "schemathesis.toml").write_text(
        "[checks.negative_data_rejection]\nexpected-statuses = [400, 401, 403, 404, 405, 413, 415]"
    )
    with served(database) as (port, token):
        return subprocess.run(  # noqa: S603 - our own arguments
            [
                sys.executable, "-m", "schemathesis.cli", "run", str(ROOT / "infra/openapi.yaml"),
                "--url", f"http://127.0.0.1:{port}", "-H", f"Authorization: Bearer {token}",
                # What a schema cannot say (a vector's dimension, a filter's grammar) is told by
                # answers of status 400, which are documented.
                "--exclude-checks", "positive_data_acceptance",
                "--suppress-health-check", "all", "--continue-on-failure", "--no-color", *arguments,
            ],
            cwd=folder, capture_output=True, text=True, check=False,
        )  # fmt: skip


def test_a_fuzzer_finds_nothing_undocumented(database, tmp_path):
    """A sample: no 5xx, no answer that the description lacks."""
    done = fuzz(
        database, tmp_path, "--phases", "examples,fuzzing", "-n", "8", "--generation-deterministic"
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]


@pytest.mark.slow
def test_a_fuzzer_finds_nothing_undocumented_in_long(database, tmp_path):
    """All of it: systematic edges, chance, and sequences of requests."""
    done = fuzz(database, tmp_path, "--phases", "examples,coverage,fuzzing,stateful", "-n", "150")
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]


@pytest.fixture
def bucket():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        client = boto3.client("s3", endpoint_url=endpoint)
        client.create_bucket(Bucket="functions")
        yield endpoint, client
        client.close()
        server.stop()


@pytest.fixture
def _logger_as_it_was():
    logger = logging.getLogger("squash")
    before = dict(vars(logger)) | {"handlers": list(logger.handlers)}
    yield
    vars(logger).clear()
    vars(logger).update(before)


@pytest.mark.usefixtures("_logger_as_it_was")
def test_the_functions_on_s3_answer_as_brute_force_does(bucket):
    """Create, put, fold, put on top, delete and query, each by its own function, over S3."""
    endpoint, client = bucket
    environment = {
        "SQUASH_STORE": "s3://functions/some/prefix",
        "AWS_ENDPOINT_URL_S3": endpoint,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1024",
    }
    store = squash.connect(environment["SQUASH_STORE"], endpoint_url=endpoint).store
    token = credentials.create_key(
        store, scopes=["read", "write", "admin"], indexes=["papers"], clock=SystemClock()
    ).token
    context = SimpleNamespace(aws_request_id="x", get_remaining_time_in_millis=lambda: 900_000)
    handlers = {
        name: getattr(functions, name)(environment)
        for name in ("coordinator", "documents", "indexes", "compactor")
    }

    def send(function, method, path, body=None):
        made = json.loads((EVENTS / "http-query.json").read_text(encoding="utf-8"))
        made["rawPath"] = path
        made["requestContext"]["http"]["method"] = method
        made["headers"]["authorization"] = f"Bearer {token}"
        made["body"] = None if body is None else json.dumps(body)
        answer = handlers[function](made, context)
        document = json.loads(answer["body"])
        assert answer["statusCode"] < 300, document
        return document

    rng = np.random.default_rng(5)
    vectors = rng.normal(size=(4_500, 8)).astype(np.float32)
    metadata = [{"n": int(n)} for n in rng.integers(5, size=len(vectors))]
    model = ModelIndex("cosine")
    send("indexes", "POST", "/v1/indexes", {"name": "papers", "dimension": 8})

    def put(start, stop):
        records = [
            {"key": f"k{i}", "vector": vectors[i].tolist(), "metadata": metadata[i]}
            for i in range(start, stop)
        ]
        send("documents", "POST", "/v1/indexes/papers/vectors", {"vectors": records})
        model.put([f"k{i}" for i in range(start, stop)], vectors[start:stop], metadata[start:stop])

    for start in range(0, 4_400, 880):
        put(start, start + 880)
    done = handlers["compactor"](json.loads((EVENTS / "schedule.json").read_text()), context)
    assert [one["outcome"] for one in done["indexes"]] == ["folded"]
    put(4_400, 4_500)
    send("documents", "POST", "/v1/indexes/papers/vectors/delete", {"keys": ["k7", "k4450"]})
    model.delete(["k7", "k4450"])
    query = rng.normal(size=8).astype(np.float32)
    body = {"vector": query.tolist(), "filter": {"n": 3}, "exact": True}
    answer = send("coordinator", "POST", "/v1/indexes/papers/query", body)
    expected = [key for _, key in model.query(query, 10, {"n": 3})]
    assert [one["key"] for one in answer["matches"]] == expected
    assert answer["usage"]["cost_usd"] > 0
    warm = send("coordinator", "POST", "/v1/indexes/papers/query", body)
    # Is there a newer commit? It would tell of a drop, too.
    assert warm["usage"]["store_requests"] == 1
    eventual = send(
        "coordinator", "POST", "/v1/indexes/papers/query", {**body, "consistency": "eventual"}
    )
    assert eventual["usage"]["store_requests"] == 0
    assert [one["key"] for one in eventual["matches"]] == expected
    _writes_under_conditions(send, body, answer)
    # Without its bucket the service has failed, and says no name.
    for entry in client.list_objects_v2(Bucket="functions")["Contents"]:
        client.delete_object(Bucket="functions", Key=entry["Key"])
    client.delete_bucket(Bucket="functions")
    made = json.loads((EVENTS / "http-query.json").read_text(encoding="utf-8"))
    made["headers"]["authorization"] = f"Bearer {token}"
    answer = handlers["coordinator"](made, context)
    assert answer["statusCode"] == 500
    assert "functions" not in answer["body"]


def _writes_under_conditions(send, body, answer):
    """Patches, conditions, folds and older snapshots, as S3 itself serves them."""
    records = "/v1/indexes/papers/vectors"
    nearest = answer["matches"][0]["key"]
    patched = send(
        "documents",
        "POST",
        f"{records}/patch",
        {
            "patches": [{"key": nearest, "metadata": {"n": 4, "new": True}}],
            "if_snapshot": answer["snapshot"],
        },
    )
    send("indexes", "POST", "/v1/indexes/papers/optimize", {"full": True})
    now = send("coordinator", "POST", "/v1/indexes/papers/query", body)
    assert nearest not in [one["key"] for one in now["matches"]]
    then = send(
        "coordinator", "POST", "/v1/indexes/papers/query", {**body, "as_of": answer["snapshot"]}
    )
    assert [one["key"] for one in then["matches"]] == [one["key"] for one in answer["matches"]]
    got = send("documents", "POST", f"{records}/get", {"keys": [nearest], "include": ["metadata"]})
    assert got["records"] == [{"key": nearest, "metadata": {"n": 4, "new": True}}]
    new = {"vectors": [{"key": "new", "vector": [1.0] * 8}], "if_absent": True}
    send("documents", "POST", records, new)
    with pytest.raises(AssertionError, match="conflict"):
        send("documents", "POST", records, new)
    told = send("indexes", "GET", "/v1/indexes/papers/snapshots")["snapshots"]
    assert [one["operation"] for one in told[:3]] == ["put", "fold", "put"]
    assert told[2]["snapshot"] == patched["snapshot"]
    collected = send("indexes", "POST", "/v1/indexes/papers/gc", {"retention_s": 3_600})
    assert collected["unknown"]["objects"] == 0
