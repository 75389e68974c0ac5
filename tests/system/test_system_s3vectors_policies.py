"""Bucket policies over a live server, asked by boto3's own client with two access keys."""

import json
import threading

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

from policy_world import ARN, QUERY, VECTOR, bucket, one, policy, statement, user
from squash.api.access import KeyGate
from squash.api.credentials import create_key
from squash.api.environment import IN_THE_STORE
from squash.api.serving import make_faces, make_server
from squash.api.signing_keys import ensure_signing_key
from squash.clock import SystemClock, SystemIds
from squash.database import Database
from squash.runtime import Settings
from squash.storage import MemoryStore

INDEX = {"dataType": "float32", "dimension": 2, "distanceMetric": "euclidean"}


class Live:
    """A server over a store in memory; clients sign with access keys of its own."""

    def __init__(self):
        clock, store = SystemClock(), MemoryStore()
        database = Database(store, settings=Settings(), clock=clock, ids=SystemIds())
        faces = make_faces(database, gate=KeyGate(store, clock), clock=clock, ids=SystemIds())
        self.server = make_server(faces, port=0, ids=SystemIds(), clock=clock)
        self.clients = []
        signing_key = ensure_signing_key(IN_THE_STORE[0], store)
        self.keys = {
            name: create_key(
                store,
                scopes=["read", "write", "admin"],
                indexes=[pattern],
                clock=clock,
                signing_key=signing_key,
            )
            for name, pattern in (("root", "*"), ("other", "elsewhere/*"))
        }

    def name(self, key):
        """What the caller is called in policies."""
        return self.keys[key].record.id

    def client(self, key=None):
        """A client that signs with a key; with none it does not sign."""
        found = self.keys[key or "root"]
        more = {} if key else {"signature_version": UNSIGNED}
        self.clients.append(
            boto3.client(
                "s3vectors",
                endpoint_url=f"http://127.0.0.1:{self.server.server_port}",
                region_name="us-east-1",
                aws_access_key_id=found.record.access_key_id,
                aws_secret_access_key=found.secret,
                config=Config(retries={"total_max_attempts": 1}, **more),
            )
        )
        return self.clients[-1]


@pytest.fixture
def live():
    made = Live()
    thread = threading.Thread(target=made.server.serve_forever, args=(0.01,))
    thread.start()
    root = made.client("root")
    root.create_vector_bucket(**bucket("media"))
    for index in ("papers", "photos"):
        root.create_index(**one("media", index), **INDEX)
        root.put_vectors(**one("media", index), vectors=[VECTOR])
    yield made
    for client in made.clients:
        client.close()
    made.server.shutdown()
    thread.join()
    made.server.server_close()


def refused(call, **members):
    with pytest.raises(ClientError) as found:
        call(**members)
    error = found.value.response["Error"]
    assert found.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    return error["Code"], error["Message"]


def test_live_policy_allows_and_denies(live):
    """The other key is let in by a policy, as far as it says, and shut out by its removal."""
    root, other = live.client("root"), live.client("other")
    papers = one("media", "papers")
    code, message = refused(other.query_vectors, **papers, **QUERY)
    assert code == "AccessDeniedException"
    who, resource = user(live.name("other")), f"{ARN}media/index/papers"
    assert message == (
        f"User: {who} is not authorized to perform: s3vectors:QueryVectors on resource: {resource} "
        "because no identity-based policy allows the s3vectors:QueryVectors action"
    )
    actions = ["s3vectors:QueryVectors", "s3vectors:Put*"]
    text = policy(
        statement("Allow", actions, principal=live.name("other")),
        statement("Deny", "s3vectors:PutVectors", "media/index/photos"),
    )
    root.put_vector_bucket_policy(**bucket("media"), policy=text)
    assert root.get_vector_bucket_policy(vectorBucketArn=f"{ARN}media")["policy"] == text
    assert [v["key"] for v in other.query_vectors(**papers, **QUERY)["vectors"]] == ["a"]
    other.put_vectors(**papers, vectors=[VECTOR | {"key": "b"}])
    photos = one("media", "photos")
    assert refused(other.put_vectors, **photos, vectors=[VECTOR])[0] == "AccessDeniedException"
    assert "explicit deny" in refused(root.put_vectors, **photos, vectors=[VECTOR])[1]
    more = {"filter": {"team": "red"}}
    assert "s3vectors:GetVectors" in refused(other.query_vectors, **papers, **QUERY, **more)[1]
    root.delete_vector_bucket_policy(**bucket("media"))
    assert refused(other.put_vectors, **papers, vectors=[VECTOR])[0] == "AccessDeniedException"
    root.put_vectors(**photos, vectors=[VECTOR])


def test_live_policy_lists(live):
    """A policy lets a key list a bucket's indexes; the bucket is not in the key's own list."""
    root, other = live.client("root"), live.client("other")
    assert refused(other.list_indexes, **bucket("media"))[0] == "AccessDeniedException"
    allow = statement("Allow", "s3vectors:ListIndexes", "media", live.name("other"))
    root.put_vector_bucket_policy(**bucket("media"), policy=policy(allow))
    found = other.list_indexes(**bucket("media"))["indexes"]
    assert [index["indexName"] for index in found] == ["papers", "photos"]
    assert other.list_vector_buckets()["vectorBuckets"] == []
    assert len(root.list_vector_buckets()["vectorBuckets"]) == 1


def test_live_policy_absent(live):
    """Words for what is not there, as tests verified against the service have them."""
    root = live.client("root")
    for found, message in (
        (bucket("media"), "The specified vector bucket policy could not be found"),
        (bucket("nothing"), "The specified vector bucket could not be found"),
    ):
        with pytest.raises(root.exceptions.NotFoundException) as error:
            root.get_vector_bucket_policy(**found)
        assert error.value.response["Error"]["Message"] == message


def test_live_policy_refused(live):
    """What is not held is refused with its place; the fields that are wrong are told."""
    root = live.client("root")
    text = policy(statement("Allow", "*") | {"Condition": {}})
    with pytest.raises(root.exceptions.ValidationException) as error:
        root.put_vector_bucket_policy(**bucket("media"), policy=text)
    assert "Statement[0].Condition" in error.value.response["Error"]["Message"]
    assert error.value.response["fieldList"][0]["path"] == "/policy"


def test_live_policy_unsigned(live):
    """No policy lets in a request that is not signed."""
    anybody = policy(statement("Allow", "*", ["media", "media/*"]))
    live.client("root").put_vector_bucket_policy(**bucket("media"), policy=anybody)
    papers = one("media", "papers")
    assert live.client("other").get_index(**papers)["index"]["indexName"] == "papers"
    nobody = live.client()
    for call, members in (
        (nobody.query_vectors, papers | QUERY),
        (nobody.put_vectors, papers | {"vectors": [VECTOR]}),
        (nobody.get_index, papers),
        (nobody.get_vector_bucket_policy, bucket("media")),
        (nobody.list_vector_buckets, {}),
    ):
        assert refused(call, **members)[0] != "AccessDeniedException"


def test_live_policy_of_the_service(live):
    """A policy in the service's own form is kept: of root, for everything, of another bucket."""
    root = live.client("root")
    document = json.loads(policy(statement("Allow", "s3vectors:*")))
    document["Statement"][0] |= {
        "Principal": {"AWS": "arn:aws:iam::000000000000:root"},
        "Resource": "arn:aws:s3vectors:aws-region:000000000000:bucket/amzn-s3-demo-vector-bucket",
    }
    root.put_vector_bucket_policy(vectorBucketArn=f"{ARN}media", policy=json.dumps(document))
    assert json.loads(root.get_vector_bucket_policy(**bucket("media"))["policy"]) == document
    code, _ = refused(live.client("other").get_index, **one("media", "papers"))
    assert code == "AccessDeniedException"
