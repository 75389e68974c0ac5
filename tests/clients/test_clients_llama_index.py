"""LlamaIndex's `S3VectorStore`: what its own tests ask (they are not in its package), and more.

It takes no endpoint: the environment alone points it here.
"""

from __future__ import annotations

import uuid

import pytest
from llama_index.core import MockEmbedding, StorageContext, VectorStoreIndex
from llama_index.core.schema import Document, NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
)
from llama_index.vector_stores.s3 import S3VectorStore

DIMENSION = 1536


@pytest.fixture
def store(bucket):
    return S3VectorStore.create_index_from_bucket(
        bucket_name_or_arn=bucket, index_name=str(uuid.uuid4()), dimension=DIMENSION
    )


def _vector(**places):
    vector = [0.0] * DIMENSION
    for place, value in places.items():
        vector[int(place[1:])] = value
    return vector


@pytest.fixture
def nodes():
    vectors = [_vector(_0=0.1), _vector(_1535=0.5), _vector(_0=0.9, _1=0.3)]
    return [
        TextNode(
            id_=str(n),
            text=f"text {n}",
            metadata={"name": str(n), "year": 1990 + n},
            embedding=vector,
            relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id=f"document {n % 2}")},
        )
        for n, vector in enumerate(vectors, 1)
    ]


def _query(k=2, **more):
    return VectorStoreQuery(query_embedding=_vector(_0=0.1), similarity_top_k=k, **more)


def _nearest(found):
    assert [node.text for node in found.nodes] == ["text 1", "text 3"]
    assert [node.metadata["name"] for node in found.nodes] == ["1", "3"]
    assert found.ids == ["1", "3"]
    assert found.similarities[0] > found.similarities[1]


def test_nodes_are_added_read_back_and_found_nearest_first(store, nodes):
    assert store.add(nodes) == ["1", "2", "3"]
    assert {node.id_ for node in store.get_nodes(node_ids=["1", "2", "3"])} == {"1", "2", "3"}
    _nearest(store.query(_query()))


async def test_the_asynchronous_methods_do_the_same(store, nodes):
    await store.async_add(nodes)
    assert len(await store.aget_nodes(node_ids=["1", "2", "3"])) == 3
    _nearest(await store.aquery(_query()))


def test_an_index_filled_by_others_is_read_with_its_own_text_field(store, nodes, client, bucket):
    client.put_vectors(
        vectorBucketName=bucket,
        indexName=store.index_name_or_arn,
        vectors=[
            {
                "key": node.id_,
                "data": {"float32": node.embedding},
                "metadata": {"words": node.text, **node.metadata},
            }
            for node in nodes
        ],
    )
    store.text_field = "words"
    texts = {node.text for node in store.get_nodes(node_ids=["1", "2", "3"])}
    assert texts == {"text 1", "text 2", "text 3"}
    _nearest_texts = [node.text for node in store.query(_query()).nodes]
    assert _nearest_texts == ["text 1", "text 3"]


async def test_a_filter_leaves_what_passes_it(store, nodes):
    await store.async_add(nodes)
    filters = MetadataFilters(filters=[MetadataFilter(key="name", value="1")])
    found = await store.aquery(_query(filters=filters))
    assert [node.text for node in found.nodes] == ["text 1"]


@pytest.mark.parametrize(
    ("operator", "value", "expected"),
    [
        (FilterOperator.EQ, 1991, {"1"}),
        (FilterOperator.NE, 1991, {"2", "3"}),
        (FilterOperator.GT, 1991, {"2", "3"}),
        (FilterOperator.GTE, 1992, {"2", "3"}),
        (FilterOperator.LT, 1992, {"1"}),
        (FilterOperator.LTE, 1992, {"1", "2"}),
        (FilterOperator.IN, [1991, 1993], {"1", "3"}),
        (FilterOperator.NIN, [1991, 1993], {"2"}),
    ],
)
def test_every_operator_it_translates_is_kept(store, nodes, operator, value, expected):
    store.add(nodes)
    filters = MetadataFilters(filters=[MetadataFilter(key="year", value=value, operator=operator)])
    assert set(store.query(_query(k=3, filters=filters)).ids) == expected


def test_nested_conditions_and_absent_keys_are_kept(store, nodes):
    store.add(nodes)
    late = MetadataFilter(key="year", value=1992, operator=FilterOperator.GT)
    first = MetadataFilter(key="name", value="1")
    either = MetadataFilters(filters=[late, first], condition=FilterCondition.OR)
    absent = MetadataFilter(key="nowhere", value=None, operator=FilterOperator.IS_EMPTY)
    both = MetadataFilters(filters=[either, absent], condition=FilterCondition.AND)
    assert set(store.query(_query(k=3, filters=both)).ids) == {"1", "3"}


def test_nodes_are_deleted_by_their_document_and_by_their_ids(store, nodes):
    store.add(nodes)
    store.delete("document 1")
    assert store.query(_query(k=3)).ids == ["2"]
    store.delete_nodes(["2"])
    assert store.query(_query(k=3)).ids == []


def test_an_index_given_by_its_arn_is_the_same_index(store, nodes, client, bucket):
    client.get_index(vectorBucketName=bucket, indexName=store.index_name_or_arn)
    arn = client.get_vector_bucket(vectorBucketName=bucket)["vectorBucket"]["vectorBucketArn"]
    made = S3VectorStore.create_index_from_bucket(
        bucket_name_or_arn=arn, index_name="by-arn", dimension=DIMENSION
    )
    assert made.index_name_or_arn == "by-arn"
    assert client.get_index(vectorBucketName=bucket, indexName="by-arn")["index"]["dimension"] == (
        DIMENSION
    )


def test_clearing_it_deletes_the_index(store, nodes, client, bucket):
    store.add(nodes)
    store.clear()
    assert client.list_indexes(vectorBucketName=bucket)["indexes"] == []


def test_documents_go_in_and_come_back_through_a_vector_store_index(store):
    embedder = MockEmbedding(embed_dim=DIMENSION)
    context = StorageContext.from_defaults(vector_store=store)
    documents = [Document(text=f"text {n}", metadata={"n": n}) for n in range(5)]
    VectorStoreIndex.from_documents(documents, storage_context=context, embed_model=embedder)
    again = VectorStoreIndex.from_vector_store(vector_store=store, embed_model=embedder)
    found = again.as_retriever(similarity_top_k=5).retrieve("text")
    assert {answer.node.metadata["n"] for answer in found} == set(range(5))
