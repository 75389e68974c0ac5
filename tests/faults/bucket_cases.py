"""What can be done with vector buckets, each as one act on a store, and what it does to a dict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import TypeAlias

from fakes import FakeClock
from living import connect, copied
from squash.database import Database
from squash.errors import NotFoundError, SquashError
from squash.index import catalogue
from squash.index.buckets import BucketSettings, IndexSettings
from squash.storage import MemoryStore

Tags: TypeAlias = dict[str, str]


@dataclass(frozen=True)
class Seen:
    """What anybody finds: the tags of every bucket, and of every index its tags and its rows."""

    buckets: dict[str, Tags]
    indexes: dict[str, tuple[Tags, int]]


Effect: TypeAlias = Callable[[Seen], Seen | None]


@dataclass(frozen=True)
class Act:
    """Something a caller does; its effect is None where it must be refused."""

    name: str
    act: Callable[[Database], object]
    effect: Effect


def look(store: MemoryStore, number: int = 900) -> Seen:
    """Find all there is, by way of a handle that knows nothing yet."""
    database = connect(store, store._clock, number)
    buckets = database.vector_buckets
    found = {one.name: dict(one.settings.tags) for one in buckets.list()}
    listed = sorted(f"{one}/{name}" for one in found for name in buckets.index_names(one))
    configs = database.list_indexes()
    assert [config.name for config in configs] == sorted(config.name for config in configs)
    indexes = {}
    for config in configs:
        index = database.index(config.name)
        tags = dict(buckets.index_settings(catalogue.load(store, config.name)).tags)
        try:
            indexes[config.name] = (tags, index.stats().rows)
        except NotFoundError:
            # A drop was broken off as soon as it was one: to be repeated.
            listed.remove(config.name)
            continue
        assert not index.verify().damages
    assert listed == sorted(indexes), "an index is in a bucket that is there, and listed in it"
    return Seen(found, indexes)


@cache
def prepared() -> MemoryStore:
    """Return a store to be copied: a bucket with an index, an empty one, one that is no more."""
    store = MemoryStore(FakeClock())
    database = connect(store, store._clock, 1)
    buckets = database.vector_buckets
    buckets.create("media", BucketSettings({"a": "1"}))
    index = database.create_index("media/papers", dimension=2, tags={"t": "1"})
    for keys in (["a", "b"], ["c"]):
        index.put(keys=keys, vectors=[[1, 2]] * len(keys))
    buckets.create("empty", BucketSettings({"a": "2"}))
    buckets.create("gone")
    buckets.delete("gone")
    return store


def fresh() -> MemoryStore:
    store = copied(prepared())
    store._clock = FakeClock(store._clock.ms)
    return store


def _create(name: str, tags: Tags) -> Act:
    def effect(seen: Seen) -> Seen | None:
        return None if name in seen.buckets else replace(seen, buckets=seen.buckets | {name: tags})

    return Act(
        f"create {name}",
        lambda database: database.vector_buckets.create(name, BucketSettings(tags)),
        effect,
    )


def _delete(name: str) -> Act:
    def effect(seen: Seen) -> Seen | None:
        full = any(one.startswith(f"{name}/") for one in seen.indexes)
        if name not in seen.buckets or full:
            return None
        return replace(seen, buckets={k: v for k, v in seen.buckets.items() if k != name})

    return Act(f"delete {name}", lambda database: database.vector_buckets.delete(name), effect)


def _tag(name: str, tags: Tags) -> Act:
    def act(database: Database) -> None:
        buckets = database.vector_buckets
        buckets.change(buckets.get(name), lambda s: replace(s, tags={**s.tags, **tags}))

    def effect(seen: Seen) -> Seen | None:
        if name not in seen.buckets:
            return None
        return replace(seen, buckets=seen.buckets | {name: seen.buckets[name] | tags})

    return Act(f"tag {name}", act, effect)


def _create_index(name: str, tags: Tags) -> Act:
    def effect(seen: Seen) -> Seen | None:
        if name.partition("/")[0] not in seen.buckets or name in seen.indexes:
            return None
        return replace(seen, indexes=seen.indexes | {name: (tags, 0)})

    return Act(
        f"create {name}",
        lambda database: database.create_index(name, dimension=2, tags=tags),
        effect,
    )


def _drop(name: str) -> Act:
    def effect(seen: Seen) -> Seen | None:
        if name not in seen.indexes:
            return None
        return replace(seen, indexes={k: v for k, v in seen.indexes.items() if k != name})

    return Act(f"drop {name}", lambda database: database.drop_index(name), effect)


def _tag_index(name: str, tags: Tags) -> Act:
    def act(database: Database) -> None:
        entry = catalogue.load(database.store, name)
        database.vector_buckets.change_index(
            entry, lambda s: IndexSettings(tags={**s.tags, **tags})
        )

    def effect(seen: Seen) -> Seen | None:
        if name not in seen.indexes:
            return None
        old, rows = seen.indexes[name]
        return replace(seen, indexes=seen.indexes | {name: (old | tags, rows)})

    return Act(f"tag {name}", act, effect)


ACTS = (
    _create("new", {"n": "1"}),
    _create("gone", {"n": "2"}),
    _create("media", {"n": "3"}),
    _delete("empty"),
    _delete("media"),
    _tag("empty", {"b": "4"}),
    _create_index("empty/one", {"o": "5"}),
    _create_index("empty/plain", {}),
    _create_index("gone/one", {}),
    _drop("media/papers"),
    _tag_index("media/papers", {"p": "6"}),
)
RIVALS = (
    _create("new", {"r": "1"}),
    _create("gone", {"r": "2"}),
    _delete("empty"),
    _tag("empty", {"r": "3"}),
    _create_index("empty/one", {"r": "4"}),
    _create_index("media/other", {}),
    _drop("media/papers"),
    _delete("media"),
)


def does(act: Act, database: Database) -> bool:
    """Do it; tell whether it was done, or refused."""
    try:
        act.act(database)
    except SquashError:
        return False
    return True
