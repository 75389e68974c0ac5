"""The bulk build: the same bytes however its rows and tasks are dealt out, and good clusters."""

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from uuid import uuid4

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import squash
from amounts import examples
from bulk_scene import OPTIONS, Scene, begin, build, config_of, content, in_one_go, objects, run
from squash.maintain import BuildOptions
from squash.maintain.calibrate import NeighbourCollector, Neighbours
from squash.maintain.one_thread import one_blas_thread
from squash.quantize import PRESETS
from squash.storage import FolderStore
from squash.training import Assigner, split_rows
from strategies import metadata_rows

METRICS = ["cosine", "euclidean", "dot"]


def vectors_of(rng, rows, dimension, *, twins=False):
    """Return vectors about some middles; with twins, many of them alike."""
    middles = rng.normal(size=(7, dimension)) * 3
    vectors = middles[rng.integers(7, size=rows)] + rng.normal(size=(rows, dimension))
    if twins:
        vectors = vectors[rng.integers(max(rows // 9, 1), size=rows)]
    return vectors.astype(np.float32)


@st.composite
def scenes(draw):
    """Rows with metadata, doubles and bad rows among them, dealt out in any way."""
    metadata = draw(metadata_rows(min_size=1, max_size=120))
    rows = len(metadata)
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    dimension = draw(st.sampled_from([1, 2, 5, 16, 33]))
    keyed = draw(st.sampled_from(["numbers", "all differ", "some repeat", "many repeat"]))
    pool = {"all differ": None, "some repeat": rows, "many repeat": max(rows // 5, 1)}
    names = None
    if keyed != "numbers":
        several = pool[keyed]
        numbers = rng.permutation(rows) if several is None else rng.integers(several, size=rows)
        names = [f"k\u00e9{number}" for number in numbers.tolist()]
    places = st.integers(1, max(rows - 1, 1))
    bad = draw(st.one_of(st.just(frozenset()), st.frozensets(places, max_size=rows // 2)))
    return Scene(
        config_of(
            dimension,
            draw(st.sampled_from(METRICS)),
            draw(st.sampled_from(list(PRESETS))),
            draw(st.integers(0, 5)),
        ),
        names,
        vectors_of(rng, rows, dimension, twins=draw(st.booleans())),
        metadata,
        cuts=tuple(draw(st.lists(st.integers(1, max(rows - 1, 1)), max_size=6))),
        batches=tuple(draw(st.lists(st.integers(1, 6), max_size=3))),
        group_bytes=draw(st.sampled_from([1, 3_000, 1 << 30])),
        chunk_rows=draw(st.sampled_from([1, 7, 1_000])),
        bad=bad,
        key_ranges=draw(st.integers(1, 4)),
    )


@settings(max_examples=examples(60, least=25), deadline=None)
@given(scene=scenes(), seed=st.integers(0, 10_000))
def test_tasks_give_what_a_build_in_one_go_gives(scene, seed):
    """Segments and trained object are the same, byte for byte but for names.

    Whatever the codec, metric and metadata; with doubles, of which the last one counts, and bad
    rows; in any pieces, batches and groups, tasks in any order, some of them twice.
    """
    outcome, store = build(scene, seed=seed, again=True)
    assert outcome.rows == len(scene.live())
    found = content(store, outcome.segments, outcome.trained, scene.config.dimension)
    assert found == in_one_go(scene)


@settings(max_examples=15, deadline=None)
@given(data=st.data(), seed=st.integers(0, 10_000))
def test_a_sample_of_some_rows_gives_what_a_build_in_one_go_gives(data, seed):
    """Where training sees a part of the rows, it is the same part, and clusters are cut alike."""
    rng = np.random.default_rng(seed)
    rows = data.draw(st.integers(300, 500))
    scene = Scene(
        config_of(6, data.draw(st.sampled_from(METRICS)), seed=seed % 7),
        None,
        vectors_of(rng, rows, 6, twins=data.draw(st.booleans())),
        [{"n": int(number)} for number in rng.integers(5, size=rows)],
        options=replace(OPTIONS, sample_rows_max=data.draw(st.sampled_from([9, 40, 200]))),
        cuts=tuple(data.draw(st.lists(st.integers(1, rows - 1), max_size=5))),
        batches=tuple(data.draw(st.lists(st.integers(1, 5), max_size=3))),
        group_bytes=data.draw(st.sampled_from([1, 3_000])),
    )
    outcome, store = build(scene, seed=seed)
    assert max(segment.rows for segment in outcome.segments) <= OPTIONS.partition_rows_max
    found = content(store, outcome.segments, outcome.trained, 6)
    assert found == in_one_go(scene)


@pytest.mark.parametrize("sampled", [(1,), (0, 3), ()])
def test_a_sample_of_some_pieces_builds_all_rows(sampled):
    """What no piece of the sample holds is in the index all the same."""
    rng = np.random.default_rng(3)
    scene = Scene(
        config_of(5), None, vectors_of(rng, 200, 5), [{}] * 200, cuts=(50, 90, 150),
        batches=(1, 3), sampled=sampled,
    )  # fmt: skip
    outcome, store = build(scene, seed=1)
    assert outcome.rows == 200
    kinds = {segment.kind for segment in outcome.segments}
    # Of no sample nothing is learned: then the rows are searched exactly.
    assert kinds == ({"partition"} if sampled else {"flat"})
    del store


def test_bad_rows_alone_build_nothing():
    """Where no row can be kept, there is no segment, and nothing trained."""
    rng = np.random.default_rng(3)
    scene = Scene(
        config_of(5), None, vectors_of(rng, 50, 5), [{}] * 50, cuts=(9,), bad=frozenset(range(50))
    )
    outcome, _ = build(scene)
    assert (outcome.segments, outcome.trained, outcome.rows) == ((), None, 0)


def test_flat_segments_are_cut_at_their_cap(monkeypatch):
    """Few rows become flat segments, in the rows' order, none above the cap."""
    monkeypatch.setattr("squash.maintain.bulk.tasks.assemble.FLAT_SEGMENT_ROWS_MAX", 20)
    rng = np.random.default_rng(5)
    options = replace(OPTIONS, exact_rows_max=100)
    scene = Scene(
        config_of(3), [f"k{i % 50}" for i in range(70)], vectors_of(rng, 70, 3), [{}] * 70,
        options=options, cuts=(11, 40), chunk_rows=50,
    )  # fmt: skip
    outcome, _ = build(scene, seed=2, again=True)
    assert [(one.kind, one.rows) for one in outcome.segments] == [("flat", n) for n in (20, 20, 10)]
    assert outcome.trained is None


@pytest.mark.parametrize("metric", METRICS)
def test_rows_all_alike_are_cut_into_partitions(metric):
    """One cluster of far more rows than a partition takes is cut, whatever it is cut by."""
    vectors = np.ones((500, 4), np.float32)
    scene = Scene(config_of(4, metric), None, vectors, [{}] * 500, cuts=(100,), group_bytes=1)
    outcome, store = build(scene, seed=4)
    assert outcome.rows == 500
    assert max(one.rows for one in outcome.segments) <= OPTIONS.partition_rows_max
    assert content(store, outcome.segments, outcome.trained, 4) == in_one_go(scene)


def large_scene():
    """Rows enough that BLAS would use all cores it may."""
    rng = np.random.default_rng(11)
    options = BuildOptions(
        partition_rows_target=700, partition_rows_max=1_000, cluster_rows_target=40,
        calibration_queries=100, exact_rows_max=100,
    )  # fmt: skip
    return Scene(
        config_of(96, "cosine"), None, vectors_of(rng, 4_000, 96), [{"n": i % 9} for i in
        range(4_000)], options=options, cuts=(777, 2_000, 3_333), batches=(1, 2),
        group_bytes=700_000, chunk_rows=500,
    )  # fmt: skip


def digest(store):
    """Return a digest of all that a build left."""
    found = hashlib.sha256()
    for key, data in sorted(objects(store).items()):
        found.update(f"{key} {len(data)} ".encode() + data)
    return found.hexdigest()


def test_another_process_with_other_threads_leaves_the_same_bytes(tmp_path):
    """However many threads BLAS may use, and in which process tasks run, bytes are the same."""
    scene = large_scene()
    outcome, store = build(scene)
    here = digest(store)
    for threads in ("1", "2"):
        begin(FolderStore(tmp_path / threads), scene)
        done = subprocess.run(  # noqa: S603 - this very file
            [sys.executable, __file__, str(tmp_path / threads)],
            env={**os.environ, "OPENBLAS_NUM_THREADS": threads, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == here
    assert content(store, outcome.segments, outcome.trained, 96) == in_one_go(scene)


def test_clusters_are_good_where_the_sample_is_too_small_for_them(monkeypatch):
    """Then buckets' own rows tell which there are: nearer to their rows than halves of halves.

    Recall is what was asked for all the same.
    """
    rng = np.random.default_rng(2)
    middles = rng.normal(size=(120, 16)) * 1.5
    vectors = (middles[rng.integers(120, size=6_000)] + rng.normal(size=(6_000, 16))).astype("f4")
    options = BuildOptions(
        partition_rows_target=1_000, partition_rows_max=2_000, cluster_rows_target=40,
        calibration_queries=100, exact_rows_max=100, sample_rows_max=200,
    )  # fmt: skip

    def built():
        index = squash.connect(f"memory://{uuid4().hex}").create_index(
            "x", dimension=16, metric="euclidean"
        )
        index.put(keys=[str(row) for row in range(6_000)], vectors=vectors)
        index.optimize(options=options, full=True)
        return index, index._session.view("strong").trained

    def halves(rows_of, rows, *, metric, sizes, seed):
        del metric, seed
        return split_rows(np.asarray(rows_of[rows]), rows_max=sizes.cluster_rows_target)

    index, trained = built()
    assert 0.7 * 150 < len(trained.centers) < 1.3 * 150
    with monkeypatch.context() as patch:
        patch.setattr("squash.maintain.parts._cut", halves)
        assert trained.energy() < 0.93 * built()[1].energy()
    found = 0
    for query in vectors[::60]:
        true = np.argsort(((vectors - query) ** 2).sum(axis=1), kind="stable")[:10]
        answer = index.query(query, top_k=10, recall_target=0.95)
        found += len({int(match.key) for match in answer.matches} & set(true.tolist()))
    assert found >= 0.94 * 10 * len(vectors[::60])


@pytest.mark.parametrize("clusters", [1, 2, 9, 300, 4_200])
def test_a_rows_cluster_does_not_depend_on_the_rows_around_it(clusters):
    """Rows asked for together, or some of them, or one: each has the same nearest centre."""
    rng = np.random.default_rng(clusters)
    centers = rng.normal(size=(clusters, 24)).astype(np.float32)
    # Between two centres, where any rounding decides.
    pairs = rng.integers(clusters, size=(3_000, 2))
    rows = ((centers[pairs[:, 0]] + centers[pairs[:, 1]]) / 2).astype(np.float32)
    assigner = Assigner(centers)
    with one_blas_thread():
        every = assigner.assign(rows)
        for size in (1, 3, 64, 65, 1_000):
            start = int(rng.integers(len(rows) - size))
            part = slice(start, start + size)
            assert assigner.assign(rows[part]).tolist() == every[part].tolist()


@settings(max_examples=examples(30, least=25), deadline=None)
@given(
    space=st.sampled_from(["l2", "dot"]),
    sizes=st.lists(st.integers(1, 300), min_size=1, max_size=6),
    cuts=st.sets(st.integers(1, 5)),
    seed=st.integers(0, 10_000),
)
def test_neighbours_found_apart_join_to_those_found_together(space, sizes, cuts, seed):
    """Ties among them: many rows are alike, and of these the first ones count."""
    rng = np.random.default_rng(seed)
    queries = rng.integers(3, size=(5, 4)).astype(np.float32)
    parts = [rng.integers(3, size=(size, 4)).astype(np.float32) for size in sizes]
    about = rng.integers(3, size=(7, 4)).astype(np.float32)
    given_ = {"own": queries, "space": space, "centers": about, "seed": seed}
    together = NeighbourCollector(queries, **given_)
    joined, before = Neighbours.none(5), 0
    apart, first = NeighbourCollector(queries, **given_), 0
    for number, part in enumerate(parts):
        if number in cuts:
            joined = joined.joined(apart.neighbours(), clusters=first)
            apart, first = NeighbourCollector(queries, **given_), before
        clusters = np.arange(len(part))
        together.add(part, clusters, centers=part, first=before, place=(number, 0))
        apart.add(part, clusters, centers=part, first=before - first, place=(number, 0))
        before += len(part)
    joined = joined.joined(apart.neighbours(), clusters=first)
    whole = together.neighbours()
    np.testing.assert_array_equal(joined.distances, whole.distances)
    np.testing.assert_array_equal(joined.clusters, whole.clusters)
    # Of what an earlier release found nothing is known beyond regions; of the bands all is.
    older = joined.of_bands().joined(apart.neighbours(), clusters=before)
    assert joined.away
    assert not older.away
    assert older.distances.shape == joined.of_bands().distances.shape


def main(folder):
    """Run all tasks of a build that another process has begun."""
    store = FolderStore(folder)
    run(store, large_scene(), seed=5)
    sys.stdout.write(digest(store))


if __name__ == "__main__":
    main(sys.argv[1])
