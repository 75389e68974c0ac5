"""The compactor: what it folds and collects, told to or by itself, and in which time."""

from __future__ import annotations

import errno
from contextlib import suppress
from types import SimpleNamespace

import pytest
from api_world import HandClock, context, event, rows

import squash
from squash.api import functions
from squash.api.compacting import is_due
from squash.errors import (
    CommitUnknownError,
    InvalidArgumentError,
    NotFoundError,
    ThrottledError,
    UnavailableError,
)
from squash.limits import (
    EXACT_ROWS_MAX,
    FOLD_BEGIN_MS_MIN,
    FOLD_COMMITS_MIN,
    FOLD_ROWS_MIN,
    FOLD_STOP_MS_MIN,
    SNAPSHOT_EVERY_COMMITS,
)
from squash.model import Backlog, WriteResult
from squash.reports import DatabaseGcReport, GcReport, ObjectCount, Progress
from squash.storage import MemoryStore

pytestmark = pytest.mark.usefixtures("logger_put_back")

REPORT = GcReport(
    3, 0, {"commits": ObjectCount(2, 60), "segments": ObjectCount(1, 10)}, ObjectCount(),
    ObjectCount(),
)  # fmt: skip
REPORT_OF_ALL = DatabaseGcReport(
    {"papers": REPORT}, {"bad": "it is damaged"}, ObjectCount(1, 5), dry_run=False
)


def test_the_compactor_collects_when_it_is_told_to(environment, monkeypatch):
    """One index that is named, or all; by the environment's retention or the event's own."""
    asked = []

    def gc(self, retention_s, *, progress):
        asked.append((type(self).__name__, retention_s))
        return REPORT if isinstance(self, squash.Index) else REPORT_OF_ALL

    monkeypatch.setattr(squash.Index, "gc", gc)
    monkeypatch.setattr(squash.Database, "gc", gc)
    squash.connect(environment["SQUASH_STORE"]).create_index("papers", dimension=2)
    handle = functions.compactor(environment | {"SQUASH_RETENTION_DAYS": "2.5"})
    one = handle({"gc": True, "index": "papers"}, context())["indexes"]
    assert [(each["outcome"], each["objects"], each["bytes"]) for each in one] == [
        ("collected", 3, 70)
    ]
    every = handle({"gc": True, "retention_s": 3_600}, context())["indexes"]
    assert [(each["index"], each["outcome"], each["why"]) for each in every] == [
        ("papers", "collected", ""),
        ("bad", "failed", "it is damaged"),
        ("*", "remains of dropped indexes", ""),
    ]
    assert asked == [("Index", 216_000), ("Database", 3_600)]
    (gone,) = handle({"gc": True, "index": "gone"}, context())["indexes"]
    assert gone["outcome"] == "gone"
    functions.compactor(environment)({"gc": True}, context())
    assert asked[-1] == ("Database", 86_400)


def test_the_compactor_collects_what_is_old(environment, monkeypatch):
    """The schedule's event, through the library: what nobody needs for a month is gone."""
    clock = HandClock()
    monkeypatch.setattr("squash.clock.SystemClock", lambda: clock)
    store = MemoryStore(clock)
    monkeypatch.setattr("squash.runtime.functions.store_of", lambda _, **_more: store)
    database = functions.open_database(environment)
    index = database.create_index("papers", dimension=2, metric="euclidean")
    handle = functions.compactor(environment)
    for _ in range(SNAPSHOT_EVERY_COMMITS + 2):
        index.put(**rows(5))
    handle({"index": "papers", "full": True}, context())
    clock.ms += 30 * 86_400_000
    index.put(**rows(3))
    before = len(list(store.list("papers/")))
    (done,) = handle({"gc": True}, context())["indexes"]
    assert done["outcome"] == "collected"
    assert done["objects"] >= SNAPSHOT_EVERY_COMMITS - 1
    left = 2  # a snapshot and its bitmap, for the next collection to begin from
    assert len(list(store.list("papers/"))) == before - done["objects"] + left
    assert index.stats().rows == 5
    with pytest.raises(NotFoundError):
        index.query([1, 0], as_of=1)


def test_the_compactor_stops_collecting_when_hardly_any_time_is_left(environment, monkeypatch):
    def gc(self, retention_s, *, progress):
        progress(Progress("list", 1, 2, "objects"))

    monkeypatch.setattr(squash.Index, "gc", gc)
    squash.connect(environment["SQUASH_STORE"]).create_index("papers", dimension=2)
    handle = functions.compactor(environment)
    done = handle({"gc": True, "index": "papers"}, context(FOLD_BEGIN_MS_MIN - 1))["indexes"]
    assert [one["outcome"] for one in done] == ["no time"]
    left = iter([FOLD_BEGIN_MS_MIN])
    short = SimpleNamespace(get_remaining_time_in_millis=lambda: next(left, 0))
    with pytest.raises(UnavailableError, match="no time is left to collect"):
        handle({"gc": True, "index": "papers"}, short)


def test_the_compactor_builds_all_anew_when_it_is_told_to(environment, monkeypatch):
    seen = []
    plain = squash.Index.optimize

    def optimize(self, *, full=False, **more):
        seen.append(full)
        return plain(self, **more)

    monkeypatch.setattr(squash.Index, "optimize", optimize)
    squash.connect(environment["SQUASH_STORE"]).create_index("papers", dimension=2)
    handle = functions.compactor(environment)
    for asked in ({"index": "papers"}, {"index": "papers", "full": True}):
        assert handle(asked, context())["indexes"][0]["outcome"] == "folded"
    assert seen == [False, True]


@pytest.mark.parametrize("days", ["0", "-1", "x", "nan", "3651", "inf"])
def test_a_retention_that_cannot_be_stops_the_compactor_at_its_start(environment, days):
    with pytest.raises(InvalidArgumentError, match="SQUASH_RETENTION_DAYS"):
        functions.compactor(environment | {"SQUASH_RETENTION_DAYS": days})


def test_the_compactor_folds_what_is_due_on_a_schedule_and_what_is_named(environment):
    database = squash.connect(environment["SQUASH_STORE"])
    due = database.create_index("due", dimension=2, metric="euclidean")
    due.put(**rows(EXACT_ROWS_MAX + 1))
    fresh = database.create_index("fresh", dimension=2, metric="euclidean")
    fresh.put(**rows(5))
    handle = functions.compactor(environment)
    done = handle(event("schedule"), context())["indexes"]
    assert [(one["index"], one["outcome"]) for one in done] == [
        ("due", "folded"), ("fresh", "not due"),
    ]  # fmt: skip
    assert due.stats().partitions >= 1
    assert due.backlog().rows == 0
    again = handle(event("schedule"), context())["indexes"]
    assert {one["outcome"] for one in again} == {"not due"}
    named = handle({"index": "fresh"}, context())["indexes"]
    assert [(one["outcome"], one["rows"]) for one in named] == [("folded", 5)]
    assert handle({"index": "gone"}, context())["indexes"][0]["outcome"] == "gone"
    with pytest.raises(InvalidArgumentError):
        handle({"index": "../x"}, context())
    with pytest.raises(InvalidArgumentError):
        handle({"index": 5}, context())
    # What a variable that is not set leaves of a name is none: not every index is folded for it.
    with pytest.raises(InvalidArgumentError):
        handle({"index": "", "full": True}, context())


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        ThrottledError("another writer was first", retry_after_ms=1),
        CommitUnknownError("was it stored?", commit_id="0"),
    ],
)
def test_an_index_that_cannot_be_folded_stops_none_of_the_others(environment, monkeypatch, error):
    """Whatever it is for; and whoever watches the function sees that it failed."""
    database = squash.connect(environment["SQUASH_STORE"])
    for name in ("a", "b"):
        database.create_index(name, dimension=2, metric="euclidean")
        database.index(name).put(**rows(EXACT_ROWS_MAX + 1))
    plain, seen = squash.Index.optimize, []

    def optimize(self, **more):
        seen.append(self.config.name)
        if self.config.name == "a":
            raise error
        return plain(self, **more)

    monkeypatch.setattr(squash.Index, "optimize", optimize)
    handle = functions.compactor(environment)
    with pytest.raises(type(error)) as caught:
        handle(event("schedule"), context())
    assert caught.value is error
    assert seen == ["a", "b"]
    assert database.index("b").backlog().rows == 0
    with pytest.raises(type(error)):
        handle({"index": "a"}, context())


def test_no_index_always_comes_when_the_time_is_up(environment, monkeypatch):
    """One whose fold takes all the time there is, every time, keeps none from being folded."""
    database = squash.connect(environment["SQUASH_STORE"])
    for name in ("a", "b", "c", "huge", "z"):
        database.create_index(name, dimension=2, metric="euclidean").put(**rows(EXACT_ROWS_MAX + 1))
    left, folded, collected = [0], set(), set()
    monkeypatch.setattr(squash.Index, "backlog", lambda _: Backlog(1, FOLD_COMMITS_MIN, 1, 1))

    def takes_all(self, *_given, **_more):
        if self.config.name == "huge":
            left[0] = FOLD_STOP_MS_MIN - 1
            raise UnavailableError("no time is left")
        (collected if _given else folded).add(self.config.name)
        return REPORT if _given else WriteResult(1, 1)

    monkeypatch.setattr(squash.Index, "optimize", takes_all)
    handle = functions.compactor(environment)
    short = SimpleNamespace(get_remaining_time_in_millis=lambda: left[0])
    for minute in range(30):
        left[0] = 900_000
        with suppress(UnavailableError):
            handle({**event("schedule"), "time": f"2026-11-26T10:{minute:02}:00Z"}, short)
    assert folded == {"a", "b", "c", "z"}

    def gc(self, *given, **_more):
        if left[0] < FOLD_STOP_MS_MIN:
            raise UnavailableError("no time is left")
        return takes_all(self, *given)

    clock = HandClock()
    monkeypatch.setattr("squash.clock.SystemClock", lambda: clock)
    monkeypatch.setattr(squash.Index, "gc", gc)
    for _ in range(30):
        left[0] = 900_000
        clock.ms += 86_400_000
        functions.compactor(environment)({"gc": True}, short)
    assert collected == {"a", "b", "c", "z"}


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        ThrottledError("slow down", retry_after_ms=1),
        CommitUnknownError("was it stored?", commit_id="0"),
    ],
)
def test_an_index_that_cannot_be_collected_stops_none_of_the_others(
    environment, monkeypatch, error
):
    for name in ("a", "b", "c"):
        squash.connect(environment["SQUASH_STORE"]).create_index(name, dimension=2)

    def gc(self, *_, **_more):
        if self.config.name == "b":
            raise error
        return REPORT

    monkeypatch.setattr(squash.Index, "gc", gc)
    done = functions.compactor(environment)({"gc": True}, context())["indexes"]
    assert [(one["index"], one["outcome"], one["why"]) for one in done] == [
        ("a", "collected", ""), ("c", "collected", ""), ("b", "failed", str(error)),
    ]  # fmt: skip


def test_the_compactor_heeds_the_time(environment):
    """Too little is left to begin; or it runs out in the midst, and nothing is left behind."""
    database = squash.connect(environment["SQUASH_STORE"])
    index = database.create_index("due", dimension=2, metric="euclidean")
    index.put(**rows(EXACT_ROWS_MAX + 1))
    before = sorted(info.key for info in database.store.list(""))
    handle = functions.compactor(environment)
    done = handle(event("schedule"), context(FOLD_BEGIN_MS_MIN - 1))["indexes"]
    assert [one["outcome"] for one in done] == ["no time"]
    left = iter([FOLD_BEGIN_MS_MIN, FOLD_STOP_MS_MIN])
    short = SimpleNamespace(get_remaining_time_in_millis=lambda: next(left, 0))
    with pytest.raises(UnavailableError, match="no time is left"):
        handle({"index": "due"}, short)
    assert sorted(info.key for info in database.store.list("")) == before


def test_what_is_due():
    """Many rows outside of partitions and a share of all, or many commits."""
    due = Backlog(snapshot=1, commits=0, rows=EXACT_ROWS_MAX + 1, rows_in_partitions=0)
    assert is_due(due)
    assert not is_due(Backlog(1, 0, EXACT_ROWS_MAX, 0))
    assert not is_due(Backlog(1, 0, FOLD_ROWS_MIN + 1, 1_000_000))
    assert is_due(Backlog(1, 0, 60_000, 1_000_000))
    assert is_due(Backlog(1, FOLD_COMMITS_MIN, 1, 1_000_000))


@pytest.mark.parametrize(
    ("event_", "field"),
    [
        ({"gc": True, "dry_run": True}, "dry_run"),
        ({"gc": True, "full": True}, "full"),
        ({"gc": "true"}, "gc"),
        ({"index": "a", "full": 1}, "full"),
        ({"indexes": ["a"]}, "indexes"),
        ([], None),
        (None, None),
    ],
)
def test_what_an_event_says_besides_is_not_passed_over(environment, monkeypatch, event_, field):
    """It may have been meant to spare something: nothing is folded or collected."""
    squash.connect(environment["SQUASH_STORE"]).create_index("a", dimension=2)
    for name in ("optimize", "gc"):
        monkeypatch.setattr(squash.Index, name, lambda *_, **__: pytest.fail("it was done"))
    with pytest.raises(InvalidArgumentError) as caught:
        functions.compactor(environment)(event_, context())
    assert caught.value.field == field
