"""Pages of `ListVectors`, and its segments."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest

from s3vectors_face import Service
from squash.api.access import Caller, OpenGate
from squash.api.s3vectors.vectors import _hashes

LISTED = {"maxResults": 7}


@pytest.fixture(scope="module")
def many():
    """300 records."""
    service = Service(dimension=1, metric="euclidean")
    service.put((f"k{i}", [i], {"i": i}) for i in range(300))
    return service


def keys_of(found):
    return [one["key"] for one in found]


@pytest.mark.parametrize("count", range(1, 17))
def test_segments_are_a_partition_of_all_vectors(many, count):
    """Each in exactly one, whatever the size of their pages."""
    segments = [
        keys_of(many.listed("ListVectors", segmentCount=count, segmentIndex=i, maxResults=size))
        for i, size in zip(range(count), [1, 5, 1000, 17] * 4, strict=False)
    ]
    assert sorted(key for segment in segments for key in segment) == sorted(
        f"k{i}" for i in range(300)
    )
    assert all(len(segment) < 2 * 300 / count + 20 for segment in segments)


@pytest.mark.parametrize("count", range(1, 17))
def test_each_hash_is_in_one_segment(count):
    """The first after a segment is the first of the next: a cursor is the hash before it."""
    cursors, stops = zip(*(_hashes((i, count)) for i in range(count)), strict=True)
    assert cursors[0] is None
    assert [int(cursor, 16) + 1 for cursor in cursors[1:]] == list(stops[:-1])
    assert stops[-1] == 2**128


def test_segments_and_pages_stand_still_while_vectors_come_and_go():
    """A vector that is there throughout is listed once, and in its segment."""
    service = Service(dimension=1, metric="euclidean")
    service.put((f"k{i}", [i], None) for i in range(200))
    before = {
        i: set(keys_of(service.listed("ListVectors", segmentCount=4, segmentIndex=i)))
        for i in range(4)
    }
    for i in range(4):
        asked = {"segmentCount": 4, "segmentIndex": i, "maxResults": 3}
        page = service.do("ListVectors", **asked)
        found = keys_of(page["vectors"])
        number = 0
        while "nextToken" in page:
            number += 1
            service.put([(f"new{i}.{number}", [1], None), ("k7", [number], None)])
            service.do("DeleteVectors", keys=[f"new{i}.{number - 1}"])
            if number % 9 == 0:
                service.index.optimize()
            page = service.do("ListVectors", **asked, nextToken=page["nextToken"])
            found += keys_of(page["vectors"])
        assert sorted(key for key in found if key.startswith("k")) == sorted(before[i])


def test_a_segment_is_told_by_both_of_its_numbers(many):
    """One alone, or a number beyond the last, is refused; so is the token of another segment."""
    for members in (
        {"segmentCount": 2},
        {"segmentIndex": 0},
        {"segmentCount": 2, "segmentIndex": 2},
    ):
        assert many.ask("ListVectors", **members).code == "ValidationException"
    first = {"segmentCount": 2, "segmentIndex": 0}
    token = many.do("ListVectors", **LISTED, **first)["nextToken"]
    for members in ({}, {"segmentCount": 2, "segmentIndex": 1}, first | {"segmentCount": 3}):
        answer = many.ask("ListVectors", **LISTED, **members, nextToken=token)
        assert answer.code == "ValidationException"
        assert "Invalid nextToken" in answer.message
    assert len(many.do("ListVectors", **LISTED, **first, nextToken=token)["vectors"]) == 7


def test_a_page_has_five_hundred_vectors_unless_told_otherwise():
    """Of which none is left out by the one before it."""
    service = Service(dimension=1, metric="euclidean")
    service.put((f"k{i}", [i], None) for i in range(1200))
    for members, sizes in (({}, [500, 500, 200]), ({"maxResults": 1000}, [1000, 200])):
        for more in ({}, {"returnData": True}, {"returnMetadata": True}):
            pages = service.pages("ListVectors", **members, **more)
            assert [len(page["vectors"]) for page in pages] == sizes
            keys = [key for page in pages for key in keys_of(page["vectors"])]
            assert len(set(keys)) == 1200


@pytest.mark.parametrize("what", ["data", "metadata", "both"])
def test_a_page_ends_at_about_a_million_bytes(what):
    """However they are spread over the records; each is listed once, as it was put."""
    chance = np.random.default_rng(17)
    service = Service(dimension=1536, metric="euclidean", non_filterable=["text"])
    lengths = chance.choice([0, 100, 3_000, 38_000], 400).tolist()
    rows = [
        (
            f"k{i}",
            chance.standard_normal(1536).round(3).tolist(),
            {"text": "x" * length} if what != "data" else None,
        )
        for i, length in enumerate(lengths)
    ]
    service.put(rows, at_once=60)
    asked = {"returnData": what != "metadata", "returnMetadata": what != "data"}
    pages = service.pages("ListVectors", **asked, maxResults=1000)

    def size(one):
        floats = 4 * len(one.get("data", {}).get("float32", []))
        return floats + len(json.dumps(one.get("metadata", {}))) + len(one["key"])

    sizes = [[size(one) for one in page["vectors"]] for page in pages]
    assert len(pages) > 2
    assert all(sum(page) <= 1_000_000 for page in sizes)
    # Full: the first of the next page would not have fitted, but for what it takes to write it.
    assert all(sum(page) + following[0] > 980_000 for page, following in pairwise(sizes))
    by_key = {one["key"]: one for page in pages for one in page["vectors"]}
    assert len(by_key) == sum(len(page["vectors"]) for page in pages) == 400
    for key, vector, metadata in rows:
        if what != "metadata":
            found = np.array(by_key[key]["data"]["float32"], np.float32)
            np.testing.assert_array_equal(found, np.array(vector, np.float32))
        if what != "data":
            assert by_key[key]["metadata"] == metadata


class RowGate(OpenGate):
    """Lets anybody see some rows."""

    def __init__(self):
        self.row_filter = None

    def admit(self, request):
        return Caller("somebody", row_filter=self.row_filter)


def test_who_sees_some_rows_lists_gets_and_finds_these_alone():
    """Whatever it asks for, in whatever pages; what was looked at to decide is not told."""
    gate = RowGate()
    service = Service(dimension=1, metric="euclidean", gate=gate)
    rows = [(f"k{i}", [i], {"team": "red" if i % 3 else "blue", "i": i}) for i in range(1500)]
    service.put(rows)
    gate.row_filter = {"team": "blue"}
    visible = sorted(key for key, _, note in rows if note["team"] == "blue")
    assert sorted(keys_of(service.listed("ListVectors", maxResults=11))) == visible
    segments = [service.listed("ListVectors", segmentCount=3, segmentIndex=i) for i in range(3)]
    assert sorted(key for one in segments for key in keys_of(one)) == visible
    assert all(set(one) == {"key"} for segment in segments for one in segment)
    assert keys_of(service.do("GetVectors", keys=["k0", "k1", "k3"])["vectors"]) == ["k0", "k3"]
    assert sorted(keys_of(service.query([0], 2000))) == visible
    red = {"team": "red"}
    assert service.query([0], 2000, filter=red) == []
    found = service.query([0], 2000, filter={"i": {"$gte": 0}}, returnMetadata=True)
    assert sorted(keys_of(found)) == visible
    # Its tokens are no others', even for the same words.
    gate.row_filter = None
    token = service.do("QueryVectors", queryVector={"float32": [0]}, topK=1200)["nextToken"]
    gate.row_filter = {"team": "blue"}
    answer = service.ask("QueryVectors", queryVector={"float32": [0]}, topK=1200, nextToken=token)
    assert "Invalid nextToken" in answer.message
