"""Tasks between files and partitions, killed at every step: who does them again leaves the same."""

import numpy as np
import pytest
from fault_store import FaultStore, KilledError

from bulk_scene import BUILD, Scene, begin, config_of, objects, rows_of
from fakes import CountedIds, FakeClock
from squash.maintain.bulk import keys
from squash.maintain.bulk.batches import stage_tasks
from squash.maintain.bulk.context import BuildContext
from squash.maintain.bulk.run import run_task
from squash.maintain.bulk.stages import Stage
from squash.storage import CountingStore, MemoryStore

VECTORS = np.random.default_rng(4).standard_normal((60, 4)).astype(np.float32)
SCENE = Scene(
    config_of(4), [f"k{i % 45}" for i in range(60)], VECTORS, [{"n": i} for i in range(60)],
    cuts=(20, 40), batches=(2,), bad=frozenset({7}), key_ranges=2,
)  # fmt: skip


def run(store, *stages):
    context = BuildContext(
        CountingStore(store), SCENE.config, None, FakeClock(), CountedIds(), None
    )
    with rows_of(SCENE):
        for stage in stages:
            for task in stage_tasks(context.store, "x", BUILD, stage):
                run_task(context, task)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("stage", [Stage.ASSIGN, Stage.KEYS])
def test_a_task_killed_at_any_step_is_done_again(stage, when):
    """Whatever was stored by then, in whatever order, the end is as if nothing had happened."""
    store = MemoryStore()
    begin(store, SCENE)
    run(store, Stage.SAMPLE, Stage.TRAIN)
    if stage is Stage.KEYS:
        run(store, Stage.ASSIGN)
    before = {info.key for info in store.list("builds/")}
    counting = FaultStore(store)
    run(counting, stage)
    expected = objects(store)
    for step in range(len(counting.log)):
        made = {info.key for info in store.list("builds/")} - before
        store.delete(made)
        with pytest.raises(KilledError):
            run(FaultStore(store, at=[step], when=when, error=KilledError), stage)
        run(store, stage)
        assert objects(store) == expected
    assert store.get(keys.done_key(BUILD, stage, 0))
