"""A filter that is asked again is found by its node; its answers are as if it were new."""

from unittest.mock import patch
from uuid import uuid4

import numpy as np
import pytest

import squash
from squash.attributes import matches, parse_filter
from squash.limits import FILTER_NODES_KEPT
from squash.maintain import BuildOptions

OPTIONS = BuildOptions(
    partition_rows_target=200,
    partition_rows_max=250,
    cluster_rows_target=40,
    calibration_queries=20,
    exact_rows_max=8,
)
FILTERS = (
    {"u": {"$gte": 0.2, "$lt": 0.8}},
    {"u": {"$gt": 0.3}, "n": {"$lte": 3}},
    {"group": "b", "n": 1},
)


@pytest.mark.usefixtures("no_filters_kept")
def test_a_filter_asked_again_gives_the_same_without_being_compiled():
    """Once in a snapshot; in the next, and after data were let go, it is made anew."""
    rng = np.random.default_rng(11)
    rows = {
        f"k{i}": {"u": float(rng.random()), "n": i % 5, "group": "abc"[i % 3]} for i in range(500)
    }
    index = squash.connect(f"memory://{uuid4().hex}").create_index("x", dimension=8)
    vectors = rng.standard_normal((len(rows), 8)).astype(np.float32)
    index.put(keys=list(rows), vectors=vectors, metadata=list(rows.values()))
    index.optimize(options=OPTIONS)
    query = vectors[0]

    def found(filter_, top_k=500):
        keys = {match.key for match in index.query(query, filter=filter_, top_k=top_k).matches}
        node = parse_filter(filter_)
        assert keys == {key for key, metadata in rows.items() if matches(node, metadata)}
        return index.query(query, filter=filter_, top_k=5, explain=True)

    first = [found(dict(filter_)) for filter_ in FILTERS]
    with (
        patch("squash.search.expecting.compile_filter", side_effect=AssertionError),
        patch("squash.kernels.expect", side_effect=AssertionError),
    ):
        again = [found(dict(filter_)) for filter_ in FILTERS]
    for one, other in zip(first, again, strict=True):
        assert (one.matches, one.explain) == (other.matches, other.explain)
    clusters = index._session.view("strong").clusters
    for number in range(2 * FILTER_NODES_KEPT):
        index.query(query, filter={"u": {"$gt": number / 1000}})
        assert len(clusters.table().asked) <= FILTER_NODES_KEPT
    before = dict(clusters.table().asked)
    for large in ({"group": {"$in": ["a", "b"]}}, {"$or": [{"n": 1}, {"n": 2}]}):
        found(large)
        assert clusters.table().asked == before
    index.delete(keys=["k0", "k1"])
    del rows["k0"], rows["k1"]
    for filter_ in FILTERS:
        found(filter_)
    clusters = index._session.view("strong").clusters
    clusters._evictions = -1  # As if something had been let go since.
    assert not clusters.table().asked
    for filter_ in FILTERS:
        found(filter_)
