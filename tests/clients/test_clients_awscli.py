"""The AWS command line, `aws s3vectors …`, told where to go by the environment alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

_AWS = str(Path(sys.executable).with_name("aws"))


def _run(*words):
    return subprocess.run(
        [sys.executable, _AWS, "s3vectors", *words, "--output", "json"],
        capture_output=True,
        text=True,
        check=False,
    )


def _aws(*words):
    done = _run(*words)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) if done.stdout.strip() else {}


@pytest.fixture
def index(bucket):
    named = ("--vector-bucket-name", bucket, "--index-name", "films")
    _aws(
        "create-index",
        *named,
        "--data-type=float32",
        "--dimension=2",
        "--distance-metric=cosine",
        "--metadata-configuration",
        json.dumps({"nonFilterableMetadataKeys": ["text"]}),
        "--tags",
        "team=search",
    )
    return named


@pytest.fixture
def filled(index):
    vectors = [
        {"key": f"key{n}", "data": {"float32": [1.0, n / 8]}, "metadata": {"n": n, "text": "."}}
        for n in range(5)
    ]
    _aws("put-vectors", *index, "--vectors", json.dumps(vectors))
    return index


def test_an_index_is_described_as_it_was_made(index):
    described = _aws("get-index", *index)["index"]
    assert described["dimension"] == 2
    assert described["distanceMetric"] == "cosine"
    assert described["metadataConfiguration"]["nonFilterableMetadataKeys"] == ["text"]


def test_tags_are_read_added_and_removed_by_the_arn_in_the_path(index):
    arn = _aws("get-index", *index)["index"]["indexArn"]
    assert _aws("list-tags-for-resource", "--resource-arn", arn)["tags"] == {"team": "search"}
    tags = json.dumps({"stage": "test", "zwölf": "é /=+"})
    _aws("tag-resource", "--resource-arn", arn, "--tags", tags)
    _aws("untag-resource", "--resource-arn", arn, "--tag-keys", "team", "zwölf")
    assert _aws("list-tags-for-resource", "--resource-arn", arn)["tags"] == {"stage": "test"}


def test_vectors_are_found_nearest_first_among_those_that_pass(filled):
    found = _aws(
        "query-vectors",
        *filled,
        "--top-k=3",
        "--query-vector",
        json.dumps({"float32": [1.0, 0.0]}),
        "--filter",
        json.dumps({"n": {"$gte": 1}}),
        "--return-metadata",
        "--return-distance",
    )
    assert [vector["key"] for vector in found["vectors"]] == ["key1", "key2", "key3"]
    assert found["distanceMetric"] == "cosine"
    assert found["vectors"][0]["metadata"] == {"n": 1, "text": "."}


def test_the_command_line_pages_through_what_it_lists(filled):
    listed = _aws("list-vectors", *filled, "--page-size", "2", "--return-data")
    assert {vector["key"] for vector in listed["vectors"]} == {f"key{n}" for n in range(5)}
    assert all(len(vector["data"]["float32"]) == 2 for vector in listed["vectors"])


def test_deleted_vectors_are_gone_and_unknown_keys_do_no_harm(filled):
    _aws("delete-vectors", *filled, "--keys", "key1", "nowhere")
    got = _aws("get-vectors", *filled, "--keys", "key0", "key1")
    assert got["vectors"] == [{"key": "key0"}]


def test_a_policy_is_kept_until_it_is_deleted(bucket):
    named = ("--vector-bucket-name", bucket)
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": "*",
                "Action": "s3vectors:QueryVectors",
                "Resource": f"arn:aws:s3vectors:us-east-1:000000000000:bucket/{bucket}/index/*",
            }
        ],
    }
    _aws("put-vector-bucket-policy", *named, "--policy", json.dumps(policy))
    assert json.loads(_aws("get-vector-bucket-policy", *named)["policy"]) == policy
    _aws("delete-vector-bucket-policy", *named)
    assert "NotFoundException" in _run("get-vector-bucket-policy", *named).stderr


def test_what_is_not_there_is_said_in_the_words_of_the_service():
    said = _run("get-vector-bucket", "--vector-bucket-name", "not-there").stderr
    assert "NotFoundException" in said
    assert "The specified vector bucket could not be found" in said
