"""A request goes to the most specific route."""

from __future__ import annotations

import itertools

import pytest

from squash.local.routes import Routes
from squash.local.template import Route

ROUTES = [
    Route("ANY", "$default", "default"),
    Route("ANY", "/v1/{rest+}", "rest"),
    Route("GET", "/v1/indexes/{index}", "one"),
    Route("ANY", "/v1/indexes/{index}", "any"),
    Route("GET", "/v1/indexes/stats", "stats"),
    Route("POST", "/v1/indexes/{index}/vectors/{key}", "key"),
    Route("GET", "/tags/{arn+}", "tags"),
]


@pytest.mark.parametrize(
    ("method", "path", "function", "parameters"),
    [
        ("GET", "/v1/indexes/a b", "one", {"index": "a b"}),
        ("PUT", "/v1/indexes/a", "any", {"index": "a"}),
        ("GET", "/v1/indexes/stats", "stats", {}),
        ("POST", "/v1/indexes/a/vectors/k.1", "key", {"index": "a", "key": "k.1"}),
        ("GET", "/v1/indexes/a/vectors/k", "rest", {"rest": "indexes/a/vectors/k"}),
        ("GET", "/v1/indexes/", "rest", {"rest": "indexes/"}),
        ("GET", "/", "default", {}),
        ("GET", "/tags/arn:aws:x:bucket/b/index/i", "tags", {"arn": "arn:aws:x:bucket/b/index/i"}),
        ("PUT", "/tags/arn", "default", {}),
    ],
)
def test_the_most_specific_route_wins_in_any_order(method, path, function, parameters):
    for order in itertools.islice(itertools.permutations(ROUTES), 0, 5_040, 211):
        match = Routes(order).find(method, path)
        assert match is not None
        assert (match.route.function, match.parameters) == (function, parameters)


def test_without_a_default_there_may_be_none():
    assert Routes(ROUTES[2:]).find("GET", "/v1") is None
