"""boto3's own client against the built artefacts: a deployment as users of S3 Vectors see it."""

from __future__ import annotations

import http.client
import json
import threading
from urllib.parse import urlsplit

import numpy as np
import pytest
from botocore.exceptions import ClientError
from botocore.session import Session

from amounts import WHOLE
from deployed import deployed
from service import client, records
from squash.limits import LAMBDA_REQUEST_BYTES_MAX
from squash.local import Fault, FaultKind

BUCKET = "media"
PAPERS = {"vectorBucketName": BUCKET, "indexName": "papers"}
DIMENSION = 4
MODEL = Session().get_service_model("s3vectors")


@pytest.fixture(scope="module")
def place(artefacts):
    """The deployment; afterwards this process is told nothing of S3."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
            patch.setenv(name, "local")
        with deployed(build=artefacts.folder, s3_proxy=True, s3_memory=True) as running:
            yield running


@pytest.fixture
def service(place):
    """A client, and with it what it asked: the names of operations, in order."""
    made = client(place.url)
    made.asked = []
    made.meta.events.register(
        "before-call.s3vectors", lambda model, **_: made.asked.append(model.name)
    )
    yield made
    made.close()
    place.cloud.set_faults(())


@pytest.fixture
def papers(service):
    """An index in a vector bucket, empty, and gone afterwards."""
    service.create_vector_bucket(vectorBucketName=BUCKET)
    service.create_index(
        **PAPERS, dataType="float32", dimension=DIMENSION, distanceMetric="euclidean"
    )
    yield service
    service.delete_index(**PAPERS)
    service.delete_vector_bucket(vectorBucketName=BUCKET)


def refused(call, **arguments):
    """Return the code and the status of what must be refused."""
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    answer = caught.value.response
    return answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]


def keys(answer):
    return [one["key"] for one in answer["vectors"]]


def near(service, vector, **more):
    return service.query_vectors(**PAPERS, queryVector={"float32": vector}, **more)


def test_every_operation_is_answered_through_the_gateway(service):
    """From the making of a bucket to its end, each of the model's operations at least once."""
    arn = service.create_vector_bucket(vectorBucketName=BUCKET, tags={"made": "yes"})[
        "vectorBucketArn"
    ]
    assert service.get_vector_bucket(vectorBucketArn=arn)["vectorBucket"]["vectorBucketArn"] == arn
    assert [one["vectorBucketArn"] for one in service.list_vector_buckets()["vectorBuckets"]] == [
        arn
    ]
    service.put_vector_bucket_default_index_mode(
        vectorBucketName=BUCKET, defaultIndexMode="ENHANCED"
    )
    index_arn = service.create_index(
        **PAPERS, dataType="float32", dimension=DIMENSION, distanceMetric="euclidean"
    )["indexArn"]
    assert service.get_index(indexArn=index_arn)["index"]["dimension"] == DIMENSION
    assert [one["indexArn"] for one in service.list_indexes(vectorBucketArn=arn)["indexes"]] == [
        index_arn
    ]
    service.update_index_mode(**PAPERS, indexMode="ENHANCED")
    adding = {"textSearchConfigurations": [{"metadataKey": "text", "language": "english"}]}
    told = refused(service.update_metadata_configuration, **PAPERS, add=adding)
    assert told == ("ValidationException", 400)
    _tags(service, arn, {"made": "yes"})
    _tags(service, index_arn, {})
    _policy(service, arn)
    _vectors(service, index_arn)
    service.delete_index(indexArn=index_arn)
    assert refused(service.get_index, **PAPERS) == ("NotFoundException", 404)
    service.delete_vector_bucket(vectorBucketArn=arn)
    assert refused(service.get_vector_bucket, vectorBucketName=BUCKET) == ("NotFoundException", 404)
    assert set(service.asked) == set(MODEL.operation_names)


def _tags(service, arn, tags):
    """Tag a resource and untag it: the ARN goes through the gateway in the path, with `%2F`."""
    odd = {"a key": "a value", "k/1": "ü+/@"}
    service.tag_resource(resourceArn=arn, tags=odd)
    assert service.list_tags_for_resource(resourceArn=arn)["tags"] == tags | odd
    service.untag_resource(resourceArn=arn, tagKeys=list(odd))
    assert service.list_tags_for_resource(resourceArn=arn)["tags"] == tags


def _policy(service, arn):
    assert refused(service.get_vector_bucket_policy, vectorBucketArn=arn)[1] == 404
    statement = {"Effect": "Allow", "Principal": "*", "Action": "s3vectors:*", "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    service.put_vector_bucket_policy(vectorBucketArn=arn, policy=policy)
    told = service.get_vector_bucket_policy(vectorBucketArn=arn)["policy"]
    assert json.loads(told) == json.loads(policy)
    service.delete_vector_bucket_policy(vectorBucketArn=arn)
    assert refused(service.get_vector_bucket_policy, vectorBucketArn=arn)[1] == 404


def _vectors(service, arn):
    rows = records(["a", "b"], np.eye(2, DIMENSION), [{"n": 1}, {"n": 2}])
    service.put_vectors(indexArn=arn, vectors=rows)
    answer = service.query_vectors(
        indexArn=arn,
        queryVector={"float32": [1.0, 0.0, 0.0, 0.0]},
        topK=2,
        filter={"n": {"$gte": 1}},
        returnDistance=True,
        returnMetadata=True,
    )
    assert [one["key"] for one in answer["vectors"]] == ["a", "b"]
    assert [one["distance"] for one in answer["vectors"]] == pytest.approx([0.0, 2**0.5])
    assert answer["distanceMetric"] == "euclidean"
    got = service.get_vectors(indexArn=arn, keys=["b"], returnData=True, returnMetadata=True)
    assert got["vectors"] == [rows[1]]
    service.delete_vectors(indexArn=arn, keys=["a"])
    assert keys(service.list_vectors(indexArn=arn)) == ["b"]


def test_pages_hold_everything_once(papers):
    """Of vectors, in segments and without, and of buckets and indexes."""
    named = [f"k{number:03}" for number in range(130)]
    for start in range(0, len(named), 50):
        part = named[start : start + 50]
        papers.put_vectors(**PAPERS, vectors=records(part, np.ones((len(part), DIMENSION))))
    pages = papers.get_paginator("list_vectors")
    listed = [keys(page) for page in pages.paginate(**PAPERS, maxResults=40)]
    assert max(map(len, listed)) <= 40
    assert sorted(key for page in listed for key in page) == named
    parts = [
        key
        for segment in range(3)
        for page in pages.paginate(**PAPERS, maxResults=20, segmentCount=3, segmentIndex=segment)
        for key in keys(page)
    ]
    assert sorted(parts) == named
    names = [f"index-{number}" for number in range(5)]
    for name in names:
        papers.create_index(
            vectorBucketName=BUCKET,
            indexName=name,
            dataType="float32",
            dimension=1,
            distanceMetric="cosine",
        )
    found = [
        one["indexName"]
        for page in papers.get_paginator("list_indexes").paginate(
            vectorBucketName=BUCKET, prefix="index-", PaginationConfig={"PageSize": 2}
        )
        for one in page["indexes"]
    ]
    assert found == names
    for name in names:
        papers.delete_index(vectorBucketName=BUCKET, indexName=name)


FAULTS = (
    Fault(FaultKind.KILL, target="*-documents", share=0.15, seed=1, delay_ms=5),
    Fault(FaultKind.KILL, target="*-coordinator", share=0.15, seed=2, delay_ms=5),
    Fault(FaultKind.DROP, target="*-documents", share=0.1, seed=3),
    Fault(FaultKind.S3_FAIL, target="* *", share=0.02, seed=4),
)


def test_what_was_put_is_found_by_the_next_query_always(place, papers):
    """With two who write, containers killed and answers lost: 200 means that it is seen.

    Each writer changes its own record and asks for it at once, from wherever the gateway leads.
    """
    rounds, wrong = 25 if WHOLE else 10, []
    place.cloud.set_faults(FAULTS)

    def write(number):
        # A put may be repeated, and its kind is that of the service: so does boto3 by itself.
        own = client(place.url, retries={"total_max_attempts": 12, "mode": "standard"})
        rng = np.random.default_rng(number)
        try:
            for turn in range(rounds):
                vector = [float(x) for x in rng.normal(size=DIMENSION).astype(np.float32)]
                row = records([f"w{number}"], [vector], [{"turn": turn, "writer": number}])
                own.put_vectors(**PAPERS, vectors=row)
                asked = {"topK": 1, "filter": {"writer": number}, "returnMetadata": True}
                told = near(own, vector, returnDistance=True, **asked)["vectors"]
                (one,) = told
                if one["metadata"]["turn"] != turn or one["distance"] > 1e-6:
                    wrong.append((number, turn, told))
                (got,) = own.get_vectors(**PAPERS, keys=[f"w{number}"], returnData=True)["vectors"]
                if np.float32(got["data"]["float32"]).tolist() != vector:
                    wrong.append((number, turn, got))
        except Exception as error:  # noqa: BLE001 - told below, by whoever waits for the thread
            wrong.append((number, repr(error)))
        finally:
            own.close()

    writers = [threading.Thread(target=write, args=(number,)) for number in range(2)]
    before = place.cloud.stats()["functions"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    place.cloud.set_faults(())
    assert wrong == []
    after = place.cloud.stats()["functions"]
    cold = sum(after[name]["cold"] - of["cold"] for name, of in before.items())
    assert cold > len(writers), "no container was killed: the faults were none"


def test_a_put_that_lambda_does_not_take_is_told_as_413(place, papers):
    """By the gateway itself, in its words; nothing of it is stored, and the client goes on."""
    wide = {"vectorBucketName": BUCKET, "indexName": "wide"}
    papers.create_index(**wide, dataType="float32", dimension=1_536, distanceMetric="cosine")
    rows = records([str(n) for n in range(300)], np.random.default_rng(0).normal(size=(300, 1_536)))
    assert refused(papers.put_vectors, **wide, vectors=rows) == ("413", 413)
    assert keys(papers.list_vectors(**wide)) == []
    half = rows[:150]
    assert len(json.dumps(half)) < LAMBDA_REQUEST_BYTES_MAX
    papers.put_vectors(**wide, vectors=half)
    found = papers.query_vectors(**wide, queryVector=half[7]["data"], topK=1)
    assert keys(found) == ["7"]
    papers.delete_index(**wide)


def test_paths_that_are_no_operations_are_refused(place):
    """An unknown one is the native API's affair; a method that none has is refused too."""
    address = urlsplit(place.url)
    for method, path in (("POST", "/PutVectorsTwice"), ("GET", "/PutVectors"), ("PUT", "/tags/a")):
        connection = http.client.HTTPConnection(address.hostname, address.port, timeout=30)
        connection.request(method, path, headers={"connection": "close"})
        answer = connection.getresponse()
        assert answer.status in {404, 405}, (method, path)
        assert b"raceback" not in answer.read()
        connection.close()


def test_an_operation_loads_nothing_of_what_others_need(place, papers):
    """What is asked of one function starts no other."""
    before = place.cloud.stats()["functions"]
    near(papers, [1.0, 0.0, 0.0, 0.0], topK=1)
    after = place.cloud.stats()["functions"]
    called = {name for name, of in after.items() if of["calls"] > before[name]["calls"]}
    assert called == {"squash-coordinator"}
