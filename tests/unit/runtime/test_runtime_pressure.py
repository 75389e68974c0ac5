"""The limits of the fresh part: folds are asked for, then puts are refused, and deletes never."""

import logging

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulated import Clock
from squash.clock import SystemIds
from squash.database import Database
from squash.errors import ThrottledError, UnavailableError
from squash.index import fresh
from squash.limits import EXACT_ROWS_MAX, FRESH_COMMITS_MAX, FRESH_RETRY_AFTER_MS
from squash.model import RowBatch
from squash.planning import pending_rows_max
from squash.runtime import Settings, pressure
from squash.storage import CountingStore, MemoryStore

RNG = np.random.default_rng(3)


def make(store=None, **more):
    return Database(
        store or MemoryStore(), settings=Settings(), clock=Clock(), ids=SystemIds(), **more
    )


def rows(count, start=0):
    vectors = RNG.standard_normal((count, 2)).astype(np.float32)
    return {"keys": [f"k{start + i}" for i in range(count)], "vectors": vectors}


@pytest.fixture
def small(monkeypatch):
    """Limits that a test reaches: 40 rows, folds asked for from 10 on."""
    monkeypatch.setattr(fresh, "EXACT_ROWS_MAX", 4)
    monkeypatch.setattr(fresh, "FRESH_ROWS_MAX", 40)


def test_what_the_fresh_part_is():
    """Rows of commits and of flat segments are fresh, with their bytes; rows of partitions not."""
    index = make().create_index("x", dimension=2)
    session = index._session
    assert fresh.fresh_part(session._views.known()) == fresh.FreshPart(0, 0, 0, 0)
    index.put(**rows(5))
    part = fresh.fresh_part(session._views.known())
    assert (part.commits, part.rows, part.rows_in_partitions) == (1, 5, 0)
    assert part.bytes == session._views.known().commits[1].stored_bytes
    index.put(**rows(5_000, start=3))
    index.delete(keys=["k0"])
    part = fresh.fresh_part(session._views.known())
    assert (part.commits, part.rows, part.rows_in_partitions) == (1, 5_005, 0)
    assert part.bytes > 5_000 * 2 * 4
    index.optimize()
    assert fresh.fresh_part(session._views.known()) == fresh.FreshPart(0, 0, 0, 5_002)


@pytest.mark.usefixtures("small")
def test_past_the_first_threshold_a_fold_is_asked_for():
    """After every write from a quarter of a limit on, and by the name of the index."""
    asked = []
    index = make(fold_soon=asked.append).create_index("x", dimension=2)
    index.put(**rows(9))
    assert (asked, index.backlog().fold_due) == ([], None)
    index.put(**rows(1, start=9))
    assert index.backlog().fold_due == "FRESH_ROWS_MAX"
    index.put(**rows(1))
    assert asked == ["x", "x"]


@pytest.mark.usefixtures("small")
def test_on_a_laptop_it_is_said_once(caplog):
    """Nothing runs in the background there: one line of log says what to call."""
    caplog.set_level(logging.WARNING, "squash")
    index = make().create_index("x", dimension=2)
    for i in range(4):
        index.put(**rows(10, start=10 * i))
    assert caplog.text.count("optimize()") == 1


@pytest.mark.usefixtures("small")
def test_who_cannot_be_asked_fails_no_write(caplog):
    """The write is durable and answered whatever becomes of the wish to fold."""

    def fail(name):
        raise UnavailableError(f"nobody folds {name}")

    index = make(fold_soon=fail).create_index("x", dimension=2)
    assert index.put(**rows(20)).snapshot == 1
    assert "nobody folds x" in caplog.text


@pytest.mark.usefixtures("small")
def test_past_the_limit_puts_are_refused_and_deletes_are_not():
    """The error names the limit, its value and what to do; a fold ends it."""
    store = MemoryStore()
    index = make(store).create_index("x", dimension=2)
    index.put(**rows(41))
    for write in (
        lambda: index.put(**rows(1)),
        lambda: index.put(**rows(1), if_absent=True),
        lambda: index.patch(keys=["k1"], metadata=[{"a": 1}]),
    ):
        with pytest.raises(ThrottledError, match=r"41 of 40.*FRESH_ROWS_MAX.*optimize") as caught:
            write()
        assert caught.value.retry_after_ms == FRESH_RETRY_AFTER_MS
        assert (caught.value.limit, caught.value.index) == ("FRESH_ROWS_MAX", "x")
    assert index.delete(keys=["k0"]).snapshot == 2
    assert index.backlog().snapshot == 2
    # Another process folds; the writer finds out by itself.
    from squash.maintain import BuildOptions

    make(store).index("x").optimize(options=BuildOptions(exact_rows_max=4))
    assert index.put(**rows(1)).rows == 1


@pytest.mark.usefixtures("small")
def test_a_put_that_is_there_already_is_admitted():
    """A call repeated with its commit id succeeds, however much is fresh since."""
    index = make().create_index("x", dimension=2)
    done = index.put(**rows(41), commit_id="ab" * 16)
    assert index.put(**rows(41), commit_id="ab" * 16).snapshot == done.snapshot
    with pytest.raises(ThrottledError):
        index.put(**rows(41), commit_id="cd" * 16)


def test_bytes_are_limited_too(monkeypatch):
    """Rows that are few may be long; an index that is searched exactly anyhow is not limited."""
    index = make().create_index("x", dimension=2)
    monkeypatch.setattr(fresh, "FRESH_BYTES_MAX", 2_000)
    index.put(**rows(300))
    index.put(**rows(1))
    monkeypatch.setattr(fresh, "EXACT_ROWS_MAX", 4)
    with pytest.raises(ThrottledError, match="FRESH_BYTES_MAX"):
        index.put(**rows(1))


@given(st.integers(0, 10**10), st.integers(0, 10**9), st.integers(1, 1 << 20), st.booleans())
def test_limits_can_be_kept(in_partitions, rows, row_bytes, crowded):
    """What a fold may leave never passes a limit; the first threshold comes before the second."""
    part = fresh.FreshPart(0, rows, rows * row_bytes, in_partitions)
    if fresh.passed_limit(part):
        assert fresh.passed_limit(part, soon=True)
        assert rows > EXACT_ROWS_MAX or in_partitions
    left = pending_rows_max(in_partitions) // 2 if in_partitions else EXACT_ROWS_MAX
    after = fresh.FreshPart(0, left, left * row_bytes, in_partitions)
    assert fresh.passed_limit(after) is None
    assert fresh.passed_limit(after, soon=True) is None
    if crowded:
        many = fresh.FreshPart(FRESH_COMMITS_MAX, rows, 0, in_partitions)
        assert fresh.passed_limit(many).name == "FRESH_COMMITS_MAX"


def test_commits_are_flattened_before_a_put_is_refused(monkeypatch):
    """That writers' flattenings failed is mended by the next writer: nobody has to fold."""
    monkeypatch.setattr(fresh, "FRESH_COMMITS_MAX", 5)
    monkeypatch.setattr(fresh, "FLATTEN_COMMITS", 1_000)
    index = make().create_index("x", dimension=2)
    for i in range(12):
        index.put(**rows(1, start=i))
    assert len(index._session._views.known().state.fresh) == 2
    assert index.stats().rows == 12


@pytest.mark.usefixtures("small")
def test_what_is_watched_costs_no_request():
    """The fresh part is measured by what the writer has at hand."""
    store = CountingStore(MemoryStore())
    index = make(store, fold_soon=lambda name: None).create_index("x", dimension=2)
    index.put(**rows(20))
    before = store.counts()
    index.put(**rows(1))
    assert (store.counts() - before).by_kind == {"put": 1}


@pytest.mark.parametrize(("times", "folds"), [(1, [5_000, 10_000, 20_000]), (4, [20_000]), (8, [])])
def test_an_import_folds_on_its_way(monkeypatch, times, folds):
    """It brings any number of rows: it folds when a limit is reached and as many are fresh as it
    had brought, so that its folds together rewrite about twice what it brings."""
    monkeypatch.setattr(fresh, "FRESH_ROWS_MAX", 5_000)
    monkeypatch.setattr(fresh, "pending_rows_max", lambda rows: 2_500)
    monkeypatch.setattr(pressure, "IMPORT_FRESH_TIMES", times)
    asked = []
    index = make(fold_soon=asked.append).create_index("x", dimension=2)
    brought, folded = 0, []

    def watch(step):
        nonlocal brought
        if step.stage == "import":
            brought = step.done
        elif brought not in folded:
            folded.append(brought)

    batches = (
        RowBatch(one["keys"], one["vectors"], [{}] * 2_500)
        for one in (rows(2_500, start=2_500 * i) for i in range(10))
    )
    result = index.import_batches(batches, progress=watch)
    assert folded == folds
    assert not asked
    assert (result.rows, result.snapshot) == (25_000, 10 + len(folds))
    part = fresh.fresh_part(index._session._views.known())
    inside = folds[-1] if folds else 0
    assert (part.rows, part.rows_in_partitions) == (25_000 - inside, inside)
    assert index.stats().rows == 25_000
