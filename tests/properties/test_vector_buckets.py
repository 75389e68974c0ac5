"""Vector buckets, their indexes and all their settings against a dict, by several handles."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from fakes import FakeClock
from living import connect
from squash.errors import ConflictError, NotFoundError
from squash.index import catalogue
from squash.index.buckets import BucketSettings
from squash.storage import MemoryStore

HANDLES = 3
BUCKETS = ("aaa", "b.b", "c-c")
INDEXES = ("one", "t-o")
handles = st.integers(0, HANDLES - 1)
buckets = st.sampled_from(BUCKETS)
indexes = st.sampled_from(INDEXES)
tags = st.dictionaries(st.sampled_from("xyz"), st.text(max_size=3), max_size=2)


@dataclass
class Bucket:
    """What must be found of one."""

    tags: dict[str, str]
    policy: str | None = None
    indexes: dict[str, tuple[dict[str, str], set[str]]] = field(default_factory=dict)


class VectorBucketMachine(RuleBasedStateMachine):
    """Each handle remembers what it read; whatever another did, it is right."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.store = MemoryStore(self.clock)
        self.databases = [connect(self.store, self.clock, n + 1, n) for n in range(HANDLES)]
        self.begun = 0
        self.model: dict[str, Bucket] = {}

    def of(self, handle: int):
        return self.databases[handle].vector_buckets

    @rule(handle=handles, name=buckets, tags=tags, policy=st.none() | st.text(max_size=3))
    def create(self, handle, name, tags, policy):
        given = BucketSettings(tags, policy)
        if name in self.model:
            with pytest.raises(ConflictError):
                self.of(handle).create(name, given)
        else:
            self.of(handle).create(name, given)
            self.model[name] = Bucket(dict(tags), policy)

    @rule(handle=handles, name=buckets)
    def delete(self, handle, name):
        found = self.model.get(name)
        if found is None or found.indexes:
            with pytest.raises(NotFoundError if found is None else ConflictError):
                self.of(handle).delete(name)
        else:
            self.of(handle).delete(name)
            del self.model[name]

    @rule(handle=handles, name=buckets, tags=tags)
    def tag(self, handle, name, tags):
        if name not in self.model:
            with pytest.raises(NotFoundError):
                self.of(handle).get(name)
            return
        mine = self.of(handle)
        mine.change(mine.get(name), lambda s: replace(s, tags={**s.tags, **tags}))
        self.model[name].tags.update(tags)

    @rule(handle=handles, name=buckets, policy=st.none() | st.text(max_size=3))
    def set_policy(self, handle, name, policy):
        if name in self.model:
            mine = self.of(handle)
            mine.change(mine.get(name), lambda s: replace(s, policy=policy))
            self.model[name].policy = policy

    @rule(handle=handles, bucket=buckets, index=indexes, tags=tags)
    def create_index(self, handle, bucket, index, tags):
        def act():
            self.databases[handle].create_index(f"{bucket}/{index}", dimension=2, tags=tags)

        found = self.model.get(bucket)
        if found is None or index in found.indexes:
            with pytest.raises(NotFoundError if found is None else ConflictError):
                act()
        else:
            act()
            found.indexes[index] = (dict(tags), set())

    @rule(handle=handles, bucket=buckets, index=indexes)
    def drop_index(self, handle, bucket, index):
        found = self.model.get(bucket)
        if found is None or index not in found.indexes:
            with pytest.raises(NotFoundError):
                self.databases[handle].drop_index(f"{bucket}/{index}")
        else:
            self.databases[handle].drop_index(f"{bucket}/{index}")
            del found.indexes[index]

    @rule(handle=handles, bucket=buckets, index=indexes, tags=tags)
    def tag_index(self, handle, bucket, index, tags):
        found = self.model.get(bucket)
        if found is not None and index in found.indexes:
            entry = catalogue.load(self.store, f"{bucket}/{index}")
            self.of(handle).change_index(entry, lambda s: replace(s, tags={**s.tags, **tags}))
            found.indexes[index][0].update(tags)

    @rule(handle=handles, bucket=buckets, index=indexes, key=st.sampled_from("kl"))
    def put(self, handle, bucket, index, key):
        found = self.model.get(bucket)
        if found is not None and index in found.indexes:
            opened = self.databases[handle].index(f"{bucket}/{index}")
            opened.put(keys=[key], vectors=[[1, 2]])
            found.indexes[index][1].add(key)

    @rule(handle=handles, hours=st.sampled_from([0, 1, 30]))
    def collect(self, handle, hours):
        self.clock.sleep(hours * 3_600 + 1)
        report = self.databases[handle].gc()
        assert not report.failed
        assert not report.left

    @rule(minutes=st.sampled_from([1, 9, 11, 61]))
    def wait(self, minutes):
        self.clock.sleep(minutes * 60)

    @rule(handle=handles)
    def forget(self, handle):
        """A process that ended, and another."""
        self.databases[handle] = connect(self.store, self.clock, handle + 1, handle)
        # It gives no id that one before it gave, as two at the same time of the clock would.
        self.begun += 1
        self.databases[handle]._ids._next = 1_000_000 * self.begun

    @invariant()
    def what_is_found_is_what_must_be(self):
        for database in self.databases:
            mine = database.vector_buckets
            assert {
                one.name: (dict(one.settings.tags), one.settings.policy) for one in mine.list()
            } == {name: (one.tags, one.policy) for name, one in self.model.items()}
        for name, one in self.model.items():
            assert list(mine.index_names(name)) == sorted(one.indexes)
            for index, (its_tags, keys) in one.indexes.items():
                entry = catalogue.load(self.store, f"{name}/{index}")
                assert mine.index_settings(entry).tags == its_tags
                page = database.index(f"{name}/{index}").list()
                assert {record.key for record in page.records} == keys
        assert [config.name for config in database.list_indexes()] == [
            f"{name}/{index}"
            for name, one in sorted(self.model.items())
            for index in sorted(one.indexes)
        ]


TestVectorBuckets = VectorBucketMachine.TestCase
TestVectorBuckets.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
