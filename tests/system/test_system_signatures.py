"""Who may what through the S3 Vectors API of a deployment: signatures, scopes, rows, policies."""

from __future__ import annotations

import json

import numpy as np
import pytest
from botocore.exceptions import ClientError

from deployed import deployed
from service import client, records
from squash.api.credentials import create_key
from squash.api.environment import IN_THE_STORE
from squash.api.signing_keys import ensure_signing_key
from squash.clock import SystemClock
from squash.local.template.values import ACCOUNT_ID

PAPERS = {"vectorBucketName": "media", "indexName": "papers"}
QUERY = {**PAPERS, "queryVector": {"float32": [1.0, 0.0]}, "topK": 10}
ALL = ("read", "write", "admin")


@pytest.fixture(scope="module")
def place(artefacts):
    """A deployment that knows its callers; afterwards this process is told nothing of S3."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
            patch.setenv(name, "local")
        environment = {"SQUASH_AUTH": "keys"}
        with deployed(build=artefacts.folder, s3_memory=True, environment=environment) as running:
            functions = running.cloud.cloud.template.functions.values()
            told = {one.environment.get("SQUASH_SIGNING_KEY") for one in functions}
            assert told == {None, "ssm:/squash/signing-key"}  # which is not on this machine
            yield running


@pytest.fixture(scope="module")
def keys(place):
    """Make keys, as `squash keys create --access-key` does."""
    store = place.store()
    signing_key = ensure_signing_key(IN_THE_STORE[0], store)

    def make(scopes=ALL, indexes=("*",), **more):
        return create_key(
            store,
            scopes=scopes,
            indexes=indexes,
            clock=SystemClock(),
            signing_key=signing_key,
            **more,
        )

    return make


@pytest.fixture(scope="module")
def clients(place):
    """Make clients of keys; they are closed at the end, so that nobody waits for them."""
    made = []

    def of(key, secret=None):
        made.append(client(place.url, key=key.record.access_key_id, secret=secret or key.secret))
        return made[-1]

    yield of
    for one in made:
        one.close()


@pytest.fixture(scope="module")
def owner(keys, clients):
    """Who may everything, with an index of three records."""
    service = clients(keys())
    service.create_vector_bucket(vectorBucketName="media")
    service.create_index(**PAPERS, dataType="float32", dimension=2, distanceMetric="euclidean")
    rows = records(["a", "b", "c"], np.eye(3, 2), [{"year": 2019 + n} for n in range(3)])
    service.put_vectors(**PAPERS, vectors=rows)
    return service


def refused(call, **arguments):
    """Return the status of what must be refused."""
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    return caught.value.response["ResponseMetadata"]["HTTPStatusCode"]


def found(service, **more):
    return sorted(one["key"] for one in service.query_vectors(**QUERY, **more)["vectors"])


def test_a_signature_is_checked_behind_the_gateway(owner, keys, clients):
    """The right secret alone is admitted; paths with an ARN are signed twice encoded."""
    assert found(owner) == ["a", "b", "c"]
    arn = owner.get_index(**PAPERS)["index"]["indexArn"]
    owner.tag_resource(resourceArn=arn, tags={"k/1": "v +ü"})
    assert owner.list_tags_for_resource(resourceArn=arn)["tags"] == {"k/1": "v +ü"}
    owner.untag_resource(resourceArn=arn, tagKeys=["k/1"])
    key = keys()
    wrong = key.secret[:-1] + ("A" if key.secret[-1] != "A" else "B")
    assert refused(clients(key, wrong).query_vectors, **QUERY) == 403
    unknown = keys()
    expired = keys(lifetime_ms=1)
    assert refused(clients(expired).query_vectors, **QUERY) == 403
    assert found(clients(unknown)) == ["a", "b", "c"]


@pytest.mark.parametrize("what", ["body", "path", "query", "header"])
def test_what_is_changed_after_signing_is_refused(owner, keys, clients, what):
    """On its way from the client to the function."""
    service = clients(keys())
    arn = owner.get_index(**PAPERS)["index"]["indexArn"]

    def change(request, **_):
        if what == "body":
            request.body = request.body.replace(b'"topK": 10', b'"topK": 11')
        elif what == "path":
            request.url = request.url.replace("QueryVectors", "ListVectors")
        elif what == "query":
            request.url = request.url.replace("tagKeys=a", "tagKeys=b")
        else:
            request.headers["x-amz-date"] = "20200101T000000Z"

    service.meta.events.register("before-send.s3vectors", change)
    if what == "query":
        assert refused(service.untag_resource, resourceArn=arn, tagKeys=["a"]) == 403
    else:
        assert refused(service.query_vectors, **QUERY) == 403


def test_scopes_and_names_hold(owner, keys, clients):
    reader = clients(keys(scopes=["read"], indexes=["media/pap*"]))
    assert found(reader) == ["a", "b", "c"]
    row = records(["x"], [[0.0, 1.0]])
    assert refused(reader.put_vectors, **PAPERS, vectors=row) == 403
    assert refused(reader.delete_index, **PAPERS) == 403
    elsewhere = clients(keys(scopes=["read"], indexes=["papers", "media/other"]))
    assert refused(elsewhere.query_vectors, **QUERY) == 403
    assert refused(elsewhere.list_vectors, **PAPERS) == 403


def test_a_row_filter_holds_for_everything_that_reads(owner, keys, clients):
    some = clients(keys(scopes=["read"], row_filter={"year": {"$gte": 2020}}))
    assert found(some) == ["b", "c"]
    assert found(some, filter={"year": 2019}) == []
    assert [one["key"] for one in some.get_vectors(**PAPERS, keys=["a", "b"])["vectors"]] == ["b"]
    assert sorted(one["key"] for one in some.list_vectors(**PAPERS)["vectors"]) == ["b", "c"]


def test_a_bucket_policy_denies_whom_it_names(place, owner, keys, clients):
    """And lets the others be. A warm container goes by the one before for a minute at most."""
    denied, other = keys(scopes=["read"]), keys(scopes=["read"])
    statement = {
        "Effect": "Deny",
        "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT_ID}:user/{denied.record.id}"},
        "Action": "s3vectors:QueryVectors",
        "Resource": f"arn:aws:s3vectors:us-east-1:{ACCOUNT_ID}:bucket/media/index/*",
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    assert found(clients(denied)) == ["a", "b", "c"]
    owner.put_vector_bucket_policy(vectorBucketName="media", policy=policy)
    place.cloud.evict_idle()
    try:
        assert refused(clients(denied).query_vectors, **QUERY) == 403
        listed = clients(denied).list_vectors(**PAPERS)["vectors"]
        assert sorted(one["key"] for one in listed) == ["a", "b", "c"]
        assert found(clients(other)) == ["a", "b", "c"]
    finally:
        owner.delete_vector_bucket_policy(vectorBucketName="media")
    place.cloud.evict_idle()
    assert found(clients(denied)) == ["a", "b", "c"]


def test_without_a_credential_nothing_is_told(place):
    """Not even which operations and buckets there are."""
    from botocore import UNSIGNED

    nobody = client(place.url, signature_version=UNSIGNED)
    assert refused(nobody.query_vectors, **QUERY) == 403
    assert refused(nobody.get_vector_bucket, vectorBucketName="nothing") == 403
    nobody.close()
