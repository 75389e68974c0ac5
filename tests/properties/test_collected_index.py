"""Random histories with garbage collected at random times, against every state that ever was."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collecting import DAY_S, HOUR_S, World
from living import snapshot_every
from squash.limits import GC_GRACE_MS
from squash.maintain.gc import find_needed, list_objects

WAITS_S = (HOUR_S // 2, 7 * HOUR_S, 13 * HOUR_S, 30 * HOUR_S)
KEYS = st.integers(0, 40)
STEPS = st.one_of(
    st.tuples(st.just("put"), st.lists(KEYS, unique=True, min_size=1, max_size=16)),
    st.tuples(st.just("put"), st.lists(KEYS, unique=True, min_size=1, max_size=3)),
    st.tuples(st.just("delete"), st.lists(KEYS, unique=True, min_size=1, max_size=8)),
    st.tuples(st.just("optimize"), st.none()),
    st.tuples(st.just("wait"), st.integers(0, 3)),
    st.tuples(st.just("gc"), st.sampled_from([HOUR_S, 12 * HOUR_S, DAY_S, 4 * DAY_S])),
    st.tuples(st.just("reopen"), st.none()),
)


@pytest.fixture(autouse=True)
def short_snapshots(monkeypatch):
    snapshot_every(monkeypatch, 4)


def left_over(world, horizon):
    """What nothing needs from the horizon on, and is older than the grace."""
    listed = list_objects(world.below)
    needed = find_needed(world.below, listed, horizon, lambda _: None)
    return [
        one.info.key
        for one in listed
        if not needed.keeps(one) and one.info.modified_ms < world.clock.ms - GC_GRACE_MS
    ]


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=st.lists(st.tuples(st.integers(0, 2), STEPS), min_size=4, max_size=40))
def test_every_state_from_the_horizon_on_is_as_it_was(steps):
    """Handles with old views write, fold, collect and read; what is old is gone, nothing else."""
    world = World()
    handles = [world.handle() for _ in range(3)]
    horizon = 0
    for number, (handle, (what, value)) in enumerate(steps):
        index = handles[handle]
        if what == "put":
            world.put(index, {f"k{key}": 100 * number + key for key in value})
        elif what == "delete":
            world.delete(index, [f"k{key}" for key in value])
        elif what == "optimize":
            world.optimize(index)
        elif what == "wait":
            world.clock.sleep(WAITS_S[value])
        elif what == "reopen":
            handles[handle] = world.handle()
        else:
            report = index.gc(value)
            horizon = max(horizon, report.horizon)
            assert not left_over(world, report.horizon)
            assert world.found(handles[(handle + 1) % 3]) == world.rows
            world.check(horizon)
    world.check(horizon)
