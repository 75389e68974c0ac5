"""langchain-aws's `AmazonS3Vectors` beyond what the standard tests ask."""

from __future__ import annotations

import pytest
from langchain_aws.vectorstores.s3_vectors import AmazonS3Vectors
from langchain_core.documents import Document
from langchain_tests.integration_tests import VectorStoreIntegrationTests


@pytest.fixture
def store(bucket):
    return AmazonS3Vectors(
        vector_bucket_name=bucket,
        index_name="films",
        embedding=VectorStoreIntegrationTests.get_embeddings(),
        non_filterable_metadata_keys=["_page_content"],
    )


def _films(count):
    return [
        Document(f"film {n}", id=f"key{n}", metadata={"year": 1990 + n, "even": n % 2 == 0})
        for n in range(count)
    ]


def test_the_first_documents_make_the_index_and_every_filter_is_kept(store):
    store.add_documents(_films(20))
    found = store.similarity_search(
        "film 4", k=20, filter={"$and": [{"year": {"$gte": 2000}}, {"even": True}]}
    )
    assert {document.metadata["year"] for document in found} == {2000, 2002, 2004, 2006, 2008}


def test_more_documents_than_one_batch_holds_are_put_and_read_back(store):
    films = _films(450)
    store.add_documents(films)
    assert store.get_by_ids([film.id for film in films]) == films


@pytest.mark.filterwarnings("ignore:Relevance scores must be")
def test_what_was_asked_for_itself_is_the_most_relevant_and_others_follow_in_order(store):
    store.add_documents(_films(20))
    scored = store.similarity_search_with_relevance_scores("film 4", k=20, score_threshold=0.0)
    assert scored[0][0].page_content == "film 4"
    assert scored[0][1] == pytest.approx(1.0, abs=1e-6)
    assert scored == sorted(scored, key=lambda pair: -pair[1])


def test_its_retriever_finds_by_the_arguments_it_was_given(store):
    store.add_documents(_films(20))
    either = {"year": {"$in": [1991, 1992]}}
    retriever = store.as_retriever(search_kwargs={"k": 3, "filter": either})
    assert {document.metadata["year"] for document in retriever.invoke("film")} == {1991, 1992}


def test_a_page_content_that_is_not_filterable_may_be_longer_than_what_is(store):
    text = "a long page. " * 1_000
    store.add_documents([Document(text, id="long")])
    assert store.get_by_ids(["long"])[0].page_content == text
