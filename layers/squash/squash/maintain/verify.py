"""Reading back everything a snapshot names, and saying what is damaged."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from squash.arrays import F32
from squash.errors import DataError
from squash.index.reader import SegmentReader
from squash.index.trained import Trained
from squash.model import Damage, IndexConfig, Metric, Progress, VerifyReport
from squash.segment import ROWS, hash_keys
from squash.segment.exact import unit_rows
from squash.segment.layout import ATTRIBUTES, CODES, DOCUMENTS, VECTORS

_SAMPLE_ROWS = 256
# Codes are written by sums of float32 products, whose last bits depend on the machine.
_FLIPPED_SHARE_MAX = 0.01


def verify(
    readers: Iterable[SegmentReader],
    trained: Trained | None,
    config: IndexConfig,
    *,
    report: Callable[[Progress], None],
) -> VerifyReport:
    """Read every object of every segment and hold it against the others.

    Lengths, checksums and formats are checked of every object; of every segment, that its parts
    have the same number of rows and that its key table finds its documents; of partitions, that
    the codes of a sample of rows are those that their vectors give.

    Parameters
    ----------
    readers:
        The segments, on a loader that retains little.
    trained:
        What the partitions were built with.
    config:
        The index.
    report:
        Told of every segment.

    """
    damages: list[Damage] = []
    objects = stored = rows = 0
    every = list(readers)
    for number, reader in enumerate(every, 1):
        objects += len(reader.ref.objects)
        stored += sum(ref.bytes for ref in reader.ref.objects.values())
        rows += reader.ref.rows
        for name, check in _checks(reader, trained, config):
            try:
                problem = check()
            except DataError as error:
                problem = str(error)
            except (KeyError, ValueError, IndexError) as error:
                problem = f"its parts do not fit each other ({error})"
            if problem:
                damages.append(Damage(reader.ref.objects[name].key, problem))
        report(Progress("verify", number, len(every), "segments"))
    return VerifyReport(objects, stored, rows, tuple(damages))


def _checks(
    reader: SegmentReader, trained: Trained | None, config: IndexConfig
) -> list[tuple[str, Callable[[], str | None]]]:
    checks: list[tuple[str, Callable[[], str | None]]] = [
        (ROWS, lambda: _count(reader, len(reader.keys()))),
        (VECTORS, lambda: _vectors(reader, config)),
        (DOCUMENTS, lambda: _documents(reader)),
        (ATTRIBUTES, lambda: _count(reader, reader.columns().rows)),
    ]
    if reader.ref.kind == "partition":
        checks.append((CODES, lambda: _codes(reader, trained, config)))
    return [(name, check) for name, check in checks if name in reader.ref.objects]


def _count(reader: SegmentReader, rows: int) -> str | None:
    expected = reader.ref.rows
    return None if rows == expected else f"holds {rows} rows where its segment has {expected}"


def _vectors(reader: SegmentReader, config: IndexConfig) -> str | None:
    vectors = reader.all_vectors()
    if vectors.shape != (reader.ref.rows, config.dimension):
        return f"has shape {vectors.shape}, not {(reader.ref.rows, config.dimension)}"
    return None if np.isfinite(vectors).all() else "holds values that are not finite"


def _documents(reader: SegmentReader) -> str | None:
    rows = np.arange(reader.ref.rows, dtype=np.int64)
    found: list[tuple[str, dict[str, Any]]] = reader.documents(rows)
    looked_up = reader.keys().lookup(hash_keys([key for key, _ in found]))
    wrong = int((looked_up != rows).sum())
    return f"{wrong} of its keys are not those of the key table" if wrong else None


def _codes(reader: SegmentReader, trained: Trained | None, config: IndexConfig) -> str | None:
    if trained is None:
        return "its index has no trained state"
    codes = reader.partition(trained.codec).codes
    # A few whole clusters are coded anew: rows of one cluster lie side by side.
    clusters = np.unique(np.linspace(0, len(codes.centers) - 1, 4).astype(np.int64))
    for cluster in clusters.tolist():
        first, last = codes.cluster_begins[cluster : cluster + 2].tolist()
        last = min(last, first + _SAMPLE_ROWS)
        if last == first:
            continue
        vectors: F32 = np.asarray(reader.all_vectors()[first:last])
        if config.metric is Metric.COSINE:
            vectors = unit_rows(vectors)
        again = trained.codec.encode(
            trained.codec.project(vectors),
            centers=codes.centers[cluster : cluster + 1],
            cluster_begins=np.array([0, last - first]),
        )
        for spec in trained.codec.specs:
            if spec.per != "row" or again[spec.name].dtype != np.uint8:
                continue
            stored = codes.arrays[spec.name][first:last]
            if float(np.mean(stored != again[spec.name])) > _FLIPPED_SHARE_MAX:
                return f"codes of rows {first} to {last} are not those of their vectors"
    return None
