"""Rows of a cluster lie by their attributes: as a plain k-d tree has them, and in fewer blocks."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from amounts import examples
from squash.attributes import CellScheme, CellTable, Columns
from squash.limits import CODE_BLOCK_ROWS
from squash.maintain.row_order import attribute_order
from strategies import metadata_rows

LEAF_ROWS = 8


def tree(rows, codes, whole):
    """Cut rows in halves by the attribute that spreads most, then each half."""
    spreads = [
        (max(code[row] for row in rows) - min(code[row] for row in rows)) / all_
        for code, all_ in zip(codes, whole, strict=True)
    ]
    if len(rows) <= LEAF_ROWS or not max(spreads, default=0):
        return rows
    by = codes[spreads.index(max(spreads))]
    rows = sorted(rows, key=lambda row: by[row])
    unit = CODE_BLOCK_ROWS if len(rows) > CODE_BLOCK_ROWS else LEAF_ROWS
    half = -(-len(rows) // (2 * unit)) * unit
    return tree(rows[:half], codes, whole) + tree(rows[half:], codes, whole)


@settings(max_examples=examples(100, least=25), deadline=None)
@given(
    seed=st.integers(0, 1 << 32),
    sizes=st.lists(st.integers(1, 150), min_size=1, max_size=4),
    kinds=st.lists(st.integers(1, 256), max_size=4),
)
def test_rows_lie_as_the_leaves_of_a_tree(seed, sizes, kinds):
    """Each cluster's rows come in the order of a tree that is cut one part after another."""
    rng = np.random.default_rng(seed)
    count = sum(sizes)
    cells = {f"a{i}": rng.integers(0, kind, count).astype(np.uint8) for i, kind in enumerate(kinds)}
    varying = [code.tolist() for code in cells.values() if len(set(code.tolist())) > 1]
    whole = [max(code) - min(code) for code in varying]
    begins = np.concatenate(([0], np.cumsum(sizes)))
    order = attribute_order(CellTable(count, cells, {}), begins)
    expected = []
    for first, last in zip(begins[:-1].tolist(), begins[1:].tolist(), strict=True):
        expected += tree(list(range(first, last)), varying, whole)
    assert order.tolist() == expected


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
    cells = CellScheme.fit(columns).encode(columns)
    order = attribute_order(cells, np.array([0, rows]))
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
