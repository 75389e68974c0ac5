"""Carrying queries through the tree: children are launched before a node does work of its own.

What the work is, this module does not know: `Work` says how queries are sent to a child and how a
node's own ones become tasks for processors. So a node is the same thing in the coordinator (the
tree's root, without queries of its own), in an allocator, and where there is no tree at all (a root
with all of them).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from squash.errors import InternalError, TooLargeError
from squash.planning.payloads import Part, split_payload
from squash.planning.tree import Dealt, Place, deal
from squash.search.calls import Batch, Call, Caller

Q = TypeVar("Q")
R = TypeVar("R")
Q_contra = TypeVar("Q_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)


class Begun(Protocol[R_co]):
    """A node's own queries, planned."""

    @property
    def calls(self) -> Sequence[Call]:
        """What processors are to do."""
        ...

    def finish(self, answers: Sequence[bytes | None]) -> Sequence[R_co]:
        """Merge the answers to the calls, in their order, into results in the queries' order.

        None stands for an answer that is missing: the results must name it.
        """
        ...


class Work(Protocol[Q_contra, R_co]):
    """What a node does with queries."""

    def parts(self, queries: Sequence[Q_contra]) -> tuple[Sequence[Part], Part]:
        """Return what each query takes at most when it is sent to a child, and what all share."""
        ...

    def pack(self, queries: Sequence[Q_contra]) -> bytes:
        """Return the container that tells a child its queries."""
        ...

    def unpack(self, body: bytes, queries: Sequence[Q_contra]) -> Sequence[R_co]:
        """Read the results of a child that was sent these queries."""
        ...

    def begin(self, queries: Sequence[Q_contra]) -> Begun[R_co]:
        """Plan queries; whatever needs no processor can be searched on the way."""
        ...

    def lost(self, query: Q_contra, what: str) -> R_co:
        """Return the result of a query whose child did not answer."""
        ...


def answer_node(
    caller: Caller,
    work: Work[Q, R],
    place: Place,
    queries: Sequence[Q],
    *,
    meanwhile: Callable[[], None] = lambda: None,
) -> list[R]:
    """Answer the queries of a node and of all below it.

    Parameters
    ----------
    caller:
        Makes this node's calls, within its deadline.
    work:
        What is done with queries.
    place:
        Where the node stands.
    queries:
        Those of its subtree.
    meanwhile:
        What else there is to do while others work; called when all calls are under way.

    Returns
    -------
    A result for each query, in their order.

    Raises
    ------
    ValueError
        If the tree has no such node.
    TooLargeError
        If a query is more than a call can carry.
    UnavailableError
        If there is no time left to begin.
    SquashError
        As `Caller.gather`.

    """
    # Before anything is called: a tree whose every child was late would be an answer of nothing.
    caller.check_time()
    dealt = deal(place, len(queries))
    parts, calls = _calls_to_children(work, place, dealt, queries)
    children = caller.launch(calls)
    own = queries[: len(dealt.own)]
    begun, batch = _begin_own(caller, work, own) if own else (None, None)
    meanwhile()
    results: list[R] = []
    if begun is not None and batch is not None:
        results.extend(begun.finish(caller.gather(batch)))
        if len(results) != len(own):
            raise InternalError(f"{len(own)} queries were planned, {len(results)} answered")
    for part, call, answer in zip(parts, calls, caller.gather(children), strict=True):
        asked = queries[part.start : part.stop]
        if answer is None:
            results.extend(work.lost(query, call.what) for query in asked)
            continue
        found = work.unpack(answer, asked)
        if len(found) != len(asked):
            raise InternalError(
                f"{call.what} was asked {len(asked)} queries and answered {len(found)}"
            )
        results.extend(found)
    return results


def _calls_to_children(
    work: Work[Q, R], place: Place, dealt: Dealt, queries: Sequence[Q]
) -> tuple[list[range], list[Call]]:
    """Return which queries go to which child; one that they are too much for is called twice."""
    parts: list[range] = []
    calls: list[Call] = []
    for child, part in dealt.children:
        for mine in _sendable(work, queries, part):
            body = work.pack(queries[mine.start : mine.stop])
            parts.append(mine)
            below = Place(place.tree, child)
            calls.append(Call("allocator", body, f"allocator {child.id}", place=below))
    return parts, calls


def _sendable(work: Work[Q, R], queries: Sequence[Q], part: range) -> list[range]:
    """Divide queries into what a call can carry.

    What they share counts in full wherever some of them go. Of many filters each may be small, and
    all be too much: then halves are tried, which have fewer.
    """
    sizes, shared = work.parts(queries[part.start : part.stop])
    try:
        groups = split_payload(sizes, shared)
    except TooLargeError:
        if len(part) == 1:
            raise
        middle = (part.start + part.stop) // 2
        halves = range(part.start, middle), range(middle, part.stop)
        return [mine for half in halves for mine in _sendable(work, queries, half)]
    return [range(part.start + group.start, part.start + group.stop) for group in groups]


def _begin_own(caller: Caller, work: Work[Q, R], queries: Sequence[Q]) -> tuple[Begun[R], Batch]:
    begun = work.begin(queries)
    return begun, caller.launch(begun.calls)
