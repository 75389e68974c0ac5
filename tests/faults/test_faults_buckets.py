"""A fault at every call of all that is done with vector buckets and the indexes in them.

As `test_faults_everywhere`: each is done again for every call it makes of the store and every kind
of fault, beside others who do something at that moment; what is found then is what one of the
orders gives.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import pytest
from bucket_cases import ACTS, RIVALS, Act, Seen, does, fresh, look
from fault_store import Fault, KilledError, StepStore

from living import connect
from squash.errors import ConflictError, NotFoundError, SquashError, UnavailableError
from squash.index.names import BUCKETS
from squash.storage import MemoryStore

ALONE: tuple[Fault, ...] = ("refused", "lost", "killed before", "killed after", "twice")
TOGETHER: tuple[Fault, ...] = ("overtaken", "late")
DAY_S = 86_400


def calls_of(act: Act) -> list[str]:
    store = fresh()
    faulty = StepStore(store)
    does(act, connect(faulty, store._clock, 3))
    return faulty.log


def after(seen: Seen, *acts: Act) -> tuple[Seen, list[bool]]:
    """Return what acts in this order give, and which of them are done."""
    done = []
    for act in acts:
        changed = act.effect(seen)
        done.append(changed is not None)
        seen = seen if changed is None else changed
    return seen, done


def outcomes(before: Seen, act: Act, rival: Act | None) -> Iterator[tuple[Seen, bool, bool]]:
    """Yield each order's end, whether the act is done in it, and whether the rival's is."""
    if rival is None:
        seen, (done,) = after(before, act)
        yield seen, done, False
        return
    seen, (first, second) = after(before, rival, act)
    yield seen, second, first
    seen, (first, second) = after(before, act, rival)
    yield seen, first, second
    if act.name == rival.name and act.name.startswith("drop"):
        yield seen, True, True  # each removes what it found


def try_fault(act: Act, step: int, fault: Fault, rival: Act | None = None) -> None:
    store = fresh()
    before = look(store)
    rival_done = False

    def meddle() -> None:
        nonlocal rival_done
        assert rival is not None
        rival_done = does(rival, connect(store, store._clock, 50))

    faulty = StepStore(store, step=step, fault=fault, rival=meddle)
    database = connect(faulty, store._clock, 3)
    error: BaseException | None = None
    try:
        act.act(database)
    except (SquashError, KilledError) as raised:
        error = raised
    if not faulty.happened:
        return
    where = f"{act.name}: {faulty.happened}, beside {rival and rival.name}: {error!r}"
    found = look(store)
    orders = list(outcomes(before, act, rival))
    if error is None:
        assert (found, True, rival_done) in orders, where
    elif isinstance(error, (ConflictError, NotFoundError)):
        assert (found, False, rival_done) in orders, where
    else:
        assert isinstance(error, (KilledError, UnavailableError)), where
        assert rival is None, where
        assert found in [before, *(seen for seen, _, _ in orders)], where
    again(act, found, store, where)
    take_down(store, where)


def again(act: Act, found: Seen, store: MemoryStore, where: str) -> None:
    """Whoever repeats it finishes it, or hears that it is done."""
    done = does(act, connect(store, store._clock, 60))
    expected, (possible,) = after(found, act)
    # What is left of a drop can be dropped again.
    assert done == possible or (done and act.name.startswith("drop")), where
    assert look(store, 901) == expected, where


def take_down(store: MemoryStore, where: str) -> None:
    """All can be removed; two days later nothing is left but that each bucket is gone."""
    database = connect(store, store._clock, 70)
    for config in database.list_indexes():
        database.drop_index(config.name)
    for name in database.gc(dry_run=True).left:
        database.drop_index(name)
    for bucket in list(database.vector_buckets.names()):
        database.vector_buckets.delete(bucket)
    assert look(store, 902) == Seen({}, {}), where
    store._clock.sleep(2 * DAY_S)
    report = database.gc()
    assert not report.failed, where
    left = [info.key for info in store.list(BUCKETS)]
    assert len(left) == len(list(store.list_folders(BUCKETS))), where
    assert all("/_bucket/" in key for key in left), where
    database.vector_buckets.create("empty")
    database.create_index("empty/one", dimension=3)
    assert look(store, 903) == Seen({"empty": {}}, {"empty/one": ({}, 0)}), where


@pytest.mark.parametrize("fault", ALONE)
@pytest.mark.parametrize("act", ACTS, ids=lambda one: one.name)
def test_a_fault_at_every_call(act, fault):
    """It is done or not, nothing is half there, and what was answered stays."""
    for step in range(len(calls_of(act))):
        try_fault(act, step, fault)


@pytest.mark.parametrize("rival", RIVALS, ids=lambda one: one.name)
@pytest.mark.parametrize("act", ACTS, ids=lambda one: one.name)
def test_somebody_else_at_every_call(act, rival):
    """Each of both is done or refused as if one had come after the other."""
    for step in range(len(calls_of(act))):
        for fault in TOGETHER:
            try_fault(act, step, fault, rival)


@pytest.mark.parametrize("fault", ALONE)
def test_collecting_is_broken_off(fault):
    """What is gone stays gone: no earlier version of a bucket holds again."""

    def aged() -> MemoryStore:
        store = fresh()
        store._clock.sleep(2 * DAY_S)
        return store

    store = aged()
    faulty = StepStore(store)
    connect(faulty, store._clock, 3).gc()
    before = look(store)
    assert len(list(store.list(f"{BUCKETS}gone/"))) == 1
    for step in range(len(faulty.log)):
        store = aged()
        broken = StepStore(store, step=step, fault=fault)
        with suppress(UnavailableError, KilledError):
            connect(broken, store._clock, 3).gc()
        assert look(store) == before, broken.happened
        connect(store, store._clock, 4).gc()
        left = [info.key for info in store.list(f"{BUCKETS}gone/") if "/gc/" not in info.key]
        assert len(left) == 1
