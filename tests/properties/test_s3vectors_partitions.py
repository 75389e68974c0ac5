"""Queries over the wire API on an index of partitions: as many matches as there are, all right."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amounts import examples
from s3vectors_face import Service
from squash.maintain import BuildOptions

_ROWS, _DIMENSION, _COLOURS = 20_000, 16, ["red", "green", "blue"]


@pytest.fixture(scope="module")
def scene():
    """20,000 vectors around some centres, in partitions, and some hundred in none."""
    chance = np.random.default_rng(23)
    centres = chance.standard_normal((64, _DIMENSION))
    vectors = centres[chance.integers(0, 64, _ROWS)] + 0.3 * chance.standard_normal(
        (_ROWS, _DIMENSION)
    )
    vectors = vectors.astype(np.float32)
    number = chance.integers(0, 10_000, _ROWS)
    colour = chance.choice(3, _ROWS, p=[0.9, 0.099, 0.001])
    service = Service(dimension=_DIMENSION, metric="euclidean")
    service.index.put(
        keys=[f"k{i}" for i in range(_ROWS)],
        vectors=vectors,
        metadata=[
            {"n": int(n), "colour": _COLOURS[c]} for n, c in zip(number, colour, strict=True)
        ],
    )
    service.index.optimize(
        options=BuildOptions(partition_rows_target=2_500, cluster_rows_target=64)
    )
    assert service.index.stats().partitions > 4
    replaced = range(0, _ROWS, 50)
    for i in replaced:
        vectors[i] = vectors[(i + 1) % _ROWS]
        number[i] = 10_000
        colour[i] = 0
    service.put(
        [(f"k{i}", vectors[i].tolist(), {"n": 10_000, "colour": "red"}) for i in replaced], 100
    )
    return service, vectors, number, colour


@settings(max_examples=examples(60, least=25), deadline=None)
@given(
    row=st.integers(0, _ROWS - 1),
    top_k=st.sampled_from([1, 10, 100, 1000, 3000, 10_000]),
    least=st.one_of(st.none(), st.integers(0, 10_000), st.integers(9_900, 10_001)),
    colours=st.lists(st.integers(0, 2), min_size=1, max_size=3, unique=True),
)
def test_as_many_matches_are_found_as_pass_or_were_asked_for(scene, row, top_k, least, colours):
    """Each passes, once, with its true distance, in order; and most of the nearest are there."""
    service, vectors, number, colour = scene
    parts = [{"colour": {"$in": [_COLOURS[one] for one in colours]}}]
    passing = np.isin(colour, colours)
    if least is not None:
        parts.append({"n": {"$gte": least}})
        passing &= number >= least
    query = vectors[row] + np.float32(0.05)
    found = service.query(query.tolist(), top_k, filter={"$and": parts}, returnDistance=True)
    assert len(found) == min(top_k, int(passing.sum()))
    places = [int(one["key"][1:]) for one in found]
    assert len(set(places)) == len(places)
    assert passing[places].all()
    true = np.linalg.norm(vectors.astype(np.float64) - query.astype(np.float64), axis=1)
    np.testing.assert_allclose([one["distance"] for one in found], true[places], rtol=1e-6)
    order = [(one["distance"], one["key"]) for one in found]
    assert order == sorted(order)
    if found:
        # Recall is measured in bench; here a search of the wrong place would show.
        reach = np.sort(true[passing])[len(found) - 1]
        assert (true[places] <= reach * (1 + 1e-6)).mean() >= 0.5
