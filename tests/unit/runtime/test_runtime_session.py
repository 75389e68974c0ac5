"""Sessions: the snapshot that is asked for, who searches, and what that cost."""

import threading

import pytest

from simulated import Clock
from squash.clock import SystemIds
from squash.database import Database
from squash.errors import InvalidArgumentError, NotFoundError, UnavailableError
from squash.limits import VIEWS_KEPT_MAX
from squash.model import Match
from squash.planning.prices import GB_SECOND_USD, INVOCATION_USD, architecture_of
from squash.runtime import Settings
from squash.search import Trace
from squash.search.spending import Spent
from squash.storage import CountingStore, MemoryStore


class Elsewhere:
    """A searcher that notes what it is asked and makes its answer up."""

    def __init__(self):
        self.asked = []

    def search(self, view, queries):
        self.asked.append((view, queries))
        spent = Spent(3, 1, 2.0, 1, 1, {"range": 5}, 2, 100, 7, 8, 9)
        traces = [Trace(missing=("slot-1",), spent=spent), *[Trace() for _ in queries[1:]]]
        return [((Match("a", 0.5),), trace) for trace in traces]


def database(store=None, **more) -> Database:
    return Database(
        store or MemoryStore(), settings=Settings(), clock=Clock(), ids=SystemIds(), **more
    )


def test_a_searcher_is_asked_and_paid():
    """A searcher gets the view, where it lies, and the queries; the answers say what it spent."""
    searcher = Elsewhere()
    made = database(searcher=searcher)
    index = made.create_index("x", dimension=2, non_filterable=["text"])
    index.put(keys=["a"], vectors=[[1, 2]])
    answers = index.query_many([[1, 2], [3, 4]], allow_partial=True, timeout_ms=500)
    ((view, queries),) = searcher.asked
    assert view.entry.config == index.config
    assert view.entry.prefix.startswith("x/")
    assert [(one.allow_partial, one.deadline_ms) for one in queries] == [
        (True, made._clock.now_ms() + 500)
    ] * 2
    first, second = answers
    assert first.missing == ("slot-1",)
    usage = first.usage
    assert (usage.invocations, usage.invocations_cold, usage.gb_seconds) == (3, 1, 2.0)
    assert usage.store_requests >= 5
    assert usage.store_bytes >= 100
    assert usage.cost_usd == pytest.approx(
        3 * INVOCATION_USD + 2 * GB_SECOND_USD["x86_64"] + 5 * 0.4e-6
    )
    assert (second.missing, second.usage.invocations, second.usage.cost_usd) == ((), 0, 0.0)
    assert index.query([1, 2]).matches == first.matches


def test_prices():
    """A machine is called what Lambda calls it; arm64 is the cheaper one."""
    assert {architecture_of(name) for name in ("aarch64", "arm64", "ARM64")} == {"arm64"}
    assert architecture_of("x86_64") == "x86_64"
    assert GB_SECOND_USD["arm64"] < GB_SECOND_USD["x86_64"]


def test_any_snapshot_can_be_seen():
    """A view of a commit shows what was there then, and the last few are not read again."""
    store = CountingStore(MemoryStore())
    index = database(store).create_index("x", dimension=1, metric="euclidean")
    reader = database(store).index("x")
    for i in range(VIEWS_KEPT_MAX + 3):
        index.put(keys=[f"k{i}"], vectors=[[i]])
    session = reader._session
    for sequence in (2, 5, 1, 0, 4, 5):
        view = session.view_at(sequence)
        assert view.snapshot == sequence
        assert sum(rows.count for rows in view.exact_rows) == sequence
    before = store.counts()
    assert session.view_at(5) is view
    assert session.view_at(4) is session.view_at(4)
    assert store.counts() == before
    with pytest.raises(NotFoundError):
        session.view_at(VIEWS_KEPT_MAX + 4)
    # What was seen of the past is not taken for the newest.
    assert session.view("strong").snapshot == VIEWS_KEPT_MAX + 3
    assert len(session._views._kept) == VIEWS_KEPT_MAX


def test_a_query_whose_time_is_over():
    """If reading the index took all the time there was, nothing is searched."""
    searcher = Elsewhere()

    class SlowStore(MemoryStore):
        def get(self, key):
            made._clock.ms += 10
            return super().get(key)

    made = database(SlowStore(), searcher=searcher)
    index = made.create_index("x", dimension=1)
    assert index.query([1], timeout_ms=1000).matches
    with pytest.raises(UnavailableError, match="timeout_ms"):
        index.query([1], timeout_ms=10)
    assert len(searcher.asked) == 1


@pytest.mark.parametrize("timeout_ms", [0, -1, 900_001, 1.5, "1", True])
def test_timeouts_out_of_range(timeout_ms):
    """A time that is none is refused, by its name."""
    index = database().create_index("x", dimension=1)
    for ask in (lambda: index.query([1], timeout_ms=timeout_ms),
                lambda: index.query_many([[1]], timeout_ms=timeout_ms)):  # fmt: skip
        with pytest.raises(InvalidArgumentError) as caught:
            ask()
        assert caught.value.field == "timeout_ms"


def test_one_process_answers_as_ever():
    """Neither a time limit nor the leave to answer in part changes what one process answers."""
    index = database().create_index("x", dimension=2, metric="euclidean")
    index.put(keys=["a", "b"], vectors=[[1, 2], [3, 4]])
    plain = index.query([1, 1])
    answer = index.query([1, 1], allow_partial=True, timeout_ms=1)
    assert answer.matches == plain.matches
    assert answer.missing == ()
    assert answer.usage.invocations == 0


@pytest.mark.parametrize("billed", [False, True])
def test_indexes_that_are_held_have_no_threads_of_their_own(billed):
    """Hundreds may be held, and a container may have a thousand threads."""
    store = MemoryStore()
    made = Database(store, settings=Settings(billed=billed), clock=Clock(), ids=SystemIds())
    names = [f"i{number}" for number in range(120)]
    for name in names:
        index = made.create_index(name, dimension=2)
        for key in ("a", "b", "c"):
            index.put(keys=[key], vectors=[[1, 2]])
    before = set(threading.enumerate())
    held = [made.index(name) for name in names]
    for _ in range(2):
        assert all(len(index.query([1, 2]).matches) == 3 for index in held)
    assert len(set(threading.enumerate()) - before) < len(held) / 2
