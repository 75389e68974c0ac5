"""The tree: whatever happens to calls, results are the plain ones or the error is right."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulated import START_MS, Cloud, Fate, World, fates
from squash.errors import (
    InternalError,
    PartialAnswerError,
    SquashError,
    ThrottledError,
    TooLargeError,
    UnavailableError,
)
from squash.planning.payloads import Part
from squash.planning.tree import NO_TREE, Place, Tree
from squash.search.calls import Call, Caller
from squash.search.events import Answered, answer_event, error_event, open_request
from squash.search.tree import answer_node

DEADLINE_MS = START_MS + 20_000
OWN_WORK_MS = 7


@dataclass(frozen=True)
class Result:
    """What became of a query: the shares of it that processors answered, and what is missing."""

    query: int
    shares: frozenset[str]
    missing: tuple[str, ...] = ()


@dataclass
class Toy:
    """Work: every query is parted among slots, a processor answers the query's number squared."""

    world: World
    slots: int
    query_bytes: int = 8
    filter_bytes: int = 0
    """Of each query's own, which stand in what a call's queries share."""

    def parts(self, queries: Sequence[int]) -> tuple[list[Part], Part]:
        shared = Part(100 + self.filter_bytes * len(queries), 100)
        return [Part(self.query_bytes, 8) for _ in queries], shared

    def pack(self, queries: Sequence[int]) -> bytes:
        return json.dumps(list(queries)).encode()

    def unpack(self, body: bytes, queries: Sequence[int]) -> list[Result]:
        found = [Result(q, frozenset(s), tuple(m)) for q, s, m in json.loads(body)]
        assert [one.query for one in found] == list(queries)
        return found

    def lost(self, query: int, what: str) -> Result:
        return Result(query, frozenset(), (what,))

    def begin(self, queries: Sequence[int]) -> Begun:
        self.world.clock.ms += OWN_WORK_MS
        return Begun(list(queries), self.slots)


@dataclass
class Begun:
    queries: list[int]
    slots: int

    @property
    def calls(self) -> list[Call]:
        return [
            Call(
                "processor",
                json.dumps([slot, self.queries]).encode(),
                f"partition {slot}",
                f"slot-{slot}",
                f"slot-{slot}:r1",
            )
            for slot in range(self.slots)
        ]

    def finish(self, answers: Sequence[bytes | None]) -> list[Result]:
        shares: dict[int, set[str]] = {query: set() for query in self.queries}
        missing = []
        for call, answer in zip(self.calls, answers, strict=True):
            if answer is None:
                missing.append(call.what)
                continue
            for query, square, slot in json.loads(answer):
                assert square == query * query
                assert slot not in shares[query], "a share came twice"
                shares[query].add(slot)
        return [Result(q, frozenset(shares[q]), tuple(missing)) for q in self.queries]


def process(world: World, event: dict[str, Any]) -> dict[str, Any]:
    slot, queries = json.loads(open_request(event, "process").body)
    world.clock.ms += 3
    return answer_event(
        Answered(json.dumps([[q, q * q, f"slot-{slot}"] for q in queries]).encode())
    )


def allocate(slots: int, allow_partial: bool, log: list[tuple[str, int, int]]):
    def handle(world: World, event: dict[str, Any]) -> dict[str, Any]:
        request, began_ms = open_request(event, "allocate"), world.clock.ms
        place, queries = request.place, json.loads(request.body)
        assert request.allow_partial == allow_partial
        caller = world.calling.caller(
            request.deadline_ms, allow_partial=allow_partial, may_hedge=request.may_hedge
        )
        toy = Toy(world, slots)
        plain_launch = caller.launch

        def launch(calls):
            log.extend((call.role, place.node.id, world.clock.ms) for call in calls)
            return plain_launch(calls)

        caller.launch = launch
        try:
            found = answer_node(caller, toy, place, queries)
        except SquashError as error:
            return error_event(error, caller.total())
        finally:
            assert world.clock.ms <= max(began_ms, request.deadline_ms) + OWN_WORK_MS
        body = json.dumps([[r.query, sorted(r.shares), r.missing] for r in found]).encode()
        return answer_event(Answered(body, caller.total()))

    return handle


@dataclass
class Run:
    found: list[Result] | SquashError
    caller: Caller
    world: World
    cloud: Cloud
    log: list[tuple[str, int, int]]


def run(tree: Tree | None, queries: int, slots: int, *first: Fate, **more) -> Run:
    log: list[tuple[str, int, int]] = []
    allow_partial = more.get("allow_partial", False)
    handlers = {"allocator": allocate(slots, allow_partial, log), "processor": process}
    cloud = Cloud(handlers, fates(*first))
    world = cloud.world()
    caller = world.calling.caller(more.get("deadline_ms", DEADLINE_MS), allow_partial=allow_partial)
    toy = Toy(world, slots, more.get("query_bytes", 8), more.get("filter_bytes", 0))
    try:
        place = Place(tree) if tree else NO_TREE
        found: Any = answer_node(caller, toy, place, range(queries))
    except SquashError as error:
        found = error
    return Run(found, caller, world, cloud, log)


def plain(queries: int, slots: int) -> list[Result]:
    every = frozenset(f"slot-{slot}" for slot in range(slots))
    return [Result(query, every) for query in range(queries)]


SHAPES = st.one_of(
    st.none(),
    st.builds(Tree, st.integers(1, 4), st.integers(1, 3)),
)


@given(SHAPES, st.integers(0, 120), st.integers(0, 4))
@settings(deadline=None)
def test_every_shape_answers_the_same(tree, queries, slots):
    """Whatever the tree: each query is answered once, in order; nothing is called twice."""
    done = run(tree, queries, slots)
    assert done.found == plain(queries, slots)
    spent = done.caller.total()
    assert spent.invocations == len(done.cloud.seen)
    assert (spent.retries, spent.hedges) == (0, 0)
    allocators = sum(one.role == "allocator" for one in done.cloud.seen)
    assert allocators <= (tree.nodes if tree else 0)
    if tree and queries >= tree.nodes:
        assert allocators == tree.nodes


def test_children_come_before_own_work():
    """A node has launched its children when it begins its own queries."""
    done = run(Tree(3, 2), 100, 2)
    began = {}
    for role, node, at_ms in done.log:
        began.setdefault(node, {}).setdefault(role, set()).add(at_ms)
    inner = [times for times in began.values() if "allocator" in times]
    assert len(inner) == 3
    for times in inner:
        assert max(times["allocator"]) + OWN_WORK_MS <= min(times["processor"])


def test_deadlines_nest():
    """Level by level less time is left, for who is called to answer before who calls gives up."""
    done = run(Tree(2, 3), 100, 1)
    levels: dict[int, set[int]] = {}
    for one in done.cloud.seen:
        if one.role == "allocator":
            node = open_request(json.loads(one.payload), "allocate").place.node
            levels.setdefault(node.level, set()).add(one.deadline_ms)
        assert one.deadline_ms < one.at_ms + one.timeout_ms < DEADLINE_MS
    bounds = [(min(levels[level]), max(levels[level])) for level in (1, 2, 3)]
    assert DEADLINE_MS > bounds[0][1] > bounds[1][1] > bounds[2][1] > DEADLINE_MS - 1_000


@pytest.mark.parametrize(("tree", "queries", "slots"), [(Tree(1, 3), 1, 1), (Tree(2, 3), 100, 8)])
def test_where_all_are_late_no_level_doubles_another(tree, queries, slots):
    """A tree whose calls all start a container makes each once; however late all are, few twice.

    Levels that each made one of their calls again made of 112 calls of processors 312.
    """
    needed = min(tree.nodes, max(queries, tree.depth))
    for late_ms, most in ((1_000, 1), (30_000, 1.7 if slots > 1 else 5)):
        done = run(tree, queries, slots, *[Fate(late_ms=late_ms)] * 1_000)
        roles = [one.role for one in done.cloud.seen]
        assert roles.count("allocator") <= most * needed
        assert roles.count("processor") <= most * (needed if queries > 1 else 1) * slots


def test_who_is_next_to_a_straggler_helps_it():
    """One processor that does not answer is called again, and no allocator is."""
    done = run(Tree(1, 3), 1, 1, *[Fate()] * 3, Fate("lose"))
    assert done.found == plain(1, 1)
    roles = [one.role for one in done.cloud.seen]
    assert (roles.count("allocator"), roles.count("processor")) == (3, 2)


def test_too_much_for_one_call():
    """A child whose queries are more than a call can carry is called several times."""
    done = run(Tree(2, 1), 40, 1, query_bytes=500_000)
    assert done.found == plain(40, 1)
    assert sum(one.role == "allocator" for one in done.cloud.seen) == 6
    done = run(Tree(2, 1), 40, 1, query_bytes=5_000_000)
    assert isinstance(done.found, TooLargeError)
    assert done.cloud.seen == []


def test_too_many_filters_for_one_call():
    """Filters count wherever a query goes that has one: all are too much, those of a few are not.

    What no call can carry is told with all its bytes.
    """
    done = run(Tree(2, 1), 40, 1, filter_bytes=500_000)
    assert done.found == plain(40, 1)
    assert sum(one.role == "allocator" for one in done.cloud.seen) == 8
    done = run(Tree(2, 1), 40, 1, filter_bytes=5_000_000)
    assert isinstance(done.found, TooLargeError)
    assert "one query takes 5000108 bytes to send" in str(done.found)
    assert done.cloud.seen == []


def test_a_child_that_answers_too_few(monkeypatch):
    """Results that are not one for each query are a bug, and are not taken for an answer."""
    monkeypatch.setattr(Toy, "unpack", lambda _self, _body, queries: list(queries)[1:])
    assert isinstance(run(Tree(2, 1), 4, 1).found, InternalError)


def test_a_lost_child_is_named():
    """If a child fails twice and a part will do, its queries say what they lack."""
    # The other child and its two processors come between the two tries.
    fate = [Fate("fail"), Fate(), Fate(), Fate(), Fate("fail")]
    done = run(Tree(2, 1), 4, 2, *fate, allow_partial=True)
    assert [one.missing for one in done.found] == [("allocator 0",)] * 2 + [()] * 2
    assert done.found[2:] == plain(4, 2)[2:]
    done = run(Tree(2, 1), 4, 2, *fate)
    assert isinstance(done.found, PartialAnswerError)
    assert done.found.missing == ("allocator 0",)


@pytest.mark.parametrize("tree", [None, Tree(1, 1), Tree(2, 2)])
@pytest.mark.parametrize("allow_partial", [False, True])
def test_a_deadline_that_was_over_before_work_began(tree, allow_partial):
    """Nothing is called, and nothing is no part of an answer, whatever the shape."""
    done = run(tree, 12, 2, allow_partial=allow_partial, deadline_ms=START_MS)
    assert type(done.found) is UnavailableError
    assert "timeout_ms" in str(done.found)
    assert done.cloud.seen == []


FATES = st.builds(
    Fate,
    st.sampled_from(["ok"] * 6 + ["fail", "throttle", "lose"]),
    st.sampled_from([0] * 5 + [30, 400, 3_000, 30_000]),
    st.booleans(),
)


@given(
    SHAPES, st.integers(1, 60), st.integers(1, 3), st.lists(FATES, max_size=60),
    st.booleans(), st.sampled_from([50, 500, 5_000, 20_000]),
)  # fmt: skip
@settings(deadline=None)
def test_whatever_happens(tree, queries, slots, first, allow_partial, left_ms):
    """Over random trees and failures: the plain results, or an error that names what it lacks."""
    deadline_ms = START_MS + left_ms
    done = run(tree, queries, slots, *first, allow_partial=allow_partial, deadline_ms=deadline_ms)
    assert done.world.clock.ms <= deadline_ms + OWN_WORK_MS
    for one in done.cloud.seen:
        assert one.heard_ms <= deadline_ms
    every = plain(queries, slots)
    if isinstance(done.found, SquashError):
        assert isinstance(done.found, PartialAnswerError | ThrottledError)
        assert not allow_partial
        assert left_ms == 50 or any(one.fate != Fate(cold=one.fate.cold) for one in done.cloud.seen)
        return
    assert [one.query for one in done.found] == list(range(queries))
    for found, want in zip(done.found, every, strict=True):
        assert found == want or (found.missing and allow_partial)
        assert found.shares <= want.shares


@pytest.mark.parametrize("kind", ["fail", "throttle"])
def test_any_single_failure_is_made_good(kind):
    """Whichever call of a whole tree fails once, the results are the plain ones."""
    whole = run(Tree(2, 2), 12, 2)
    count = len(whole.cloud.seen)
    for place in range(count):
        done = run(Tree(2, 2), 12, 2, *[Fate()] * place, Fate(kind))
        assert done.found == whole.found
        assert done.caller.total().invocations >= count
