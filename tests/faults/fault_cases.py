"""Every public operation as one act on a small index, and what it does to a dict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, TypeAlias

import numpy as np
import pytest

from fakes import FakeClock
from living import DIMENSION, NAME, SMALL, connect, copied, everything, shrink
from squash.database import Database, Index
from squash.storage import MemoryStore

State: TypeAlias = dict[str, tuple[bytes, dict]]
# None: the operation is refused in this state.
Effect: TypeAlias = Callable[[State], State | None]
COMMIT_ID = "f" * 32
DAY_S = 86_400
RETENTION_S = 3_600
WHERE = {"n": {"$lt": 2}}
QUERY = np.array([0.3, -0.2, 0.5, 0.1])


def rows(keys: list[str], value: int) -> dict[str, Any]:
    """Make rows that depend on their key and a value alone."""
    vectors = np.empty((len(keys), DIMENSION), dtype=np.float32)
    for vector, key in zip(vectors, keys, strict=True):
        vector[:] = np.random.default_rng([value, *key.encode()]).normal(size=DIMENSION)
    numbers = [(value + sum(key.encode())) % 5 for key in keys]
    metadata = [{"n": n, "value": value} for n in numbers]
    return {"keys": keys, "vectors": vectors, "metadata": metadata}


def with_rows(state: State, keys: list[str], value: int) -> State:
    made = rows(keys, value)
    return state | {
        key: (vector.tobytes(), metadata)
        for key, vector, metadata in zip(keys, made["vectors"], made["metadata"], strict=True)
    }


def without(state: State, keys: list[str]) -> State:
    return {key: row for key, row in state.items() if key not in keys}


def patched(state: State, keys: list[str], patch: dict) -> State:
    merged = {
        key: {name: one for name, one in (state[key][1] | patch).items() if one is not None}
        for key in keys
    }
    return state | {key: (state[key][0], merged[key]) for key in keys}


def same(state: State) -> State:
    return state


# Indexes to begin with


def _aged(index: Index) -> None:
    """Partitions, flat segments, fresh rows and dead ones."""
    index.put(**rows([f"k{i}" for i in range(60)], 1))
    index.optimize(options=SMALL)
    index.put(**rows([f"k{i}" for i in range(5)], 2))
    index.put(**rows([f"k{i}" for i in range(50, 70)], 3))
    index.delete(keys=["k1", "k30", "k65"])
    index.put(**rows(["k2", "k66", "k71"], 4))
    index.delete(keys=["k2", "k10"])


def _old(index: Index) -> None:
    """Whoever comes two days later finds that most of what lies there is garbage."""
    _aged(index)
    index.optimize(options=SMALL, full=True)
    index.put(**rows(["k73"], 6))


def _young(index: Index) -> None:
    """Never folded."""
    index.put(**rows([f"k{i}" for i in range(20)], 1))
    index.put(**rows([f"k{i}" for i in range(15, 25)], 2))
    index.delete(keys=["k1", "k16"])


@cache
def prepared(kind: str) -> MemoryStore:
    """Return a store with an index in it, to be copied; it is made once."""
    store = MemoryStore(FakeClock())
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch)
        index = connect(store, store._clock, 1).create_index(NAME, dimension=DIMENSION)
        {"aged": _aged, "young": _young, "old": _old}[kind](index)
    return store


@dataclass
class World:
    """A copy of a prepared index, and who looks at it without faults."""

    store: MemoryStore
    clock: FakeClock

    @classmethod
    def of(cls, kind: str) -> World:
        store, clock = copied(prepared(kind)), FakeClock()
        store._clock = clock
        clock.sleep(2 * DAY_S if kind == "old" else 1)
        return cls(store, clock)

    def database(self, number: int, store: Any = None) -> Database:
        return connect(store or self.store, self.clock, number, number)

    def found(self, number: int = 900, as_of: int | None = None) -> State:
        """Return what a fresh reader finds, by every way of reading."""
        index = self.database(number).index(NAME)
        state = everything(index, limit=50, as_of=as_of)
        for exact in (True, False):
            answer = index.query(QUERY, top_k=1000, exact=exact, as_of=as_of)
            assert {m.key: m.metadata for m in answer.matches} == {
                key: metadata for key, (_, metadata) in state.items()
            }
        got = index.get(keys=sorted(state), as_of=as_of)
        assert {r.key: (r.vector.tobytes(), r.metadata) for r in got} == state
        assert as_of is not None or index.stats().rows == len(state)
        return state


@cache
def state_of(kind: str) -> State:
    """Return what a prepared index holds."""
    return World.of(kind).found()


# Operations


@dataclass(frozen=True)
class Operation:
    """Something a caller does, and what it does to a state.

    `act` gives back what it read, if it reads; `seen` makes the same of a state. `conflicts` tells
    whether it may be refused because of what somebody else did.

    A handle is "cold" if it has read nothing yet, "warm" if it has read the newest snapshot, and
    "stale" if the index was folded, and collected days later, after it had read.
    """

    name: str
    act: Callable[[Index], Any]
    effect: Effect = same
    seen: Callable[[State], Any] | None = None
    kind: str = "aged"
    conflicts: bool = False
    handle: Literal["cold", "warm", "stale"] = "cold"


FEW = ["k3", "k52", "new1"]
LARGE = [f"k{i}" for i in range(45, 72)]
ABSENT = ["k1", "rival"]
GONE = ["k0", "k5", "k52"]
SOME = ["k3", "k30", "k52", "k71", "k8"]
PATCH = {"n": None, "value": 77, "more": ["x"]}
AGED_SNAPSHOT = 7
PAST_SNAPSHOT = 5


def _put_small(index: Index) -> None:
    index.put(**rows(FEW, 9), commit_id=COMMIT_ID)


def _put_large(index: Index) -> None:
    index.put(**rows(LARGE, 9), commit_id=COMMIT_ID)


def _put_if_absent(index: Index) -> None:
    index.put(**rows(ABSENT, 9), if_absent=True, commit_id=COMMIT_ID)


def _put_if_snapshot(index: Index) -> None:
    index.put(**rows(FEW, 9), if_snapshot=AGED_SNAPSHOT, commit_id=COMMIT_ID)


def _patch(index: Index) -> None:
    index.patch(keys=["k3", "k52"], metadata=[PATCH, PATCH], commit_id=COMMIT_ID)


def _delete(index: Index) -> None:
    index.delete(keys=[*GONE, "none"], commit_id=COMMIT_ID)


def _delete_where(index: Index) -> None:
    index.delete(filter=WHERE, commit_id=COMMIT_ID)


def _optimize(index: Index) -> None:
    index.optimize(options=SMALL)


def _rebuild(index: Index) -> None:
    index.optimize(options=SMALL, full=True)


def _collect(index: Index) -> None:
    index.gc(RETENTION_S)


def _passing(state: State) -> list[str]:
    return [key for key, (_, metadata) in state.items() if metadata.get("n", 9) < 2]


def _query(index: Index) -> Any:
    answer = index.query(QUERY, top_k=1000, include=("metadata", "vector"))
    return {m.key: (m.vector.tobytes(), m.metadata) for m in answer.matches}


def _query_exactly(index: Index) -> Any:
    answer = index.query(QUERY, top_k=1000, filter=WHERE, exact=True)
    return {m.key: m.metadata for m in answer.matches}


def _query_the_past(index: Index) -> Any:
    answer = index.query(QUERY, top_k=1000, as_of=PAST_SNAPSHOT)
    return {m.key: m.metadata for m in answer.matches}


def _get(index: Index) -> Any:
    return {r.key: (r.vector.tobytes(), r.metadata) for r in index.get(keys=SOME)}


def _list(index: Index) -> Any:
    page = index.list(limit=1000, include=("metadata", "vector"))
    return {r.key: (r.vector.tobytes(), r.metadata) for r in page.records}


def _export(index: Index) -> Any:
    found = {}
    for batch in index.export_batches():
        parts = zip(batch.keys, batch.vectors, batch.metadata, strict=True)
        found |= {key: (vector.tobytes(), metadata) for key, vector, metadata in parts}
    return found


def _after_put(state: State) -> State:
    return with_rows(state, FEW, 9)


def _if_unchanged(state: State) -> State | None:
    return _after_put(state) if state == state_of("aged") else None


def _if_absent(state: State) -> State | None:
    return None if state.keys() & ABSENT else with_rows(state, ABSENT, 9)


def _after_delete_where(state: State) -> State:
    return without(state, _passing(state))


def _passing_metadata(state: State) -> Any:
    return {key: state[key][1] for key in _passing(state)}


def _got(state: State) -> State:
    return {key: state[key] for key in SOME if key in state}


def _past(state: State) -> Any:
    """Return the state after commit 5 of the aged index, which no other changes."""
    return {
        key: metadata
        for key, (_, metadata) in World.of("aged").found(902, as_of=PAST_SNAPSHOT).items()
    }


def _verify(index: Index) -> int:
    return len(index.verify().damages)


OPERATIONS = (
    Operation("put small", _put_small, _after_put),
    Operation("put small, warm", _put_small, _after_put, handle="warm"),
    Operation("put small, stale", _put_small, _after_put, handle="stale"),
    Operation("put large", _put_large, lambda s: with_rows(s, LARGE, 9)),
    Operation("put large, stale", _put_large, lambda s: with_rows(s, LARGE, 9), handle="stale"),
    Operation("put if absent", _put_if_absent, _if_absent, conflicts=True),
    Operation("put if snapshot", _put_if_snapshot, _if_unchanged, conflicts=True),
    Operation("patch", _patch, lambda s: patched(s, ["k3", "k52"], PATCH)),
    Operation("patch, stale", _patch, lambda s: patched(s, ["k3", "k52"], PATCH), handle="stale"),
    Operation("delete", _delete, lambda s: without(s, GONE)),
    Operation("delete by filter", _delete_where, _after_delete_where),
    Operation("delete by filter, stale", _delete_where, _after_delete_where, handle="stale"),
    Operation("optimize first", _optimize, kind="young", conflicts=True),
    Operation("optimize again", _optimize, conflicts=True),
    Operation("optimize again, old", _optimize, kind="old", conflicts=True),
    Operation("optimize, stale", _optimize, handle="stale", conflicts=True),
    Operation("optimize all", _rebuild, conflicts=True),
    Operation("optimize all, stale", _rebuild, handle="stale", conflicts=True),
    Operation("optimize all, old", _rebuild, kind="old", conflicts=True),
    Operation("gc", _collect, kind="old"),
    Operation("query", _query, seen=same),
    Operation("query, warm", _query, seen=same, handle="warm"),
    Operation("query, stale", _query, seen=same, handle="stale"),
    Operation("query exactly", _query_exactly, seen=_passing_metadata),
    Operation("query exactly, stale", _query_exactly, seen=_passing_metadata, handle="stale"),
    Operation("query the past", _query_the_past, seen=_past),
    Operation("get", _get, seen=_got),
    Operation("get, stale", _get, seen=_got, handle="stale"),
    Operation("list", _list, seen=same),
    Operation("export", _export, seen=same),
    Operation("export, old", _export, seen=same, kind="old"),
    Operation("verify", _verify, seen=lambda _: 0),
    Operation("verify, old", _verify, seen=lambda _: 0, kind="old"),
    Operation("verify, stale", _verify, seen=lambda _: 0, handle="stale"),
    Operation("count", lambda index: index.stats().rows, seen=len),
)


# What somebody else does meanwhile


@dataclass(frozen=True)
class Rival:
    """What another process does at the worst moment."""

    name: str
    act: Callable[[Index], Any]
    effect: Effect = same


# k3 passes WHERE as it is, and not as the rival puts it: a delete by filter must spare it then.
RIVAL_KEYS = ["k3", "k20", "rival"]
RIVALS = (
    Rival(
        "puts",
        lambda index: index.put(**rows(RIVAL_KEYS, 11)),
        lambda s: with_rows(s, RIVAL_KEYS, 11),
    ),
    Rival("folds", _rebuild),
    Rival("collects", _collect),
)
