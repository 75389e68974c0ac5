"""zvec and LanceDB: databases on disk, which evaluate the filter themselves within the clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np

from contest import Contestant, Effort, Ladder, lists_of, steps
from judging import I64, Points, Question
from storing import Built, Maker
from workload import uniforms

_EFFORT_MAX: Final = 4_096
_GROWTH: Final = 1.1
_BATCH_ROWS: Final = 10_000
_ZVEC_INSERT_ROWS: Final = 1_000
_NAME: Final = "rows"


def condition(question: Question) -> str | None:
    """Return a question's filter in SQL, which both of them speak."""
    if question.selection is None:
        return None
    parts = [
        f"{span.attribute} >= {span.low!r} AND {span.attribute} < {span.high!r}"
        for span in question.selection.ranges
    ]
    return " AND ".join(parts)


@cache
def _zvec() -> Any:
    """Return the module, told once to use one thread."""
    import zvec

    zvec.init(log_level=zvec.LogLevel.ERROR, query_threads=1, optimize_threads=1)
    return zvec


class Zvec(Contestant):
    """HNSW in zvec, with an inverted index of each attribute."""

    title = "zvec HNSW M16"
    filters = True

    def __init__(self, points: Points, built: Built) -> None:
        self.cost = built.cost(built.stored_bytes / len(points.vectors))
        zvec = _zvec()
        option = zvec.CollectionOption(read_only=True, enable_mmap=True)
        self._collection = zvec.open(str(built.folder / _NAME), option)

    def ladders(self, k: int) -> Sequence[Ladder]:
        return [[(ef,) for ef in steps(k, _EFFORT_MAX, _GROWTH)]]

    def call(self, question: Question, k: int, effort: Effort) -> Callable[[], Any]:
        zvec, ask = _zvec(), self._collection.query
        parameters = zvec.HnswQueryParam(ef=int(effort[0]))
        vector, sql = question.vector, condition(question)

        def call() -> Any:
            asked = zvec.Query(field_name="vector", vector=vector, param=parameters)
            return ask(asked, topk=k, filter=sql, output_fields=[])

        return call

    def found(self, result: Any) -> I64:
        return np.array([int(document.id) for document in result], dtype=np.int64)

    def described(self, effort: Effort) -> str:
        return f"ef {effort[0]:.0f}"


def fill_zvec(points: Points, folder: Path) -> None:
    """Insert all rows, and build the graph on one thread."""
    zvec = _zvec()
    rows, dimension = points.vectors.shape
    columns = uniforms(rows)
    indexed = zvec.InvertIndexParam(enable_range_optimization=True)
    graph = zvec.HnswIndexParam(metric_type=zvec.MetricType.L2, m=16, ef_construction=200)
    schema = zvec.CollectionSchema(
        _NAME,
        fields=[
            zvec.FieldSchema(name, zvec.DataType.DOUBLE, index_param=indexed) for name in columns
        ],
        vectors=zvec.VectorSchema(
            "vector", zvec.DataType.VECTOR_FP32, dimension=dimension, index_param=graph
        ),
    )
    collection = zvec.create_and_open(str(folder / _NAME), schema)
    for start in range(0, rows, _ZVEC_INSERT_ROWS):
        documents = [
            zvec.Doc(
                str(row),
                vectors={"vector": points.vectors[row]},
                fields={name: float(values[row]) for name, values in columns.items()},
            )
            for row in range(start, min(rows, start + _ZVEC_INSERT_ROWS))
        ]
        for status in collection.insert(documents):
            if not status.ok():
                raise RuntimeError(f"zvec: {status.message()}")
    collection.optimize(zvec.OptimizeOption(concurrency=1))
    collection.flush()


class Lance(Contestant):
    """IVF_RQ in LanceDB, refined, with a B-tree of each attribute."""

    title = "LanceDB IVF_RQ, refined"
    filters = True
    questions_max = 100

    def __init__(self, points: Points, built: Built) -> None:
        import lancedb

        self.cost = built.cost(built.stored_bytes / len(points.vectors))
        self._lists = lists_of(len(points.vectors))
        self._table = lancedb.connect(str(built.folder)).open_table(_NAME)

    def ladders(self, k: int) -> Sequence[Ladder]:
        factors = (4, 16) if k <= 10 else (2, 4)
        lists = steps(1, self._lists, _GROWTH)
        return [[(nprobe, factor) for nprobe in lists] for factor in factors]

    def call(self, question: Question, k: int, effort: Effort) -> Callable[[], Any]:
        vector, sql, table = question.vector, condition(question), self._table
        nprobe, factor = map(int, effort)

        def call() -> Any:
            query = table.search(vector).nprobes(nprobe).refine_factor(factor).limit(k)
            if sql is not None:
                query = query.where(sql, prefilter=True)
            return query.select(["id", "_distance"]).to_arrow()

        return call

    def found(self, result: Any) -> I64:
        return np.asarray(result.column("id").to_numpy(), dtype=np.int64)

    def described(self, effort: Effort) -> str:
        return f"nprobe {effort[0]:.0f}, refine {effort[1]:g}"


def fill_lance(points: Points, folder: Path) -> None:
    """Write the table in one piece, and build its indexes."""
    import lancedb
    import pyarrow as pa

    rows, dimension = points.vectors.shape
    columns = uniforms(rows)
    vector = pa.list_(pa.float32(), dimension)
    schema = pa.schema(
        [("id", pa.int64()), ("vector", vector), *((name, pa.float64()) for name in columns)]
    )

    def batches() -> Iterator[Any]:
        for start in range(0, rows, _BATCH_ROWS):
            stop = min(rows, start + _BATCH_ROWS)
            flat = pa.array(points.vectors[start:stop].ravel())
            arrays = [
                pa.array(np.arange(start, stop)),
                pa.FixedSizeListArray.from_arrays(flat, dimension),
                *(pa.array(values[start:stop]) for values in columns.values()),
            ]
            yield pa.record_batch(arrays, schema=schema)

    reader = pa.RecordBatchReader.from_batches(schema, batches())
    table = lancedb.connect(str(folder)).create_table(_NAME, reader)
    table.create_index(
        metric="l2", num_partitions=lists_of(rows), vector_column_name="vector", index_type="IVF_RQ"
    )
    for name in columns:
        table.create_scalar_index(name, index_type="BTREE")


MAKERS: Final = {
    "zvec": Maker("zvec-HNSW-M16", "zvec", fill_zvec, Zvec),
    "lancedb": Maker("lancedb-IVF_RQ", "lancedb", fill_lance, Lance),
}


def missing(dimension: int) -> dict[str, str]:
    """Return why some of them cannot take part."""
    reasons = {name: "not installed" for name in MAKERS if find_spec(name) is None}
    if dimension % 8:
        reasons.setdefault("lancedb", "its IVF_RQ takes dimensions divisible by 8 only")
    return reasons
