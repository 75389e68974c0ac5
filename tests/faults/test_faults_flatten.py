"""A put that flattens, with a store that fails at each call in turn, or a process that dies."""

import pytest
from fault_store import FaultStore, KilledError, unavailable

from simulated import Clock
from squash.clock import SystemIds
from squash.database import Database
from squash.errors import SquashError
from squash.index import fresh
from squash.runtime import Settings
from squash.storage import MemoryStore

BEFORE = 3


def connect(store):
    return Database(store, settings=Settings(), clock=Clock(), ids=SystemIds())


def put(index, number):
    return index.put(
        keys=[f"k{number}", "same"], vectors=[[number, 1]] * 2, metadata=[{"v": number}] * 2
    )


def records(store):
    page = connect(store).index("x").list(include=["metadata"])
    return {one.key: one.metadata["v"] for one in page.records}


def copied(store):
    copy = MemoryStore()
    for info in store.list(""):
        copy.put(info.key, store.get(info.key))
    return copy


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("error", [unavailable, KilledError])
def test_faults_at_every_step_of_a_put_that_flattens(monkeypatch, when, error):
    """Whatever fails, nothing acknowledged is lost, no key is there twice, and all goes on.

    A flat segment is there already, so that the new one takes it in."""
    monkeypatch.setattr(fresh, "FLATTEN_COMMITS", BEFORE)
    monkeypatch.setattr(fresh, "FLATTEN_AGAIN_COMMITS", 1)
    start = MemoryStore()
    index = connect(start).create_index("x", dimension=2)
    for number in range(2 * BEFORE - 1):
        put(index, number)
    held = records(start)
    count = FaultStore(copied(start))
    put(connect(count).index("x"), 99)
    assert any("segments/" in call for call in count.log), "nothing was flattened"
    points = len(count.log)
    assert points > 10
    for at in range(points):
        store = copied(start)
        faulty = FaultStore(store, at=[at], when=when, error=error)
        acknowledged = False
        try:
            put(connect(faulty).index("x"), 99)
            acknowledged = True
        except (SquashError, KilledError):
            pass
        found = records(store)
        after = held | {"k99": 99, "same": 99}
        assert found == after or (not acknowledged and found == held), f"at call {at}"
        again = connect(store).index("x")
        put(again, 100)
        assert records(store) == found | {"k100": 100, "same": 100}
        assert again.verify().damages == ()
