"""What is said of members that are wrong: sentences, which name what is wrong and what to do."""

from __future__ import annotations

import pytest
from api_world import World

Q = "/v1/indexes/papers/query"
V = "/v1/indexes/papers/vectors"
I = "/v1/indexes"


@pytest.fixture(scope="module")
def shared():
    return World().papers()


def record(**changes):
    return {"vectors": [{"key": "k", "vector": [1, 2], **changes}]}


@pytest.mark.parametrize(
    ("method", "path", "body", "query", "detail"),
    [
        ("POST", Q, {"vector": [1, 2], "topk": 1}, "",
         "the body has no member 'topk'; did you mean top_k?"),
        ("POST", V, record(vektor=1), "",
         "vectors[0] has no member 'vektor'; did you mean vector?"),
        ("GET", V, None, "limits=1",
         "the query string has no member 'limits'; did you mean limit?"),
        ("POST", Q, {"vector": {"b": 1}}, "",
         "vector has no member 'b'; known are base64"),
        ("POST", V, record() | {"commit_id": "A" * 32}, "",
         "commit_id is one that a problem gave, or your own: 32 of 0-9 and a-f"),
        ("POST", I, {"dimension": 2}, "", "the body lacks 'name': give it"),
        ("POST", I, {"name": "x"}, "", "the body lacks 'dimension', or an 'encoder': give one"),
        ("POST", V, {"vectors": [{"key": "k"}]}, "",
         "vectors[0] has one of vector, text, image, not none of them"),
        ("POST", I, {"name": "x", "dimension": 2, "non_filterable": ["a"] * 11}, "",
         "non_filterable has 11 elements; a request takes at most 10: leave some filterable"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_a_sentence(shared, method, path, body, query, detail):
    assert shared.ask(method, path, body, query=query).document["detail"] == detail
