"""Every operation by botocore's own client: what it receives is what the service model says."""

import datetime as dt
import json

import pytest
from api_world import NOW_MS, HandClock
from botocore.exceptions import ClientError
from s3vectors_world import arn, live, service_model

from squash.api.s3vectors.operations import OPERATIONS

MODEL = service_model()


@pytest.fixture(scope="module")
def served():
    with live(clock=HandClock()) as running:
        yield running


@pytest.fixture
def client(served):
    """A client that holds each answer against the model."""
    client = served.client
    client.meta.events.register("after-call", hold_to_model)
    yield client
    client.meta.events.unregister("after-call", hold_to_model)
    for bucket in client.list_vector_buckets()["vectorBuckets"]:
        name = bucket["vectorBucketName"]
        for index in client.list_indexes(vectorBucketName=name)["indexes"]:
            client.delete_index(indexArn=index["indexArn"])
        client.delete_vector_bucket(vectorBucketName=name)


def hold_to_model(http_response, model, **_):
    if http_response.status_code == 200:
        assert http_response.headers["content-type"] == "application/json"
        check_output(json.loads(http_response.content), model.output_shape, model.name)
    assert http_response.headers["x-amzn-requestid"]


def check_output(value, shape, where):
    """Every member is in the model, every required one is there, every bound is kept."""
    meta = shape.metadata
    kinds = {"string": str, "integer": int, "boolean": bool, "list": list, "map": dict}
    kinds |= {"float": (int, float), "timestamp": (int, float), "structure": dict}
    assert isinstance(value, kinds[shape.type_name]), where
    if shape.type_name == "structure" and not meta.get("document"):
        assert set(value) <= set(shape.members), where
        assert set(shape.required_members) <= set(value), where
        for name, one in value.items():
            check_output(one, shape.members[name], f"{where}.{name}")
    elif shape.type_name == "list":
        for one in value:
            check_output(one, shape.member, f"{where}[]")
    elif shape.type_name == "string":
        assert value in meta.get("enum", [value]), where
        assert meta.get("min", 0) <= len(value) <= meta.get("max", len(value)), where


def refusal(call, **members):
    """The code, the words and the status of an error that a client gets."""
    with pytest.raises(ClientError) as caught:
        call(**members)
    found = caught.value.response
    return (
        found["Error"]["Code"],
        found["Error"]["Message"],
        found["ResponseMetadata"]["HTTPStatusCode"],
    )


def make_index(client, bucket="media", index="papers", **more):
    client.create_vector_bucket(vectorBucketName=bucket)
    return add_index(client, bucket, index, **more)


def add_index(client, bucket, index, **more):
    members = {"dataType": "float32", "dimension": 2, "distanceMetric": "cosine"} | more
    made = client.create_index(vectorBucketName=bucket, indexName=index, **members)
    return made["indexArn"]


def test_operations_bucket(client):
    """A vector bucket is made, found by name and by ARN, listed, and deleted."""
    made = client.create_vector_bucket(vectorBucketName="media")
    assert made["vectorBucketArn"] == arn("media")
    by_name = client.get_vector_bucket(vectorBucketName="media")["vectorBucket"]
    by_arn = client.get_vector_bucket(vectorBucketArn=arn("media"))["vectorBucket"]
    assert by_name == by_arn
    created = by_name.pop("creationTime")
    assert created == dt.datetime.fromtimestamp(NOW_MS / 1000, dt.UTC)
    assert by_name == {
        "vectorBucketName": "media",
        "vectorBucketArn": arn("media"),
        "encryptionConfiguration": {"sseType": "AES256"},
        "defaultIndexMode": "ENHANCED",
    }
    listed = client.list_vector_buckets()["vectorBuckets"]
    assert [set(one) for one in listed] == [{"vectorBucketName", "vectorBucketArn", "creationTime"}]
    client.delete_vector_bucket(vectorBucketArn=arn("media"))
    assert client.list_vector_buckets()["vectorBuckets"] == []


def test_operations_index(client):
    """An index is made, found by names and by ARN, listed, and deleted."""
    keys = ["text", "source", "text"]
    made = make_index(client, metadataConfiguration={"nonFilterableMetadataKeys": keys})
    assert made == arn("media", "papers")
    by_name = client.get_index(vectorBucketName="media", indexName="papers")["index"]
    assert by_name == client.get_index(indexArn=made)["index"]
    del by_name["creationTime"]
    assert by_name == {
        "vectorBucketName": "media",
        "indexName": "papers",
        "indexArn": made,
        "dataType": "float32",
        "dimension": 2,
        "distanceMetric": "cosine",
        "metadataConfiguration": {"nonFilterableMetadataKeys": ["text", "source"]},
        "encryptionConfiguration": {"sseType": "AES256"},
        "indexMode": "ENHANCED",
    }
    for names in ({"vectorBucketName": "media"}, {"vectorBucketArn": arn("media")}):
        (summary,) = client.list_indexes(**names)["indexes"]
        assert set(summary) == {"vectorBucketName", "indexName", "indexArn", "creationTime"}
    client.delete_index(indexArn=made)
    assert client.list_indexes(vectorBucketName="media")["indexes"] == []


def test_operations_index_by_bucket_arn(client):
    """An index is made in a bucket that its ARN names, and says nothing of keys it has none of."""
    client.create_vector_bucket(vectorBucketName="media")
    made = client.create_index(
        vectorBucketArn=arn("media"),
        indexName="plain",
        dataType="float32",
        dimension=4096,
        distanceMetric="euclidean",
    )
    assert "metadataConfiguration" not in client.get_index(indexArn=made["indexArn"])["index"]


def test_operations_modes(client):
    """The mode that there is can be set again; the other is refused as for a new bucket."""
    made = make_index(client)
    client.update_index_mode(indexArn=made, indexMode="ENHANCED")
    client.put_vector_bucket_default_index_mode(
        vectorBucketName="media", defaultIndexMode="ENHANCED"
    )
    refused = refusal(client.update_index_mode, indexArn=made, indexMode="CLASSIC")
    assert refused[0] == "ValidationException"
    assert "September 30, 2026" in refused[1]
    refused = refusal(
        client.put_vector_bucket_default_index_mode,
        vectorBucketName="media",
        defaultIndexMode="CLASSIC",
    )
    assert refused[0] == "ValidationException"


def test_operations_metadata_configuration(client):
    """Of adding and deleting one is asked for; full-text search is refused, not ignored."""
    made = make_index(client)
    one_of = "Must specify either add or delete but not both"
    texts = {"textSearchConfigurations": [{"metadataKey": "body"}]}
    call = client.update_metadata_configuration
    assert refusal(call, indexArn=made)[1] == one_of
    assert refusal(call, indexArn=made, add=texts, delete=texts)[1] == one_of
    for members in ({"add": texts}, {"delete": texts}):
        code, message, _ = refusal(call, indexArn=made, **members)
        assert code == "ValidationException"
        assert "Full-text search" in message
    # What asks for nothing is done.
    answer = call(indexArn=made, add={"textSearchConfigurations": []})
    assert answer["indexArn"] == made


def test_operations_vectors(client):
    """Vectors are put, got, listed, queried and deleted."""
    made = make_index(client)
    records = [
        {"key": "a", "data": {"float32": [1.0, 0.0]}, "metadata": {"year": 2019}},
        {"key": "b", "data": {"float32": [0.0, 1.0]}},
    ]
    client.put_vectors(indexArn=made, vectors=records)
    got = client.get_vectors(indexArn=made, keys=["a", "z"], returnData=True, returnMetadata=True)
    assert got["vectors"] == records[:1]
    assert {one["key"] for one in client.list_vectors(indexArn=made)["vectors"]} == {"a", "b"}
    found = client.query_vectors(
        indexArn=made, queryVector={"float32": [1.0, 0.1]}, topK=1, returnDistance=True
    )
    assert [one["key"] for one in found["vectors"]] == ["a"]
    assert found["distanceMetric"] == "cosine"
    client.delete_vectors(indexArn=made, keys=["a", "z"])
    assert [one["key"] for one in client.list_vectors(indexArn=made)["vectors"]] == ["b"]


def test_operations_exists(client):
    """What is there is not made a second time."""
    make_index(client)
    assert refusal(client.create_vector_bucket, vectorBucketName="media") == (
        "ConflictException",
        "A vector bucket with the specified name already exists",
        409,
    )
    code, message, status = refusal(add_index_of(client), index="papers")
    assert (code, status) == ("ConflictException", 409)
    assert message == "An index with the specified name already exists"


def add_index_of(client):
    return lambda index: add_index(client, "media", index)


def test_operations_not_empty(client):
    """A vector bucket with an index is not deleted; without it, it is."""
    made = make_index(client)
    assert refusal(client.delete_vector_bucket, vectorBucketName="media") == (
        "ConflictException",
        "The specified vector bucket is not empty",
        409,
    )
    client.delete_index(indexArn=made)
    client.delete_vector_bucket(vectorBucketName="media")


ABSENT_BUCKET = ("NotFoundException", "The specified vector bucket could not be found", 404)
ABSENT_INDEX = ("NotFoundException", "The specified index could not be found", 404)
ABSENT_RESOURCE = ("NotFoundException", "The specified resource could not be found", 404)
NEW_INDEX = {
    "indexName": "papers",
    "dataType": "float32",
    "dimension": 2,
    "distanceMetric": "cosine",
}
# What each needs beside the name of what it is about.
NEEDED = {
    "CreateIndex": NEW_INDEX,
    "PutVectorBucketDefaultIndexMode": {"defaultIndexMode": "ENHANCED"},
    "UpdateIndexMode": {"indexMode": "ENHANCED"},
    "UpdateMetadataConfiguration": {"add": {}},
    "PutVectors": {"vectors": [{"key": "a", "data": {"float32": [1.0, 2.0]}}]},
    "GetVectors": {"keys": ["a"]},
    "DeleteVectors": {"keys": ["a"]},
    "QueryVectors": {"topK": 1, "queryVector": {"float32": [1.0, 2.0]}},
    "TagResource": {"tags": {"a": "b"}},
    "UntagResource": {"tagKeys": ["a"]},
}
OF_BUCKETS = [
    *(name for name, one in OPERATIONS.items() if one.on == "bucket" and "Policy" not in name),
    "CreateIndex",
]
OF_BUCKETS.remove("CreateVectorBucket")
OF_INDEXES = [
    name for name, one in OPERATIONS.items() if one.on == "index" and name != "CreateIndex"
]
OF_TAGS = [name for name, one in OPERATIONS.items() if one.on == "resource"]


def method_of(client, operation):
    names = client.meta.method_to_api_mapping
    return getattr(client, next(one for one, name in names.items() if name == operation))


def elsewhere(text):
    """ARNs of the same names in other accounts, regions and partitions."""
    _, partition, _, region, account, _ = text.split(":", 5)
    return [
        text.replace(f":{account}:", ":123456789012:"),
        text.replace(f":{region}:", ":eu-west-1:"),
        text.replace(f"arn:{partition}:", "arn:aws-cn:"),
    ]


@pytest.mark.parametrize("operation", OF_BUCKETS)
def test_operations_no_bucket(client, operation):
    """Of a vector bucket that is not there, or is elsewhere, it is said that it was not found."""
    make_index(client)
    call, more = method_of(client, operation), NEEDED.get(operation, {})
    assert refusal(call, vectorBucketName="other", **more) == ABSENT_BUCKET
    for one in elsewhere(arn("media")):
        assert refusal(call, vectorBucketArn=one, **more) == ABSENT_BUCKET


@pytest.mark.parametrize("operation", OF_INDEXES)
def test_operations_no_index(client, operation):
    """Of an index that is not there, or is elsewhere, the same; also if its bucket is missing."""
    made = make_index(client)
    call, more = method_of(client, operation), NEEDED.get(operation, {})
    for bucket in ("media", "other"):
        assert refusal(call, vectorBucketName=bucket, indexName="none", **more) == ABSENT_INDEX
    for one in elsewhere(made):
        assert refusal(call, indexArn=one, **more) == ABSENT_INDEX


@pytest.mark.parametrize("operation", OF_TAGS)
def test_operations_no_resource(client, operation):
    """Of a resource whose tags are asked for, the same."""
    made = make_index(client)
    call, more = method_of(client, operation), NEEDED.get(operation, {})
    for one in (arn("other"), arn("media", "none"), arn("other", "none"), *elsewhere(made)):
        assert refusal(call, resourceArn=one, **more) == ABSENT_RESOURCE


@pytest.mark.parametrize("operation", [name for name in OF_BUCKETS if name != "CreateIndex"])
def test_operations_bucket_names(client, operation):
    """A vector bucket is named by name or by ARN, never by both or by none."""
    words = "Must specify either vectorBucketName or vectorBucketArn but not both"
    call, more = method_of(client, operation), NEEDED.get(operation, {})
    assert refusal(call, **more)[1] == words
    both = {"vectorBucketName": "media", "vectorBucketArn": arn("media")}
    assert refusal(call, **both, **more) == ("ValidationException", words, 400)


@pytest.mark.parametrize("operation", OF_INDEXES)
def test_operations_index_names(client, operation):
    """An index is named by both names or by its ARN, never by a part or by all."""
    words = "Must specify either indexArn or both vectorBucketName and indexName"
    call, more = method_of(client, operation), NEEDED.get(operation, {})
    made = arn("media", "papers")
    for names in (
        {},
        {"vectorBucketName": "media"},
        {"indexName": "papers"},
        {"indexArn": made, "indexName": "papers"},
        {"indexArn": made, "vectorBucketName": "media"},
        {"indexArn": made, "vectorBucketName": "media", "indexName": "papers"},
    ):
        assert refusal(call, **names, **more) == ("ValidationException", words, 400)


def test_operations_all_are_tried():
    """No operation is left out above; those of policies have tests of their own."""
    policies = {name for name in MODEL.operation_names if "Policy" in name}
    tried = {*OF_BUCKETS, *OF_INDEXES, *OF_TAGS, "CreateVectorBucket", "ListVectorBuckets"}
    assert tried | policies == set(MODEL.operation_names)
