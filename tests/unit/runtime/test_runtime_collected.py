"""Who reads while what they read is collected goes over to the newest snapshot."""

import pytest

from collecting import DAY_S, HOUR_S, World, listed, vectors_of
from living import snapshot_every
from squash.errors import ChecksumError, NotFoundError
from squash.runtime import session as session_module


@pytest.fixture(autouse=True)
def short_snapshots(monkeypatch):
    snapshot_every(monkeypatch, 2)


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
        stopped = Stopped(world, index._session._local.search_one)
        monkeypatch.setattr(index._session, "_local", type("S", (), {"search_one": stopped})())
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
    assert stopped.calls


def test_damage_is_still_damage(world):
    """Nothing newer is there: what is missing is said."""
    for info in list(world.below.list("segments/")):
        world.below.delete([info.key])
    index = world.handle()
    with pytest.raises(ChecksumError):
        index.query(vectors_of([1])[0])
    with pytest.raises(ChecksumError):
        index.get(keys=["k1"])


def test_a_state_that_a_newer_snapshot_leads_to(world, monkeypatch):
    """Who has read on from a snapshot that was collected since finds what it named elsewhere."""
    snapshot_every(monkeypatch, 100)
    writing = world.handle()
    world.delete(writing, ["k1", "k11", "k21"])
    writing.gc()  # which leaves a snapshot
    reading = world.handle()
    assert listed(reading) == world.rows
    world.delete(writing, ["k2", "k12", "k22"])
    writing.gc()
    last = max(world.history)
    for number in range(4):
        world.put(writing, {f"new{number}": number})
    assert reading.list(as_of=last + 1).records
    world.clock.sleep(2 * DAY_S)
    world.put(writing, {"newer": 1})
    assert listed(reading) == world.rows
    assert world.handle().gc(retention_s=HOUR_S).removed["bitmaps"].objects
    found = {one.key: one.metadata["v"] for one in reading.list(as_of=last + 2).records}
    assert found == world.history[last + 2]
    assert reading.restore(last + 3).rows == len(world.history[last + 3])


def test_older_snapshots_that_were_collected_say_so(world):
    """Before the oldest stored snapshot what is missing was collected; after it, it is damage."""
    index = world.handle()
    for i in range(3):
        world.put(index, {f"k{i}": 200 + i})
    world.optimize(index)
    old = world.handle()
    assert old.list(as_of=1).records
    world.clock.sleep(2 * DAY_S)
    report = index.gc(retention_s=HOUR_S)
    assert report.horizon > 2
    for reader in (world.handle(), old):
        for ask in (
            lambda reader=reader: reader.list(as_of=1),
            lambda reader=reader: reader.get(keys=["k1"], as_of=2),
            lambda reader=reader: reader.query(vectors_of([1])[0], as_of=2),
        ):
            try:
                assert ask()  # what it holds in memory it may still tell
                assert reader is old
            except NotFoundError as error:
                assert "collected" in str(error)
    # A commit may be spared whose segment is gone: it is younger than what it names.
    restored = World()
    index = restored.handle()
    restored.put(index, {f"k{i}": i for i in range(30)})
    restored.optimize(index)
    gone = [info.key for info in restored.below.list("segments/")]
    restored.put(index, {"a": 1})
    restored.optimize(index)
    assert index._session._views.known().state.snapshot_sequence == 4
    for info in list(restored.below.list("snapshots/")):
        if info.key != min(one.key for one in restored.below.list("snapshots/")):
            restored.below.delete([info.key])
    restored.below.delete(gone)
    for ask in (
        lambda: restored.handle().list(as_of=2),
        lambda: restored.handle().get(keys=["k1"], as_of=2),
        lambda: restored.handle().query(vectors_of([1])[0], as_of=2),
    ):
        with pytest.raises(NotFoundError, match="collected"):
            ask()
