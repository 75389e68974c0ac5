"""The tree of allocators: who a node's children are, and which queries each node answers.

The paper's jump scheme (section 3.3): the root, which is the coordinator and no allocator, has the
id -1. A node's first child has the id after its own; each further one is a subtree's size away. So
ids are in the order in which one walks the tree, a subtree's ids are a range, and every node finds
its children from (id, level, F, L) alone.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final

from squash.limits import TREE_BRANCHES_MAX, TREE_DEPTH_MAX, TREE_NODES_MAX
from squash.values import dataclass

ROOT_ID: Final = -1


@dataclass(frozen=True, slots=True)
class Node:
    """One node: its id and its level; the root is at level 0."""

    id: int
    level: int


ROOT: Final = Node(ROOT_ID, 0)


@dataclass(frozen=True, slots=True)
class Tree:
    """A tree's shape, the paper's F and L.

    Parameters
    ----------
    branching_factor:
        F: how many children a node has, from 1.
    depth:
        L: how many levels lie below the root, from 1.

    Raises
    ------
    ValueError
        If one of them is out of its range.

    """

    branching_factor: int
    depth: int

    def __post_init__(self) -> None:
        """Refuse what is no tree: shapes come in with messages, too."""
        if not 1 <= self.branching_factor <= TREE_BRANCHES_MAX:
            raise ValueError(
                f"a tree's branching factor is from 1 to {TREE_BRANCHES_MAX}, not "
                f"{self.branching_factor}"
            )
        if not 1 <= self.depth <= TREE_DEPTH_MAX:
            raise ValueError(f"a tree's depth is from 1 to {TREE_DEPTH_MAX}, not {self.depth}")
        if self.nodes > TREE_NODES_MAX:
            raise ValueError(f"a tree's nodes are at most {TREE_NODES_MAX}, not {self.nodes}")

    @property
    def nodes(self) -> int:
        """N = F + F² + … + F^L, how many allocators there are."""
        return self.subtree_size(0) - 1

    def subtree_size(self, level: int) -> int:
        """Return how many nodes a subtree has whose top is at a level, the top included."""
        return sum(self.branching_factor**below for below in range(self.depth - level + 1))

    def children(self, node: Node) -> tuple[Node, ...]:
        """Return a node's children, ascending.

        Raises
        ------
        ValueError
            If there is no such node.

        """
        self._check(node)
        if node.level == self.depth:
            return ()
        level = node.level + 1
        jump = self.subtree_size(level)
        return tuple(
            Node(node.id + 1 + place * jump, level) for place in range(self.branching_factor)
        )

    def _check(self, node: Node) -> None:
        """Refuse a node that this tree has not: follow the ids down to its level."""
        at, left = ROOT, node.level
        if not 0 <= left <= self.depth:
            raise ValueError(f"a tree of depth {self.depth} has no level {left}")
        while at.level < left:
            level = at.level + 1
            jump = self.subtree_size(level)
            place = (node.id - at.id - 1) // jump
            if not 0 <= place < self.branching_factor:
                break
            at = Node(at.id + 1 + place * jump, level)
        if at != node:
            raise ValueError(f"there is no node {node.id} at level {left} of {self}")


@dataclass(frozen=True, slots=True)
class Place:
    """Where one stands in a tree; without a tree, a root with all queries of its own."""

    tree: Tree | None = None
    node: Node = ROOT


NO_TREE: Final = Place()


@dataclass(frozen=True, slots=True)
class Dealt:
    """A node's queries, dealt: ranges of their positions in what the node was given."""

    own: range
    children: tuple[tuple[Node, range], ...]
    """Children whose subtree got queries; the others are not launched."""


def deal(place: Place, queries: int) -> Dealt:
    """Deal the queries of a subtree among its nodes.

    Of q queries of the whole tree each node answers floor(q / N) or one more, however deep it
    lies: a subtree of s nodes gets its s / N of them, whole queries, and deals them likewise.

    Parameters
    ----------
    place:
        Whose subtree.
    queries:
        How many queries the node was given; they are dealt in their order.

    Raises
    ------
    ValueError
        If there is no such node.

    """
    tree, node = place.tree, place.node
    if tree is None:
        return Dealt(range(queries), ())
    below = tree.children(node)
    if node.level == 0:
        own, size = range(0), tree.nodes
    else:
        size = tree.subtree_size(node.level)
        own = range(queries // size)
    if not below:
        return Dealt(range(queries), ())
    jump = tree.subtree_size(node.level + 1)
    first = size - len(below) * jump
    edges = [(first + place * jump) * queries // size for place in range(len(below) + 1)]
    parts = [range(start, stop) for start, stop in pairwise(edges)]
    return Dealt(
        own, tuple((child, part) for child, part in zip(below, parts, strict=True) if part)
    )
