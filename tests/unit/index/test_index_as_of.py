"""Which snapshot a moment means, held against a look at every commit."""

from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from squash.errors import InvalidArgumentError, NotFoundError
from squash.index import as_of, snapshots
from squash.index.as_of import CLOCKS_DIFFER_MS, History, check_as_of, moment_ms
from squash.index.commits import Commit, DeleteKeys, PutRows, PutSegments, Replace, log_key
from squash.index.live import Opened, Retained
from squash.index.state import State
from squash.model import ObjectRef, RowBatch, SegmentRef, SnapshotInfo
from squash.storage import CountingStore, MemoryStore

START = 1_700_000_000_000
FAR = 2 * START
NO_ZONE = datetime(2024, 1, 1, tzinfo=UTC).replace(tzinfo=None)
NOTHING = DeleteKeys([])


def log_of(times, operation=NOTHING):
    """Store commits of some times; the index as its reader knows it comes back, too."""
    store = CountingStore(MemoryStore())
    for i, time_ms in enumerate(times):
        commit = Commit(i + 1, f"{i:032x}", time_ms, operation)
        store.put(log_key(i + 1), commit.to_bytes())
    state = State(sequence=len(times), time_ms=times[-1] if times else 0)
    return store, Opened(state, {}, START, Retained())


def plainly(times, moment):
    """The state after the last commit before any that is later."""
    later = [i for i, time_ms in enumerate(times) if time_ms > moment]
    return later[0] if later else len(times)


STEPS = st.lists(
    st.one_of(st.integers(0, 3), st.integers(0, 40_000), st.just(0)), min_size=1, max_size=90
)


@settings(deadline=None)
@given(steps=STEPS, data=st.data())
def test_a_moment_means_the_commit_before_the_first_later_one(steps, data):
    """Also where times go back by as much as clocks may differ, and for equal times."""
    true = START + np.cumsum(steps)
    drift = data.draw(
        st.one_of(
            st.just([0] * len(steps)),
            st.lists(st.integers(-CLOCKS_DIFFER_MS, 0), min_size=len(steps), max_size=len(steps)),
        )
    )
    # No commit says it was made more than so much before what any before it said.
    times = [int(t) + d for t, d in zip(true, drift, strict=True)]
    store, newest = log_of(times)
    history = History(store)
    moments = data.draw(
        st.lists(
            st.one_of(
                st.sampled_from(times),
                st.sampled_from(times).map(lambda t: t - 1),
                st.integers(START - CLOCKS_DIFFER_MS, times[-1] + 5),
            ),
            min_size=1,
            max_size=5,
        )
    )
    for moment in moments:
        expected = plainly(times, moment)
        if expected:
            assert history.at_time(moment, newest, FAR) == expected
        else:
            with pytest.raises(NotFoundError, match="before the first commit"):
                history.at_time(moment, newest, FAR)
    asked = store.counts().requests
    again = [one for one in moments if plainly(times, one)]
    for moment in again:
        history.at_time(moment, newest, FAR)
    assert store.counts().requests == asked, "times do not change, and are not asked for again"


@settings(deadline=None)
@given(steps=STEPS, data=st.data())
def test_what_was_collected_is_refused(steps, data):
    """Of a log whose beginning is gone, what is stored as a snapshot is the first that is found."""
    times = [int(t) for t in START + np.cumsum(steps)]
    store, newest = log_of(times)
    first = data.draw(st.integers(1, len(times)))
    state = State(sequence=first, time_ms=times[first - 1], snapshot_sequence=first)
    store.put(snapshots.snapshot_key(first), snapshots.to_bytes(state))
    store.delete([log_key(sequence) for sequence in range(1, first + 1)])
    moment = data.draw(st.integers(START - 1, times[-1] + 1))
    expected = plainly(times, moment)
    history = History(store)
    if expected >= first:
        assert history.at_time(moment, newest, FAR) == expected
    else:
        with pytest.raises(NotFoundError, match=r"collected|before the first"):
            history.at_time(moment, newest, FAR)
    asked = data.draw(st.integers(1, len(times)))
    if asked >= first or asked <= 64:  # of few commits their absence tells soon enough
        history.check_number(asked, newest)
    else:
        with pytest.raises(NotFoundError, match="collected"):
            history.check_number(asked, newest)
    listed = history.page(newest.sequence, 1_000, None)
    assert [one.snapshot for one in listed] == list(range(len(times), first, -1))


def test_finding_a_moment_takes_few_requests():
    """Of 5,000 commits about log2 are read."""
    times = [START + 20_000 * i for i in range(5_000)]
    store, newest = log_of(times)
    before = store.counts().requests
    assert History(store).at_time(times[1_234] + 7, newest, FAR) == 1_235
    assert store.counts().requests - before <= 14


def test_times_are_forgotten_when_they_are_many(monkeypatch):
    """What a handle remembers is bounded, and what it forgot it reads again."""
    monkeypatch.setattr(as_of, "COMMIT_TIMES_KEPT_MAX", 8)
    times = [START + 20_000 * i for i in range(200)]
    store, newest = log_of(times)
    history = History(store)
    for i in range(0, 200, 7):
        assert history.at_time(times[i], newest, FAR) == i + 1
        assert len(history._times) <= 8


def test_the_future_is_not_known():
    """A moment after now is refused, unless the last commit says it was made then."""
    store, newest = log_of([START])
    history = History(store)
    assert history.at_time(START, newest, START - 500) == 1
    with pytest.raises(NotFoundError, match=r"2023-11-14T22:13:20\.001.*not known yet"):
        history.at_time(START + 1, newest, START)
    with pytest.raises(NotFoundError, match=r"10{20} ms"):
        history.at_time(10**20, newest, START)
    with pytest.raises(InvalidArgumentError, match="no snapshot 2 yet: the newest is 1"):
        history.check_number(2, newest)


@pytest.mark.parametrize(
    "value", [-1, True, 1.0, "1", NO_ZONE, np.float64(1), "2024-01-01T00:00:00Z", None]
)
def test_what_names_no_snapshot_is_refused(value):
    """Neither a number nor a moment: a time without a zone is none."""
    with pytest.raises(InvalidArgumentError) as told:
        check_as_of(value)
    assert told.value.field == "as_of"


def test_what_names_a_snapshot():
    """Whole numbers of any kind; moments in any zone, rounded down to milliseconds."""
    assert check_as_of(np.int64(3)) == 3
    east = timezone(timedelta(hours=5, minutes=30))
    moment = datetime(1970, 1, 1, 5, 30, 1, 999_999, tzinfo=east)
    assert moment_ms(check_as_of(moment)) == 1_999
    assert moment_ms(datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)) == -1
    for hours in (-14, 14):
        zone = timezone(timedelta(hours=hours))
        assert moment_ms(datetime(1, 1, 1, tzinfo=zone)) < 0
        assert moment_ms(datetime(9999, 12, 31, 23, tzinfo=zone)) > FAR


def test_what_commits_did():
    """Each kind of commit, the newest first, page by page."""
    ref = ObjectRef("segments/x/rows", 1, 0)
    segments = tuple(
        SegmentRef(name, "flat", rows, as_of=2, objects={"rows": ref})
        for name, rows in (("a", 5), ("b", 7))
    )
    rows = RowBatch(["a", "b"], np.zeros((2, 3), np.float32), [{}, {}])
    operations = [
        PutRows(rows),
        PutSegments(segments),
        DeleteKeys(["a", "q", "r"]),
        Replace(("a",), (), segments[1:], None, 3),
    ]
    store = MemoryStore()
    for i, operation in enumerate(operations):
        commit = Commit(i + 1, f"{i:032x}", START + i, operation)
        store.put(log_key(i + 1), commit.to_bytes())
    expected = [
        SnapshotInfo(4, START + 3, "fold", 7),
        SnapshotInfo(3, START + 2, "delete", 3),
        SnapshotInfo(2, START + 1, "put", 12),
        SnapshotInfo(1, START, "put", 2),
    ]
    history = History(store)
    assert history.page(4, 100, None) == expected
    assert history.page(4, 2, None) == expected[:2]
    assert history.page(4, 2, 3) == expected[2:]
    assert history.page(4, 2, 9) == expected[:2]
    assert history.page(4, 2, 1) == []
    assert history.page(0, 2, None) == []
    for limit, before in ((0, None), (1_001, None), (1, 0)):
        with pytest.raises(InvalidArgumentError):
            history.page(4, limit, before)
