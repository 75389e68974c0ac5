"""Cluster tables and filter programs of random content, for tests of the searching kernels."""

import numpy as np

from squash.kernels.tables import AND, LEAF, NOT, OR, ClusterTable, FilterProgram, Leaf

ATTRIBUTES = ("plain", "absent", "listed", "unknown")
"""A column of numbers; one that partition 1 lacks; one with lists; one that nobody has."""

LIST_CODE = 3


def shifted(array, places=1):
    """Return a copy of an array that begins some bytes after an aligned address."""
    room = np.empty(array.nbytes + 64, dtype=np.uint8)
    begin = -room.__array_interface__["data"][0] % 64 + places
    copy = room[begin : begin + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def random_table(rng, rows, *, dimension=8, partitions=3, space="l2", dead=0.1):
    """Return a table of clusters with these numbers of rows; its codes hold nothing yet."""
    rows = np.asarray(rows, dtype=np.int64)
    blocks = -(-rows // 32)
    partition = np.sort(rng.integers(0, partitions, len(rows)))
    first_row, local_block = np.zeros_like(rows), np.zeros_like(rows)
    part_rows = np.zeros(partitions, dtype=np.int64)
    part_blocks = np.zeros(partitions, dtype=np.int64)
    for i, owner in enumerate(partition):
        first_row[i], local_block[i] = part_rows[owner], part_blocks[owner]
        part_rows[owner] += rows[i]
        part_blocks[owner] += blocks[i]
    first_block = np.cumsum(blocks) - blocks
    lives = np.zeros(int(blocks.sum()) * 32, dtype=np.bool_)
    for begin, count in zip(first_block * 32, rows, strict=True):
        lives[begin : begin + count] = rng.random(count) >= dead
    alive = np.packbits(lives, bitorder="little").view(np.uint32)
    owned = [np.arange(b, b + n) for b, n in zip(first_block, blocks, strict=True)]
    codes = {"plain": 256, "absent": 256, "listed": 6}
    table = ClusterTable(
        space=space,
        dimension=dimension,
        centers=shifted(rng.standard_normal((len(rows), dimension)).astype(np.float32), 4),
        center_norms=rng.random(len(rows)),
        rows=rows,
        partition=partition.astype(np.int64),
        first_row=first_row,
        first_block=first_block,
        local_block=local_block,
        alive=alive,
        alive_counts=np.array(
            [int(np.bitwise_count(alive[o]).sum()) for o in owned], dtype=np.int64
        ),
        row_base=np.cumsum(part_rows) - part_rows,
        blocks=[None] * partitions,
        full=[None] * partitions,
        vectors=[None] * partitions,
        columns={
            name: [shifted(rng.integers(0, most, n).astype(np.uint8)) for n in part_rows]
            for name, most in codes.items()
        },
        signatures={
            "listed": [shifted(rng.integers(0, 1 << 63, n).astype(np.uint64), 3) for n in part_rows]
        },
    )
    if space == "l2" and rng.random() < 0.5:
        table.spreads = shifted(rng.random(len(rows), dtype=np.float32) * 8, 4)
    for name in ("plain", "absent"):
        table.values[name] = []
        for count in part_rows:
            numbers = shifted(np.sort(rng.standard_normal(9)))
            # A tenth of the places is beyond the numbers: no number.
            table.values[name].append(
                (numbers, shifted(rng.integers(0, 10, count).astype(np.uint32)))
            )
    if partitions > 1:
        table.columns["absent"][1] = None
        table.values["plain"][1] = None
        table.signatures["listed"][1] = None
    return table


def random_leaf(rng, attribute):
    """Return a leaf with a truth of any kind."""
    truth = rng.integers(0, 3, 256).astype(np.uint8).tobytes()
    if rng.random() < 0.5:
        # As of an interval: the codes that pass follow one another.
        begin, sure_begin, sure_end, end = np.sort(rng.integers(0, 257, 4)).tolist()
        truth = (bytes(begin) + b"\1" * (sure_begin - begin) + b"\2" * (sure_end - sure_begin)
                 + b"\1" * (end - sure_end) + bytes(256 - end))  # fmt: skip
    if attribute != "listed":
        ends = np.sort(rng.standard_normal((int(rng.integers(0, 3)), 2)), axis=1)
        ends = tuple((low, high) for low, high in ends.tolist())
        return Leaf(attribute, truth, intervals=ends if rng.random() < 0.7 else None)
    possible = int(np.bitwise_and.reduce(rng.integers(0, 1 << 63, 4)))
    return Leaf(attribute, truth, LIST_CODE, possible & 0xFFFF_FFFF, possible)


def random_program(rng, leaves):
    """Return a program of so many leaves, joined and negated at random."""
    operations, depth, given = [], 0, 0
    while given < leaves or depth > 1:
        kind = int(rng.integers(0, 4))
        if kind == LEAF and given < leaves:
            operations.append((LEAF, given))
            given += 1
            depth += 1
        elif kind == NOT and depth:
            operations.append((NOT, 0))
        elif kind in {AND, OR} and depth > 1:
            operations.append((kind, 0))
            depth -= 1
    return FilterProgram(
        tuple(operations),
        tuple(random_leaf(rng, str(rng.choice(ATTRIBUTES))) for _ in range(leaves)),
    )


def cluster_words(table, bitmap, clusters):
    """Return a bitmap's words at the blocks of some clusters."""
    blocks = -(-table.rows // 32)
    words = [bitmap[table.first_block[i] : table.first_block[i] + blocks[i]] for i in clusters]
    return np.concatenate([np.empty(0, dtype=np.uint32), *words])
