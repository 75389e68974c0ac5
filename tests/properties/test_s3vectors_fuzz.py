"""What clients may send inside of vectors, filters and tokens: it is answered or refused."""

from __future__ import annotations

import json
from functools import cache

from hypothesis import example, given, settings
from hypothesis import strategies as st

from amounts import examples
from s3vectors_face import PLACE, Service

_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=6),
    st.sampled_from(["NaN", "Infinity", "\ud800", "$eq", "$and", "a", "raw", 1e16, 10**400]),
)
_NAMES = st.one_of(
    st.sampled_from(
        ["a", "raw", "$and", "$or", "$not", "$eq", "$in", "$exists", "$gt", "$startsWith"]
    ),
    st.text(max_size=3),
    st.just("\udfff"),
)
_JSON = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(_NAMES, inner, max_size=4)
    ),
    max_leaves=12,
)
_FLOATS = st.one_of(
    st.lists(st.one_of(st.integers(-3, 3), st.floats(width=32)), min_size=3, max_size=3),
    st.lists(_SCALARS, min_size=2, max_size=4),
)
_KEYS = st.one_of(st.sampled_from(["k", "l"]), st.text(min_size=1, max_size=4), st.just("\ud800"))
_OBJECTS = st.dictionaries(_NAMES, _JSON, max_size=4)


@cache
def service():
    made = Service(dimension=3, metric="cosine", non_filterable=["raw"])
    made.put([("k", [1, 0, 0], {"a": 1, "raw": None})])
    return made


def answered(operation, **members):
    """Send what JSON has no words for as it would be sent by who does not care."""
    answer = service().send(operation, json.dumps({**PLACE, **members}))
    assert answer.status in (200, 400), answer.document
    if answer.status == 400:
        assert answer.code == "ValidationException"
        assert answer.message
    return answer


def nested(depth):
    value = {"a": 1}
    for _ in range(depth):
        value = {"$and": [value]}
    return value


@settings(max_examples=examples(300, least=25), deadline=None)
@given(
    records=st.lists(st.tuples(_KEYS, _FLOATS, st.one_of(_OBJECTS, _JSON)), min_size=1, max_size=3)
)
@example(records=[("k", [1, 0, 0], {"raw": nested(300)})])
@example(records=[("k", [1, 0, 0], nested(300))])
def test_a_put_writes_all_of_its_vectors_or_refuses_them(records):
    """And what it wrote is read back."""
    vectors = [
        {"key": key, "data": {"float32": floats}, "metadata": metadata}
        for key, floats, metadata in records
    ]
    answer = answered("PutVectors", vectors=vectors)
    if answer.status == 200:
        found = service().do(
            "GetVectors", keys=[key for key, _, _ in records], returnMetadata=True, returnData=True
        )["vectors"]
        last = {key: (floats, metadata) for key, floats, metadata in records}
        assert [one["key"] for one in found] == list(last)
        for one in found:
            assert one["metadata"] == (last[one["key"]][1] or {})
            assert len(one["data"]["float32"]) == 3


@settings(max_examples=examples(300, least=25), deadline=None)
@given(filter_=_JSON, floats=_FLOATS)
@example(filter_=nested(15), floats=[1, 0, 0])
@example(filter_=nested(16), floats=[1, 0, 0])
@example(filter_=nested(450), floats=[1, 0, 0])
@example(filter_={"a": nested(450)}, floats=[1, 0, 0])
@example(filter_={"a": {"$in": [nested(450)]}}, floats=[1, 0, 0])
@example(filter_={"a": {"$eq": 10**400}}, floats=[1, 0, 0])
def test_a_query_is_answered_or_refused_whatever_its_filter(filter_, floats):
    """Never with an error of the server's."""
    answered("QueryVectors", queryVector={"float32": floats}, topK=2, filter=filter_)


@settings(max_examples=examples(200, least=25), deadline=None)
@given(token=st.text(min_size=1, max_size=80), keys=st.lists(_KEYS, min_size=1, max_size=3))
def test_tokens_and_keys_may_be_any_text(token, keys):
    """A token that is none of ours is refused; a key that is none is not there, or is refused."""
    assert answered("ListVectors", nextToken=token).status == 400
    query = {"queryVector": {"float32": [1, 0, 0]}, "topK": 2}
    assert answered("QueryVectors", **query, nextToken=token).status == 400
    answered("GetVectors", keys=keys)
    answered("DeleteVectors", keys=[key for key in keys if key != "k"] or ["no"])
