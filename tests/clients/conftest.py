"""What the tests of clients share: a live server, and buckets in it.

They run by `make clients`, with packages of their own; without these none is collected.
"""

from __future__ import annotations

import importlib.util
import os
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

collect_ignore_glob = [] if importlib.util.find_spec("langchain_tests") else ["test_*.py"]


@pytest.fixture(scope="session", autouse=True)
def endpoint() -> Iterator[str]:
    """Where the server is, as clients find it; one is started if none is."""
    import live

    if os.environ.get(live.ENDPOINT):
        yield os.environ[live.ENDPOINT]
        return
    with live.served() as environment:
        os.environ.update(environment)
        yield environment[live.ENDPOINT]


@pytest.fixture
def client(endpoint: str) -> Any:
    """boto3's client, told nothing but what stands in the environment."""
    import boto3

    return boto3.client("s3vectors")


@pytest.fixture
def bucket(client: Any) -> Iterator[str]:
    """The name of a new bucket, which is emptied and deleted afterwards."""
    name = f"clients-{uuid.uuid4().hex}"
    client.create_vector_bucket(vectorBucketName=name)
    yield name
    for page in client.get_paginator("list_indexes").paginate(vectorBucketName=name):
        for index in page["indexes"]:
            client.delete_index(indexArn=index["indexArn"])
    client.delete_vector_bucket(vectorBucketName=name)
