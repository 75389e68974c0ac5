"""Who reads while what they read is collected goes over to the newest snapshot."""

import pytest

from collecting import DAY_S, HOUR_S, World, listed, vectors_of
from squash.errors import ChecksumError
from squash.index import log as log_module
from squash.runtime import session as session_module


@pytest.fixture(autouse=True)
def short_snapshots(monkeypatch):
    monkeypatch.setattr(log_module, "SNAPSHOT_EVERY_COMMITS", 2)


class Stopped:
    """Stands still before its first reading, for as long as it takes to collect what it reads."""

    def __init__(self, world, act):
        self._world = world
        self._act = act
        self.calls = 0

    def __call__(self, *args):
        self.calls += 1
        if self.calls == 1:
            other = self._world.handle()
            self._world.put(other, {f"k{i}": 100 + i for i in range(30)})
            self._world.optimize(other)
            self._world.put(other, {"new": 1})
            self._world.clock.sleep(2 * DAY_S)
            assert other.gc(retention_s=HOUR_S).total.objects
        return self._act(*args)


@pytest.fixture
def world():
    world = World()
    index = world.handle()
    world.put(index, {f"k{i}": i for i in range(30)})
    world.optimize(index)
    return world


@pytest.mark.parametrize("what", ["query", "get", "list"])
def test_what_was_collected_meanwhile_is_read_anew(world, monkeypatch, what):
    name = {"get": "records_by_key", "list": "record_page"}.get(what)
    index = world.handle()
    if name is None:
        stopped = Stopped(world, index._session._searcher.search)
        monkeypatch.setattr(index._session, "_searcher", type("S", (), {"search": stopped})())
        answer = index.query(vectors_of([103])[0], top_k=1)
        found = {match.key: match.metadata["v"] for match in answer.matches}
        assert found == {"k3": 103}
        assert answer.snapshot == max(world.history)
    else:
        stopped = Stopped(world, getattr(session_module, name))
        monkeypatch.setattr(session_module, name, stopped)
        if what == "get":
            assert [one.metadata["v"] for one in index.get(keys=["k3"])] == [103]
        else:
            assert listed(index) == world.rows
    assert stopped.calls >= 2


def test_damage_is_still_damage(world):
    """Nothing newer is there: what is missing is said."""
    for info in list(world.below.list("segments/")):
        world.below.delete([info.key])
    index = world.handle()
    with pytest.raises(ChecksumError):
        index.query(vectors_of([1])[0])
    with pytest.raises(ChecksumError):
        index.get(keys=["k1"])
