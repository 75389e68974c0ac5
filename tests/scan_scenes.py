"""Tables of clusters for tests of the scanning kernels: encoded rows of many kinds, and queries."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from squash import kernels
from squash.kernels.tables import ClusterTable, PreparedQuery
from squash.quantize import train_codec
from squash.quantize.residual import ResidualCodec


@dataclass
class Scene:
    """A table, its codec, and its rows' vectors by partition."""

    table: ClusterTable
    codec: ResidualCodec
    begins: list[np.ndarray]


def moved(array: np.ndarray, shift: int) -> np.ndarray:
    """Copy an array to an address that is `shift` bytes off its alignment."""
    room = np.zeros(array.nbytes + 64, dtype=np.uint8)
    begin = (-room.ctypes.data) % 64 + shift
    view = room[begin : begin + array.nbytes]
    view[:] = np.ascontiguousarray(array).view(np.uint8).reshape(-1)
    return view.view(array.dtype).reshape(array.shape)


def make_scene(
    rng: np.random.Generator,
    partitions: list[np.ndarray],
    lengths: list[list[int]],
    *,
    space: str,
    dead: float = 0.0,
    own_centers: bool = False,
    shift: int = 0,
) -> Scene:
    """Encode the rows of partitions, float32 [n, d] each in clusters of the lengths given."""
    dimension = partitions[0].shape[1]
    every = np.concatenate(partitions)
    sample = every if len(every) else np.zeros((1, dimension), dtype=np.float32)
    codec = train_codec("residual", sample=sample, space=space, seed=5, residuals=sample)
    assert isinstance(codec, ResidualCodec)
    centers, rows, partition, first_row, first_block, local_block = [], [], [], [], [], []
    blocks, full, alive, begins_of = [], [], [], []
    for number, (vectors, counts) in enumerate(zip(partitions, lengths, strict=True)):
        begins = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64)
        begins_of.append(begins)
        projected = codec.project(vectors)
        middles = np.zeros((len(counts), dimension), dtype=np.float32)
        for i, (a, b) in enumerate(pairwise(begins)):
            if b > a:
                middles[i] = projected[a] if own_centers else projected[a:b].mean(axis=0)
        codes = codec.encode(projected, centers=middles, cluster_begins=begins)
        packed = codes["blocks"]
        places = kernels.concatenated_ranges(
            kernels.block_begins(begins)[:-1] * 32, np.diff(begins)
        )
        bits = np.zeros(len(packed) * 32, dtype=np.uint8)
        bits[places] = rng.random(len(vectors)) >= dead
        first = sum(len(words) for words in alive)
        alive.append(np.packbits(bits, bitorder="little").view(np.uint32))
        blocks.append(moved(packed, shift))
        full.append(moved(codes["full"], shift))
        centers.append(middles)
        rows += counts
        partition += [number] * len(counts)
        first_row += begins[:-1].tolist()
        locals_ = kernels.block_begins(begins)[:-1]
        local_block += locals_.tolist()
        first_block += (locals_ + first).tolist()
    words = np.concatenate(alive)
    all_centers = np.concatenate(centers)
    counts_alive = [
        int(np.bitwise_count(words[b : b + -(-n // 32)]).sum())
        for b, n in zip(first_block, rows, strict=True)
    ]
    sizes = [len(vectors) for vectors in partitions]
    table = ClusterTable(
        space=space,
        dimension=dimension,
        centers=all_centers,
        center_norms=np.sqrt((all_centers.astype(np.float64) ** 2).sum(axis=1)),
        rows=np.array(rows, dtype=np.int64),
        partition=np.array(partition, dtype=np.int64),
        first_row=np.array(first_row, dtype=np.int64),
        first_block=np.array(first_block, dtype=np.int64),
        local_block=np.array(local_block, dtype=np.int64),
        alive=words,
        alive_counts=np.array(counts_alive, dtype=np.int64),
        row_base=np.array(np.cumsum([0, *sizes[:-1]]), dtype=np.int64),
        blocks=blocks,
        full=full,
        vectors=[moved(v, shift) for v in partitions],
    )
    return Scene(table, codec, begins_of)


def prepared_query(scene: Scene, query: np.ndarray) -> PreparedQuery:
    """Prepare a query by the codec's own means (any projection and table will do for a scan)."""
    prepared = scene.codec.prepare(query)
    signs = kernels.sign_table(prepared.projected)
    return PreparedQuery(
        projected=np.ascontiguousarray(prepared.projected, dtype=np.float64),
        offset=float(prepared.offset),
        entries=signs.entries,
        step=signs.step,
        base=signs.base,
        distances=prepared.distances_to(scene.table.centers).astype(np.float32),
    )


def random_scene(seed: int, *, dimension: int, space: str, kind: str, scale: float) -> Scene:
    """Draw a scene of some partitions and clusters."""
    rng = np.random.default_rng(seed)
    lengths = [
        rng.choice([0, 1, 2, 7, 31, 32, 33, 64, 100], rng.integers(1, 5)).tolist()
        for _ in range(rng.integers(1, 4))
    ]
    partitions = []
    for counts in lengths:
        middles = rng.standard_normal((len(counts), dimension)) * 2
        rows = np.repeat(middles, counts, axis=0)
        noise = rng.standard_normal(rows.shape)
        if kind == "clustered":
            rows = rows + noise
        elif kind == "duplicate" and len(rows):
            rows = (rows + noise)[rng.integers(0, max(1, len(rows) // 5), len(rows))]
        elif kind == "zero":
            rows = np.zeros_like(rows)
        elif kind == "far":
            rows = rows + noise * 1e-3 + 1e3
        partitions.append((rows * scale).astype(np.float32))
    return make_scene(
        rng,
        partitions,
        lengths,
        space=space,
        dead=float(rng.choice([0.0, 0.3])),
        own_centers=bool(rng.random() < 0.3),
        shift=int(rng.choice([0, 4, 1])),
    )


def random_query(seed: int, scene: Scene, scale: float) -> np.ndarray:
    """Draw a query: far, zero, a row, or near a row."""
    rng = np.random.default_rng(seed)
    dimension = scene.table.dimension
    rows = np.concatenate(scene.table.vectors)
    choice = rng.integers(0, 4) if len(rows) else rng.integers(0, 2)
    if choice == 0:
        return (rng.standard_normal(dimension) * 2 * scale).astype(np.float32)
    if choice == 1:
        return np.zeros(dimension, dtype=np.float32)
    row = rows[rng.integers(len(rows))]
    if choice == 2:
        return row.copy()
    return (row + rng.standard_normal(dimension) * 0.1 * scale).astype(np.float32)


def vector_table(vectors: list[np.ndarray | None]) -> ClusterTable:
    """Make a table that holds vectors by partition, and nothing else."""
    none = np.empty(0, dtype=np.int64)
    return ClusterTable(
        space="l2",
        dimension=1,
        centers=np.empty((0, 1), dtype=np.float32),
        center_norms=np.empty(0, dtype=np.float64),
        rows=none,
        partition=none,
        first_row=none,
        first_block=none,
        local_block=none,
        alive=np.empty(0, dtype=np.uint32),
        alive_counts=none,
        row_base=np.zeros(len(vectors), dtype=np.int64),
        blocks=[None] * len(vectors),
        full=[None] * len(vectors),
        vectors=vectors,
    )
