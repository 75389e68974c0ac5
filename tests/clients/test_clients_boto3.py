"""What the suites of other implementations ask by boto3, in our words: their code stays theirs.

Ceph's (`src/test/rgw/s3vectors`) and S3Mock's (`VectorIT` and its like, which its makers ran
against the service). Where Ceph's differs from the service, this follows the service.
"""

from __future__ import annotations

import datetime as dt
import itertools
import threading

import numpy as np
import pytest
from botocore.exceptions import ClientError

DIMENSION = 16


@pytest.fixture
def named(client, bucket):
    client.create_index(
        vectorBucketName=bucket,
        indexName="named",
        dataType="float32",
        dimension=DIMENSION,
        distanceMetric="euclidean",
    )
    return {"vectorBucketName": bucket, "indexName": "named"}


def _vectors(count, *, dimension=DIMENSION, first=0, metadata=False):
    """Vectors around the point (n, n, …), so that each one's own neighbourhood is known."""
    generator = np.random.default_rng(count)
    return [
        {
            "key": f"vector-{n}",
            "data": {"float32": generator.normal(n, 0.1, dimension).tolist()},
        }
        | ({"metadata": {"genre": f"genre-{n}", "year": 2000 + n}} if metadata else {})
        for n in range(first, first + count)
    ]


def _refused(code, call, **words):
    with pytest.raises(ClientError) as caught:
        call(**words)
    assert caught.value.response["Error"]["Code"] == code


def test_buckets_are_listed_got_by_name_or_arn_and_gone_when_deleted(client, bucket):
    other = f"other-{bucket[:40]}"
    arn = client.create_vector_bucket(vectorBucketName=other)["vectorBucketArn"]
    assert arn.endswith(f":bucket/{other}")
    listed = {found["vectorBucketName"] for found in client.list_vector_buckets()["vectorBuckets"]}
    assert {bucket, other} <= listed
    begun = client.list_vector_buckets(prefix=bucket)["vectorBuckets"]
    assert [found["vectorBucketName"] for found in begun] == [bucket]
    assert client.get_vector_bucket(vectorBucketArn=arn)["vectorBucket"]["vectorBucketArn"] == arn
    client.delete_vector_bucket(vectorBucketArn=arn)
    _refused("NotFoundException", client.get_vector_bucket, vectorBucketName=other)
    _refused("NotFoundException", client.delete_vector_bucket, vectorBucketName=other)


def test_making_what_is_there_conflicts_even_with_the_same_words(client, bucket, named):
    _refused("ConflictException", client.create_vector_bucket, vectorBucketName=bucket)
    for dimension in (DIMENSION, DIMENSION * 2):
        _refused(
            "ConflictException",
            client.create_index,
            **named,
            dataType="float32",
            dimension=dimension,
            distanceMetric="euclidean",
        )


def test_a_bucket_with_an_index_is_not_deleted(client, bucket, named):
    _refused("ConflictException", client.delete_vector_bucket, vectorBucketName=bucket)


def test_an_index_is_described_as_it_was_made_just_now(client, named):
    found = client.get_index(**named)["index"]
    assert client.get_index(indexArn=found["indexArn"])["index"] == found
    assert (found["dimension"], found["distanceMetric"]) == (DIMENSION, "euclidean")
    age = dt.datetime.now(dt.UTC) - found["creationTime"]
    assert abs(age) < dt.timedelta(hours=1)


def test_metadata_keys_that_are_not_filterable_are_told(client, bucket, named):
    keys = ["one", "two", "three"]
    client.create_index(
        vectorBucketName=bucket,
        indexName="keys",
        dataType="float32",
        dimension=4,
        distanceMetric="cosine",
        metadataConfiguration={"nonFilterableMetadataKeys": keys},
    )
    found = client.get_index(vectorBucketName=bucket, indexName="keys")["index"]
    assert set(found["metadataConfiguration"]["nonFilterableMetadataKeys"]) == set(keys)
    without = client.get_index(**named)["index"].get("metadataConfiguration", {})
    assert not without.get("nonFilterableMetadataKeys")


def test_indexes_are_listed_by_their_beginnings_with_their_times(client, bucket):
    for name in ("begin-one", "begin-two", "other"):
        client.create_index(
            vectorBucketName=bucket,
            indexName=name,
            dataType="float32",
            dimension=4,
            distanceMetric="cosine",
        )
    found = client.list_indexes(vectorBucketName=bucket, prefix="begin-")["indexes"]
    assert [index["indexName"] for index in found] == ["begin-one", "begin-two"]
    assert all(isinstance(index["creationTime"], dt.datetime) for index in found)
    pages = client.get_paginator("list_indexes").paginate(
        vectorBucketName=bucket, PaginationConfig={"PageSize": 1}
    )
    assert [len(page["indexes"]) for page in pages] == [1, 1, 1]


def test_nothing_is_found_in_a_bucket_that_is_not_there(client, named):
    absent = named | {"vectorBucketName": "not-there"}
    _refused("NotFoundException", client.get_index, **absent)
    _refused("NotFoundException", client.put_vectors, **absent, vectors=_vectors(1))
    _refused("NotFoundException", client.list_indexes, vectorBucketName="not-there")


def test_deleting_an_index_makes_its_name_free(client, named):
    client.put_vectors(**named, vectors=_vectors(3))
    client.delete_index(**named)
    _refused("NotFoundException", client.get_index, **named)
    client.create_index(**named, dataType="float32", dimension=4, distanceMetric="cosine")
    assert client.list_vectors(**named)["vectors"] == []


def test_a_put_with_one_vector_of_another_dimension_puts_none(client, named):
    wrong = _vectors(5, dimension=DIMENSION // 2, first=5)
    _refused("ValidationException", client.put_vectors, **named, vectors=wrong)
    _refused("ValidationException", client.put_vectors, **named, vectors=_vectors(5) + wrong)
    assert client.list_vectors(**named)["vectors"] == []


def test_vectors_come_back_with_what_was_asked_for(client, named):
    vectors = _vectors(10, metadata=True) + _vectors(2, first=10)
    client.put_vectors(**named, vectors=vectors)
    keys = [vector["key"] for vector in vectors]
    bare = client.get_vectors(**named, keys=keys)["vectors"]
    assert sorted(bare, key=lambda v: keys.index(v["key"])) == [{"key": key} for key in keys]
    full = client.get_vectors(**named, keys=keys, returnData=True, returnMetadata=True)["vectors"]
    assert len(full) == len(keys)
    for vector in full:
        put = vectors[keys.index(vector["key"])]
        np.testing.assert_allclose(vector["data"]["float32"], put["data"]["float32"], rtol=1e-6)
        assert vector["metadata"] == put.get("metadata", {})


def test_a_vector_put_again_is_replaced_whole(client, named):
    client.put_vectors(**named, vectors=_vectors(1, metadata=True))
    client.put_vectors(**named, vectors=[{"key": "vector-0", "data": {"float32": [7.0] * 16}}])
    found = client.get_vectors(**named, keys=["vector-0"], returnData=True, returnMetadata=True)
    assert found["vectors"] == [
        {"key": "vector-0", "data": {"float32": [7.0] * 16}, "metadata": {}}
    ]


@pytest.mark.parametrize(("count", "sizes"), [(5, [5]), (27, [10, 10, 7]), (30, [10, 10, 10])])
def test_lists_have_full_pages_and_end_with_the_last(client, named, count, sizes):
    client.put_vectors(**named, vectors=_vectors(count, metadata=True))
    pages, more = [], {}
    while True:
        page = client.list_vectors(
            **named, maxResults=10, returnData=True, returnMetadata=True, **more
        )
        pages.append(page["vectors"])
        if not page.get("nextToken"):
            break
        more = {"nextToken": page["nextToken"]}
    assert [len(page) for page in pages] == sizes
    found = {vector["key"]: vector for page in pages for vector in page}
    assert found.keys() == {f"vector-{n}" for n in range(count)}
    assert all(vector["metadata"]["year"] >= 2000 for vector in found.values())
    assert all(len(vector["data"]["float32"]) == DIMENSION for vector in found.values())


def test_segments_divide_the_list_among_them(client, named):
    client.put_vectors(**named, vectors=_vectors(60))
    segments = [
        [
            vector["key"]
            for page in client.get_paginator("list_vectors").paginate(
                **named, segmentCount=4, segmentIndex=part, PaginationConfig={"PageSize": 7}
            )
            for vector in page["vectors"]
        ]
        for part in range(4)
    ]
    found = sorted(itertools.chain(*segments))
    assert found == sorted(f"vector-{n}" for n in range(60))


def test_deleting_known_and_unknown_keys_leaves_the_rest(client, named):
    client.put_vectors(**named, vectors=_vectors(20))
    gone = [f"vector-{n}" for n in (2, 5, 7, 10, 19)]
    client.delete_vectors(**named, keys=[*gone, "vector-100", "nonsense"])
    left = {vector["key"] for vector in client.list_vectors(**named)["vectors"]}
    assert left == {f"vector-{n}" for n in range(20)} - set(gone)


def test_each_vectors_neighbours_are_found_with_what_was_asked_for(client, named):
    client.put_vectors(**named, vectors=_vectors(100, metadata=True))
    for n in (8, 17, 42, 99):
        asked = named | {"queryVector": {"float32": [float(n)] * DIMENSION}, "topK": 5}
        bare = client.query_vectors(**asked)
        assert bare["distanceMetric"] == "euclidean"
        assert len(bare["vectors"]) == 5
        assert all(vector.keys() == {"key"} for vector in bare["vectors"])
        assert bare["vectors"][0] == {"key": f"vector-{n}"}
        full = client.query_vectors(**asked, returnDistance=True, returnMetadata=True)["vectors"]
        distances = [vector["distance"] for vector in full]
        assert distances == sorted(distances)
        assert full[0]["metadata"] == {"genre": f"genre-{n}", "year": 2000 + n}


def test_a_bare_value_in_a_filter_means_equal(client, named):
    client.put_vectors(**named, vectors=_vectors(30, metadata=True))
    found = client.query_vectors(
        **named,
        queryVector={"float32": [0.0] * DIMENSION},
        topK=30,
        filter={"genre": "genre-4"},
    )
    assert found["vectors"] == [{"key": "vector-4"}]


def test_many_write_to_indexes_of_one_bucket_at_once_and_each_sees_its_own(client, bucket):
    failures = []

    def write(number):
        try:
            named = {"vectorBucketName": bucket, "indexName": f"index-{number}"}
            client.create_index(
                **named, dataType="float32", dimension=DIMENSION, distanceMetric="euclidean"
            )
            for count in (10, 20, 30):
                client.put_vectors(**named, vectors=_vectors(count))
                keys = [f"vector-{n}" for n in range(count)]
                assert len(client.get_vectors(**named, keys=keys)["vectors"]) == count
        except Exception as failure:  # noqa: BLE001 - any failure of a thread fails the test
            failures.append(failure)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_ten_thousand_results_come_in_pages_each_once_and_in_order(client, named):
    keys = set()
    for first in range(0, 2_500, 500):
        client.put_vectors(**named, vectors=_vectors(500, first=first))
        keys |= {f"vector-{n}" for n in range(first, first + 500)}
    pages = list(
        client.get_paginator("query_vectors").paginate(
            **named,
            queryVector={"float32": [0.0] * DIMENSION},
            topK=10_000,
            returnDistance=True,
        )
    )
    found = [vector for page in pages for vector in page["vectors"]]
    assert len(found) == len(keys)
    assert {vector["key"] for vector in found} == keys
    distances = [vector["distance"] for vector in found]
    assert distances == sorted(distances)
