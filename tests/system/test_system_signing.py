"""Signed requests from outside: boto3's own client over a socket, and a real Parameter Store."""

from __future__ import annotations

import json
import logging
import os
import queue
import subprocess
import sys
import threading
from contextlib import contextmanager
from uuid import uuid4

import boto3
import pytest
from botocore.client import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

import squash
from endpoint import s3_endpoint
from squash.api import credentials, parameters
from squash.api.access import KeyGate
from squash.api.environment import KeyPlace, PlaceKind, S3VectorsSettings, read_signing_keys
from squash.api.functions import coordinator, indexes
from squash.api.serving import make_faces, make_server
from squash.api.signing_keys import SigningKeys, ensure_signing_key, load_signing_key
from squash.clock import SystemClock, SystemIds
from squash.errors import DataError, InternalError, UnavailableError
from squash.storage import MemoryStore

ONCE = {"retries": {"total_max_attempts": 1}}


@pytest.fixture(scope="module")
def account():
    """The URL of an account's services."""
    with s3_endpoint() as url:
        yield url


@pytest.fixture
def parameter_store(account, monkeypatch):
    """A place in a Parameter Store, and a client that looks at what lies there."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_SSM", account)
    parameters._client.cache_clear()
    client = boto3.client("ssm", endpoint_url=account)
    yield KeyPlace(PlaceKind.SSM, f"/squash/{uuid4().hex}"), client
    client.close()
    parameters._client.cache_clear()


@contextmanager
def served(database, places):
    """The port of a server that asks for keys."""
    clock, ids = SystemClock(), SystemIds()
    gate = KeyGate(database.store, clock)
    faces = make_faces(
        database, gate=gate, clock=clock, ids=ids, s3vectors=S3VectorsSettings(tuple(places))
    )
    server = make_server(faces, port=0, ids=ids, clock=clock)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def client_of(port, key_id="", secret="", **config):
    client = boto3.client(
        "s3vectors",
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name="eu-central-1",
        aws_access_key_id=key_id,
        aws_secret_access_key=secret,
        config=Config(**ONCE, **config),
    )
    try:
        yield client
    finally:
        client.close()


def code_of(call, **arguments):
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    return caught.value.response["Error"]["Code"]


def make_key(database, place, **changes):
    wanted = {"scopes": ["read", "write", "admin"], "indexes": ["*"]} | changes
    return credentials.create_key(
        database.store,
        clock=SystemClock(),
        signing_key=ensure_signing_key(place, database.store),
        **wanted,
    )


def fill(client):
    client.create_vector_bucket(vectorBucketName="media")
    client.create_index(
        vectorBucketName="media", indexName="papers", dataType="float32", dimension=2,
        distanceMetric="cosine",
    )  # fmt: skip
    index = {"vectorBucketName": "media", "indexName": "papers"}
    vectors = [{"key": "ü", "data": {"float32": [1, 0]}, "metadata": {"team": "réd"}}]
    client.put_vectors(**index, vectors=vectors)
    return index


def test_boto3_signs_with_a_key_that_a_signing_key_in_the_parameter_store_made(parameter_store):
    """From the bucket to the query; and no other secret, id or nobody at all is let in."""
    place, _ = parameter_store
    database = squash.connect(f"memory://{uuid4().hex}")
    made = make_key(database, place)
    key_id = made.record.access_key_id
    with served(database, [place]) as port:
        with client_of(port, key_id, made.secret) as client:
            index = fill(client)
            found = client.query_vectors(
                **index, topK=1, queryVector={"float32": [1, 0]}, returnMetadata=True
            )
            assert found["vectors"] == [{"key": "ü", "metadata": {"team": "réd"}}]
        with client_of(port, key_id, "x" * 43) as client:
            assert code_of(client.list_vector_buckets) == "InvalidSignatureException"
        with client_of(port, "AKIAIOSFODNN7EXAMPLE", made.secret) as client:
            assert code_of(client.list_vector_buckets) == "UnrecognizedClientException"
        with client_of(port, signature_version=UNSIGNED) as client:
            assert code_of(client.list_vector_buckets) == "MissingAuthenticationTokenException"
    assert not any(key.startswith("_signing/") for key in database.store._objects)


def test_boto3s_signatures_for_resources_named_by_arn_are_admitted(parameter_store):
    """Their paths and queries are encoded, and handed on decoded: what follows may fail, not it."""
    place, _ = parameter_store
    database = squash.connect(f"memory://{uuid4().hex}")
    made = make_key(database, place, scopes=["read"])
    arn = "arn:aws:s3vectors:us-east-1:000000000000:bucket/media/index/no.ne"
    with (
        served(database, [place]) as port,
        client_of(port, made.record.access_key_id, made.secret) as client,
    ):
        for call, more in (
            (client.tag_resource, {"tags": {"a": "b"}}),
            (client.untag_resource, {"tagKeys": ["a b", "c+d&é", "~%", "a b"]}),
        ):
            # Some of these are no names of tags: that is told to those alone who are admitted.
            code = code_of(call, resourceArn=arn, **more)
            assert code in {"AccessDeniedException", "ValidationException"}


def test_a_signing_key_is_encrypted_read_decrypted_and_never_written_over(parameter_store):
    place, client = parameter_store
    store = MemoryStore()
    assert load_signing_key(place, store) is None
    made = ensure_signing_key(place, store)
    assert ensure_signing_key(place, store) == load_signing_key(place, store) == made
    parameter = client.get_parameter(Name=place.name)["Parameter"]
    assert (parameter["Type"], parameter["Version"]) == ("SecureString", 1)
    assert not parameters.create_parameter(place.name, "another")
    assert load_signing_key(place, store) == made
    assert not store._objects
    keys = SigningKeys([place], store, SystemClock())
    assert keys.find(made.id) == made
    client.put_parameter(Name=place.name, Value="{}", Type="SecureString", Overwrite=True)
    assert keys.find(made.id) == made
    with pytest.raises(DataError, match="ssm:/squash/"):
        load_signing_key(place, store)


def test_of_two_who_make_a_parameter_at_once_both_take_the_same(parameter_store, monkeypatch):
    """One finds nothing, and while it makes its own another is first."""
    place, _ = parameter_store
    store = MemoryStore()
    real, others = parameters.create_parameter, []

    def late(name, value, *, region):
        monkeypatch.setattr(parameters, "create_parameter", real)
        others.append(ensure_signing_key(place, store))
        return real(name, value, region=region)

    monkeypatch.setattr(parameters, "create_parameter", late)
    assert [ensure_signing_key(place, store)] == others


def test_the_log_of_a_function_has_no_signing_key_at_any_level(parameter_store, caplog):
    """Lambda's `DEBUG` is every logger's, and botocore's lines hold what it sends and gets."""
    place, client = parameter_store
    indexes({"SQUASH_STORE": f"memory://{uuid4().hex}"})
    with caplog.at_level(logging.DEBUG):
        ensure_signing_key(place, MemoryStore())
        assert load_signing_key(place, MemoryStore()) is not None
    found = client.get_parameter(Name=place.name, WithDecryption=True)
    secret = json.loads(found["Parameter"]["Value"])
    assert secret["key"] not in caplog.text


def test_a_parameter_store_that_fails_is_not_one_without_the_key(parameter_store, monkeypatch):
    """Refused, or not reached: an error that says so, and nothing is made."""
    place, _ = parameter_store
    bad = KeyPlace(PlaceKind.SSM, "/aws/reserved")
    with pytest.raises(InternalError, match="ssm:PutParameter"):
        ensure_signing_key(bad, MemoryStore())
    monkeypatch.setenv("AWS_ENDPOINT_URL_SSM", "http://127.0.0.1:9")
    parameters._client.cache_clear()
    with pytest.raises(UnavailableError, match=place.name):
        ensure_signing_key(place, MemoryStore())


def test_a_function_admits_by_the_parameter_that_its_environment_names(parameter_store, tmp_path):
    """Read when the first signed request comes, and by no other interface."""
    from signing import signed_event

    place, client = parameter_store
    environment = {"SQUASH_STORE": f"file://{tmp_path}", "SQUASH_SIGNING_KEY": str(place)}
    assert read_signing_keys(environment) == (place,)
    database = squash.connect(environment["SQUASH_STORE"])
    handlers = [coordinator(environment), indexes(environment)]
    made = make_key(database, place)
    event = signed_event(
        path="/ListVectorBuckets", body=b"{}", at_ms=SystemClock().now_ms(),
        key_id=made.record.access_key_id, secret=made.secret,
    )  # fmt: skip
    statuses = [handler(event, None)["statusCode"] for handler in handlers]
    # The first does not serve it: it says so, to a caller whom it knows.
    assert statuses == [404, 200]
    client.delete_parameter(Name=place.name)
    assert handlers[1](event, None)["statusCode"] == 200
    cold = indexes(environment)(event, None)
    assert cold["headers"]["x-amzn-ErrorType"] == "UnrecognizedClientException"


def test_the_command_serves_boto3_with_keys_of_the_commands(tmp_path):
    """`squash keys create --access-key`, then `squash serve`, each a process of its own."""
    command = [sys.executable, "-m", "squash.cli.main", "--store", str(tmp_path), "--json"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("SQUASH_", "AWS_"))}

    def run(*words):
        done = subprocess.run(  # noqa: S603 - our own program
            [*command, *words], capture_output=True, text=True, check=True, env=environment
        )
        return json.loads(done.stdout)

    made = run("keys", "create", "--scopes", "read,write,admin", "--access-key")
    reader = run("keys", "create", "--scopes", "read", "--indexes", "media/*", "--access-key")
    process = subprocess.Popen(  # noqa: S603 - our own program
        [*command, "serve", "--port", "0"], stdout=subprocess.PIPE, text=True, env=environment
    )
    try:
        lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=lambda: lines.put(process.stdout.readline()), daemon=True).start()
        port = json.loads(lines.get(timeout=60))["url"].rpartition(":")[2]
        with client_of(port, made["access_key_id"], made["secret_access_key"]) as client:
            index = fill(client)
        with client_of(port, reader["access_key_id"], reader["secret_access_key"]) as client:
            assert len(client.get_vectors(**index, keys=["ü"])["vectors"]) == 1
            put = {"vectors": [{"key": "x", "data": {"float32": [0, 1]}}]}
            assert code_of(client.put_vectors, **index, **put) == "AccessDeniedException"
    finally:
        process.terminate()
        process.wait(20)
        process.stdout.close()
