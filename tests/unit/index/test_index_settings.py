"""Settings: the newest version holds, no change is lost, and what is read is checked."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from index_world import CountedIds, FakeClock

from squash import limits
from squash.clock import SystemClock, SystemIds
from squash.errors import (
    ChecksumError,
    ConflictError,
    DataError,
    ThrottledError,
    TooLargeError,
    UnavailableError,
    UnsupportedFormatError,
)
from squash.index.settings import SettingsLog, Version, check_settings
from squash.storage import CountingStore, FolderStore, MemoryStore

PREFIX = "here/settings/"


def log_of(store, clock=None, number=0):
    return SettingsLog(store, PREFIX, clock=clock or FakeClock(), ids=CountedIds(number))


def numbers(store):
    return [int(info.key.removeprefix(PREFIX)) for info in store.list(PREFIX)]


def with_one(content, key="n"):
    return {**content, key: content.get(key, 0) + 1}


def with_both(key, content):
    return with_one(with_one(content, key))


def test_what_was_written_last_holds():
    """Nothing at first; then what the last change made, for whoever reads."""
    store = MemoryStore()
    log = log_of(store)
    assert log.read() == Version(checked_ms=log.read().checked_ms)
    for count in range(1, 4):
        assert log.change(with_one).content == {"n": count}
        assert log_of(store, number=9).read().content == {"n": count}
    assert numbers(store) == [1, 2, 3]


def test_a_change_that_changes_nothing_writes_nothing():
    """One that says what is there already."""
    store = MemoryStore()
    log = log_of(store)
    log.change(lambda _: {"n": 0})
    log.change(lambda content: dict(content))
    assert numbers(store) == [1]


def test_a_change_that_raises_writes_nothing():
    store = MemoryStore()

    def refuse(_):
        raise ConflictError("no")

    with pytest.raises(ConflictError, match="no"):
        log_of(store).change(refuse)
    assert not numbers(store)


def test_older_versions_go_once_nobody_can_go_by_them():
    """A version is removed by a change an hour after the one that follows it, by the store."""
    clock = FakeClock()
    store = MemoryStore(clock)
    log = log_of(store, clock)
    for _ in range(3):
        log.change(with_one)
    clock.sleep(limits.SETTINGS_KEPT_MS / 1000 + 1)
    log.change(with_one)
    assert numbers(store) == [1, 2, 3, 4]  # 4 was not there yet to tell the time
    log.change(with_one)
    assert numbers(store) == [3, 4, 5]  # 3 was followed just now
    assert log.read().content == {"n": 5}


@pytest.mark.parametrize("rest_s", [0, 599, 601, 3_599, 3_601])
@pytest.mark.parametrize("changes", [0, 1, 3, 20])
def test_who_knows_a_version_finds_the_newest(changes, rest_s):
    """Whatever was changed and removed since; soon after it costs one GET if nothing changed."""
    clock = FakeClock()
    store = MemoryStore(clock)
    counted = CountingStore(store)
    reader, writer = log_of(counted, clock), log_of(store, clock, 1)
    writer.change(with_one)
    known = reader.read()
    for _ in range(changes):
        writer.change(with_one)
    clock.sleep(rest_s)
    before = counted.counts()
    found = reader.read(known)
    assert (found.number, found.content) == (changes + 1, {"n": changes + 1})
    spent = counted.counts() - before
    if not changes and rest_s * 1000 <= limits.SETTINGS_TRUSTED_MS:
        assert spent.by_kind == {"get": 1}
    elif not changes:
        assert spent.by_kind == {"get": 1, "list": 1}
    assert reader.read(found).content == found.content


def test_many_changes_at_once_lose_none(tmp_path):
    """Each of many threads, on files, adds its own and one to what all count."""
    store = FolderStore(tmp_path)

    def work(number):
        log = SettingsLog(store, PREFIX, clock=SystemClock(), ids=SystemIds())
        for step in range(5):
            log.change(partial(with_both, f"{number}-{step}"))
        return log.read().content["n"]

    with ThreadPoolExecutor(6) as pool:
        assert max(pool.map(work, range(6))) == 30
    content = log_of(store).read().content
    assert content["n"] == 30
    assert len(content) == 31


class Answers(MemoryStore):
    """Does what it is told to with conditional puts, once."""

    def __init__(self, trick: str) -> None:
        super().__init__()
        self.trick = trick

    def put_if_absent(self, key: str, data: Any) -> bool:
        trick, self.trick = self.trick, ""
        if trick == "down":
            raise UnavailableError("down")
        if trick == "other":
            super().put_if_absent(key, rival(1))
            raise UnavailableError("lost")
        done = super().put_if_absent(key, data)
        if trick == "lost":
            raise UnavailableError("lost")
        return super().put_if_absent(key, data) if trick == "twice" else done


def rival(count):
    store = MemoryStore()
    log_of(store, number=7).change(lambda _: {"n": count})
    return bytes(store.get(f"{PREFIX}{1:020d}"))


@pytest.mark.parametrize(
    ("trick", "count"), [("lost", 1), ("twice", 1), ("other", 2), ("down", None)]
)
def test_a_lost_answer(trick, count):
    """Whoever wrote knows it, and is not told by another's version that says the same."""
    store = Answers(trick)
    if count is None:
        with pytest.raises(UnavailableError, match="down"):
            log_of(store).change(with_one)
        assert not numbers(store)
    else:
        assert log_of(store).change(with_one).content == {"n": count}
        assert numbers(store) == list(range(1, count + 1))


def test_the_next_version_follows_the_one_that_was_read():
    """Of two who read the same, one writes."""
    store = MemoryStore()
    first, second = log_of(store), log_of(store, number=1)
    read = first.change(with_one), second.read()
    assert first.write_next(read[0], {"n": 7}).number == 2
    assert second.write_next(read[1], {"n": 8}) is None
    assert second.read().content == {"n": 7}


def test_too_many_changes_wait(monkeypatch):
    """Until the old versions are old enough to go; reading goes on."""
    monkeypatch.setattr("squash.index.settings.SETTINGS_VERSIONS_MAX", 5)
    clock = FakeClock()
    store = MemoryStore(clock)
    log = log_of(store, clock)
    for _ in range(5):
        log.change(with_one)
    with pytest.raises(ThrottledError) as told:
        log.change(with_one)
    assert told.value.retry_after_ms > 0
    assert log.read().content == {"n": 5}
    clock.sleep(2 * limits.SETTINGS_KEPT_MS / 1000)
    assert log.change(with_one).content == {"n": 6}
    assert numbers(store) == [5, 6]
    assert not [info.key for info in store.list(PREFIX + "now/")]


def test_too_much_of_them():
    """They have a size that every reader can take."""
    store = MemoryStore()
    with pytest.raises(TooLargeError):
        log_of(store).change(lambda _: {"a": "x" * limits.SETTINGS_BYTES_MAX})
    assert not numbers(store)


def stored(change):
    """The bytes of a version that somebody changed, with a checksum that fits."""
    from squash.index.sealed import document_checksum

    document = json.loads(rival(1))
    change(document)
    document["crc32"] = document_checksum(document)
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", DataError),
        (b"\xff\xfe", DataError),
        (b"[1]", DataError),
        (b"7", DataError),
        (b"{}", DataError),
        (b"[" * 100_000, DataError),
        (b" " * (limits.SETTINGS_BYTES_MAX + 1), DataError),
        (rival(1).replace(b'"n": 1', b'"n": 2'), ChecksumError),
        (stored(lambda one: one.update(version=2)), UnsupportedFormatError),
        (stored(lambda one: one.update(format="squash-other")), UnsupportedFormatError),
        (stored(lambda one: one.update(features=["more"])), UnsupportedFormatError),
        (stored(lambda one: one.pop("features")), DataError),
        (stored(lambda one: one.update(content=[])), DataError),
        (stored(lambda one: one.update(content={})), DataError),
        (stored(lambda one: one.update(write="x")), DataError),
        (stored(lambda one: one.update(write=None)), DataError),
    ],
)
def test_what_is_no_version(data, error):
    """It is named, by whoever reads or changes, and nothing is written after it."""
    store = MemoryStore()
    key = f"{PREFIX}{1:020d}"
    store.put(key, data)
    log = log_of(store)
    for act in (log.read, lambda: log.change(with_one), lambda: check_settings(data, key)):
        with pytest.raises(error) as told:
            act()
        assert told.value.object_key == key
        assert isinstance(told.value, DataError)
    assert numbers(store) == [1]


def test_keys_of_another_kind_are_no_versions():
    store = MemoryStore()
    log = log_of(store)
    log.change(with_one)
    for name in ("9", "x" * 20, f"{5:020d}x", f"gc/{9:020d}", "٣" * 20):
        store.put(PREFIX + name, b"{}")
    assert log.read().number == 1
