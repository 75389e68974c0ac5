"""What a filter's program makes of quantised attributes, by the kernels that searches use."""

import numpy as np

from squash.attributes import CellScheme, CellTable, Columns, compile_filter
from squash.kernels import ClusterTable, filter_clusters


def cell_truth(
    cells: CellTable, node, scheme: CellScheme, columns: Columns | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return which rows surely pass and which may, bool [n] each.

    With exact columns, numbers that the cells leave open are settled by their values.
    """
    if node is None:
        return np.ones(cells.rows, dtype=bool), np.ones(cells.rows, dtype=bool)
    blocks = -(-cells.rows // 32)
    alive = np.packbits(np.arange(32 * blocks) < cells.rows, bitorder="little").view(np.uint32)
    zero = np.zeros(1, dtype=np.int64)
    table = ClusterTable(
        space="l2",
        dimension=1,
        centers=np.zeros((1, 1), dtype=np.float32),
        center_norms=np.zeros(1),
        rows=np.array([cells.rows], dtype=np.int64),
        partition=zero,
        first_row=zero,
        first_block=zero,
        local_block=zero,
        alive=alive,
        alive_counts=np.array([cells.rows], dtype=np.int64),
        row_base=zero,
        blocks=[None],
        full=[None],
        vectors=[None],
    )

    def holds_lists(name: str) -> bool:
        table.columns[name] = [cells.codes(name)]
        table.signatures[name] = [cells.signatures(name)]
        column = None if columns is None else columns.column(name)
        values = None if column is None or column.offsets is not None else column
        table.values[name] = [None if values is None else (values.numbers, values.ids)]
        return cells.signatures(name) is not None

    program = compile_filter(node, scheme, holds_lists=holds_lists)
    for leaf in program.leaves:
        holds_lists(leaf.attribute)
    sure, possible = (np.zeros(blocks, dtype=np.uint32) for _ in range(2))
    filter_clusters(table, program, zero, sure, possible)
    return tuple(
        np.unpackbits(bitmap.view(np.uint8), bitorder="little")[: cells.rows].astype(bool)
        for bitmap in (sure, possible)
    )
