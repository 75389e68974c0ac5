"""LangChain's standard tests of a vector store, over langchain-aws's `AmazonS3Vectors`."""

from __future__ import annotations

import pytest
from langchain_aws.vectorstores.s3_vectors import AmazonS3Vectors
from langchain_core.vectorstores import VectorStore
from langchain_tests.integration_tests import VectorStoreIntegrationTests
from langchain_tests.integration_tests.vectorstores import EMBEDDING_SIZE

_RAISES_ON_ABSENT = "langchain-aws itself raises ValueError for an ID that is not there"


class TestStandard(VectorStoreIntegrationTests):
    """The standard suite, synchronous and asynchronous."""

    @pytest.fixture
    def vectorstore(self, bucket, client):
        # The suite asks an empty store, and langchain-aws makes its index with the first document.
        client.create_index(
            vectorBucketName=bucket,
            indexName="standard",
            dataType="float32",
            dimension=EMBEDDING_SIZE,
            distanceMetric="cosine",
        )
        return AmazonS3Vectors(
            vector_bucket_name=bucket, index_name="standard", embedding=self.get_embeddings()
        )

    @pytest.mark.xfail(reason=_RAISES_ON_ABSENT, raises=ValueError)
    def test_get_by_ids_missing(self, vectorstore: VectorStore) -> None:
        super().test_get_by_ids_missing(vectorstore)

    @pytest.mark.xfail(reason=_RAISES_ON_ABSENT, raises=ValueError)
    async def test_get_by_ids_missing_async(self, vectorstore: VectorStore) -> None:
        await super().test_get_by_ids_missing_async(vectorstore)
