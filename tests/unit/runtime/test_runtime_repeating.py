"""What comes with the commit id of another write: refused, whatever either was."""

from __future__ import annotations

import itertools

import pytest
from writing_world import everything, handles

from squash.errors import ConflictError, UnavailableError
from squash.index import writer
from squash.storage import MemoryStore

ID = "ab" * 16
MANY = [f"m{i}" for i in range(5)]  # of which segments are made

WRITES = {
    "put": lambda index: index.put(keys=["a"], vectors=[[5, 6]], metadata=[{"n": 1}], commit_id=ID),
    "put of another": lambda index: index.put(keys=["b"], vectors=[[5, 6]], commit_id=ID),
    "put of many": lambda index: index.put(keys=MANY, vectors=[[5, 6]] * 5, commit_id=ID),
    "put of more": lambda index: index.put(keys=[*MANY, "z"], vectors=[[5, 6]] * 6, commit_id=ID),
    "patch": lambda index: index.patch(
        keys=["a", "b"], metadata=[{"m": 2}, {"m": 3}], commit_id=ID
    ),
    "delete": lambda index: index.delete(keys=["a"], commit_id=ID),
    "delete of another": lambda index: index.delete(keys=["b"], commit_id=ID),
    "delete what passes": lambda index: index.delete(filter={"n": {"$exists": True}}, commit_id=ID),
    "restore": lambda index: index.restore(1, commit_id=ID),
    "restore of another": lambda index: index.restore(2, commit_id=ID),
}
# Of which keys a filter deleted is known only to who did it.
ALIKE = {("delete", "delete what passes"), ("delete of another", "delete what passes")}


def begun(count: int = 2, **parts):
    made = handles(count, **parts)
    made[0].put(keys=["a", "b"], vectors=[[1, 2], [3, 4]], metadata=[{"n": 1}, {"n": 2}])
    made[0].put(keys=["c"], vectors=[[1, 2]])
    made[0].patch(keys=["c"], metadata=[{"m": 3}])
    return made


@pytest.mark.parametrize("between", [0, 70], ids=["at once", "after a snapshot"])
@pytest.mark.parametrize("first", WRITES)
def test_another_write_is_refused(first, between, monkeypatch):
    """Nothing is written of it; the same write is answered as it was, by whoever asks."""
    monkeypatch.setattr(writer, "INLINE_COMMIT_ROWS_MAX", 4)
    one, two = begun()
    done = WRITES[first](one)
    for number in range(between):
        two.put(keys=["other"], vectors=[[3, 4]], metadata=[{"i": number}])
    kept, newest = everything(one), one.backlog().snapshot
    for second, index in itertools.product(WRITES, (one, two)):
        again = WRITES[second]
        if first == second or (first, second) in ALIKE:
            assert again(index).snapshot == done.snapshot
            continue
        with pytest.raises(ConflictError, match=f"snapshot {done.snapshot}; nothing") as caught:
            again(index)
        assert caught.value.field == "commit_id"
    assert everything(one) == everything(two) == kept
    assert one.backlog().snapshot == newest


def test_a_commit_that_cannot_be_read_ends_no_write_in_an_error(caplog):
    """What is durable was done, so it is said to be; the log has why it was not compared."""

    class NoOld(MemoryStore):
        refuses = False

        def get(self, key):
            if self.refuses and "/log/" in key and key.endswith("4"):
                raise UnavailableError("the store is away")
            return super().get(key)

    store = NoOld()
    one, two = begun(store=store)
    done = WRITES["put"](one)
    for number in range(70):
        two.put(keys=["other"], vectors=[[3, 4]], metadata=[{"i": number}])
    store.refuses = True
    assert WRITES["put"](two) == done
    assert "not compared" in caplog.text
