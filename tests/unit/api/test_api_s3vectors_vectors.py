"""Put, get, list and delete vectors, as a client of the service has it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from s3vectors_face import PLACE, Service


@pytest.fixture
def service():
    return Service(dimension=5, non_filterable=["raw"])


def row(key="k", vector=(1, 0, 0, 0, 0), **more):
    return {"key": key, "data": {"float32": list(vector)}, **more}


def refused(service, *vectors):
    """What is said of vectors that are refused, after nothing of them was written."""
    answer = service.ask("PutVectors", vectors=list(vectors))
    assert (answer.status, answer.code) == (400, "ValidationException")
    assert service.listed("ListVectors") == []
    return answer.message


def test_a_record_that_is_wrong_is_told_by_its_key_in_the_services_words(service):
    """As moto asserts them of the service, and as its users quote them."""
    said = "Invalid record for key 'K': "
    good = row("good")
    cases = {
        "vector must have length 5, but has length 1": row("K", [1]),
        "cosine distance does not support vectors with zero norm": row("K", [0, 0, 0, 0, -0.0]),
        "cosine distance does not support vectors with zero norm, which 1e-16 counts as": row(
            "K", [0, 1e-16, 0, 0, 0]
        ),
        "Filterable metadata must have at most 2048 bytes": row("K", metadata={"a": "x" * 2048}),
        "Metadata object must have at most 50 keys": row(
            "K", metadata={f"k{i}": i for i in range(51)}
        ),
        "Metadata must have at most 40960 bytes": row("K", metadata={"raw": "x" * 40960}),
        "Metadata must be an object": row("K", metadata=[1]),
        "vector must have finite values only, but has NaN at position 1": row(
            "K", [1, "NaN", 0, 0, 0]
        ),
        "vector must have finite values only, but has -Infinity at position 4": row(
            "K", [1, 0, 0, 0, "-Infinity"]
        ),
        "vector must have numbers only, but has none at position 2": row("K", [1, 0, "1", 0, 0]),
        "vector values must be at most 1e+15 in magnitude": row("K", [1e16, 0, 0, 0, 0]),
        "metadata.a is null; leave the key out instead": row("K", metadata={"a": None}),
    }
    for words, record in cases.items():
        assert refused(service, good, record) == said + words
        # Also where it is replaced in the same request.
        if record["data"]["float32"] != [1]:
            assert refused(service, record, row("K")).startswith(said)


@pytest.mark.parametrize(
    "metadata",
    [
        {"a": {"b": 1}},
        {"a": [{"b": 1}]},
        {"a": [None]},
        {"a": [[1]]},
        {"a": 2**60},
        {"a": ["x"] * 300},
        {"$a": 1},
        {"": 1},
        {"raw": json.loads("[" * 70 + "]" * 70)},
    ],
)
def test_metadata_that_no_filter_could_ask_for_is_refused(service, metadata):
    """Objects, null and lists inside of lists: unless the key is not filterable."""
    assert refused(service, row("K", metadata=metadata)).startswith("Invalid record for key 'K': ")


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize(
    "text",
    [
        *("NaN", "Infinity", "-Infinity", '"NaN"', '"Infinity"', '"-Infinity"', "1e999", "-1e999"),
        *("1e16", "3.5e38", "-1e300", "1" + "0" * 400, "true", "null", "{}", "[]", '"1"'),
    ],
)
def test_what_is_no_finite_float32_is_refused_however_it_is_written(metric, text):
    """In a vector, a query, and as a number of metadata; and nothing is written."""
    service = Service(dimension=2, metric=metric)
    place = json.dumps(PLACE)[:-1]
    vector = f"[1, {text}]"
    put = f'{place}, "vectors": [{{"key": "k", "data": {{"float32": {vector}}}}}]}}'
    query = f'{place}, "topK": 1, "queryVector": {{"float32": {vector}}}}}'
    for operation, body in (("PutVectors", put), ("QueryVectors", query)):
        answer = service.send(operation, body)
        assert (answer.status, answer.code) == (400, "ValidationException"), answer.document
    if text in ("NaN", "Infinity", "-Infinity", "1e999", "-1e999", "null"):
        note = (
            f'{place}, "vectors": [{{"key": "k", "data": {{"float32": [1, 1]}}, '
            f'"metadata": {{"n": {text}}}}}]}}'
        )
        assert service.send("PutVectors", note).code == "ValidationException"
    assert service.listed("ListVectors") == []


def test_a_put_replaces_whole_records_and_the_last_of_a_key_counts(service):
    """Metadata that is not given again is gone."""
    service.put([("k", [1, 0, 0, 0, 0], {"a": 1, "raw": {"any": [None]}})])
    service.put([("k", [0, 9, 0, 0, 0], {"b": 1}), ("k", [0, 0, 1, 0, 0], None)])
    (found,) = service.do("GetVectors", keys=["k"], returnData=True, returnMetadata=True)["vectors"]
    assert found == {"key": "k", "data": {"float32": [0, 0, 1, 0, 0]}, "metadata": {}}
    assert len(service.index.snapshots()) == 2


def test_what_is_not_asked_for_is_not_answered(service):
    """Neither data nor metadata, by default."""
    service.put([("k", [1, 0, 0, 0, 0], {"a": 1})])
    for operation in ("GetVectors", "ListVectors"):
        more = {"keys": ["k"]} if operation == "GetVectors" else {}
        assert service.do(operation, **more)["vectors"] == [{"key": "k"}]
        found = service.do(operation, **more, returnMetadata=True)["vectors"]
        assert found == [{"key": "k", "metadata": {"a": 1}}]


def test_keys_that_are_not_there_are_left_out_or_deleted_without_an_error(service):
    """Also keys longer than any that could be put, and keys given twice."""
    service.put([("k", [1, 0, 0, 0, 0], None), ("é" * 512, [1, 0, 0, 0, 0], None)])
    keys = ["k", "no", "k", "é" * 1024, "é" * 512]
    found = service.do("GetVectors", keys=keys)["vectors"]
    assert {one["key"] for one in found} == {"k", "é" * 512}
    assert len(found) == 2
    assert service.do("DeleteVectors", keys=["no", "é" * 1024]) == {}
    assert service.do("DeleteVectors", keys=["é" * 1024]) == {}
    assert len(service.listed("ListVectors")) == 2
    assert service.do("DeleteVectors", keys=keys) == {}
    assert service.listed("ListVectors") == []


def test_a_key_has_as_many_bytes_as_it_may(service):
    """1,024, which are fewer characters where these take more."""
    service.put([("é" * 512, [1, 0, 0, 0, 0], None)])
    answer = service.ask("PutVectors", vectors=[row("é" * 513)])
    assert answer.code == "ValidationException"
    assert "key must be valid Unicode of at most 1024 bytes" in answer.message


@pytest.mark.parametrize("operation", ["PutVectors", "GetVectors", "ListVectors", "DeleteVectors"])
def test_an_index_that_is_not_there_is_not_found(service, operation):
    """Whichever of the vector operations is asked."""
    members = {
        "PutVectors": {"vectors": [row()]},
        "GetVectors": {"keys": ["k"]},
        "ListVectors": {},
        "DeleteVectors": {"keys": ["k"]},
    }[operation]
    answer = service.send(operation, {**PLACE, "indexName": "other", **members})
    assert (answer.status, answer.code) == (404, "NotFoundException")


def test_floats_are_read_back_as_they_were_put():
    """Bit by bit, or for zero by value, whatever their size, and with few digits."""
    chance = np.random.default_rng(7)
    values = chance.integers(0, 2**32, 4096, dtype=np.uint32).view(np.float32)
    values = values[np.isfinite(values) & (np.abs(values) <= 1e15)]
    edges = [0.1, 1, -1, 1e-45, -1e-38, 1e15, 0, 1 / 3, 16777216, 9.999999e-5, 1.0000001]
    vector = np.concatenate([np.array(edges, np.float32), values])
    service = Service(dimension=len(vector), metric="euclidean")
    service.put([("k", vector.tolist(), None)])
    answer = service.ask("GetVectors", keys=["k"], returnData=True)
    found = answer.document["vectors"][0]["data"]["float32"]
    np.testing.assert_array_equal(np.array(found, dtype=np.float32), vector)
    assert found[: len(edges)][:3] == [0.1, 1, -1]
    assert "0.33333334," in answer.raw["body"]


def test_an_answer_too_large_says_how_many_keys_fit():
    """And so many do."""
    service = Service(dimension=4096, metric="euclidean")
    # Tiny numbers take the most digits.
    tiny = (np.random.default_rng(3).random(4096, np.float32) * 1e-30).tolist()
    service.put([(f"k{i}", tiny, None) for i in range(100)], at_once=20)
    keys = [f"k{i}" for i in range(100)]
    answer = service.ask("GetVectors", keys=keys, returnData=True)
    assert (answer.status, answer.code) == (413, "RequestTooLargeException")
    fit = int(answer.message.split("ask for at most ")[1].split()[0])
    assert 50 < fit < 100
    assert len(service.do("GetVectors", keys=keys[:fit], returnData=True)["vectors"]) == fit
    assert service.ask("GetVectors", keys=keys[: fit + 9], returnData=True).status == 413
    listed = service.listed("ListVectors", returnData=True, maxResults=1000)
    assert sorted(one["key"] for one in listed) == sorted(keys)


def test_the_largest_get_of_usual_vectors_fits_an_answer():
    """A hundred of 4,096 dimensions, of length one."""
    service = Service(dimension=4096)
    vectors = np.random.default_rng(5).standard_normal((100, 4096))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = [(f"k{i}", vector.astype(np.float32).tolist(), None) for i, vector in enumerate(vectors)]
    service.put(rows, at_once=20)  # a request takes 6 MiB
    answer = service.ask("GetVectors", keys=[key for key, _, _ in rows], returnData=True)
    assert answer.status == 200
    assert len(answer.document["vectors"]) == 100


def test_vectors_for_an_index_with_an_encoder_are_refused(service, monkeypatch):
    """There is no member that says which encoder made them."""
    from dataclasses import replace

    from squash.database import Index
    from squash.model import EncoderPin

    config = replace(service.index.config, encoder=EncoderPin("tiny", "0" * 64))
    monkeypatch.setattr(Index, "config", property(lambda _: config))
    assert "has an encoder" in refused(service, row())
