"""The functions' factories: what they answer to real events, and what importing them loads."""

from __future__ import annotations

import json
import logging
import subprocess
import sys

import pytest
from api_world import Answer, HandClock, context, event, rows

import squash
from in_process import InProcessInvoker
from squash.api import credentials, functions
from squash.api.environment import read_face
from squash.clock import SystemClock
from squash.errors import InvalidArgumentError, UnavailableError
from squash.storage import open_store
from squash.storage.s3_access import SILENT_S

pytestmark = pytest.mark.usefixtures("logger_put_back")


def test_the_http_functions_answer_real_events(environment, capsys):
    """With keys, as deployed: a line of log and the metrics are printed, and no secret in them."""
    database = squash.connect(environment["SQUASH_STORE"])
    index = database.create_index("papers", dimension=2)
    index.put(keys=["a"], vectors=[[1, 0]], metadata=[{"year": 2021}])
    token = credentials.create_key(
        database.store, scopes=["read"], indexes=["papers"], clock=SystemClock()
    ).token
    capsys.readouterr()
    for name, factory in (
        ("http-query", functions.coordinator),
        ("http-list", functions.documents),
    ):
        handle = factory(environment | {"SQUASH_METRICS": "on"})
        made = event(name)
        made["headers"]["authorization"] = f"Bearer {token}"
        answer = Answer(handle(made, context()), made["requestContext"]["requestId"])
        assert answer.status == 200
        printed = capsys.readouterr()
        lines = [json.loads(line) for line in (printed.out + printed.err).splitlines()]
        told = next(line for line in lines if "request_id" in line)
        assert told["request_id"] == made["requestContext"]["requestId"]
        assert (told["status"], told["index"], told["cold_start"]) == (200, "papers", True)
        assert told["caller"] == token.split("_")[1]
        metrics = next(line for line in lines if "_aws" in line)
        assert metrics["Requests"] == [1.0]
        assert metrics["service"] == factory.__name__
        assert token not in printed.out + printed.err
        line_bytes = next(len(line) for line in printed.out.splitlines() if "request_id" in line)
        assert line_bytes < 300  # it is paid for: see `bench/cost_model.py`
    answer = Answer(
        functions.indexes(environment)(event("http-query"), context()), "JKJaXmPLvHcESHA="
    )
    assert answer.status == 401


def test_an_error_is_logged_with_what_led_to_it_and_answered_without(environment, capsys):
    database = squash.connect(environment["SQUASH_STORE"])
    database.create_index("papers", dimension=2)
    database.store.put("papers/index.json", b"{}")
    handle = functions.coordinator(environment | {"SQUASH_AUTH": "none", "SQUASH_LOCAL": "1"})
    capsys.readouterr()
    answer = Answer(handle(event("http-query"), context()), "JKJaXmPLvHcESHA=")
    assert (answer.status, answer.kind) == (500, "damaged-data")
    assert "index.json" not in answer.raw["body"]
    printed = capsys.readouterr()
    told = next(
        line
        for line in map(json.loads, (printed.out + printed.err).splitlines())
        if line.get("level") == "ERROR"
    )
    assert "index.json" in told["message"]
    assert "Traceback" in told["exception"]


def test_optimize_asks_the_compactor_and_does_not_wait(environment, monkeypatch):
    """202, with the snapshot before the fold; nothing is folded here."""
    calls = []
    from squash.api import calling

    monkeypatch.setattr(calling, "call_later", lambda *call: calls.append(call))
    index = squash.connect(environment["SQUASH_STORE"]).create_index("papers", dimension=2)
    index.put(**rows(3))
    handle = functions.indexes(
        environment
        | {"SQUASH_AUTH": "none", "SQUASH_LOCAL": "1", "SQUASH_COMPACTOR": "squash-compactor"}
    )
    made = event("http-list")
    path = "/v1/indexes/papers/optimize"
    made |= {"rawPath": path, "rawQueryString": ""}
    made["requestContext"]["http"]["method"] = "POST"
    answer = Answer(handle(made, context()), made["requestContext"]["requestId"])
    assert (answer.status, answer.document) == (202, {"snapshot": 1})
    assert calls == [("squash-compactor", b'{"index": "papers"}')]
    assert index.stats().rows_fresh == 3


@pytest.mark.parametrize(
    ("path", "body", "told"),
    [
        ("optimize", {"full": False}, {"index": "papers"}),
        ("optimize", {"full": True}, {"index": "papers", "full": True}),
        ("gc", None, {"index": "papers", "gc": True}),
        ("gc", {"retention_s": 7_200}, {"index": "papers", "gc": True, "retention_s": 7_200}),
    ],
)
def test_what_the_compactor_is_asked(environment, monkeypatch, path, body, told):
    """It gets what the request says, and the answer does not wait."""
    calls = []
    from squash.api import calling

    monkeypatch.setattr(calling, "call_later", lambda *call: calls.append(call))
    squash.connect(environment["SQUASH_STORE"]).create_index("papers", dimension=2)
    handle = functions.indexes(
        environment
        | {"SQUASH_AUTH": "none", "SQUASH_LOCAL": "1", "SQUASH_COMPACTOR": "squash-compactor"}
    )
    made = event("http-query") | {"rawPath": f"/v1/indexes/papers/{path}"}
    made["body"] = None if body is None else json.dumps(body)
    answer = Answer(handle(made, context()), made["requestContext"]["requestId"])
    assert (answer.status, answer.document) == (202, {"snapshot": 0})
    ((function, payload),) = calls
    assert (function, json.loads(payload)) == ("squash-compactor", told)


def test_a_put_asks_the_compactor_when_much_is_fresh(environment, monkeypatch, capsys):
    """Past the first threshold, once a minute; past the limit the answer is 429, with what to do.

    The compactor that cannot be called fails no put."""
    from squash.api import calling
    from squash.index import fresh

    calls = []

    def call(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise UnavailableError("Lambda did not answer")

    clock = HandClock()
    monkeypatch.setattr(calling, "call_soon", call)
    monkeypatch.setattr("squash.clock.SystemClock", lambda: clock)
    monkeypatch.setattr(fresh, "EXACT_ROWS_MAX", 1)
    monkeypatch.setattr(fresh, "FRESH_ROWS_MAX", 8)
    squash.connect(environment["SQUASH_STORE"]).create_index("papers", dimension=2)
    handle = functions.documents(
        environment
        | {"SQUASH_AUTH": "none", "SQUASH_LOCAL": "1", "SQUASH_COMPACTOR": "squash-compactor"}
    )

    def put(number):
        made = event("http-list")
        made |= {"rawPath": "/v1/indexes/papers/vectors", "rawQueryString": ""}
        made["headers"]["content-type"] = "application/json"
        made["requestContext"]["http"]["method"] = "POST"
        made["body"] = json.dumps({"vectors": [{"key": str(number), "vector": [1, number]}]})
        return Answer(handle(made, context()), made["requestContext"]["requestId"])

    assert put(0).status == 200
    assert calls == []
    for number in range(1, 4):
        assert put(number).status == 200
    assert calls == [("squash-compactor", b'{"index": "papers", "thrifty": true}')]
    clock.ms += 60_000
    for number in range(4, 8):
        assert put(number).status == 200
    assert len(calls) == 2
    assert "Lambda did not answer" in "".join(capsys.readouterr())
    refused = put(8)
    assert (refused.status, refused.kind, refused.headers["retry-after"]) == (
        429,
        "throttled",
        "30",
    )
    assert "FRESH_ROWS_MAX" in refused.document["detail"]
    assert refused.document["retry_after_ms"] == 30_000


@pytest.mark.parametrize("shape", ["none", "fan-out", "2,2"])
def test_the_coordinator_searches_by_calling_the_other_functions(environment, monkeypatch, shape):
    """Whatever the shape, it answers as one process does; and a time limit reaches the search.

    Time stands still: on a busy machine calls would be late and made twice, and what the one that
    comes too late called itself nobody tells.
    """
    import numpy as np

    from squash.maintain import BuildOptions
    from squash.runtime import invokers

    database = squash.connect(environment["SQUASH_STORE"])
    index = database.create_index("papers", dimension=2, metric="euclidean")
    index.put(**rows(900), metadata=[{"n": i % 3} for i in range(900)])
    index.optimize(
        options=BuildOptions(partition_rows_target=200, cluster_rows_target=25, exact_rows_max=100)
    )
    environment |= {
        "SQUASH_AUTH": "none",
        "SQUASH_LOCAL": "1",
        "SQUASH_ALLOCATOR": "a",
        "SQUASH_PROCESSOR": "p",
        "SQUASH_SLOTS": "3",
        "SQUASH_SHAPE": shape,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
    }
    handlers = {}
    calls = []

    def role(name):
        def handle(event):
            calls.append(name)
            return handlers[name](event, context())

        return handle

    clock = HandClock(SystemClock().now_ms())
    monkeypatch.setattr("squash.clock.SystemClock", lambda: clock)
    monkeypatch.setattr("squash.runtime.functions.SystemClock", lambda: clock)
    monkeypatch.setattr(
        invokers,
        "LambdaInvoker",
        lambda **_: InProcessInvoker(
            {name: role(name) for name in ("allocator", "processor")}, clock=clock
        ),
    )
    handlers |= {name: getattr(functions, name)(environment) for name in ("allocator", "processor")}
    handle = functions.coordinator(environment)
    vectors = np.random.default_rng(3).normal(size=(12, 2)).astype(np.float32)
    body = {
        "queries": [{"vector": vector.tolist()} for vector in vectors],
        "filter": {"n": 1},
        "top_k": 4,
        "timeout_ms": 20_000,
        "allow_partial": True,
    }
    made = event("http-query") | {"body": json.dumps(body)}
    answer = Answer(handle(made, context()), "JKJaXmPLvHcESHA=")
    assert answer.status == 200, answer.document
    expected = index.query_many(vectors, filters={"n": 1}, top_k=4)
    assert [
        [(match["key"], match["distance"]) for match in one["matches"]]
        for one in answer.document["answers"]
    ] == [[(match.key, float(match.distance)) for match in one.matches] for one in expected]
    assert not any("missing" in one for one in answer.document["answers"])
    told = sum(one["usage"]["invocations"] for one in answer.document["answers"])
    assert told == len(calls)
    assert bool(calls) == (shape != "none")


@pytest.mark.parametrize(
    ("left_ms", "timeout_ms", "given"),
    [(29_000, None, 25_000), (29_000, 4_000, 4_000), (9_000, 29_000, 8_500), (20, 29_000, 1)],
)
def test_a_query_ends_before_its_function_is_ended(
    environment, monkeypatch, left_ms, timeout_ms, given
):
    """Whatever it asks for, and however long it took until the index was open."""
    from squash.database import Index

    index = squash.connect(environment["SQUASH_STORE"]).create_index("papers", dimension=2)
    answer = index.query([1, 0])
    seen = []

    def query(self, vector, *, timeout_ms, **options):
        seen.append(timeout_ms)
        return answer

    monkeypatch.setattr(Index, "query", query)
    environment |= {"SQUASH_AUTH": "none", "SQUASH_LOCAL": "1"}
    body = {"vector": [1, 0]} | ({} if timeout_ms is None else {"timeout_ms": timeout_ms})
    made = event("http-query") | {"body": json.dumps(body)}
    answered = functions.coordinator(environment)(made, context(left_ms))
    assert (answered["statusCode"], seen) == (200, [given])


def test_a_role_that_takes_another_event_says_so_and_does_not_crash(environment):
    environment |= {"SQUASH_ALLOCATOR": "a", "SQUASH_PROCESSOR": "p"}
    for factory in (functions.allocator, functions.processor):
        answer = factory(environment)({"v": 1, "kind": "nonsense"}, context())
        assert answer["error"]["type"] == "InvalidArgumentError"
        assert answer["cold"] is True


def test_who_is_waited_for_repeats_writes_that_hang(environment, monkeypatch):
    """Those that answer over HTTP end after 29 seconds; others write what takes longer."""
    seen = []

    def noted(location, *, silent_s, **more):
        seen.append(silent_s)
        return open_store(location, **more)

    monkeypatch.setattr("squash.runtime.functions.open_store", noted)
    for factory in (functions.documents, functions.indexes, functions.compactor, functions.builder):
        factory(environment)
    assert seen == [SILENT_S, SILENT_S, None, None]


NO_OBJECTS = ([], ["a"], "a", None, 7, True)


def test_events_that_are_none_are_told_so(environment):
    """Whoever invokes a function by hand reads what it takes, and no error of Python's."""
    environment |= {"SQUASH_AUTH": "none", "SQUASH_LOCAL": "1", "AWS_REGION": "eu-west-1"}
    made = event("http-query")
    wrong = [
        *NO_OBJECTS,
        {},
        made | {"body": {"vector": [1, 0]}},
        made | {"headers": ["content-type"]},
        made | {"requestContext": made["requestContext"] | {"authorizer": ["iam"]}},
    ]
    for factory in (functions.coordinator, functions.documents, functions.indexes):
        for settings in ("on", "off"):
            handle = factory(environment | {"SQUASH_S3VECTORS": settings})
            for one in wrong:
                answer = Answer(handle(one, context()), "c0ffee")
                assert (answer.status, answer.kind) == (400, "invalid-argument"), one
                assert "payload format 2.0" in answer.document["detail"]
    build = functions.builder(environment)
    for one in NO_OBJECTS:
        with pytest.raises(InvalidArgumentError, match='"index" and "build"'):
            build(one, context())
    environment |= {"SQUASH_ALLOCATOR": "a", "SQUASH_PROCESSOR": "p"}
    for factory in (functions.allocator, functions.processor):
        for one in NO_OBJECTS:
            assert factory(environment)(one, context())["error"]["type"] == "InvalidArgumentError"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"SQUASH_STORE": ""}, "SQUASH_STORE"),
        ({"SQUASH_AUTH": "none"}, "SQUASH_LOCAL"),
        ({"SQUASH_AUTH": "none", "SQUASH_LOCAL": "0"}, "SQUASH_LOCAL"),
        ({"SQUASH_AUTH": "password"}, "SQUASH_AUTH"),
        ({"SQUASH_RETAINED_SHARE": "2"}, "SQUASH_RETAINED_SHARE"),
        ({"SQUASH_RETAINED_SHARE": "x"}, "SQUASH_RETAINED_SHARE"),
        ({"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "big"}, "AWS_LAMBDA_FUNCTION_MEMORY_SIZE"),
    ],
)
def test_a_wrong_environment_stops_the_function_at_its_start(environment, changes, words):
    for factory in (functions.coordinator, functions.documents, functions.indexes):
        with pytest.raises(InvalidArgumentError, match=words):
            factory(environment | changes)


def test_the_environment_is_read_once_into_a_value(environment):
    face = read_face(environment | {"SQUASH_COMPACTOR": "fold"})
    assert (face.auth, face.compactor) == ("keys", "fold")
    here = environment | {"AWS_REGION": "eu-west-1", "SQUASH_KMS_KEY_ARN": "arn:aws:kms:key"}
    found = read_face(here).s3vectors
    assert (found.region, found.kms_key) == ("eu-west-1", "arn:aws:kms:key")
    assert read_face(here | {"SQUASH_S3VECTORS": "off"}).s3vectors is None
    database = functions.open_database(
        environment | {"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1000", "SQUASH_RETAINED_SHARE": "0.25"}
    )
    assert database.settings.retained_bytes_max == 250 * (1 << 20)


@pytest.mark.parametrize(
    "name",
    ["coordinator", "documents", "indexes", "compactor", "builder", "allocator", "processor",
     "encoder"],
)  # fmt: skip
def test_botocore_logs_no_bodies_whatever_lambda_is_told_to_log(name, caplog):
    """`LogLevel=DEBUG` is every logger's: botocore's lines would have the signing key in them."""
    caplog.set_level(logging.DEBUG)
    theirs = logging.getLogger("botocore")
    theirs.setLevel(logging.NOTSET)
    assert logging.getLogger("botocore.parsers").isEnabledFor(logging.DEBUG)
    variables = {"PROCESSOR": "p", "ALLOCATOR": "a", "ENCODER": "e", "STORE": "memory://x"}
    getattr(functions, name)({f"SQUASH_{end}": value for end, value in variables.items()})
    assert theirs.level == logging.INFO
    assert not logging.getLogger("botocore.parsers").isEnabledFor(logging.DEBUG)


PROGRAM = """
import json, sys
import numpy
before = set(sys.modules)
from squash.api.functions import {name}
{name}({{
    "SQUASH_STORE": "memory://x", "SQUASH_PROCESSOR": "p", "SQUASH_ALLOCATOR": "a",
    "SQUASH_ENCODER": "e",
}})
print(json.dumps(sorted(set(sys.modules) - before)))
"""


@pytest.mark.parametrize(
    "name",
    ["coordinator", "documents", "indexes", "compactor", "allocator", "processor", "encoder"],
)
def test_imports_of_a_function(name):
    """No command line, server, or S3 client for a store elsewhere; nothing of other functions."""
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", PROGRAM.format(name=name)],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    loaded = set(json.loads(done.stdout))
    forbidden = {
        "boto3", "botocore.session", "rich", "pyarrow", "http.server", "yaml", "pydantic",
        "aws_xray_sdk", "aws_lambda_powertools.event_handler", "squash.cli", "squash.api.serving",
        "squash.api.calling", "squash.api.parameters", "squash.api.signing_keys",
    }  # fmt: skip
    others = {
        "coordinator": {"squash.api.vectors", "squash.api.indexes", "squash.api.compacting"},
        "documents": {"squash.api.querying", "squash.api.indexes", "squash.api.compacting"},
        "indexes": {"squash.api.querying", "squash.api.vectors", "squash.api.compacting"},
        "compactor": {"squash.api.face", "squash.api.querying", "squash.api.access"},
    }
    roles = {"aws_lambda_powertools", "squash.database", "squash.maintain", "squash.api.face"}
    others = others.get(name, roles | {"squash.runtime.session", "squash.training"})
    # What runs models is one function's alone; it opens images when one comes.
    others |= {"PIL"} if name == "encoder" else {"onnxruntime", "tokenizers", "PIL"}
    assert not {
        module
        for module in loaded
        for bad in forbidden | others
        if module == bad or module.startswith(bad + ".")
    }
