"""Queries whose filters are found in lists of rows have the answers that they had without."""

from contextlib import contextmanager
from unittest.mock import patch

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_explained_queries import FILTERS
from test_index_model import SMALL

import squash
from amounts import examples
from squash import kernels
from squash.planning import CostModel
from strategies import filters_for, metadata_rows


@contextmanager
def lists():
    """Let a list be made for the first filter that might use it, and used wherever it can be."""
    made = []
    real = kernels.list_rows

    def count(table, name):
        made.append(name)
        return real(table, name)

    with (
        patch("squash.search.listing.LISTED_ROWS_MIN", 0),
        patch("squash.search.listing.MISSES_EACH", 1),
        patch("squash.kernels.list_rows", count),
        patch.object(CostModel, "listed", lambda *_: 1e-9),
        patch.object(CostModel, "listing_pays", lambda *_: 0.0),
    ):
        yield made


def answers(url, vectors, filters):
    """Return what a newly opened index answers, asked twice; the second time with lists."""
    index = squash.connect(url).index("x")
    found = []
    for node in filters:
        for vector in vectors:
            for _ in range(2):
                matches = index.query(vector, top_k=5, filter=node, recall_target=0.9).matches
                found.append([(match.key, match.distance) for match in matches])
    batch = index.query_many(
        np.repeat(vectors, len(filters), axis=0), top_k=5, filters=filters * len(vectors)
    )
    return found, [[(match.key, match.distance) for match in one.matches] for one in batch]


def filled(url, rows, rng, *, changed):
    """Make an index with partitions; then some rows dead and some fresh."""
    vectors = rng.normal(size=(len(rows), 6)).astype(np.float32)
    keys = [f"k{i}" for i in range(len(rows))]
    index = squash.connect(url).create_index("x", dimension=6)
    index.put(keys=keys, vectors=vectors, metadata=rows)
    index.optimize(options=SMALL)
    if changed:
        index.delete(keys=keys[::5])
        index.put(keys=keys[1::7], vectors=vectors[1::7][::-1], metadata=rows[1::7])


def test_lists_change_no_answer_of_a_larger_index(tmp_path):
    """Ranges, keywords, and both together, where walks and scans of all matches are planned."""
    rng = np.random.default_rng(3)
    rows = [
        {"u": float(u), "group": f"{'abc'[g]}{g}", "tags": [f"t{t}"]}
        for u, g, t in zip(
            rng.random(400), rng.integers(3, size=400), rng.integers(30, size=400), strict=True
        )
    ]
    url = f"file://{tmp_path}"
    filled(url, rows, rng, changed=True)
    filters = [*FILTERS, {"tags": "t7"}, {"u": {"$lt": 0.01}}, {"group": "a0", "u": {"$lt": 0.1}}]
    vectors = rng.normal(size=(1, 6)).astype(np.float32)
    wanted = answers(url, vectors, filters)
    with lists() as made:
        assert answers(url, vectors, filters) == wanted
    assert {"u", "group", "tags"} <= set(made)
    assert len(made) == len(set(made))


@settings(
    max_examples=examples(4),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_lists_change_no_answer(data, tmp_path):
    """Any filter, any attributes, dead rows and fresh ones."""
    rows = data.draw(metadata_rows(min_size=10))
    filters = [data.draw(filters_for(rows)) for _ in range(3)]
    seed = data.draw(st.integers(0, 1 << 30))
    rng = np.random.default_rng(seed)
    url = f"file://{tmp_path}/{seed}-{rng.integers(1 << 30)}-{len(rows)}-{id(rows)}"
    filled(url, rows, rng, changed=bool(seed % 2))
    vectors = rng.normal(size=(1, 6)).astype(np.float32)
    wanted = answers(url, vectors, filters)
    with lists():
        assert answers(url, vectors, filters) == wanted
