"""Tasks that run on after another has done them, or after the build was stopped, spoil nothing."""

import zlib
from dataclasses import replace

import numpy as np
import pytest

from bulk_files import BUILD, DIMENSION, SIZES, vectors, write_npy
from simulated import Clock
from squash.clock import SystemIds
from squash.database import Database
from squash.errors import BuildStoppedError
from squash.limits import BUILD_LOOK_MS
from squash.maintain import assembly
from squash.maintain.bulk import keys
from squash.maintain.bulk.outcome import read_outcome
from squash.maintain.bulk.stages import STAGES, Stage
from squash.maintain.bulk.tasks import calibrate, train
from squash.runtime import Settings
from squash.storage import MemoryStore


class World:
    """An index in memory with a build of some partitions, and the build's tasks one by one."""

    def __init__(self, folder):
        self.clock = Clock()
        self.store = MemoryStore()
        self.index = Database(
            self.store, settings=Settings(), clock=self.clock, ids=SystemIds()
        ).create_index("papers", dimension=DIMENSION)
        self.builds = self.index.bulk_builds()
        url = write_npy(folder / "in", 700, 500)
        self.builds.prepare([url], build_id=BUILD, sizes=replace(SIZES, group_bytes_max=1 << 14))

    def event(self, stage, batch=0):
        return {"index": "papers", "build": BUILD, "stage": stage.value, "batch": batch}

    def run(self, first, last):
        """Run all tasks of some stages."""
        for stage in STAGES[STAGES.index(first) : STAGES.index(last) + 1]:
            for task in self.builds._open(BUILD, stage):
                self.builds.run_task(task.to_json())

    def objects(self):
        """All objects of the build but its reports, by the end of the key."""
        return {
            info.key: bytes(self.store.get(info.key))
            for info in self.store.list("")
            if BUILD in info.key and "/done/" not in info.key
        }

    def forget(self, stage, batch=0):
        """Have a task begin that finds nobody has done it; return what reports it again."""
        store = self.builds._store
        key = keys.done_key(BUILD, stage, batch)
        report = bytes(store.get(key))
        store.delete([key])
        return lambda: store.put(key, report)


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def rounded_otherwise(monkeypatch):
    """Have partitions and what they share come out as on a processor of another kind."""
    encode, finish = assembly.encode, calibrate.finish

    def other_codes(*given, **more):
        objects = encode(*given, **more)
        return {**objects, "codes": objects["codes"][:-1] + bytes([objects["codes"][-1] ^ 1])}

    def other_centers(*given, **more):
        made = finish(*given, **more)
        return replace(made, centers=np.nextafter(made.centers, np.float32(9)))

    monkeypatch.setattr(assembly, "encode", other_codes)
    monkeypatch.setattr(calibrate, "finish", other_centers)


def test_a_task_that_ends_late_on_another_processor_leaves_what_was_published(world, monkeypatch):
    world.run(Stage.PLAN, Stage.CALIBRATE)
    outcome = read_outcome(world.builds._store, BUILD)
    with monkeypatch.context() as elsewhere:
        rounded_otherwise(elsewhere)
        for stage in (Stage.ASSEMBLE, Stage.CALIBRATE):
            reported = world.forget(stage)
            world.builds.run_task(world.event(stage))
            reported()
    for ref in [outcome.trained, *(r for s in outcome.segments for r in s.objects.values())]:
        assert zlib.crc32(world.builds._store.get(ref.key)) == ref.crc32, ref.key
    world.run(Stage.PUBLISH, Stage.PUBLISH)
    assert not world.index.verify().damages
    query = vectors(1, 9)[0]
    assert len(world.index.query(query, top_k=10).matches) == 10


def test_a_task_that_another_did_meanwhile_writes_nothing_more(world, monkeypatch):
    """What training learned, by which rows were dealt out since, is not exchanged for another."""
    world.run(Stage.PLAN, Stage.TRAIN)
    reported, before = world.forget(Stage.TRAIN), world.objects()
    learn = train.learn

    def slow(*given, **more):
        found = learn(*given, **more)
        reported()
        world.clock.ms += BUILD_LOOK_MS
        return replace(found, centers=np.nextafter(found.centers, np.float32(9)))

    monkeypatch.setattr(train, "learn", slow)
    done = world.builds.run_task(world.event(Stage.TRAIN))
    assert done["rows"] > 0
    assert world.objects() == before
    monkeypatch.undo()
    world.run(Stage.ASSIGN, Stage.PUBLISH)
    assert world.index.stats().rows == 1200


@pytest.mark.parametrize("reports", [True, False])
def test_a_task_that_runs_twice_at_once_exchanges_no_model(world, monkeypatch, reports):
    """Also within the time in which it does not look, and where the other died before it reported.

    Rows may have been dealt out by the first one.
    """
    world.run(Stage.PLAN, Stage.TRAIN)
    reported, before = world.forget(Stage.TRAIN), world.objects()
    learn = train.learn

    def other(*given, **more):
        found = learn(*given, **more)
        if reports:
            reported()
        fewer = max(int(found.bucket_of_cluster.max()) // 2, 1)
        return replace(found, bucket_of_cluster=np.minimum(found.bucket_of_cluster, fewer))

    monkeypatch.setattr(train, "learn", other)
    world.builds.run_task(world.event(Stage.TRAIN))
    monkeypatch.undo()
    assert world.objects() == before
    world.run(Stage.ASSIGN, Stage.PUBLISH)
    assert world.index.stats().rows == 1200


def test_of_two_reports_of_a_task_the_first_stays(world, monkeypatch):
    world.run(Stage.PLAN, Stage.PLAN)
    reported = world.forget(Stage.PLAN)
    key = keys.done_key(BUILD, Stage.PLAN, 0)
    reported()
    before = bytes(world.builds._store.get(key))
    monkeypatch.setattr("squash.maintain.bulk.run.read_report", lambda *_: None)
    world.clock.ms += 1
    world.builds.run_task(world.event(Stage.PLAN))
    assert bytes(world.builds._store.get(key)) == before


def test_a_task_of_a_build_that_was_cancelled_meanwhile_ends_before_it_writes(world, monkeypatch):
    world.run(Stage.PLAN, Stage.SAMPLE)
    learn = train.learn

    def slow(*given, **more):
        found = learn(*given, **more)
        world.index.cancel_build(BUILD)
        world.clock.ms += BUILD_LOOK_MS
        return found

    monkeypatch.setattr(train, "learn", slow)
    with pytest.raises(BuildStoppedError, match="cancelled"):
        world.builds.run_task(world.event(Stage.TRAIN))
    assert world.builds._store.get(keys.model_key(BUILD)) is None
    assert world.index.build_status(BUILD).state == "cancelled"
    monkeypatch.undo()
    assert world.index.resume_build(BUILD).state == "published"
