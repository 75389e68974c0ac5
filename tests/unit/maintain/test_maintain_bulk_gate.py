"""Between stages: what must be done, what may be left out and spent, and how far a build is."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from bulk_scene import BUILD, Scene, begin, config_of, rows_of
from fakes import CountedIds, FakeClock
from squash.errors import BuildStoppedError, DataError, NotFoundError, UnavailableError
from squash.maintain.bulk import gate, keys
from squash.maintain.bulk.batches import stage_tasks
from squash.maintain.bulk.context import BuildContext, TaskReport
from squash.maintain.bulk.estimates import estimate_of
from squash.maintain.bulk.gate import open_stage
from squash.maintain.bulk.records import read_report, write_json
from squash.maintain.bulk.request import Attempt, Limits
from squash.maintain.bulk.run import run_task
from squash.maintain.bulk.stages import STAGES, Stage, Task
from squash.maintain.bulk.status import build_status, list_builds
from squash.planning.build_costs import Workers
from squash.storage import CountingStore, MemoryStore

FUNCTIONS = Workers(count=10, memory_mb=1769, states=True)


def scene_of(*, rows=120, keyed=True, bad=frozenset()):
    generator = np.random.Generator(np.random.Philox(1))
    vectors = generator.standard_normal((rows, 4)).astype(np.float32)
    names = [f"k{i % 100}" for i in range(rows)] if keyed else None
    return Scene(
        config_of(4), names, vectors, [{} for _ in range(rows)], cuts=(30, 60, 90),
        batches=(1, 2, 3), bad=bad,
    )  # fmt: skip


class World:
    """A build that was planned, and what runs its tasks."""

    def __init__(self, scene, **attempt):
        self.scene = scene
        self.store = CountingStore(MemoryStore())
        self.clock = FakeClock()
        begin(self.store, scene)
        self.attempt(**attempt)
        request = self._request()
        detail = estimate_of(scene.plan(), request, 4, FUNCTIONS)
        report = TaskReport(rows=scene.plan().rows, begun_ms=1, ended_ms=2, detail=detail)
        write_json(self.store, keys.done_key(BUILD, Stage.PLAN, 0), report.to_json())

    def _request(self):
        from squash.maintain.bulk.records import read_request

        return read_request(self.store, BUILD)

    def attempt(self, number=1, *, bad=0, dollars=None, memory_mb=0, executor="local"):
        attempt = Attempt(number, executor, 5_000, Limits(bad, dollars), memory_mb)
        write_json(self.store, keys.attempt_key(BUILD, number), asdict(attempt))

    def stop(self, state, number=1, **more):
        value = {"state": state, "reason": "because", "stage": "assign", "at_ms": 7, **more}
        write_json(self.store, keys.stop_key(BUILD, number), value)

    def open(self, stage, **more):
        return open_stage(self.store, "x", BUILD, stage, **more)

    def status(self, **more):
        return build_status(self.store, "x", BUILD, **more)

    def run(self, stage, *, but=0, memory_mb=0):
        context = BuildContext(
            self.store, self.scene.config, None, self.clock, CountedIds(), None,
            memory_mb=memory_mb,
        )  # fmt: skip
        with rows_of(self.scene):
            for task in stage_tasks(self.store, "x", BUILD, stage)[but:]:
                run_task(context, task)

    def pretend(self, stage, tasks=1, **report):
        """Store reports of tasks that were never run."""
        for batch in range(tasks):
            made = TaskReport(rows=10, begun_ms=1_000, ended_ms=61_000, **report)
            write_json(self.store, keys.done_key(BUILD, stage, batch), made.to_json())


def test_a_stage_opens_when_those_before_it_are_done():
    """What is left is listed in its object, as events; what is not done before it is named."""
    world = World(scene_of())
    with pytest.raises(UnavailableError, match=r"cannot begin train: 4 of 4 tasks of sample"):
        world.open(Stage.TRAIN)
    with pytest.raises(UnavailableError, match="tasks of sample"):
        world.open(Stage.ASSEMBLE)
    assert len(world.open(Stage.SAMPLE)) == 4
    world.run(Stage.SAMPLE, but=1)
    left = world.open(Stage.SAMPLE)
    assert left == [Task("x", BUILD, Stage.SAMPLE, 0)]
    items = json.loads(bytes(world.store.get(keys.items_key(BUILD, Stage.SAMPLE))))
    assert [Task.from_json(item) for item in items] == left
    with pytest.raises(UnavailableError, match="1 of 4 tasks of sample"):
        world.open(Stage.TRAIN)
    world.run(Stage.SAMPLE)
    assert world.open(Stage.SAMPLE) == []
    assert json.loads(bytes(world.store.get(keys.items_key(BUILD, Stage.SAMPLE)))) == []
    assert world.open(Stage.TRAIN) == [Task("x", BUILD, Stage.TRAIN)]
    world.run(Stage.TRAIN)
    assert world.open(Stage.ENCODE) == []
    assert len(world.open(Stage.ASSIGN)) == 4


def test_the_first_stage_opens_without_a_plan():
    """Nothing is known yet but the request."""
    world = World(scene_of())
    world.store.delete([keys.plan_key(BUILD), keys.done_key(BUILD, Stage.PLAN, 0)])
    assert world.open(Stage.PLAN) == [Task("x", BUILD, Stage.PLAN)]
    with pytest.raises(UnavailableError, match="tasks of plan"):
        world.open(Stage.SAMPLE)
    assert world.status().rows == 0
    assert world.status().remaining_s is None
    assert world.status().estimate is None


def test_a_build_that_is_not_there_or_was_stopped_opens_nothing():
    """Whoever resumes it can."""
    world = World(scene_of())
    with pytest.raises(NotFoundError, match="squash build list"):
        open_stage(world.store, "x", "0" * 32, Stage.PLAN)
    world.stop("cancelled")
    with pytest.raises(BuildStoppedError, match="because"):
        world.open(Stage.SAMPLE)
    world.attempt(2)
    assert world.open(Stage.SAMPLE)


def test_too_many_bad_rows_together_stop_a_build():
    """Each batch is within the limit, all together are not; a higher limit goes on."""
    world = World(scene_of(bad=frozenset({1, 31, 61})), bad=2)
    for stage in (Stage.SAMPLE, Stage.TRAIN, Stage.ASSIGN):
        world.open(stage)
        world.run(stage)
    with pytest.raises(BuildStoppedError, match=r"3 of the rows cannot.*2 may.*resume.* 3 bad"):
        world.open(Stage.KEYS)
    world.attempt(2, bad=3)
    assert world.open(Stage.KEYS)


def test_too_many_replaced_rows_together_stop_a_build(monkeypatch):
    """The message says what to do about it."""
    world = World(scene_of())
    for stage in (Stage.SAMPLE, Stage.TRAIN, Stage.ASSIGN, Stage.KEYS):
        world.run(stage)
    assert world.open(Stage.ASSEMBLE)
    assert world.status().replaced == 20
    monkeypatch.setattr(gate, "BUILD_REPLACED_ROWS_MAX", 19)
    with pytest.raises(BuildStoppedError, match="remove the doubles"):
        world.open(Stage.ASSEMBLE)


def test_a_stage_that_would_spend_too_much_is_not_opened():
    """What is spent and what it will take are said; a higher limit, or none, goes on."""
    world = World(scene_of(), dollars=1e-9, memory_mb=1769)
    with pytest.raises(BuildStoppedError, match=r"resume with a higher limit"):
        world.open(Stage.SAMPLE)
    world.attempt(2, memory_mb=1769, dollars=10.0)
    assert world.open(Stage.SAMPLE)
    world.pretend(Stage.SAMPLE, 4, memory_mb=1769)
    spent = world.status().cost_usd
    gb_seconds = 4 * 60 * 1769 / 1024
    assert spent == pytest.approx(gb_seconds * 13.3334e-6 + 4 * 0.2e-6)
    world.attempt(3, memory_mb=1769, dollars=spent / 2)
    with pytest.raises(BuildStoppedError, match=f"{spent:.4f} dollars are spent"):
        world.open(Stage.TRAIN)
    assert world.open(Stage.SAMPLE) == []
    world.attempt(4, memory_mb=1769, executor="states")
    assert world.open(Stage.TRAIN)
    assert world.status().cost_usd > spent  # transitions


def test_what_is_left_of_a_stage_is_what_its_limit_is_held_against():
    """A stage that is nearly done goes on with a limit that all of it would pass."""
    world = World(scene_of(), memory_mb=1769)
    world.pretend(Stage.SAMPLE, 3, memory_mb=1769)
    report = read_report(world.store, Task("x", BUILD, Stage.PLAN))
    stages = {one["stage"]: one for one in report.detail["stages"]}
    spent, whole = world.status().cost_usd, stages["sample"]["cost_usd"]
    world.attempt(2, memory_mb=1769, dollars=spent + 0.3 * whole)
    assert len(world.open(Stage.SAMPLE)) == 1
    world.attempt(3, memory_mb=1769, dollars=spent + 0.2 * whole)
    with pytest.raises(BuildStoppedError):
        world.open(Stage.SAMPLE)


def test_a_status_tells_how_far_a_build_is():
    """Rows, tasks, costs and problems of each stage, in each state."""
    world = World(scene_of(bad=frozenset({5})), bad=1)
    status = world.status()
    assert (status.state, status.rows, status.bad, status.bad_key) == ("running", 120, 0, None)
    assert [stage.stage for stage in status.stages] == [stage.value for stage in STAGES]
    assert status.estimate.rows == 120
    assert status.remaining_s > 0
    world.run(Stage.SAMPLE, but=3)
    world.clock.sleep(5)
    status = world.status()
    sample = status.stages[2]
    assert (sample.tasks_done, sample.tasks) == (1, 4)
    for stage in (Stage.SAMPLE, Stage.TRAIN, Stage.ASSIGN, Stage.KEYS):
        world.run(stage)
    status = world.status()
    assert status.bad == 1
    assert world.store.list(status.bad_key)
    assert [(one.input, one.row) for one in status.problems] == [("file:///rows", 5)]
    assert status.replaced == 19  # what is bad is not replaced
    assert status.stages[4].rows == 120
    assert status.cost_usd > 0
    assert world.status(billed=False).cost_usd == 0
    assert status.updated_ms == world.clock.now_ms()
    assert status.snapshot is None


@pytest.mark.parametrize("state", ["cancelled", "failed", "stopped"])
def test_a_status_tells_why_a_build_ended(state):
    """With the file and row that caused it; a resumption runs again and remembers why."""
    world = World(scene_of())
    world.stop(state, input="s3://a/b.npy", row=7)
    status = world.status()
    assert status.state == state
    assert status.remaining_s is None
    (problem,) = status.problems
    assert (problem.stage, problem.message) == ("assign", "because")
    assert (problem.input, problem.row) == ("s3://a/b.npy", 7)
    world.attempt(2)
    status = world.status()
    assert (status.state, status.attempt, len(status.problems)) == ("running", 2, 1)


def test_a_build_that_bad_rows_stopped_tells_where_they_are_listed():
    """The task that found too many has stored its list, and no report."""
    world = World(scene_of(bad=frozenset({5})), bad=0)
    for stage in (Stage.SAMPLE, Stage.TRAIN):
        world.run(stage)
    with pytest.raises(BuildStoppedError):
        world.run(Stage.ASSIGN)
    world.stop("stopped")
    status = world.status()
    assert (status.state, status.bad) == ("stopped", 1)
    (listed,) = world.store.list(status.bad_key)
    assert b'"row": 5' in world.store.get(listed.key)


def test_what_is_published_stays_so():
    """Whatever else is noted: the commit is durable."""
    world = World(scene_of())
    world.stop("cancelled")
    world.pretend(Stage.PUBLISH, detail={"snapshot": 9})
    status = world.status()
    assert (status.state, status.snapshot, status.remaining_s) == ("published", 9, 0.0)


def test_a_long_build_is_looked_at_with_few_requests():
    """What is done is summed up by the gate after it: later looks read the sums alone."""
    rows = 800
    scene = replace(scene_of(rows=rows), cuts=tuple(range(1, rows)), batches=tuple(range(rows)))
    world = World(scene)
    world.pretend(Stage.SAMPLE, rows, requests={"get": 2})
    before = world.store.counts()
    first = world.status()
    assert (world.store.counts() - before).requests > rows
    world.open(Stage.TRAIN)
    before = world.store.counts()
    second = world.status()
    assert (world.store.counts() - before).requests < 20
    assert second == first
    assert second.stages[2].rows == 10 * rows


def test_what_cannot_be_read_is_named():
    """A damaged report, plan, stop or sum is an error that names the object."""
    for key, data in (
        (keys.done_key(BUILD, Stage.SAMPLE, 0), b"{"),
        (keys.done_key(BUILD, Stage.SAMPLE, 0), b'{"unknown": 1}'),
        (keys.plan_key(BUILD), b"[]"),
        (keys.stop_key(BUILD, 1), b'{"state": "odd", "reason": "x"}'),
        (keys.done_key(BUILD, Stage.PLAN, 0), b'{"detail": {"estimate": {"x": 1}}}'),
        (f"builds/{BUILD}/sums/sample", b'{"x": 1}'),
    ):
        world = World(scene_of())
        world.pretend(Stage.SAMPLE, 4)
        world.store.put(key, data)
        with pytest.raises(DataError, match="start the build anew") as caught:
            world.status()
        assert caught.value.object_key == key


def test_builds_are_listed_latest_first():
    """What is foreign, or half removed, is passed over."""
    world = World(scene_of())
    request = json.loads(bytes(world.store.get(keys.request_key(BUILD))))
    for name, created_ms in (("a" * 32, 5), ("b" * 32, 3)):
        write_json(world.store, keys.request_key(name), {**request, "created_ms": created_ms})
        attempt = Attempt(1, "local", created_ms)
        write_json(world.store, keys.attempt_key(name, 1), asdict(attempt))
    write_json(world.store, "builds/notes/x", {})
    write_json(world.store, f"builds/{'c' * 32}/done/plan-000000", {})
    found = [status.build for status in list_builds(world.store, "x")]
    assert found == ["a" * 32, "b" * 32, BUILD]
