"""Every public operation as one act on a small index, and what it does to a dict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

import numpy as np
import pytest

from fakes import FakeClock
from living import DIMENSION, NAME, SMALL, connect, copied, everything, shrink
from squash.database import Database, Index
from squash.storage import MemoryStore

State: TypeAlias = dict[str, tuple[bytes, dict]]
Effect: TypeAlias = Callable[[State], State]
COMMIT_ID = "f" * 32
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


def same(state: State) -> State:
    return state


# Indexes to begin with


def _aged(index: Index) -> None:
    """Partitions, flat segments, fresh rows and dead ones; the next commit brings a snapshot."""
    index.put(**rows([f"k{i}" for i in range(60)], 1))
    index.optimize(options=SMALL)
    index.put(**rows([f"k{i}" for i in range(5)], 2))
    index.put(**rows([f"k{i}" for i in range(50, 70)], 3))
    index.delete(keys=["k1", "k30", "k65"])
    index.put(**rows(["k2", "k66", "k71"], 4))
    index.delete(keys=["k2", "k10"])


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
        {"aged": _aged, "young": _young}[kind](index)
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
        return cls(store, clock)

    def database(self, number: int, store: Any = None) -> Database:
        return connect(store or self.store, self.clock, number, number)

    def found(self, number: int = 900) -> State:
        """Return what a fresh reader finds, by every way of reading."""
        index = self.database(number).index(NAME)
        state = everything(index, limit=17)
        for exact in (True, False):
            answer = index.query(QUERY, top_k=1000, exact=exact)
            assert {m.key: m.metadata for m in answer.matches} == {
                key: metadata for key, (_, metadata) in state.items()
            }
        got = index.get(keys=sorted(state))
        assert {r.key: (r.vector.tobytes(), r.metadata) for r in got} == state
        assert index.stats().rows == len(state)
        return state


@cache
def state_of(kind: str) -> State:
    """Return what a prepared index holds."""
    return World.of(kind).found()


# Operations


@dataclass(frozen=True)
class Operation:
    """Something a caller does, on a handle that has read nothing yet.

    `act` gives back what it read, if it reads; `seen` makes the same of a state. `conflicts` tells
    whether it may be refused because of what somebody else did.
    """

    name: str
    act: Callable[[Index], Any]
    effect: Effect = same
    seen: Callable[[State], Any] | None = None
    kind: str = "aged"
    conflicts: bool = False
    warm: bool = False
    """Whether the handle has read the index before."""


def _put_small(index: Index) -> None:
    index.put(**rows(["k3", "k52", "new1"], 9), commit_id=COMMIT_ID)


LARGE = [f"k{i}" for i in range(45, 72)]


def _put_large(index: Index) -> None:
    index.put(**rows(LARGE, 9), commit_id=COMMIT_ID)


def _passing(state: State) -> list[str]:
    return [key for key, (_, metadata) in state.items() if metadata["n"] < 2]


def _query(index: Index) -> Any:
    answer = index.query(QUERY, top_k=1000, include=("metadata", "vector"))
    return {m.key: (m.vector.tobytes(), m.metadata) for m in answer.matches}


def _query_exact(index: Index) -> Any:
    answer = index.query(QUERY, top_k=1000, filter=WHERE, exact=True)
    return {m.key: m.metadata for m in answer.matches}


def _get(index: Index) -> Any:
    keys = ["k3", "k30", "k52", "k71", "k8"]
    return {r.key: (r.vector.tobytes(), r.metadata) for r in index.get(keys=keys)}


def _got(state: State) -> State:
    return {key: state[key] for key in ("k3", "k30", "k52", "k71", "k8") if key in state}


def _list(index: Index) -> Any:
    page = index.list(limit=1000, include=("metadata", "vector"))
    return {r.key: (r.vector.tobytes(), r.metadata) for r in page.records}


def _delete(index: Index) -> None:
    index.delete(keys=["k0", "k5", "k52", "none"])


OPERATIONS = (
    Operation("put small", _put_small, lambda s: with_rows(s, ["k3", "k52", "new1"], 9)),
    Operation(
        "put small, warm", _put_small, lambda s: with_rows(s, ["k3", "k52", "new1"], 9), warm=True
    ),
    Operation("put large", _put_large, lambda s: with_rows(s, LARGE, 9)),
    Operation("delete", _delete, lambda s: without(s, ["k0", "k5", "k52"])),
    Operation(
        "delete by filter",
        lambda index: index.delete(filter=WHERE),
        lambda s: without(s, _passing(s)),
    ),
    Operation(
        "optimize first", lambda index: index.optimize(options=SMALL), kind="young", conflicts=True
    ),
    Operation("optimize again", lambda index: index.optimize(options=SMALL), conflicts=True),
    Operation("query", _query, seen=same),
    Operation("query, warm", _query, seen=same, warm=True),
    Operation(
        "query exactly",
        _query_exact,
        seen=lambda s: {key: s[key][1] for key in _passing(s)},
    ),
    Operation("get", _get, seen=_got),
    Operation("list", _list, seen=same),
    Operation(
        "verify", lambda index: [d.problem for d in index.verify().damages], seen=lambda _: []
    ),
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
    Rival("folds", lambda index: index.optimize(options=SMALL)),
)
