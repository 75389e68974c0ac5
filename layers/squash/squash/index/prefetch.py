"""Getting parts of several segments in one round, before they are used one by one.

Afterwards the readers' own calls find what they need retained, as far as its bound allows. What is
retained already is not asked for again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TypeAlias

from squash.arrays import I64
from squash.errors import SquashError
from squash.index.attribute_parts import AttributeParts
from squash.index.loading import Loader, Want
from squash.index.reader import SegmentReader
from squash.limits import JOINT_READ_BYTES_MAX
from squash.quantize import ArraySpec

RowsOf: TypeAlias = Sequence[tuple[SegmentReader, I64]]
"""Segments, and rows int64 [m] of each."""


def prefetch_heads(readers: Sequence[SegmentReader]) -> None:
    """Get the heads of partitions: clusters, and where codes, vectors and documents lie.

    The functions below get those that are missing, too, in a round of their own before.
    """
    _fetch((reader, reader.want_heads()) for reader in readers)


def prefetch_attributes(parts: Sequence[AttributeParts], asked: Mapping[str, bool]) -> None:
    """Get the cells of some attributes of partitions, and the columns of those that are True."""
    _fetch((one, one.want(asked)) for one in parts)


def prefetch_columns(parts: Sequence[AttributeParts], names: Sequence[str] | None = None) -> None:
    """Get the columns of some attributes of partitions; of all, if none are named."""
    _fetch((one, one.want_columns(names)) for one in parts)


def prefetch_scan(readers: Sequence[SegmentReader], *, filtered: bool) -> None:
    """Get what measuring every row of some segments reads, of as many as memory is meant to take.

    Parameters
    ----------
    readers:
        The segments.
    filtered:
        Whether their attributes are asked for too.

    """
    wanted: list[tuple[SegmentReader, list[Want]]] = []
    size = 0
    for reader in readers:
        wants = reader.want_scan(filtered=filtered)
        size += sum(want.ref.bytes for want in wants)
        if size > JOINT_READ_BYTES_MAX:
            break
        if wants:
            wanted.append((reader, wants))
    if len(wanted) > 1 or any(len(wants) > 1 for _, wants in wanted):
        _fetch(wanted)


def prefetch_codes(wanted: Sequence[tuple[SegmentReader, I64]], specs: Sequence[ArraySpec]) -> None:
    """Get the codes of some clusters, int64 [m] of each partition; see `cluster_codes`."""
    prefetch_heads([reader for reader, _ in wanted])
    _fetch((reader, reader.want_codes(clusters, specs)) for reader, clusters in wanted)


def prefetch_vectors(wanted: RowsOf) -> None:
    """Get the vectors of some rows."""
    prefetch_rows(vectors=wanted, documents=())


def prefetch_documents(wanted: RowsOf) -> None:
    """Get keys and metadata of some rows."""
    prefetch_rows(vectors=(), documents=wanted)


def prefetch_rows(*, vectors: RowsOf, documents: RowsOf) -> None:
    """Get the vectors of some rows, and keys and metadata of some, in the same round."""
    _fetch((reader, reader.want_directory()) for reader, _ in (*vectors, *documents))
    _fetch(
        [(reader, reader.want_vectors(rows)) for reader, rows in vectors]
        + [(reader, reader.want_documents(rows)) for reader, rows in documents]
    )


def prefetch_vectors_ahead(needed: RowsOf, *, vectors: RowsOf, documents: RowsOf) -> None:
    """Get the vectors of some rows and, if that must wait, what is likely to be asked for next.

    Parameters
    ----------
    needed:
        Whose vectors are read now.
    vectors, documents:
        Whose vectors, these among them, and whose keys and metadata may be asked for next; of
        documents so many are read as are small. If that fails, nothing is said of it: perhaps
        they are not needed.

    """
    _fetch((reader, reader.want_directory()) for reader, _ in needed)
    now = [(reader, reader.want_vectors(rows)) for reader, rows in needed]
    if not any(reader.loader.misses(wants) for reader, wants in now):
        return
    with suppress(SquashError):
        _fetch((reader, reader.want_directory()) for reader, _ in (*vectors, *documents))
        _fetch(
            [(reader, reader.want_vectors(rows)) for reader, rows in vectors]
            + [(reader, reader.want_first_documents(rows)) for reader, rows in documents]
        )
    _fetch(now)


def _fetch(wanted: Iterable[tuple[SegmentReader | AttributeParts, list[Want]]]) -> None:
    by_loader: dict[int, tuple[Loader, list[Want]]] = {}
    for reader, wants in wanted:
        by_loader.setdefault(id(reader.loader), (reader.loader, []))[1].extend(wants)
    for loader, wants in by_loader.values():
        loader.fetch(wants)
