"""Folds into the partitions there are: what they write, what they leave, how they lose."""

from dataclasses import replace
from unittest import mock
from uuid import uuid4

import numpy as np
import pytest

import squash
from fakes import FakeClock
from simulated import Clock
from squash.clock import SystemClock, SystemIds
from squash.database import Database
from squash.errors import CommitUnknownError, ConflictError, UnavailableError
from squash.maintain import BuildOptions, Standing, refold
from squash.maintain.regroup import assign_rows, update_centers
from squash.runtime import Settings, maintenance
from squash.storage import MemoryStore

OPTIONS = BuildOptions(
    partition_rows_target=24,
    partition_rows_max=40,
    cluster_rows_target=6,
    calibration_queries=20,
    exact_rows_max=8,
)
THRIFTY = replace(OPTIONS, thrifty=True)
ROWS = 300


def made(store=None, rows=ROWS, dimension=4):
    """Return an index of rows about ten centres, folded, and their vectors."""
    rng = np.random.default_rng(7)
    middles = rng.normal(size=(10, dimension)) * 6
    vectors = (middles[np.arange(rows) % 10] + rng.normal(size=(rows, dimension))).astype("f4")
    database = Database(
        store or MemoryStore(), settings=Settings(), clock=SystemClock(), ids=SystemIds()
    )
    index = database.create_index("x", dimension=dimension, metric="euclidean")
    index.put(keys=[f"k{i}" for i in range(rows)], vectors=vectors)
    index.optimize(options=OPTIONS)
    return index, vectors


def state_of(index):
    return index._session._views.refresh().state


def trained_of(index):
    return index._session.view("strong").trained


def partitions(index):
    return {one.id: one.rows for one in state_of(index).segments if one.kind == "partition"}


def unnamed(store, index):
    """Return the keys of segments and trained objects that no segment and no commit names."""
    state = state_of(index)
    named = {ref.key for one in state.segments for ref in one.objects.values()}
    named |= {state.trained.key} if state.trained else set()
    found = {info.key.split("/", 2)[2] for info in store.list("x/") if info.key.count("/") > 1}
    return {
        key for key in found - named if key.startswith(("segments/", "trained/"))
        and "/deleted-" not in key
    }  # fmt: skip


def sound(index, rows):
    """Hold the index against what it must be: sound objects, caps, and so many rows."""
    assert index.verify().damages == ()
    assert index.stats().rows == rows
    assert max(partitions(index).values()) <= OPTIONS.partition_rows_max


def test_only_what_changed_is_written_anew():
    """Rows at one place change the partitions there; the codec and the others stay."""
    index, vectors = made()
    before, trained = partitions(index), trained_of(index)
    near = vectors[:1] + np.linspace(0, 0.1, 3)[:, None].astype("f4")
    index.put(keys=["a", "b", "c"], vectors=near)
    assert index.optimize(options=OPTIONS).rows == ROWS + 3
    after, now = partitions(index), trained_of(index)
    assert 0 < len(before.keys() - after.keys()) <= 2
    np.testing.assert_array_equal(now.codec.rotation, trained.codec.rotation)
    assert now.history.rows_trained == ROWS
    assert sorted(now.partition_ids) == sorted(after)
    assert state_of(index).fresh == ()
    sound(index, ROWS + 3)
    again = state_of(index).sequence
    assert index.optimize(options=OPTIONS).snapshot == again


def test_a_full_fold_trains_anew():
    """It does so where nothing is new, and takes out the last dead row."""
    index, _ = made()
    index.delete(keys=["k0"])
    before = partitions(index)
    index.optimize(options=OPTIONS)
    assert partitions(index) == before
    index.optimize(options=OPTIONS, full=True)
    assert not before.keys() & partitions(index).keys()
    assert sum(partitions(index).values()) == ROWS - 1
    sound(index, ROWS - 1)


def test_dead_rows_are_taken_out_where_there_are_many():
    """A partition that lost a tenth is written anew, or joined to another; others stay."""
    index, _ = made()
    view = index._session.view("strong").partitions[0]
    keys = view.document_keys(np.arange(view.count))
    index.delete(keys=keys[: len(keys) * 9 // 10])
    before = partitions(index)
    index.optimize(options=OPTIONS)
    gone = before.keys() - partitions(index).keys()
    assert view.reader.ref.id in gone
    assert len(gone) <= 2
    sound(index, ROWS - len(keys) * 9 // 10)


def test_partitions_that_grow_are_split():
    """Many rows at one place: no partition passes its cap, no cluster its own."""
    index, vectors = made()
    rng = np.random.default_rng(1)
    crowd = vectors[0] + 0.1 * rng.normal(size=(200, 4)).astype("f4")
    index.put(keys=[f"n{i}" for i in range(200)], vectors=crowd)
    index.optimize(options=OPTIONS)
    trained = trained_of(index)
    assert trained.history.rows_trained == ROWS
    assert trained.cluster_rows.max() <= 4 * OPTIONS.cluster_rows_target
    sound(index, ROWS + 200)
    alike = np.repeat(vectors[1:2], 90, axis=0)
    index.put(keys=[f"m{i}" for i in range(90)], vectors=alike)
    index.optimize(options=OPTIONS)
    assert trained_of(index).history.rows_trained == ROWS
    sound(index, ROWS + 290)


def test_the_policy_rebuilds_when_rows_have_doubled():
    """Then the new number is what was trained on."""
    index, vectors = made()
    index.put(keys=[f"n{i}" for i in range(301)], vectors=np.resize(vectors, (301, 4)))
    index.optimize(options=OPTIONS)
    assert trained_of(index).history.rows_trained == ROWS + 301
    sound(index, ROWS + 301)


def test_a_thrifty_fold_lets_rows_wait():
    """What is little for its partition goes into one flat segment; what is much does not."""
    index, vectors = made()
    before = partitions(index)
    for i in range(10):
        index.put(keys=[f"n{i}"], vectors=vectors[i : i + 1])
    index.put(keys=[f"m{i}" for i in range(20)], vectors=np.repeat(vectors[:1], 20, axis=0))
    index.optimize(options=THRIFTY)
    state = state_of(index)
    flat = [one.rows for one in state.segments if one.kind == "flat"]
    assert len(flat) == 1
    assert 0 < flat[0] < 12
    assert state.fresh == ()
    assert 0 < len(before.keys() - partitions(index).keys()) <= 3
    sound(index, ROWS + 30)
    settled = state.sequence
    assert index.optimize(options=THRIFTY).snapshot == settled
    index.delete(keys=["n9"])
    index.optimize(options=OPTIONS)
    assert all(one.kind == "partition" for one in state_of(index).segments)
    sound(index, ROWS + 29)


@pytest.mark.parametrize("groups", [0, 1, 3])
def test_it_stops_between_groups(groups):
    """What was not reached waits in a flat segment; the next fold takes it."""
    index, vectors = made()
    index.put(keys=[f"n{i}" for i in range(100)], vectors=vectors[:100])
    left = iter(range(groups))
    before = partitions(index)
    stopping = replace(OPTIONS, carry_on=lambda: next(left, None) is not None)
    index.optimize(options=stopping)
    assert len(before.keys() - partitions(index).keys()) >= groups
    assert before.keys() & partitions(index).keys()
    assert [one for one in state_of(index).segments if one.kind == "flat"]
    sound(index, ROWS + 100)
    index.optimize(options=OPTIONS)
    assert not [one for one in state_of(index).segments if one.kind == "flat"]
    sound(index, ROWS + 100)


@pytest.mark.parametrize("stage", ["assign", "encode"])
@pytest.mark.parametrize("full", [False, True])
def test_a_racing_fold_loses_and_leaves_nothing(stage, full):
    """Whoever commits second finds its inputs gone, and drops what it wrote."""
    store = MemoryStore()
    index, vectors = made(store)
    index.put(keys=["a", "b"], vectors=vectors[:2])
    raced = []

    def race(progress):
        if progress.stage == stage and not raced:
            raced.append(1)
            other = squash.Database(
                store, settings=Settings(), clock=SystemClock(), ids=SystemIds()
            ).index("x")
            other.optimize(options=OPTIONS, full=full)
            # Its own garbage is not looked for: what was replaced is still there.
            left.update(unnamed(store, other))

    left = set()
    with pytest.raises(ConflictError):
        index.optimize(options=OPTIONS, progress=race)
    assert raced
    assert unnamed(store, index) <= left
    sound(index, ROWS + 2)


def test_folds_of_different_partitions_exclude_each_other():
    """The second would bring back a routing table in which the first's partitions are not."""
    index, _ = made()
    views, config, loader = (
        index._session._views, index._session.config, index._session._passing_loader(),
    )  # fmt: skip
    opened = views.refresh()
    live = [(views.reader(ref, loader), views.live(opened, ref)) for ref in opened.state.segments]
    trained = maintenance._trained(opened, loader, config)
    standing = maintenance._standing(opened, config, trained, views.fresh(opened), live)
    keys = standing.partitions[0][0].document_keys(np.arange(standing.partitions[0][0].ref.rows))
    index.delete(keys=keys[:10])
    index.optimize(options=OPTIONS)
    # The other partition is still there, and so is nothing that the first fold read.
    last = standing.partitions[-1]
    halved = (last[0], last[1][::2])
    stale = Standing(opened, config, trained, [*standing.partitions[:-1], halved], standing.pending)
    with pytest.raises(ConflictError, match="another fold"):
        refold(views.log, stale, options=OPTIONS, scratch=None, report=lambda _: None)
    sound(index, ROWS - 10)


def test_writers_go_on_meanwhile():
    """What they put, replace and delete during a fold applies to what it wrote."""
    index, vectors = made()
    index.put(keys=["a", "b"], vectors=vectors[:2])
    done = []

    def write(progress):
        if progress.stage == "encode" and not done:
            done.append(1)
            index.put(keys=["k0", "a", "c"], vectors=vectors[10:13])
            index.delete(keys=["b", "k1"])

    index.optimize(options=OPTIONS, progress=write)
    assert {record.key for record in index.get(keys=["a", "b", "c", "k0", "k1"])} == {
        "a",
        "c",
        "k0",
    }
    np.testing.assert_array_equal(index.get(keys=["k0"])[0].vector, vectors[10])
    sound(index, ROWS + 1)


@pytest.mark.parametrize("claims_at_once", [False, True])
@pytest.mark.parametrize("full", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_busy_writer_does_not_win_for_ever(full, claims_at_once, monkeypatch):
    """It flattens on and on; a fold that lost to that claims what it reads, and wins."""
    if claims_at_once:
        monkeypatch.setattr(maintenance, "FOLD_CLAIM_ROWS_MIN", 1)
    index, vectors = made()
    index.put(keys=["a", "b"], vectors=vectors[:2])
    rounds = []

    def write(progress):
        if progress.stage == "encode":
            rounds.append(1)
            for i in range(70 if len(rounds) < 4 else 0):
                index.put(keys=[f"w{len(rounds)}-{i}"], vectors=vectors[i : i + 1])

    before = state_of(index).trained
    index.optimize(options=OPTIONS, progress=write, full=full)
    state = state_of(index)
    assert state.trained != before
    assert state.claim is None
    assert len(state.fresh) < 63
    sound(index, ROWS + 2 + 70 * min(len(rounds), 3))
    index.optimize(options=OPTIONS)
    sound(index, ROWS + 2 + 70 * min(len(rounds), 3))


def test_folds_that_fail_again_and_again_let_writers_flatten(monkeypatch):
    """On a schedule, each claims what it reads; between two claims writers have their turn."""
    monkeypatch.setattr(maintenance, "FOLD_CLAIM_ROWS_MIN", 1)
    for name in ("optimize", "refold"):
        monkeypatch.setattr(maintenance, name, mock.Mock(side_effect=OSError("the disk is full")))
    clock = Clock()
    database = Database(MemoryStore(), settings=Settings(), clock=clock, ids=SystemIds())
    index = database.create_index("papers", dimension=2)
    index.put(keys=[f"k{i}" for i in range(ROWS)], vectors=[[i, 1] for i in range(ROWS)])
    most = 0
    for minute in range(0, 1_200, 5):
        clock.ms += 5 * 60_000
        index.put(keys=[f"n{minute}"], vectors=[[1, minute]])
        most = max(most, len(state_of(index).fresh))
        if minute % 15 == 0:
            with pytest.raises(OSError, match="full"):
                index.optimize()
    assert most < 90


@pytest.mark.parametrize("error", [UnavailableError("enough"), KeyboardInterrupt()])
def test_what_is_stopped_midway_changes_nothing(error):
    """An error of ours drops what was written; a kill leaves it, named by nothing."""
    store = MemoryStore()
    index, vectors = made(store)
    left = unnamed(store, index)
    index.put(keys=["a", "b"], vectors=vectors[:2])
    before = state_of(index)

    def stop(progress):
        if progress.stage == "encode":
            raise error

    with pytest.raises(type(error)):
        index.optimize(options=OPTIONS, progress=stop)
    assert state_of(index) == before
    assert (unnamed(store, index) == left) == isinstance(error, UnavailableError)
    sound(index, ROWS + 2)
    index.optimize(options=OPTIONS)
    sound(index, ROWS + 2)


class DeafStore:
    """Stores commits and answers nothing, once it is told to."""

    def __init__(self, store):
        self.store = store
        self.deaf = False

    def __getattr__(self, name):
        return getattr(self.store, name)

    def _answer(self, key, answer):
        if self.deaf and "/log/" in key:
            raise UnavailableError("no answer")
        return answer

    def put_if_absent(self, key, data):
        return self._answer(key, self.store.put_if_absent(key, data))

    def get(self, key):
        if self.deaf and "/log/" in key and self.store.get(key) is None:
            return None
        return self._answer(key, self.store.get(key))


@pytest.mark.parametrize("full", [False, True])
def test_a_commit_of_unknown_outcome_drops_nothing(full):
    """It was stored although nobody said so: the next reader finds all that it names."""
    store = DeafStore(MemoryStore())
    index, vectors = made(store)
    index.put(keys=["a", "b"], vectors=vectors[:2])
    before = state_of(index).sequence

    def deafen(progress):
        store.deaf = progress.stage == "encode" or store.deaf

    with pytest.raises(CommitUnknownError):
        index.optimize(options=OPTIONS, progress=deafen, full=full)
    store.deaf = False
    assert state_of(index).sequence == before + 1
    sound(index, ROWS + 2)


@pytest.mark.parametrize("full", [False, True])
def test_rows_that_expired_are_left_out(full):
    """Fresh ones, those of flat segments, and those of partitions that lost a tenth by it."""
    clock = FakeClock()
    store, now = MemoryStore(clock), clock.now_ms() / 1000
    database = Database(store, settings=Settings(), clock=clock, ids=SystemIds())
    index = database.create_index("x", dimension=4, metric="euclidean", expires="until")
    vectors = np.random.default_rng(2).normal(size=(ROWS, 4)).astype("f4")
    until = [{"until": now + 1_000} if i % 3 else {} for i in range(ROWS)]
    index.put(keys=[f"k{i}" for i in range(ROWS)], vectors=vectors, metadata=until)
    index.optimize(options=OPTIONS)
    gone = [{"until": now - 1}] * 20 + [{}] * 20
    index.put(keys=[f"n{i}" for i in range(40)], vectors=vectors[:40], metadata=gone)
    assert index.optimize(options=OPTIONS, full=full).rows == ROWS + 20
    sound(index, ROWS + 20)

    ahead = FakeClock(clock.ms + 2_000_000)
    index = Database(store, settings=Settings(), clock=ahead, ids=SystemIds()).index("x")
    assert index.optimize(options=OPTIONS, full=full).rows == ROWS + 20, "by the store's clock"
    clock.sleep(2_000)
    later = Database(store, settings=Settings(), clock=clock, ids=SystemIds()).index("x")
    assert later.optimize(options=OPTIONS, full=full).rows == ROWS // 3 + 20
    sound(later, ROWS // 3 + 20)
    assert later.query(vectors[0], top_k=ROWS).usage.rows_scanned <= ROWS // 3 + 20


def test_clusters_are_split_and_given_up():
    """Their number follows the rows; each row ends with its nearest centre."""
    rng = np.random.default_rng(3)
    rows = np.concatenate([rng.normal(size=(300, 5)), 8 + rng.normal(size=(20, 5))]).astype("f4")
    member = np.where(np.arange(320) < 300, np.arange(320) % 2, np.arange(320))
    centers = update_centers(rows, member, share=1.0, rows_target=32)
    assert 8 <= len(centers) <= 13
    found = assign_rows(centers, 320, projected=lambda a, b: rows[a:b], chunk_rows=50)
    distances = ((rows[:, None] - centers[None]) ** 2).sum(axis=2)
    np.testing.assert_array_equal(found, distances.argmin(axis=1))
    counts = np.bincount(found, minlength=len(centers))
    assert counts.max() <= 3 * 32
    fewer = update_centers(rows, np.arange(320) // 4, share=1.0, rows_target=32)
    assert 8 <= len(fewer) <= 13
    assert len(update_centers(rows[:1], np.zeros(1, int), share=1.0, rows_target=32)) == 1
    alike = np.ones((100, 5), dtype=np.float32)
    assert len(update_centers(alike, np.zeros(100, int), share=0.5, rows_target=8)) >= 1


def test_a_cluster_count_scales_calibration():
    """A fold that measures nothing asks for more clusters where there are more."""
    index, vectors = made()
    before = trained_of(index)
    crowd = vectors[0] + 0.05 * np.random.default_rng(1).normal(size=(60, 4)).astype("f4")
    index.put(keys=[f"n{i}" for i in range(60)], vectors=crowd)
    index.optimize(options=OPTIONS)
    after = trained_of(index)
    assert after.history.rows_since >= 60
    assert len(after.centers) > len(before.centers)
    factor = (len(after.centers) / len(before.centers)) ** 0.5
    np.testing.assert_allclose(
        after.calibration.clusters_needed,
        np.minimum(before.calibration.clusters_needed * factor, len(after.centers)),
    )


@pytest.mark.slow
def test_recall_after_churn_is_a_fresh_build_s():
    """8,000 rows x 32, 30 % replaced by others in three folds: within 0.02 of a fresh index."""
    rng = np.random.default_rng(11)
    middles = rng.normal(size=(100, 32)) * 1.5
    vectors = (middles[rng.integers(100, size=10_500)] + rng.normal(size=(10_500, 32))).astype("f4")
    queries, vectors = vectors[10_400:], vectors[:10_400]
    options = BuildOptions(
        partition_rows_target=1_000, partition_rows_max=2_000, cluster_rows_target=64,
        calibration_queries=100,
    )  # fmt: skip
    database = squash.connect(f"memory://{uuid4().hex}")
    old, fresh = (database.create_index(name, dimension=32, metric="euclidean") for name in "ab")
    old.put(keys=[str(i) for i in range(8_000)], vectors=vectors[:8_000])
    old.optimize(options=options)
    alive = np.arange(10_400) < 8_000
    for fold in range(3):
        gone = rng.choice(np.flatnonzero(alive), size=800, replace=False)
        came = np.arange(8_000 + 800 * fold, 8_800 + 800 * fold)
        old.delete(keys=[str(i) for i in gone])
        old.put(keys=[str(i) for i in came], vectors=vectors[came])
        alive[gone], alive[came] = False, True
        old.optimize(options=options)
    assert trained_of(old).history.rows_trained == 8_000
    rows = np.flatnonzero(alive)
    fresh.put(keys=[str(i) for i in rows], vectors=vectors[rows])
    fresh.optimize(options=options)
    distances = ((vectors[rows] ** 2).sum(axis=1)) - 2 * queries @ vectors[rows].T
    true = [set(rows[near].tolist()) for near in np.argsort(distances, axis=1)[:, :10]]
    for target in (0.9, 0.99):
        hits = [
            sum(
                len({int(m.key) for m in answer.matches} & near)
                for answer, near in zip(
                    index.query_many(queries, top_k=10, recall_target=target), true, strict=True
                )
            )
            / (10 * len(queries))
            for index in (old, fresh)
        ]
        assert hits[0] >= hits[1] - 0.02
        assert hits[0] >= target - 0.02
