"""Values of the library as JSON documents, in the words of the HTTP interface."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, Final

from squash.arrays import F32
from squash.model import (
    Answer,
    EncodingReport,
    IndexConfig,
    IndexStats,
    Match,
    Metadata,
    Record,
    SnapshotInfo,
    WriteResult,
)
from squash.reports import BuildStatus, DatabaseGcReport, GcReport, RepairReport, VerifyReport

_RECORD_BYTES_MIN: Final = len('{"key":"a"},')
_MATCH_BYTES_MIN: Final = len('{"key":"a","distance":0.0},')
_METADATA_BYTES_MIN: Final = len(',"metadata":{}')
_NUMBER_BYTES_MIN: Final = len("0.0,")


def config_document(config: IndexConfig) -> dict[str, Any]:
    """Describe an index as it was created."""
    return {
        "name": config.name,
        "dimension": config.dimension,
        "metric": str(config.metric),
        "encoder": None if config.encoder is None else asdict(config.encoder),
        "attributes": {name: str(kind) for name, kind in config.attributes.items()},
        "non_filterable": list(config.non_filterable),
        "expires": config.expires,
        "codec": config.codec,
        "seed": config.seed,
        "created_ms": config.created_ms,
    }


def write_document(result: WriteResult) -> dict[str, Any]:
    """Describe a durable write."""
    return {"snapshot": result.snapshot, "rows": result.rows, **_encoded(result.encoding)}


def snapshot_document(info: SnapshotInfo) -> dict[str, Any]:
    """Describe a commit and the snapshot it made."""
    return asdict(info)


def gc_document(report: GcReport) -> dict[str, Any]:
    """Describe what was collected."""
    return asdict(report)


def build_document(status: BuildStatus) -> dict[str, Any]:
    """Describe a build from files."""
    return asdict(status)


def record_document(record: Record) -> dict[str, Any]:
    """Describe a record, with what was asked for of it."""
    return {"key": record.key, **_included(record.metadata, record.vector)}


def least_bytes(records: Iterable[Record | Match]) -> int:
    """Return how long records are at least, once they are written.

    A vector that is written takes ten times what it took, and more, and texts are copied more than
    once: whether that is too long to be answered is better known before.
    """
    return sum(
        (_MATCH_BYTES_MIN if isinstance(one, Match) else _RECORD_BYTES_MIN)
        + (0 if one.metadata is None else _METADATA_BYTES_MIN + _text_characters(one.metadata))
        + (0 if one.vector is None else _NUMBER_BYTES_MIN * len(one.vector))
        for one in records
    )


def _text_characters(metadata: Metadata) -> int:
    return sum([len(value) for value in metadata.values() if isinstance(value, str)])


def matches_max(include: Iterable[str], dimension: int, *, bytes_max: int) -> int:
    """Return how many matches so many bytes can hold, at most."""
    each = _MATCH_BYTES_MIN
    if "metadata" in include:
        each += _METADATA_BYTES_MIN
    if "vector" in include:
        each += _NUMBER_BYTES_MIN * dimension
    return max(bytes_max // each, 1)


def answer_document(answer: Answer) -> dict[str, Any]:
    """Describe the reply to one query."""
    matches = [
        {
            "key": match.key,
            "distance": float(match.distance),
            **_included(match.metadata, match.vector),
        }
        for match in answer.matches
    ]
    document: dict[str, Any] = {
        "matches": matches,
        "snapshot": answer.snapshot,
        "usage": asdict(answer.usage),
        **_encoded(answer.encoding),
    }
    if answer.missing:
        document["missing"] = list(answer.missing)
    if answer.explain is not None:
        document["explain"] = asdict(answer.explain)
    return document


def stats_document(stats: IndexStats) -> dict[str, Any]:
    """Describe an index in numbers."""
    document = {name: getattr(stats, name) for name in IndexStats.__slots__}
    return document | {"metric": str(stats.metric), "attributes": dict(stats.attributes)}


def database_gc_document(report: DatabaseGcReport) -> dict[str, Any]:
    """Describe what was collected of all indexes."""
    return asdict(report)


def repair_document(report: RepairReport) -> dict[str, Any]:
    """Describe what was mended, what is lost, and what is left damaged."""
    return asdict(report)


def verify_document(report: VerifyReport) -> dict[str, Any]:
    """Describe what was found wrong."""
    return asdict(report)


def _encoded(report: EncodingReport | None) -> dict[str, Any]:
    """Describe what an encoder did, if one did something."""
    return {} if report is None else {"encoding": asdict(report)}


def _included(metadata: Any, vector: F32 | None) -> dict[str, Any]:
    document: dict[str, Any] = {}
    if metadata is not None:
        document["metadata"] = dict(metadata)
    if vector is not None:
        document["vector"] = vector.tolist()
    return document
