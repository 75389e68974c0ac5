"""Assigning rows to clusters: the same bytes however often, bad rows listed, limits kept."""

import json
import threading
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulk_scene import BUILD, Scene, begin, config_of, objects, rows_of
from fakes import CountedIds, FakeClock
from squash import limits
from squash.errors import BuildStoppedError
from squash.maintain.bulk import keys
from squash.maintain.bulk.batches import stage_tasks
from squash.maintain.bulk.context import BuildContext
from squash.maintain.bulk.model import GroupPlacer, read_model
from squash.maintain.bulk.records import read_report, write_json
from squash.maintain.bulk.request import Attempt, Limits
from squash.maintain.bulk.run import run_task
from squash.maintain.bulk.runs import read_group
from squash.maintain.bulk.stages import Stage, Task
from squash.maintain.bulk.tasks import assign
from squash.storage import CountingStore, MemoryStore


def scene_of(seed, *, rows=120, keyed=True, **more):
    generator = np.random.Generator(np.random.Philox(seed))
    vectors = generator.standard_normal((rows, 4)).astype(np.float32)
    names = [f"k{int(n)}" for n in generator.integers(0, 200, rows)] if keyed else None
    metadata = [{"n": i} if i % 3 else {} for i in range(rows)]
    cuts = tuple(generator.integers(1, rows, 6).tolist())
    return Scene(
        config_of(4), names, vectors, metadata, **{"cuts": cuts, "batches": (2, 4), **more}
    )


def trained(scene):
    """Return a context whose build is trained."""
    store = MemoryStore()
    begin(store, scene)
    context = BuildContext(
        CountingStore(store), scene.config, None, FakeClock(), CountedIds(), None
    )
    with rows_of(scene):
        for stage in (Stage.SAMPLE, Stage.TRAIN):
            for task in stage_tasks(context.store, "x", BUILD, stage):
                run_task(context, task)
    return context, store


def limit(context, *, bad_rows_max, number=1):
    attempt = Attempt(number, "local", 0, Limits(bad_rows_max=bad_rows_max))
    write_json(context.store, keys.attempt_key(BUILD, number), asdict(attempt))


def assigned(context, scene):
    with rows_of(scene):
        tasks = stage_tasks(context.store, "x", BUILD, Stage.ASSIGN)
        return [run_task(context, task) for task in tasks]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 99), st.booleans(), st.sets(st.integers(0, 119), max_size=9))
def test_every_good_row_goes_where_its_cluster_does(seed, keyed, bad):
    """Runs hold all good rows, each in the group that its nearest centre belongs to."""
    scene = scene_of(seed, keyed=keyed, bad=frozenset(bad))
    context, store = trained(scene)
    reports = assigned(context, scene)
    model, plan = read_model(store, BUILD, dimension=4), scene.plan()
    places = GroupPlacer(model, scene.config.metric).place(scene.vectors)
    seen = []
    for group in range(model.groups):
        for run in read_group(store, BUILD, plan, group, dimension=4):
            numbers = run.numbers
            assert (places.group[numbers] == group).all()
            assert np.array_equal(places.cluster[numbers], run.clusters)
            assert np.array_equal(scene.vectors[numbers], run.rows.vectors)
            assert [scene.key(row) for row in numbers.tolist()] == run.rows.keys
            assert [scene.metadata[row] for row in numbers.tolist()] == run.rows.metadata
            seen += numbers.tolist()
    assert sorted(seen) == sorted(set(range(120)) - bad)
    assert sum(report.rows for report in reports) == 120
    assert sum(report.bad for report in reports) == len(bad)


def test_two_that_do_a_batch_at_once_leave_the_same_bytes():
    """As one does, and again: whoever is last overwrites with the same."""
    scene = scene_of(5, bad=frozenset({3, 77}))
    context, store = trained(scene)
    assigned(context, scene)
    once = objects(store)
    tasks = stage_tasks(context.store, "x", BUILD, Stage.ASSIGN)
    context.store.delete([keys.done_key(BUILD, task.stage, task.batch) for task in tasks])
    context.store.delete([key for key in once if "/runs/" in key or "/keys/" in key])
    failed = []

    def all_of_them():
        try:
            for task in tasks:
                run_task(context, task)
        except Exception as error:  # noqa: BLE001 - shown below
            failed.append(error)

    threads = [threading.Thread(target=all_of_them) for _ in range(3)]
    with rows_of(scene):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failed
    assert objects(store) == once


def test_bad_rows_are_listed_with_where_they_stand():
    """One JSON line each, by batch, and the first of them in the report."""
    bad = frozenset({1, 40, 41, 119})
    scene = scene_of(1, bad=bad)
    context, store = trained(scene)
    reports = assigned(context, scene)
    lines = [
        json.loads(line)
        for info in store.list(f"builds/{BUILD}/bad/")
        for line in bytes(store.get(info.key)).decode().splitlines()
    ]
    assert [line["row"] for line in lines] == sorted(bad)
    assert {*lines[0]} == {"input", "row", "key", "problem"}
    examples = [row for report in reports for row in report.detail[assign.EXAMPLES]]
    assert [row["row"] for row in examples] == sorted(bad)


def test_a_batch_of_too_many_bad_rows_stops_and_goes_on_with_a_higher_limit():
    """What was bad is listed by then; after a resumption all is as if it had never stopped."""
    scene = scene_of(2, bad=frozenset(range(10)), cuts=(60,), batches=())
    scene = replace(scene, batches=())
    context, store = trained(scene)
    limit(context, bad_rows_max=7)
    with pytest.raises(BuildStoppedError, match=r"row 0 of file:///rows: bad.*resume with"):
        assigned(context, scene)
    listed = bytes(store.get(keys.part_key(BUILD, assign.BAD, 0))).splitlines()
    assert len(listed) > 7
    assert read_report(store, Task("x", BUILD, Stage.ASSIGN)) is None
    limit(context, bad_rows_max=10, number=2)
    (report,) = assigned(context, scene)
    assert report.bad == 10
    undisturbed, other = trained(scene)
    limit(undisturbed, bad_rows_max=10)
    assigned(undisturbed, scene)
    mine, theirs = objects(store), objects(other)
    assert {k: v for k, v in mine.items() if "/attempts/" not in k} == {
        k: v for k, v in theirs.items() if "/attempts/" not in k
    }


def test_no_more_bad_rows_are_listed_than_may_be(monkeypatch):
    """All are counted."""
    monkeypatch.setattr(assign, "BUILD_BAD_ROWS_LISTED_MAX", 3)
    scene = scene_of(2, bad=frozenset(range(10)), batches=())
    context, store = trained(replace(scene, batches=()))
    reports = assigned(context, replace(scene, batches=()))
    assert sum(report.bad for report in reports) == 10
    assert len(bytes(store.get(keys.part_key(BUILD, assign.BAD, 0))).splitlines()) == 3
    assert limits.BUILD_BAD_ROWS_LISTED_MAX > 3
