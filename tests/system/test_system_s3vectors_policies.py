"""Bucket policies over a live server, asked by boto3's own client with two access keys."""

import json
import threading

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

from policy_world import ARN, QUERY, VECTOR, PolicyWorld, bucket, one, policy, statement, user
from squash.api.access import Caller
from squash.api.routes import Scope
from squash.api.serving import make_server
from squash.clock import SystemClock, SystemIds

OTHER = Caller("other", frozenset(Scope), ("elsewhere/*",))


@pytest.fixture
def client():
    """Makes a client that signs as one whose name is given; with none it does not sign."""
    world = PolicyWorld([OTHER], SystemClock())
    world.media()
    server = make_server(world.faces, port=0, ids=SystemIds(), clock=SystemClock())
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    made = []

    def make(name):
        config = {"retries": {"total_max_attempts": 1}}
        made.append(
            boto3.client(
                "s3vectors",
                endpoint_url=f"http://127.0.0.1:{server.server_port}",
                region_name="us-east-1",
                aws_access_key_id=name or "none",
                aws_secret_access_key="any",  # noqa: S106 - it is not checked here
                config=Config(**config) if name else Config(signature_version=UNSIGNED, **config),
            )
        )
        return made[-1]

    yield make
    for one_client in made:
        one_client.close()
    server.shutdown()
    thread.join()
    server.server_close()


def refused(call, **members):
    with pytest.raises(ClientError) as found:
        call(**members)
    error = found.value.response["Error"]
    assert found.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    return error["Code"], error["Message"]


def test_live_policy_allows_and_denies(client):
    """The other key is let in by a policy, as far as it says, and shut out by its removal."""
    root, other = client("root"), client("other")
    papers = one("media", "papers")
    code, message = refused(other.query_vectors, **papers, **QUERY)
    assert code == "AccessDeniedException"
    assert message == (
        f"User: {user('other')} is not authorized to perform: s3vectors:QueryVectors on resource: "
        f"{ARN}media/index/papers because no identity-based policy allows the "
        "s3vectors:QueryVectors action"
    )
    text = policy(
        statement("Allow", ["s3vectors:QueryVectors", "s3vectors:Put*"], principal="other"),
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


def test_live_policy_absent(client):
    """Words for what is not there, as tests verified against the service have them."""
    root = client("root")
    for found, message in (
        (bucket("media"), "The specified vector bucket policy could not be found"),
        (bucket("nothing"), "The specified vector bucket could not be found"),
    ):
        with pytest.raises(root.exceptions.NotFoundException) as error:
            root.get_vector_bucket_policy(**found)
        assert error.value.response["Error"]["Message"] == message


def test_live_policy_refused(client):
    """What is not held is refused with its place; the fields that are wrong are told."""
    root = client("root")
    text = policy(statement("Allow", "*") | {"Condition": {}})
    with pytest.raises(root.exceptions.ValidationException) as error:
        root.put_vector_bucket_policy(**bucket("media"), policy=text)
    assert "Statement[0].Condition" in error.value.response["Error"]["Message"]
    assert error.value.response["fieldList"][0]["path"] == "/policy"


def test_live_policy_unsigned(client):
    """No policy lets in a request that is not signed."""
    anybody = policy(statement("Allow", "*", ["media", "media/*"]))
    client("root").put_vector_bucket_policy(**bucket("media"), policy=anybody)
    papers = one("media", "papers")
    assert client("other").get_index(**papers)["index"]["indexName"] == "papers"
    nobody = client("")
    for call, members in (
        (nobody.query_vectors, papers | QUERY),
        (nobody.put_vectors, papers | {"vectors": [VECTOR]}),
        (nobody.get_index, papers),
        (nobody.get_vector_bucket_policy, bucket("media")),
        (nobody.list_vector_buckets, {}),
    ):
        assert refused(call, **members)[0] != "AccessDeniedException"


def test_live_policy_of_the_service(client):
    """A policy in the service's own form is kept: of root, for everything, of another bucket."""
    root = client("root")
    document = json.loads(policy(statement("Allow", "s3vectors:*")))
    document["Statement"][0] |= {
        "Principal": {"AWS": "arn:aws:iam::000000000000:root"},
        "Resource": "arn:aws:s3vectors:aws-region:000000000000:bucket/amzn-s3-demo-vector-bucket",
    }
    root.put_vector_bucket_policy(vectorBucketArn=f"{ARN}media", policy=json.dumps(document))
    assert json.loads(root.get_vector_bucket_policy(**bucket("media"))["policy"]) == document
    assert (
        refused(client("other").get_index, **one("media", "papers"))[0] == "AccessDeniedException"
    )
