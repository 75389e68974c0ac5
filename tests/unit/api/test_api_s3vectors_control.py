"""Listings by pages, tags, and encryption, by botocore's own client."""

from itertools import chain

import pytest
from s3vectors_world import arn, live
from test_api_s3vectors_operations import add_index, make_index, refusal

from squash.api.access import Caller, OpenGate
from squash.api.environment import read_s3vectors
from squash.api.routes import Scope
from squash.limits import TAGS_MAX

KMS = "arn:aws:kms:us-east-1:000000000000:key/0123-ab"
OTHER_KMS = KMS.replace("0123", "4567")


class KeyOf(OpenGate):
    """Admits everybody as one caller."""

    def __init__(self, *indexes):
        self.caller = Caller("somebody", frozenset(Scope), indexes)

    def admit(self, request):
        return self.caller


@pytest.fixture
def client():
    with live() as running:
        yield running.client


def names_of(pages, member, name):
    return [[one[name] for one in page[member]] for page in pages]


def test_control_bucket_pages(client):
    """Pages have all vector buckets once, in order, as many a page as asked for."""
    made = [f"bucket-{i}" for i in range(5)]
    for name in made:
        client.create_vector_bucket(vectorBucketName=name)
    for size in (1, 2, 3, 4, 5, 6, 500):
        pages = client.get_paginator("list_vector_buckets").paginate(
            PaginationConfig={"PageSize": size}
        )
        found = names_of(pages, "vectorBuckets", "vectorBucketName")
        assert list(chain(*found)) == made
        assert [len(page) for page in found[:-1]] == [size] * (len(found) - 1)
        assert len(found) == -(-len(made) // size)


def test_control_index_pages(client):
    """Pages have all indexes of one vector bucket once, of a prefix if one is given."""
    client.create_vector_bucket(vectorBucketName="other")
    add_index(client, "other", "aa-elsewhere")
    client.create_vector_bucket(vectorBucketName="media")
    for name in ("aa-1", "aa-2", "aa-3", "bb-1"):
        add_index(client, "media", name)
    for prefix, expected in (
        ("aa-", ["aa-1", "aa-2", "aa-3"]),
        ("bb", ["bb-1"]),
        ("a", ["aa-1", "aa-2", "aa-3"]),
        ("c", []),
        ("aa-1", ["aa-1"]),
    ):
        pages = client.get_paginator("list_indexes").paginate(
            vectorBucketName="media", prefix=prefix, PaginationConfig={"PageSize": 2}
        )
        assert list(chain(*names_of(pages, "indexes", "indexName"))) == expected


def test_control_pages_while_changed(client):
    """What was deleted since is left out, and what is on no page yet is not lost."""
    for name in ("aaa", "bbb", "ccc", "ddd"):
        client.create_vector_bucket(vectorBucketName=name)
    page = client.list_vector_buckets(maxResults=2)
    for name in ("bbb", "ccc"):
        client.delete_vector_bucket(vectorBucketName=name)
    rest = client.list_vector_buckets(nextToken=page["nextToken"])
    assert [one["vectorBucketName"] for one in rest["vectorBuckets"]] == ["ddd"]


def test_control_tokens(client):
    """A token is for the listing it came from, and for nothing else."""
    for bucket in ("media", "other"):
        client.create_vector_bucket(vectorBucketName=bucket)
        for name in ("aa-1", "aa-2"):
            add_index(client, bucket, name)
    token = client.list_indexes(vectorBucketName="media", maxResults=1)["nextToken"]
    buckets_token = client.list_vector_buckets(maxResults=1)["nextToken"]
    for call, members in (
        (client.list_indexes, {"vectorBucketName": "other", "nextToken": token}),
        (client.list_indexes, {"vectorBucketName": "media", "prefix": "aa", "nextToken": token}),
        (client.list_indexes, {"vectorBucketName": "media", "nextToken": buckets_token}),
        (client.list_indexes, {"vectorBucketName": "media", "nextToken": token[:-1]}),
        (client.list_vector_buckets, {"nextToken": "garbage"}),
        (client.list_vector_buckets, {"nextToken": "é"}),
    ):
        code, message, status = refusal(call, **members)
        assert (code, status) == ("ValidationException", 400)
        assert message.startswith("Invalid nextToken")


def test_control_listings_show_what_is_the_callers():
    """A listing has the vector buckets and indexes that a key is for, and tells of no others."""
    with live() as everybody:
        client, database = everybody.client, everybody.database
        for bucket in ("media", "other", "third"):
            client.create_vector_bucket(vectorBucketName=bucket)
            for name in ("aa-1", "aa-2", "bb-1"):
                add_index(client, bucket, name)
        gate = KeyOf("media/aa-*", "third/bb-1", "a*")
        with live(gate, database=database) as some:
            listed = some.client.list_vector_buckets()["vectorBuckets"]
            assert [one["vectorBucketName"] for one in listed] == ["media", "third"]
            pages = some.client.get_paginator("list_indexes").paginate(
                vectorBucketName="media", PaginationConfig={"PageSize": 2}
            )
            # Two are all there are for it: no token tells that there is a third.
            assert names_of(pages, "indexes", "indexName") == [["aa-1", "aa-2"]]


def test_control_tags(client):
    """Tags are given with creation and later, replaced, listed, and taken away."""
    client.create_vector_bucket(vectorBucketName="media", tags={"team": "red", "stage": ""})
    add_index(client, "media", "papers", tags={"kind": "text"})
    for resource, first in (
        (arn("media"), {"team": "red", "stage": ""}),
        (arn("media", "papers"), {"kind": "text"}),
    ):
        tags = client.list_tags_for_resource(resourceArn=resource)["tags"]
        assert tags == first
        client.tag_resource(resourceArn=resource, tags={"team": "blue", "a b/c": "Größe"})
        client.untag_resource(resourceArn=resource, tagKeys=["stage", "kind", "none", "a b/c"])
        assert client.list_tags_for_resource(resourceArn=resource)["tags"] == {"team": "blue"}


def test_control_tags_go_with_the_resource(client):
    """What is made anew under a name has none of the tags of what was there before."""
    made = make_index(client, tags={"a": "b"})
    client.delete_index(indexArn=made)
    add_index(client, "media", "papers")
    assert client.list_tags_for_resource(resourceArn=made)["tags"] == {}
    client.tag_resource(resourceArn=arn("media"), tags={"a": "b"})
    client.delete_index(indexArn=made)
    client.delete_vector_bucket(vectorBucketName="media")
    client.create_vector_bucket(vectorBucketName="media")
    assert client.list_tags_for_resource(resourceArn=arn("media"))["tags"] == {}


def test_control_tags_most(client):
    """A resource has at most so many tags, also if they come in several requests."""
    tags = {f"key-{i}": "value" for i in range(TAGS_MAX)}
    client.create_vector_bucket(vectorBucketName="media", tags=tags)
    client.tag_resource(resourceArn=arn("media"), tags={"key-0": "changed"})
    more = {"one-more": "value"}
    code, message, _ = refusal(client.tag_resource, resourceArn=arn("media"), tags=more)
    assert (code, str(TAGS_MAX) in message) == ("ValidationException", True)
    kept = client.list_tags_for_resource(resourceArn=arn("media"))["tags"]
    assert kept == tags | {"key-0": "changed"}
    code, _, _ = refusal(client.create_vector_bucket, vectorBucketName="other", tags=tags | more)
    assert code == "ValidationException"
    assert len(client.list_vector_buckets()["vectorBuckets"]) == 1


@pytest.mark.parametrize("key", ["aws:team", "AWS:team"])
def test_control_tags_reserved(client, key):
    """Keys that are the service's own are refused, at creation and later."""
    tags = {key: "x"}
    assert "aws:" in refusal(client.create_vector_bucket, vectorBucketName="media", tags=tags)[1]
    make_index(client)
    for resource in (arn("media"), arn("media", "papers")):
        assert "aws:" in refusal(client.tag_resource, resourceArn=resource, tags=tags)[1]


@pytest.mark.parametrize(
    "resource", ["media", "arn:aws:s3:::media", arn("me"), arn("media") + "/x", arn("media") + "/"]
)
def test_control_tags_of_no_arn(client, resource):
    """What is no ARN of a vector bucket or an index is told so, with one that could be."""
    code, message, _ = refusal(client.list_tags_for_resource, resourceArn=resource)
    assert code == "ValidationException"
    assert "bucket/my-bucket/index/my-index" in message


def encryption(sse, key=None):
    return {"sseType": sse} | ({"kmsKeyArn": key} if key else {})


def test_control_encryption_own(client):
    """Without a key of the deployment's, AES256 can be named, and no key can."""
    client.create_vector_bucket(
        vectorBucketName="media", encryptionConfiguration=encryption("AES256")
    )
    made = add_index(client, "media", "papers", encryptionConfiguration={"sseType": "AES256"})
    assert client.get_index(indexArn=made)["index"]["encryptionConfiguration"] == {
        "sseType": "AES256"
    }
    for given in (
        encryption("aws:kms", KMS),
        encryption("aws:kms"),
        encryption("AES256", KMS),
        {"kmsKeyArn": KMS},
    ):
        code, _, _ = refusal(
            client.create_vector_bucket, vectorBucketName="other", encryptionConfiguration=given
        )
        assert code == "ValidationException"
    assert len(client.list_vector_buckets()["vectorBuckets"]) == 1


def test_control_encryption_kms():
    """With a key of the deployment's, that is told, and it alone can be named."""
    settings = read_s3vectors({"SQUASH_KMS_KEY_ARN": KMS})
    with live(s3vectors=settings) as running:
        client = running.client
        own = encryption("aws:kms", KMS)
        client.create_vector_bucket(vectorBucketName="media", encryptionConfiguration=own)
        client.create_vector_bucket(vectorBucketName="other")
        for name in ("media", "other"):
            bucket = client.get_vector_bucket(vectorBucketName=name)["vectorBucket"]
            assert bucket["encryptionConfiguration"] == own
        for given in (encryption("aws:kms", OTHER_KMS), encryption("AES256")):
            code, message, _ = refusal(
                client.create_vector_bucket, vectorBucketName="third", encryptionConfiguration=given
            )
            assert (code, KMS in message) == ("ValidationException", True)
