"""As which held-out queries' nearest rows are ranked by codes, beside brute force."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amounts import examples
from squash.attributes import CellScheme, Columns
from squash.maintain.code_ranks import CodeRanks, RankCollector
from squash.maintain.learning import held_out, own_rows
from squash.maintain.parts import Part
from squash.maintain.routing import encode
from squash.model import RowBatch
from squash.planning import KEPT_MEASURED_MAX, TARGETS, keep_for
from squash.quantize import Codec, train_codec
from squash.segment import write_records


def part_of(vectors: np.ndarray, codec: Codec, clusters: int) -> Part:
    """Return rows as a partition, its clusters of any rows side by side."""
    keys = [f"k{i}" for i in range(len(vectors))]
    batch = RowBatch(keys, vectors, [{}] * len(vectors))
    projected = codec.project(vectors)
    begins = np.linspace(0, len(vectors), clusters + 1).astype(np.int64)
    centers = np.stack([projected[a:b].mean(axis=0) for a, b in pairwise(begins)])
    records = write_records(keys, batch.metadata)
    columns = Columns.from_metadata(batch.metadata)
    return Part(batch, records, columns, projected, centers.astype(np.float32), begins)


def objects_of(part: Part, codec: Codec) -> dict[str, bytes]:
    cells = CellScheme.fit(Columns.from_metadata([{}], non_filterable=()))
    return encode(part, codec=codec, cells=cells)


def collected(parts: list[Part], queries: np.ndarray, codec: Codec) -> CodeRanks:
    asked = held_out(codec, queries)
    centers = np.concatenate([part.centers for part in parts])
    collector = RankCollector(asked, own=own_rows(codec, asked), codec=codec, centers=centers)
    for part in parts:
        collector.add(part, objects_of(part, codec))
    return collector.ranks()


@pytest.mark.parametrize("space", ["l2", "dot"])
@pytest.mark.parametrize("shift", [0.0, 20.0])
def test_distances_are_those_of_brute_force_but_for_the_query_itself(space, shift) -> None:
    """Where all clusters are near, every row is ranked; one far from the origin as any other."""
    rng = np.random.default_rng(3)
    vectors = (shift + rng.normal(size=(600, 16))).astype(np.float32)
    codec = train_codec("residual", sample=vectors, residuals=vectors, space=space, seed=3)
    queries = vectors[::100]
    parts = [part_of(vectors[:350], codec, 3), part_of(vectors[350:], codec, 4)]
    ranks = collected(parts, queries, codec)
    assert ranks.distances.shape == (6, 599)
    wide, mean = vectors.astype(np.float64), codec.mean.astype(np.float64)
    for number, query in enumerate(queries.astype(np.float64)):
        others = np.delete(wide, number * 100, axis=0)
        if space == "dot":
            expected = -((others - mean) @ query)
        else:
            expected = ((others - query) ** 2).sum(axis=1)
        scale = 1e-5 * (query @ query + 16)
        np.testing.assert_allclose(np.sort(ranks.distances[number]), np.sort(expected), atol=scale)
        # Four bits and a sign of sixteen dimensions tell near from far.
        assert np.corrcoef(ranks.estimates[number], ranks.distances[number])[0, 1] > 0.99
    assert np.all(np.diff(ranks.estimates, axis=1) >= 0)


@pytest.mark.parametrize("space", ["l2", "dot"])
@pytest.mark.parametrize("spread", [1e-3, 1e-5])
def test_rows_much_nearer_than_the_mean_are_not_taken_for_the_query(space, spread) -> None:
    """Of rows that nearly are the query, as of all others, only the query itself is left out."""
    rng = np.random.default_rng(8)
    middles = np.repeat(rng.normal(size=(4, 16)), 50, axis=0)
    vectors = (middles + spread * rng.normal(size=middles.shape)).astype(np.float32)
    codec = train_codec("residual", sample=vectors, residuals=vectors, space=space, seed=3)
    ranks = collected([part_of(vectors, codec, 4)], vectors[::40], codec)
    assert ranks.distances.shape == (5, 199)
    assert np.isfinite(ranks.distances).all()


def test_only_clusters_around_a_query_are_ranked() -> None:
    """What competes with its nearest rows lies there."""
    rng = np.random.default_rng(4)
    groups = np.repeat(50.0 * rng.normal(size=(40, 16)), 20, axis=0)
    vectors = (groups + rng.normal(size=groups.shape)).astype(np.float32)
    codec = train_codec("residual", sample=vectors, residuals=vectors, space="l2", seed=3)
    ranks = collected([part_of(vectors, codec, 40)], vectors[:5], codec)
    assert ranks.distances.shape == (5, 16 * 20 - 1)
    for number in range(5):
        away = ((vectors - vectors[number]) ** 2).sum(axis=1)
        nearest = np.sort(np.delete(away, number))[:19]
        np.testing.assert_allclose(np.sort(ranks.distances[number])[:19], nearest, rtol=1e-3)


@given(
    sizes=st.lists(st.integers(1, 900), min_size=1, max_size=4),
    cuts=st.sets(st.integers(1, 3)),
    seed=st.integers(0, 10_000),
)
@settings(max_examples=examples(40), deadline=None)
def test_ranks_seen_apart_join_to_those_seen_together(sizes, cuts, seed) -> None:
    """Ties among them, and more rows than are remembered."""
    rng = np.random.default_rng(seed)
    vectors = rng.integers(3, size=(sum(sizes), 4)).astype(np.float32)
    codec = train_codec("residual", sample=vectors, residuals=vectors, space="l2", seed=3)
    ends = np.cumsum(sizes).tolist()
    parts = [
        part_of(vectors[end - size : end], codec, 1) for end, size in zip(ends, sizes, strict=True)
    ]
    queries = held_out(codec, vectors[:4])
    centers = np.concatenate([part.centers for part in parts])

    def new() -> RankCollector:
        return RankCollector(queries, own=own_rows(codec, queries), codec=codec, centers=centers)

    together, apart, joined = new(), new(), None
    for number, part in enumerate(parts):
        if number in cuts:
            joined = apart.ranks() if joined is None else joined.joined(apart.ranks())
            apart = new()
        objects = objects_of(part, codec)
        together.add(part, objects)
        apart.add(part, objects)
    joined = apart.ranks() if joined is None else joined.joined(apart.ranks())
    whole = together.ranks()
    assert whole.estimates.shape[1] <= KEPT_MEASURED_MAX
    for mine, others in (
        (whole.estimates, joined.estimates),
        (whole.distances, joined.distances),
    ):
        width = min(mine.shape[1], others.shape[1])
        np.testing.assert_array_equal(mine[:, :width], others[:, :width])
        assert not np.isfinite(mine[:, width:]).any()
        assert not np.isfinite(others[:, width:]).any()


def test_what_is_kept_holds_the_nearest_of_what_was_seen() -> None:
    """At every target, for one, ten and a hundred answers, and for what lies between them."""
    rng = np.random.default_rng(5)
    # What codes say of the nearest is off by a few ranks, of some queries by many.
    distances = np.sort(rng.gamma(4, size=(300, 1_000)), axis=1)
    noise = rng.normal(size=distances.shape) * rng.choice([0.02, 0.2], p=[0.9, 0.1], size=(300, 1))
    estimates = distances + noise
    order = np.argsort(estimates, axis=1)
    seen = CodeRanks(
        np.take_along_axis(estimates, order, axis=1).astype(np.float32),
        np.take_along_axis(distances, order, axis=1).astype(np.float32),
    )
    kept = seen.kept()
    assert kept is not None
    for target in (*TARGETS, 0.93):
        for k in (1, 3, 10, 30, 100, 200):
            keep = kept.keep(k, target).refined
            first = order[:, :keep]
            found = np.count_nonzero(first < k, axis=1).mean() / k
            assert found >= target
            assert keep <= 1_000
    usual = keep_for(10, 0.99)
    assert kept.keep(10, 0.99).refined > usual.refined
    assert (kept.keep(10, 0.99).low, kept.keep(10, 0.99).reach) == (usual.low, usual.reach)


def test_of_nothing_seen_nothing_is_said() -> None:
    """Codecs that kernels do not scan collect nothing."""
    assert CodeRanks.none(5).kept() is None
    rng = np.random.default_rng(6)
    vectors = rng.normal(size=(50, 16)).astype(np.float32)
    codec = train_codec("osq", sample=vectors, residuals=vectors, space="l2", seed=3)
    assert collected([part_of(vectors, codec, 2)], vectors[:5], codec).kept() is None
