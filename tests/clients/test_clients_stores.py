"""Other stores over boto3's client: mem0, s3vectorm, dynavec and the memory of Strands agents.

None takes an endpoint: the environment alone points them here.
"""

from __future__ import annotations

import importlib
import uuid

import numpy as np
import pytest
from dynavec import Document, Dynavec, DynavecConfig
from mem0.vector_stores.s3_vectors import S3Vectors
from s3vectorm.api import BaseMetadata, Bucket, Index, MetaKey, Vector


@pytest.fixture(params=["cosine", "euclidean"])
def memories(bucket, request):
    return S3Vectors(bucket, "memories", embedding_model_dims=3, distance_metric=request.param)


def test_mem0_makes_what_is_missing_and_finds_it_again(memories, bucket):
    assert memories.list_cols() == ["memories"]
    again = S3Vectors(bucket, "memories", embedding_model_dims=3)
    assert again.col_info()["dimension"] == 3


def test_mem0_inserts_searches_with_a_filter_and_scores_the_nearest_highest(memories):
    memories.insert(
        [[1.0, 0.0, 0.0], [0.9, 0.1, 0.0], [0.0, 1.0, 0.0]],
        payloads=[{"user_id": "a"}, {"user_id": "b"}, {"user_id": "a"}],
        ids=["1", "2", "3"],
    )
    found = memories.search("", [1.0, 0.0, 0.0], top_k=3)
    assert [answer.id for answer in found] == ["1", "2", "3"]
    assert found[0].score == pytest.approx(1.0, abs=1e-6)
    assert [answer.score for answer in found] == sorted((a.score for a in found), reverse=True)
    mine = memories.search("", [1.0, 0.0, 0.0], top_k=3, filters={"user_id": "a"})
    assert [answer.id for answer in mine] == ["1", "3"]


def test_mem0_accepts_a_filter_of_several_keys(memories):
    """The service is reported to refuse it; taking it as their conjunction breaks no client."""
    payloads = [{"user_id": "a", "run": n} for n in range(2)]
    memories.insert([[1.0, 0.0, 0.0]] * 2, payloads=payloads, ids=["1", "2"])
    found = memories.search("", [1.0, 0.0, 0.0], filters={"user_id": "a", "run": 1})
    assert [answer.id for answer in found] == ["2"]


def test_mem0_changes_a_payload_and_keeps_the_vector(memories):
    memories.insert([[0.0, 1.0, 0.0]], payloads=[{"n": 1}], ids=["1"])
    memories.update("1", payload={"n": 2})
    assert memories.get("1").payload == {"n": 2}
    assert memories.search("", [0.0, 1.0, 0.0])[0].score == pytest.approx(1.0, abs=1e-6)


def test_mem0_lists_deletes_and_resets(memories):
    ids = [str(n) for n in range(7)]
    memories.insert([[1.0, float(n), 0.0] for n in range(7)], ids=ids)
    assert {answer.id for answer in memories.list(top_k=3)[0]} < set(ids)
    assert len(memories.list(top_k=3)[0]) == 3
    memories.delete("3")
    assert memories.get("3") is None
    assert {answer.id for answer in memories.list()[0]} == set(ids) - {"3"}
    memories.reset()
    assert memories.list() == [[]]


class _Chunk(Vector):
    document: str
    year: int


class _ChunkMeta(BaseMetadata):
    document = MetaKey()
    year = MetaKey()


@pytest.fixture
def index(client, bucket):
    index = Index(
        bucket_name=bucket,
        index_name="chunks",
        index_arn=None,
        data_type="float32",
        dimension=2,
        distance_metric="cosine",
    )
    index.create(client)
    return index


def test_s3vectorm_makes_buckets_and_indexes_once(client, index, bucket):
    assert index.create(client) is None
    assert Bucket(name=bucket).create(client) is None
    assert Index.get(client, bucket, "chunks").dimension == 2


def test_s3vectorm_puts_and_queries_with_its_expressions(client, index):
    index.put_vectors(
        client,
        [_Chunk(key=str(n), data=[1.0, n / 9], document=f"d{n % 2}", year=n) for n in range(6)],
    )
    expression = _ChunkMeta.document.eq("d1") & (_ChunkMeta.year.gt(2) | _ChunkMeta.year.in_([1]))
    found = index.query_vectors(
        client, data=[1.0, 0.0], top_k=6, filter=expression, return_metadata=True
    )
    assert [vector["key"] for vector in found.boto3_raw_data["vectors"]] == ["1", "3", "5"]


@pytest.mark.filterwarnings("ignore")
def test_strands_agents_remember_each_users_own(client, bucket):
    memory_module = importlib.import_module("strands_s3_vectors_memory.s3_vector_memory")
    client.create_index(
        vectorBucketName=bucket,
        indexName="memory",
        dataType="float32",
        dimension=1024,
        distanceMetric="cosine",
        metadataConfiguration={"nonFilterableMetadataKeys": ["content", "stored_at"]},
    )
    memory = memory_module.S3VectorMemory(bucket_name=bucket, region_name="us-east-1")
    for user in ("ann", "bob"):
        for said in ("likes tea", "likes rain"):
            memory.store_memory(user, f"{user} {said}", agent_name="clerk")
    found = memory.retrieve_memories("ann", "ann likes tea", top_k=4, agent_name="clerk")
    assert found[0]["content"] == "ann likes tea"
    assert {answer["content"] for answer in found} == {"ann likes tea", "ann likes rain"}
    assert found[0]["similarity"] == 1.0


@pytest.fixture
def documents(bucket):
    """Vectors here, and their texts in DynamoDB, which a stand-in plays."""
    settings = DynavecConfig(
        vector_bucket=bucket,
        index="documents",
        table=f"documents-{uuid.uuid4().hex}",
        dimension=32,
        region="us-east-1",
        auto_provision=True,
    )
    database = Dynavec(settings)
    yield database
    database.close()


def test_dynavec_provisions_puts_and_searches_one_namespace_with_a_filter(documents):
    vectors = np.random.default_rng(0).normal(size=(40, 32)).astype(np.float32)
    documents.upsert(
        [
            Document(
                id=f"v{n}",
                vector=vector.tolist(),
                text=f"document {n}",
                metadata={"even": n % 2 == 0, "place": n},
            )
            for n, vector in enumerate(vectors)
        ],
        namespace="one",
    )
    nearest = documents.search(vector=vectors[0].tolist(), top_k=5, namespace="one")
    assert (nearest[0].id, nearest[0].text) == ("v0", "document 0")
    even = documents.search(
        vector=vectors[0].tolist(), top_k=40, filter={"even": True}, namespace="one"
    )
    assert {found.id for found in even} == {f"v{n}" for n in range(0, 40, 2)}
    assert documents.search(vector=vectors[0].tolist(), top_k=5, namespace="other") == []
