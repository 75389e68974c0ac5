"""The public suites that are run here, and the cases of theirs that do not apply, with reasons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True, slots=True)
class Published:
    """Tests that a project publishes inside its source package, and that are run from there.

    `tests` is what pytest is given in the package's folder; `settings` is what its tests read
    from the environment; `excepted` maps the cases that do not apply to the reasons.
    """

    name: str
    package: str
    tests: str
    settings: Mapping[str, str] = field(default_factory=dict)
    excepted: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Own:
    """Tests of this folder: a standard class with our fixture, or asked in our words."""

    name: str
    tests: str


BUCKET: Final = "suites-of-others"
"""A bucket that is there while suites run that expect one."""

PUBLISHED: Final = (
    Published(
        "moto, s3vectors (verified against AWS by moto)",
        "moto-5.2.5",
        "tests/test_s3vectors",
        settings={"MOTO_TEST_ALLOW_AWS_REQUEST": "true"},
    ),
    Published(
        "langchain-aws, its integration tests",
        "langchain_aws-1.9.1",
        "tests/integration_tests/vectorstores/test_s3_vectors.py",
        settings={"INTEGRATION_TEST_S3_VECTORS_VECTOR_BUCKET_NAME": BUCKET},
    ),
    Published(
        "dynavec, its live test",
        "dynavec-0.7.0",
        "tests/integration/test_live_aws.py",
        settings={"DYNAVEC_LIVE": "1"},
        excepted={
            "tests/integration/test_live_aws.py::test_provision_upsert_search_roundtrip": (
                "it puts into one namespace and searches in another, where there is nothing; "
                "test_clients_stores.py asks the same of one"
            )
        },
    ),
)

OWN: Final = (
    Own("LangChain standard tests (langchain-tests)", "test_clients_langchain.py"),
    Own("langchain-aws, more of it", "test_clients_langchain_aws.py"),
    Own("LlamaIndex, its own tests in our words, and more", "test_clients_llama_index.py"),
    Own("Ceph's and S3Mock's suites, in our words (boto3)", "test_clients_boto3.py"),
    Own("mem0, s3vectorm, Strands agents, dynavec", "test_clients_stores.py"),
    Own("AWS command line", "test_clients_awscli.py"),
)

NODE: Final = (
    Own("AWS SDK for JavaScript", "sdk.test.mjs"),
    Own("Mastra, its own tests in our words", "mastra.test.mjs"),
)
