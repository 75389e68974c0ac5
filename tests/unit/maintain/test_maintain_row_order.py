"""Rows of a cluster lie by their attributes: as a plain k-d tree has them, and in fewer blocks."""

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from amounts import examples
from squash.attributes import CellScheme, Columns
from squash.limits import CODE_BLOCK_ROWS
from squash.maintain.row_order import attribute_order
from strategies import metadata_rows

LEAF_ROWS = 8


def tree(rows, codes, spans):
    """Cut rows in halves by the attribute that varies most, then each half."""
    spreads = []
    for code, span in zip(codes, spans, strict=True):
        some, count = [code[row] for row in rows], len(rows)
        variance = (count * sum(one * one for one in some) - sum(some) ** 2) / (count * count)
        spreads.append(variance / (span * span))
    if len(rows) <= LEAF_ROWS or not max(spreads, default=0):
        return rows
    by = codes[spreads.index(max(spreads))]
    rows = sorted(rows, key=lambda row: by[row])
    unit = CODE_BLOCK_ROWS if len(rows) > CODE_BLOCK_ROWS else LEAF_ROWS
    half = -(-len(rows) // (2 * unit)) * unit
    return tree(rows[:half], codes, spans) + tree(rows[half:], codes, spans)


def values_of(rng, kind, count):
    """Return values of one attribute: few numbers, many, few strings, or truths, some missing."""
    few = rng.integers(0, 1 + kind, count)
    match kind % 4:
        case 0:
            return [int(one) for one in few]
        case 1:
            return [float(one) for one in rng.random(count)]
        case 2:
            return [f"s{one % 7}" for one in few]
        case _:
            return [None if one % 3 == 0 else bool(one % 3 == 1) for one in few]


@settings(max_examples=examples(100, least=25), deadline=None)
@given(
    seed=st.integers(0, 1 << 32),
    sizes=st.lists(st.integers(1, 150), min_size=1, max_size=4),
    kinds=st.lists(st.integers(0, 250), max_size=4)
    | st.lists(st.integers(0, 7), min_size=17, max_size=18),
)
def test_rows_lie_as_the_leaves_of_a_tree(seed, sizes, kinds):
    """Each cluster's rows come in the order of a tree that is cut one part after another."""
    rng = np.random.default_rng(seed)
    count = sum(sizes)
    values = {f"a{i}": values_of(rng, kind, count) for i, kind in enumerate(kinds)}
    rows = [
        {name: some[row] for name, some in values.items() if some[row] is not None}
        for row in range(count)
    ]
    columns = Columns.from_metadata(rows)
    cells = CellScheme.fit(columns)
    table = cells.encode(columns)
    held = {name: sum(name in row for row in rows) for name in columns.names}
    taking_part = [
        name
        for name in sorted(held, key=lambda name: (-held[name], name))
        if 2 * columns.column(name).string_count <= count
    ]
    every = [table.codes(name).tolist() for name in taking_part[:16]]
    varying = [code for code in every if len(set(code)) > 1]
    spans = [max(code) - min(code) for code in varying]
    begins = np.concatenate(([0], np.cumsum(sizes)))
    order = attribute_order(columns, cells, begins)
    expected = []
    for first, last in zip(begins[:-1].tolist(), begins[1:].tolist(), strict=True):
        expected += tree(list(range(first, last)), varying, spans)
    assert order.tolist() == expected


def test_lists_do_not_say_where_a_row_lies():
    """Rows of an attribute that some hold a list of stay as they were."""
    metadata = [{"tags": ["a"] if row % 3 else "b"} for row in range(90)]
    columns = Columns.from_metadata(metadata)
    order = attribute_order(columns, CellScheme.fit(columns), np.array([0, 90]))
    assert order.tolist() == list(range(90))


def test_a_rare_value_takes_no_cut_from_others():
    """Of a flag that one row in a hundred has, and an even one, the even one halves the rows."""
    metadata = [{"even": row % 2 == 0, "rare": row % 100 == 0} for row in range(512)]
    columns = Columns.from_metadata(metadata)
    order = attribute_order(columns, CellScheme.fit(columns), np.array([0, 512]))
    assert {metadata[row]["even"] for row in order[:256].tolist()} == {False}
    rare = np.array([metadata[row]["rare"] for row in order.tolist()])
    assert blocks_touched(np.arange(512), rare) == 1 / 16


def test_names_do_not_say_where_a_row_lies():
    """Strings that hardly repeat leave rows as they were; rows of others that do lie together."""
    rng = np.random.default_rng(4)
    names = [f"{one:08}" for one in rng.permutation(600)]
    columns = Columns.from_metadata([{"name": name} for name in names])
    begins = np.array([0, 600])
    assert attribute_order(columns, CellScheme.fit(columns), begins).tolist() == list(range(600))
    groups = Columns.from_metadata([{"group": name[-1]} for name in names])
    order = attribute_order(groups, CellScheme.fit(groups), begins).tolist()
    runs = [names[row][-1] for row in order]
    assert sum(a != b for a, b in pairwise(runs)) == 9


def blocks_touched(lying, passing):
    """Return which share of blocks has a row that passes."""
    return passing[lying].reshape(-1, CODE_BLOCK_ROWS).any(axis=1).mean()


def test_a_filter_finds_its_rows_in_few_blocks():
    """Of a tenth of a cluster's rows most blocks have one as they came, and few as they lie."""
    rng = np.random.default_rng(3)
    rows = 512
    values = {name: rng.permutation(rows) for name in ("u", "v")}
    metadata = [{"u": int(u), "v": int(v)} for u, v in zip(*values.values(), strict=True)]
    columns = Columns.from_metadata(metadata)
    order = attribute_order(columns, CellScheme.fit(columns), np.array([0, rows]))
    came, lies = [], []
    for value in values.values():
        for low in range(0, rows - 51, 20):
            passing = (value >= low) & (value < low + 51)
            came.append(blocks_touched(np.arange(rows), passing))
            lies.append(blocks_touched(order, passing))
    assert np.mean(came) > 0.9
    assert np.mean(lies) < 0.45


@settings(max_examples=examples(100, least=25), deadline=None)
@given(data=st.data(), rows=metadata_rows())
def test_columns_follow_their_rows(data, rows):
    """Reordered columns are those of the reordered rows, array by array."""
    order = data.draw(st.permutations(range(len(rows))))
    found = Columns.from_metadata(rows).reordered(np.array(order, dtype=np.int64))
    expected = Columns.from_metadata([rows[row] for row in order])
    header, arrays = found.to_arrays()
    wanted_header, wanted = expected.to_arrays()
    assert header == wanted_header
    assert arrays.keys() == wanted.keys()
    for name, array in arrays.items():
        assert array.dtype == wanted[name].dtype
        np.testing.assert_array_equal(array, wanted[name])
