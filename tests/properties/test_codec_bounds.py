"""Codecs keep their promises on any vectors: bounds below distances, bytes that come back."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amounts import examples
from squash import container
from squash.quantize import load_codec, train_codec

# Float slack stated in squash.quantize.bounds is taken off the bounds already; what the test adds
# is only the rounding of its own reference.
REFERENCE_ERROR = 1e-12

CODECS = [
    *[("residual", {"bits": bits}) for bits in (1, 2, 3, 4, 5, 8)],
    *[
        ("osq", {"bits_per_dimension": bits, "factors": factors, "residual": residual})
        for bits in (1, 4)
        for factors in (False, True)
        for residual in (False, True)
    ],
]


@st.composite
def scenes(draw):
    """Draw rows of many kinds, sorted by cluster, and queries near and far."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dimension = draw(st.sampled_from([1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 50, 64, 65, 70]))
    lengths = draw(st.lists(st.sampled_from([0, 1, 2, 7, 31, 32, 33, 40]), min_size=1, max_size=4))
    kind = draw(st.sampled_from(["clustered", "constant", "duplicate", "zero", "sparse", "far"]))
    scale = draw(st.sampled_from([1e-20, 1e-3, 1.0, 1e12]))
    begins = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    middles = rng.standard_normal((len(lengths), dimension)) * 3
    rows = np.repeat(middles, lengths, axis=0)
    noise = rng.standard_normal(rows.shape)
    if kind == "clustered":
        rows = rows + noise
    elif kind == "constant":
        rows = np.full_like(rows, 0.7)
    elif kind == "zero":
        rows = np.zeros_like(rows)
    elif kind == "sparse":
        rows = rows + noise * (rng.random(rows.shape) < 0.1) * 20
    elif kind == "far":
        rows = rows + noise * 1e-4 + 1e3
    vectors = (rows * scale).astype(np.float32)
    queries = [(rng.standard_normal(dimension) * 3 * scale), np.zeros(dimension)]
    if len(vectors):
        some = vectors[rng.integers(len(vectors))]
        queries += [some, some + rng.standard_normal(dimension) * 1e-3 * scale]
    return vectors, begins, [np.asarray(q).astype(np.float32) for q in queries]


def trained(name, options, scene, space, seed=5):
    """Train on the rows themselves, and encode them about their clusters' means."""
    vectors, begins, _ = scene
    lengths = np.diff(begins)
    means = np.array(
        [
            vectors[a:b].mean(axis=0, dtype=float) if b > a else np.zeros(vectors.shape[1])
            for a, b in pairwise(begins)
        ]
    ).astype(np.float32)
    residuals = vectors - np.repeat(means, lengths, axis=0)
    codec = train_codec(
        name, sample=vectors, space=space, seed=seed, residuals=residuals, **options
    )
    centers = codec.project(means)
    codes = codec.encode(codec.project(vectors), centers=centers, cluster_begins=begins)
    return codec, centers, codes


def true_distances(vectors, query, space):
    """Return float64 distances."""
    wide, q = vectors.astype(float), query.astype(float)
    return ((wide - q) ** 2).sum(axis=1) if space == "l2" else -(wide @ q)


def scan_all(codec, codes, scene, centers, query):
    """Score all rows by their full codes."""
    _, begins, _ = scene
    labels = np.repeat(np.arange(len(begins) - 1), np.diff(begins))
    return codec.full_scan(
        codes,
        rows=np.arange(begins[-1]),
        row_clusters=labels,
        cluster_begins=begins,
        centers=centers,
        prepared=codec.prepare(query),
    )


@pytest.mark.parametrize("space", ["l2", "dot"])
@pytest.mark.parametrize(("name", "options"), CODECS)
@settings(max_examples=examples(60), deadline=None)
@given(scene=scenes())
def test_lower_bound_never_exceeds_the_distance(name, options, space, scene):
    """No row's lower bound is above its distance, and estimates are finite."""
    codec, centers, codes = trained(name, options, scene, space)
    vectors, _, queries = scene
    for query in queries:
        estimates, bounds = scan_all(codec, codes, scene, centers, query)
        true = true_distances(vectors, query, space)
        magnitude = np.abs(vectors.astype(float)) @ np.abs(query.astype(float))
        assert (bounds <= true + REFERENCE_ERROR * (np.abs(true) + magnitude)).all()
        assert np.isfinite(estimates).all()
        assert estimates.dtype == bounds.dtype == np.float32
        if space == "l2":
            assert (bounds >= 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("space", ["l2", "dot"])
@pytest.mark.parametrize(("name", "options"), CODECS)
@settings(max_examples=500, deadline=None)
@given(scene=scenes())
def test_lower_bound_never_exceeds_the_distance_at_length(name, options, space, scene):
    """The same, on many more scenes."""
    test_lower_bound_never_exceeds_the_distance.hypothesis.inner_test(name, options, space, scene)


@pytest.mark.parametrize("space", ["l2", "dot"])
@pytest.mark.parametrize("name", ["residual", "osq"])
@settings(max_examples=20, deadline=None)
@given(scene=scenes())
def test_codec_and_codes_come_back_from_a_container(name, space, scene):
    """A stored codec with stored codes scores as the first one did, and encodes the same."""
    options = {"factors": False} if name == "osq" else {}
    codec, centers, codes = trained(name, options, scene, space)
    vectors, begins, queries = scene
    header, arrays = codec.to_arrays()
    stored = container.Container(
        container.pack("codec", 1, header=header, arrays=arrays),
        kind="codec",
        versions=(1,),
        where="codec",
    )
    loaded = load_codec(stored.header, stored.array)
    kept = container.Container(
        container.pack("codes", 1, header={}, arrays=codes),
        kind="codes",
        versions=(1,),
        where="codes",
    )
    assert kept.names() == [spec.name for spec in codec.specs] or set(kept.names()) == {
        spec.name for spec in codec.specs
    }
    again = loaded.encode(loaded.project(vectors), centers=centers, cluster_begins=begins)
    for spec in loaded.specs:
        np.testing.assert_array_equal(again[spec.name], codes[spec.name])
        assert codes[spec.name].flags.c_contiguous
    views = {name: kept.array(name) for name in kept.names()}
    for query in queries:
        for one, other in zip(
            scan_all(codec, codes, scene, centers, query),
            scan_all(loaded, views, scene, centers, query),
            strict=True,
        ):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("name", "options"), [CODECS[3], CODECS[-1]])
@settings(max_examples=20, deadline=None)
@given(scene=scenes(), data=st.data())
def test_arrays_slice_as_their_specs_say(name, options, scene, data):
    """Codes of a run of clusters, sliced by their specs, score those clusters' rows the same."""
    codec, centers, codes = trained(name, options, scene, "l2")
    _, begins, queries = scene
    count = len(begins) - 1
    first = data.draw(st.integers(0, count))
    last = data.draw(st.integers(first, count))
    blocks = np.concatenate([[0], np.cumsum(-(-np.diff(begins) // 32))])
    spans = {
        "row": slice(begins[first], begins[last]),
        "block": slice(blocks[first], blocks[last]),
        "cluster": slice(first, last),
    }
    part = {spec.name: codes[spec.name][spans[spec.per]] for spec in codec.specs}
    prepared = codec.prepare(queries[0])
    rows, estimates = codec.low_scan(
        codes,
        clusters=np.arange(first, last),
        cluster_begins=begins,
        centers=centers,
        prepared=prepared,
    )
    part_rows, part_estimates = codec.low_scan(
        part,
        clusters=np.arange(last - first),
        cluster_begins=begins[first : last + 1] - begins[first],
        centers=centers[first:last],
        prepared=prepared,
    )
    assert rows.tolist() == list(range(begins[first], begins[last]))
    assert (part_rows + begins[first]).tolist() == rows.tolist()
    np.testing.assert_array_equal(part_estimates, estimates)
