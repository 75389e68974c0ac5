"""The tree: ids, subtrees and who answers which query."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from squash.planning.tree import NO_TREE, ROOT, Dealt, Node, Place, Tree, deal

TREES = st.builds(Tree, st.integers(1, 5), st.integers(1, 4))


def walked(tree: Tree, node: Node) -> list[Node]:
    return [node, *(one for child in tree.children(node) for one in walked(tree, child))]


@given(TREES)
@settings(deadline=None)
def test_ids_are_all_numbers_below_n(tree):
    """From the root down, every id from 0 to N - 1 comes once, and there are N of them."""
    nodes = walked(tree, ROOT)[1:]
    assert [node.id for node in nodes] == list(range(tree.nodes))
    f, l = tree.branching_factor, tree.depth
    assert tree.nodes == sum(f**i for i in range(1, l + 1))
    assert all(1 <= node.level <= l for node in nodes)


@given(TREES)
@settings(deadline=None)
def test_subtrees_part_what_is_above_them(tree):
    """A subtree's ids are those one meets in it: the node's own and its children's subtrees."""
    for node in walked(tree, ROOT):
        met = sorted(one.id for one in walked(tree, node) if one.id >= 0)
        end = node.id + tree.subtree_size(node.level)
        assert met == list(range(max(node.id, 0), end))


def test_the_papers_trees():
    """The counts of allocators that the paper's experiments name, and its jumps."""
    counts = {(10, 1): 10, (4, 2): 20, (4, 3): 84, (5, 3): 155, (6, 3): 258, (4, 4): 340}
    assert {shape: Tree(*shape).nodes for shape in counts} == counts
    assert [one.id for one in Tree(4, 3).children(ROOT)] == [0, 21, 42, 63]
    assert [one.id for one in Tree(4, 3).children(Node(21, 1))] == [22, 27, 32, 37]


def answered(tree: Tree, node: Node, queries: range) -> dict[int, list[int]]:
    dealt = deal(Place(tree, node), len(queries))
    found = {node.id: [queries[at] for at in dealt.own]}
    for child, part in dealt.children:
        assert part
        found |= answered(tree, child, queries[part.start : part.stop])
    return found


@given(TREES, st.integers(0, 3000))
@settings(deadline=None)
def test_each_query_is_dealt_to_one_node(tree, count):
    """Each query is answered by exactly one node, in order of ids, none by the root, evenly."""
    found = answered(tree, ROOT, range(count))
    assert found.pop(ROOT.id) == []
    assert [one for node in sorted(found) for one in found[node]] == list(range(count))
    shares = [len(found.get(node, [])) for node in range(tree.nodes)]
    assert set(shares) <= {count // tree.nodes, -(-count // tree.nodes)}


def test_without_a_tree():
    """Without a tree, all queries are one's own."""
    assert deal(NO_TREE, 7) == Dealt(range(7), ())


@pytest.mark.parametrize(
    ("shape", "node"), [((2, 2), Node(6, 1)), ((2, 2), Node(1, 1)), ((2, 2), Node(0, 2)),
                        ((2, 2), Node(-2, 0)), ((2, 2), Node(0, 3)), ((2, 2), Node(-1, 1))]
)  # fmt: skip
def test_nodes_that_are_not_there(shape, node):
    """A node that the tree has not is refused, whatever is asked of it."""
    for ask in (
        Tree(*shape).children,
        lambda n: deal(Place(Tree(*shape), n), 3),
    ):
        with pytest.raises(ValueError, match=r"there is no node|has no level"):
            ask(node)


@pytest.mark.parametrize("shape", [(0, 1), (1, 0), (257, 1), (2, 5), (-1, 2), (6, 4)])
def test_shapes_that_are_none(shape):
    """A shape out of its range is refused."""
    with pytest.raises(ValueError, match="a tree's"):
        Tree(*shape)
