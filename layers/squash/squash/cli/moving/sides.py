"""The two sides of a copy, as a check reads them, and whether they go together at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from squash.cli.moving.checking import Side
from squash.cli.moving.reading import read_segments
from squash.cli.moving.records import metadata_of, vector_of
from squash.cli.moving.service import ServiceConfig, ServiceTable
from squash.cli.moving.state import SegmentState
from squash.errors import InvalidArgumentError
from squash.model import AsOf, Filter, IndexConfig, Metric

if TYPE_CHECKING:
    from squash.arrays import F32
    from squash.database import Index
    from squash.model import Metadata


def service_side(table: ServiceTable, *, segments: int) -> Side:
    """Return the service's side."""

    def keys() -> Iterator[Sequence[str]]:
        states = [SegmentState() for _ in range(segments)]
        for page in read_segments(table, states, records=False):
            yield [str(one["key"]) for one in page.vectors]

    def fetch(wanted: Sequence[str]) -> Mapping[str, tuple[F32, Metadata]]:
        return {str(one["key"]): (vector_of(one), metadata_of(one)) for one in table.get(wanted)}

    return Side(keys, fetch)


def squash_side(index: Index, *, as_of: AsOf | None, filter_: Filter | None = None) -> Side:
    """Return our own side; without `as_of`, what is the newest when it is read."""

    def keys() -> Iterator[Sequence[str]]:
        for batch in index.export_batches(as_of=as_of, filter=filter_, include=[]):
            yield batch.keys

    def fetch(wanted: Sequence[str]) -> Mapping[str, tuple[F32, Metadata]]:
        return {
            record.key: (record.vector, record.metadata or {})
            for record in index.get(keys=wanted, as_of=as_of)
            if record.vector is not None
        }

    return Side(keys, fetch)


def check_alike(ours: IndexConfig, theirs: ServiceConfig, *, name: str) -> str | None:
    """Refuse two indexes of which one cannot hold the other's records.

    Returns
    -------
    What else is not the same in both, in words; None if nothing.

    Raises
    ------
    InvalidArgumentError
        If they differ in dimension or metric.

    """
    refuse_dot(ours, name=name)
    if (ours.dimension, str(ours.metric)) != (theirs.dimension, theirs.metric):
        raise InvalidArgumentError(
            f"{ours.name} has dimension {ours.dimension} and metric {ours.metric}, {name} "
            f"dimension {theirs.dimension} and metric {theirs.metric}: they cannot hold the same "
            "records. Nothing was moved",
            index=ours.name,
        )
    if set(ours.non_filterable) == set(theirs.non_filterable):
        return None
    return (
        f"Keys that cannot be filtered by are {_listed(ours.non_filterable)} in {ours.name}, and "
        f"{_listed(theirs.non_filterable)} in {name}."
    )


def refuse_dot(config: IndexConfig, *, name: str) -> None:
    """Refuse an index whose metric the service does not have.

    Raises
    ------
    InvalidArgumentError
        If it is such an index.

    """
    if config.metric is Metric.DOT:
        raise InvalidArgumentError(
            f"{config.name} has the metric dot, and S3 Vectors knows cosine and euclidean: {name} "
            "would find others nearest. Where all vectors have length 1, an index with metric "
            "cosine has the same order",
            index=config.name,
        )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def source_words(table: ServiceTable, config: ServiceConfig) -> dict[str, Any]:
    """Say which index of the service a copy is about."""
    return {"index": table.name, "endpoint": table.endpoint, "created": config.created}


def target_words(config: IndexConfig, location: str) -> dict[str, Any]:
    """Say which index of ours a copy is about."""
    return {"index": config.name, "store": location, "created": config.created_ms}
