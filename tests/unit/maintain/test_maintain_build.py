"""What a build does on the way: rows spilled and split, neighbours found by brute force."""

import numpy as np
import pytest

from cluster_tables import random_table
from squash.attributes import CellScheme, Columns
from squash.kernels import walk
from squash.maintain.calibrate import NeighbourCollector, admission, counted_together
from squash.maintain.parts import Sizes, parts_of
from squash.maintain.spill import Spill, written_rows
from squash.model import IndexConfig, Metric, RowBatch
from squash.planning import BANDS, CALIBRATED_NEIGHBOURS, TARGETS
from squash.quantize.residual import ResidualCodec
from squash.segment import read_records, write_records


def rows(count: int, start: int = 0) -> RowBatch:
    vectors = np.arange(start, start + count, dtype=np.float32)[:, None].repeat(3, axis=1)
    keys = [f"k\u00e9{i}" for i in range(start, start + count)]
    return RowBatch(keys, vectors, [{"n": i, "f": i / 7} for i in range(start, start + count)])


def test_a_bucket_gives_its_rows_back_in_the_order_asked_for(tmp_path) -> None:
    """Keys, vectors and metadata of every batch come back, whole buckets at a time."""
    spill = Spill(tmp_path, dimension=3, buckets=2)
    for start in (0, 10):
        bucket = np.arange(10) % 2
        spill.add(
            written_rows(rows(10, start)), bucket=bucket, cluster=np.arange(start, start + 10)
        )
    assert spill.clusters(1).tolist() == list(range(1, 20, 2))
    wanted = np.array([9, 0, 4])
    keys, metadata = (
        ["k\u00e919", "k\u00e91", "k\u00e99"],
        [{"n": n, "f": n / 7} for n in (19, 1, 9)],
    )
    assert spill.records(1, wanted) == write_records(keys, metadata)
    assert spill.vectors(1)[wanted, 0].tolist() == [19, 1, 9]


def test_a_bucket_is_split_without_losing_a_row(tmp_path) -> None:
    """Every row lies in its part, in the order it had, with the cluster it was given."""
    spill = Spill(tmp_path, dimension=3, buckets=1)
    for start in (0, 7, 14):
        spill.add(written_rows(rows(7, start)), bucket=np.zeros(7, int), cluster=np.zeros(7, int))
    part = np.arange(21) % 3
    parts = spill.split(0, part=part, cluster=np.arange(21) * 2)
    for number in range(3):
        mine = np.flatnonzero(part == number)
        assert parts.clusters(number).tolist() == (mine * 2).tolist()
        assert parts.vectors(number)[:, 0].tolist() == mine.tolist()
        _, metadata = read_records(parts.records(number, np.arange(len(mine))))
        assert [one["n"] for one in metadata] == mine.tolist()
        parts.drop(number)


@pytest.mark.parametrize("rows_max", [1_000, 70])
def test_clusters_of_a_part_lie_along_a_path(tmp_path, rows_max) -> None:
    """However clusters were numbered, in a part they come as they lie, each with its own rows."""
    rng = np.random.default_rng(8)
    # Ten rows of each of 20 clusters, side by side on a line, which are numbered by chance.
    member = rng.permutation(20)[np.arange(200) // 10]
    spill = Spill(tmp_path, dimension=3, buckets=1)
    spill.add(written_rows(rows(200)), bucket=np.zeros(200, int), cluster=member)
    codec = ResidualCodec.train(rows(200).vectors, space="l2", seed=3)
    cells = CellScheme.fit(Columns.from_metadata(rows(200).metadata))
    config = IndexConfig("x", 3, Metric.EUCLIDEAN, seed=1)
    found = []
    for part in parts_of(
        spill, 0, member, codec=codec, cells=cells, config=config, sizes=Sizes(10, rows_max)
    ):
        numbers = np.array([one["n"] for one in part.rows.metadata])
        assert part.begins.tolist() == list(range(0, len(numbers) + 1, 10))
        assert numbers.tolist() == part.rows.vectors[:, 0].tolist()
        tens = numbers.reshape(-1, 10)
        assert (np.diff(tens, axis=1) == 1).all()
        assert np.isin(np.diff(tens[:, 0]), 10).all() or np.isin(np.diff(tens[:, 0]), -10).all()
        means = part.projected.reshape(len(tens), 10, 3).mean(axis=1)
        np.testing.assert_allclose(part.centers, means, rtol=1e-4, atol=1e-3)
        found += numbers.tolist()
    assert sorted(found) == list(range(200))


@pytest.mark.parametrize("space", ["l2", "dot"])
def test_neighbours_are_those_of_brute_force(space: str) -> None:
    """In every band, the clusters of the nearest admitted rows are kept, the query left out."""
    rng = np.random.default_rng(4)
    data = rng.normal(size=(9_000, 12)).astype(np.float32)
    data = data[np.argsort(data[:, 0])]
    queries = data[::900]
    centers = rng.normal(size=(60, 12)).astype(np.float32)
    member = ((data[:, None] - centers) ** 2).sum(axis=2).argmin(axis=1)
    collector = NeighbourCollector(queries, own=queries, space=space, centers=centers, seed=3)
    order = np.concatenate([admission(3, (0, 0), 5_000), admission(3, (0, 1), 4_000)])
    # A cluster a row tells which rows were found; it is as far as that of the row's own.
    collector.add(
        data[:5_000], np.arange(5_000), centers=centers[member[:5_000]], first=0, place=(0, 0)
    )
    collector.add(
        data[5_000:], np.arange(4_000), centers=centers[member[5_000:]], first=5_000, place=(0, 1)
    )
    wide, around = data.astype(np.float64), centers.astype(np.float64)
    for number, query in enumerate(queries.astype(np.float64)):
        distances = -(wide @ query) if space == "dot" else ((wide - query) ** 2).sum(axis=1)
        distances[number * 900] = np.inf
        for band, share in enumerate(BANDS):
            passing = np.flatnonzero((order < share) & np.isfinite(distances))
            nearest = passing[np.argsort(distances[passing])][:CALIBRATED_NEIGHBOURS]
            kept = collector.neighbours().clusters[band, number]
            assert set(kept[kept >= 0].tolist()) == set(nearest.tolist())
        # One in twenty of the clusters are the query's own.
        away = -(around @ query) if space == "dot" else ((around - query) ** 2).sum(axis=1)
        distances[np.isin(member, np.argsort(away)[:3])] = np.inf
        nearest = np.argsort(distances)[:CALIBRATED_NEIGHBOURS]
        assert set(collector.neighbours().clusters[-1, number].tolist()) == set(nearest.tolist())


@pytest.mark.parametrize("band", range(len(BANDS)))
def test_clusters_count_in_calibration_as_they_do_in_a_walk(band: int) -> None:
    """What is learned of held-out queries is what a walk then meets, whatever its need."""
    rng = np.random.default_rng(band)
    distances = np.sort(rng.gamma(4, size=400)).astype(np.float32)
    passing = np.full(400, 32 * BANDS[band])
    exponent = int(rng.integers(1, 5))
    counted = list(counted_together(distances, np.cumsum(passing)))[exponent]
    table = random_table(rng, np.full(400, 32))
    counts = np.full(400, 32, dtype=np.int64)
    for needed in rng.uniform(1, counted[-1], 20):
        taken = walk(
            table, distances, k=1, overall=1.0, prior_rows=0.0, thinning=1.0,
            inverse_need=np.full(513, 1 / needed), adverse=np.ones(513),
            anchor_rows=round(CALIBRATED_NEIGHBOURS / BANDS[band]), exponent=exponent,
            counts=(counts, counts),
        )  # fmt: skip
        assert len(taken.clusters) == np.searchsorted(counted, needed * (1 - 1e-9)) + 1


def test_a_target_is_reached_on_what_was_seen_in_fewer_clusters() -> None:
    """Queries differ in how close they are to a center; both ways of counting reach the target."""
    rng = np.random.default_rng(8)
    scale = rng.gamma(0.5, size=(6_000, 1))  # most lie close to a center that is in the midst
    data = (scale * rng.normal(size=(6_000, 8))).astype(np.float32)
    centers = data[rng.choice(6_000, 64, replace=False)]
    member = ((data[:, None] - centers) ** 2).sum(axis=2).argmin(axis=1)
    queries = data[::20]
    collector = NeighbourCollector(queries, own=queries, space="l2", centers=centers, seed=3)
    collector.add(data, member, centers=centers, first=0, place=(0,))
    rows = np.bincount(member, minlength=64)
    fitted = collector.fit(centers, rows, spreads=None, kept=None)
    weighted = fitted.weighted
    assert weighted is not None
    near = collector.neighbours().clusters[0]
    distances = ((queries[:, None] - centers) ** 2).sum(axis=2)
    walked = []
    for row, target in enumerate(TARGETS):
        found, taken = [], []
        for own, true in zip(distances, near, strict=True):
            order = np.argsort(own, kind="stable")
            seen = np.cumsum(rows[order]).astype(np.float64)
            counted = list(counted_together(own[order], seen))[weighted.exponent]
            last = np.searchsorted(counted, weighted.needed[row, 0] * (1 - 1e-9))
            taken.append(last + 1)
            found.append(np.isin(true, order[: last + 1]).mean())
        assert np.mean(found) >= target
        walked.append(np.mean(taken))
        assert weighted.walked[row, 0] == pytest.approx(walked[-1], rel=0.05)
    assert sum(walked) < 0.9 * fitted.clusters_needed[:, 0].sum()


def test_products_are_counted_alike() -> None:
    """What is no square has no ratio that says how far."""
    rng = np.random.default_rng(5)
    data = rng.normal(size=(500, 4)).astype(np.float32)
    queries, centers = data[:20], data[::50]
    collector = NeighbourCollector(queries, own=queries, space="dot", centers=centers, seed=3)
    collector.add(data, np.arange(500) // 50, centers=centers, first=0, place=(0,))
    fitted = collector.fit(centers, np.full(10, 50), spreads=None, kept=None)
    assert fitted.weighted is None
    assert fitted.spread is None


@pytest.mark.parametrize("space", ["l2", "dot"])
def test_a_target_is_reached_without_a_querys_own_region_as_well(space: str) -> None:
    """Rows lie in groups far apart: without its own, a query needs many times as many clusters."""
    rng = np.random.default_rng(9)
    means = 1.5 * rng.normal(size=(40, 24))
    data = (means[rng.integers(40, size=8_000)] + rng.normal(size=(8_000, 24))).astype(np.float32)
    centers = data[rng.choice(8_000, 120, replace=False)]
    member = ((data[:, None] - centers) ** 2).sum(axis=2).argmin(axis=1)
    queries = data[::40]
    collector = NeighbourCollector(queries, own=queries, space=space, centers=centers, seed=3)
    collector.add(data, member, centers=centers, first=0, place=(0,))
    rows = np.bincount(member, minlength=120)
    fitted = collector.fit(centers, rows, spreads=None, kept=None)
    weighted = fitted.weighted if space == "l2" else None
    exponent, needed, against = (
        (0, fitted.clusters_needed, fitted.against)
        if weighted is None
        else (weighted.exponent, weighted.needed, weighted.against)
    )
    assert against is not None
    near = collector.neighbours().clusters[-1]
    distances = (
        ((queries[:, None] - centers) ** 2).sum(axis=2) if space == "l2" else -queries @ centers.T
    )
    for row, target in enumerate(TARGETS):
        found = []
        for distance, true in zip(distances, near, strict=True):
            order = np.argsort(distance, kind="stable")[6:]
            seen = np.cumsum(rows[order]).astype(np.float64)
            counted = list(counted_together(distance[order], seen))[exponent]
            need = needed[row, 0] * against[row] * (1 - 1e-9)
            found.append(np.isin(true, order[: np.searchsorted(counted, need) + 1]).mean())
        assert np.mean(found) >= target
    assert space == "dot" or against[TARGETS.index(0.95)] > 2
    assert fitted.need_against(0.95) == pytest.approx(against[TARGETS.index(0.95)])


def test_one_cluster_alone_tells_nothing_of_queries_without_it() -> None:
    """All is a query's own region then, and no need is known beyond it."""
    data = np.random.default_rng(5).normal(size=(500, 4)).astype(np.float32)
    centers = data[:1]
    collector = NeighbourCollector(data[:20], own=data[:20], space="l2", centers=centers, seed=3)
    collector.add(data, np.zeros(500, np.int64), centers=centers, first=0, place=(0,))
    fitted = collector.fit(centers, np.array([500]), spreads=None, kept=None)
    assert fitted.need_against(0.99) == 1.0
    assert "against" not in fitted.to_json()


def clusters_of_length_one(rows: int, clusters: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return rows that spread less and less by dimension, clusters, and their means."""
    rng = np.random.default_rng(4)
    data = rng.normal(size=(rows, 32)) * np.arange(1, 33) ** -0.5
    data = (data / np.linalg.norm(data, axis=1, keepdims=True)).astype(np.float32)
    centers = data[rng.choice(rows, clusters, replace=False)]
    for _ in range(7):
        member = (data @ centers.T - (centers**2).sum(axis=1) / 2).argmax(axis=1)
        sums = np.zeros((clusters, 32))
        np.add.at(sums, member, data)
        centers = (sums / np.bincount(member, minlength=clusters)[:, None]).astype(np.float32)
    return data, member, centers


def test_rows_of_length_one_are_found_in_fewer_clusters_by_their_own_distances() -> None:
    """Both ways reach the target, and the shorter is taken."""
    data, member, centers = clusters_of_length_one(8_000, 80)
    rows = np.bincount(member, minlength=80)
    spreads = (1 - (centers.astype(np.float64) ** 2).sum(axis=1)).astype(np.float32)
    queries = data[::20]
    collector = NeighbourCollector(queries, own=queries, space="l2", centers=centers, seed=3)
    collector.add(data, member, centers=centers, first=0, place=(0,))
    fitted = collector.fit(centers, rows, spreads=spreads, kept=None)
    plain = collector.fit(centers, rows, spreads=None, kept=None)
    spread = fitted.spread
    assert spread is not None
    assert plain.spread is None
    assert fitted.to_json().get("weighted") == plain.to_json().get("weighted")
    assert plain.weighted is None or spread.cost() < plain.weighted.cost()
    near = collector.neighbours().clusters[0]
    distances = ((queries[:, None] - centers) ** 2).sum(axis=2) + spreads
    for row, target in enumerate(TARGETS):
        found = []
        for own, true in zip(distances, near, strict=True):
            order = np.argsort(own, kind="stable")
            seen = np.cumsum(rows[order]).astype(np.float64)
            counted = list(counted_together(own[order], seen))[spread.exponent]
            last = np.searchsorted(counted, spread.needed[row, 0] * (1 - 1e-9))
            found.append(np.isin(true, order[: last + 1]).mean())
        assert np.mean(found) >= target
