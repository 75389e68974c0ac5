"""What can be known of a segment's rows from those of its objects, and pages, that are sound."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeAlias, TypeVar

import numpy as np

from squash.arrays import F32, I64, Mask
from squash.attributes import Columns
from squash.container import Buffer, Container
from squash.errors import DataError
from squash.index.references import MALFORMED
from squash.index.trained import Trained
from squash.limits import KEY_BYTES_MAX, ROW_PAGE_ROWS
from squash.model import IndexConfig, Metric, ObjectRef, RowBatch, SegmentRef
from squash.segment import (
    CODES,
    DOCUMENTS,
    HEAD,
    ROWS,
    VECTORS,
    Directory,
    KeyTable,
    build_flat,
    build_partition,
    parse_page,
)
from squash.segment.exact import unit_rows
from squash.segment.head import clusters_of
from squash.segment.layout import VERSION
from squash.storage import ObjectStore
from squash.values import dataclass

_DECODER: Final = json.JSONDecoder()

T = TypeVar("T")
Document: TypeAlias = tuple[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Clusters:
    """Of a partition: int64 [c + 1], where each begins, and float32 [c, D], their centres."""

    begins: I64
    centers: F32


@dataclass(frozen=True, slots=True)
class Salvaged:
    """The rows of a segment as far as they can be read.

    `vectors` is float32 [n, d]; `sound` bool [n], the rows whose vector and document are.
    """

    vectors: F32
    documents: Sequence[Document | None]
    sound: Mask

    def rows(self, wanted: I64) -> RowBatch:
        """Return some rows that are sound."""
        found = [one for one in (self.documents[row] for row in wanted.tolist()) if one is not None]
        return RowBatch(
            [key for key, _ in found], self.vectors[wanted], [metadata for _, metadata in found]
        )

    def keys(self) -> KeyTable:
        """Return the key table; a row whose key is not known has one that no record has."""
        return KeyTable.build(
            [
                # No key that can be put is so long.
                one[0] if one is not None else f"{row}".rjust(KEY_BYTES_MAX + 1)
                for row, one in enumerate(self.documents)
            ]
        )


def salvage(
    store: ObjectStore, ref: SegmentRef, damaged: Collection[str], *, dimension: int
) -> Salvaged:
    """Read all that is sound of a segment's vectors and documents, page by page where need be.

    Parameters
    ----------
    store:
        The store below the index's own prefix.
    ref:
        The segment.
    damaged:
        Names of its objects that are known to be damaged, whatever their checksums.
    dimension:
        d.

    """
    directory = _directory(store, ref, damaged, dimension)
    vectors, vectors_sound = _vectors(store, ref, directory, dimension)
    documents = _documents(store, ref, directory)
    known = np.array([one is not None for one in documents], dtype=np.bool_).reshape(-1)
    return Salvaged(vectors, documents, vectors_sound & known)


def find_clusters(
    store: ObjectStore, ref: SegmentRef, damaged: Collection[str], trained: Trained
) -> Clusters | None:
    """Find a partition's clusters: its codes, its head and the routing table all say them."""
    for name in (CODES, HEAD):
        container = None if name in damaged else _container(store, ref, name)
        if container is not None:
            return Clusters(*clusters_of(container, ref.objects[name].key))
    if ref.id not in trained.partition_ids:
        return None
    number = trained.partition_ids.index(ref.id)
    first, last = trained.partition_begins[number : number + 2]
    sizes = trained.cluster_rows[first:last]
    begins = np.concatenate(([0], np.cumsum(sizes))).astype(np.int64)
    return Clusters(begins, trained.centers[first:last]) if begins[-1] == ref.rows else None


def rebuild(
    rows: RowBatch, config: IndexConfig, *, trained: Trained | None, clusters: Clusters | None
) -> dict[str, bytes]:
    """Write a segment's objects anew: a partition's if its clusters are known, else a flat one's.

    Parameters
    ----------
    rows:
        The rows in their order.
    config:
        The index.
    trained, clusters:
        What the partition was built with, and where its clusters begin among the rows.

    """
    if trained is None or clusters is None:
        return build_flat(rows, non_filterable=config.non_filterable)
    measured = np.asarray(rows.vectors)
    if config.metric is Metric.COSINE:
        measured = unit_rows(measured)
    return build_partition(
        rows,
        projected=trained.codec.project(measured),
        centers=clusters.centers,
        cluster_begins=clusters.begins,
        codec=trained.codec,
        cells=trained.cells,
        columns=Columns.from_metadata(rows.metadata, non_filterable=config.non_filterable),
    )


def _sound(store: ObjectStore, ref: ObjectRef | None) -> Buffer | None:
    data = None if ref is None else store.get(ref.key)
    if ref is None or data is None or len(data) != ref.bytes or zlib.crc32(data) != ref.crc32:
        return None
    return data


def _container(store: ObjectStore, ref: SegmentRef, name: str) -> Container | None:
    data = _sound(store, ref.objects.get(name))
    if data is None:
        return None
    key = ref.objects[name].key
    return _tried(lambda: Container(data, kind=f"segment-{name}", versions=(VERSION,), where=key))


def _tried(read: Callable[[], T]) -> T | None:
    """Return what reading gives; None where what has the right checksum was wrongly written."""
    try:
        return read()
    except (DataError, *MALFORMED):
        return None


def _directory(
    store: ObjectStore, ref: SegmentRef, damaged: Collection[str], dimension: int
) -> Directory | None:
    for name in (ROWS, HEAD):
        container = None if name in damaged else _container(store, ref, name)
        if container is None:
            continue
        key = ref.objects[name].key
        found = _tried(partial(Directory.from_container, container, key))
        if found is not None and (found.rows, found.dimension) == (ref.rows, dimension):
            return found
    return None


def _vectors(
    store: ObjectStore, ref: SegmentRef, directory: Directory | None, dimension: int
) -> tuple[F32, Mask]:
    container = _container(store, ref, VECTORS)
    if container is not None:
        whole: F32 = container.array("vector")
        if whole.shape == (ref.rows, dimension) and whole.dtype == np.float32:
            return whole, np.asarray(np.isfinite(whole).all(axis=1))
    vectors = np.zeros((ref.rows, dimension), dtype=np.float32)
    sound = np.zeros(ref.rows, dtype=np.bool_)
    data = store.get(ref.objects[VECTORS].key) if VECTORS in ref.objects else None
    if data is None or directory is None:
        return vectors, sound
    for page in range(len(directory.vector_crc32)):
        start, stop = directory.vector_page(page)
        part = memoryview(data)[start:stop]
        if len(part) == stop - start and zlib.crc32(part) == int(directory.vector_crc32[page]):
            rows = slice(page * ROW_PAGE_ROWS, (page + 1) * ROW_PAGE_ROWS)
            vectors[rows] = np.frombuffer(part, dtype="<f4").reshape(-1, dimension)
            sound[rows] = True
    return vectors, sound


def _documents(
    store: ObjectStore, ref: SegmentRef, directory: Directory | None
) -> Sequence[Document | None]:
    container = _container(store, ref, DOCUMENTS)
    if container is not None:
        whole: list[Document] | None = _tried(
            lambda: _all_pages(container.array("pages").tobytes())
        )
        if whole is not None and len(whole) == ref.rows:
            return whole
    found: list[Document | None] = [None] * ref.rows
    data = store.get(ref.objects[DOCUMENTS].key) if DOCUMENTS in ref.objects else None
    if data is None or directory is None:
        return found
    for page in range(len(directory.document_crc32)):
        start, stop = directory.document_page(page)
        first = page * ROW_PAGE_ROWS
        count = min(ROW_PAGE_ROWS, ref.rows - first)
        part = memoryview(data)[start:stop]
        crc32 = int(directory.document_crc32[page])
        records = _tried(partial(parse_page, part, crc32=crc32, where=DOCUMENTS))
        if records is not None and len(records) == count:
            found[first : first + count] = records
    return found


def _all_pages(data: bytes) -> list[Document]:
    """Parse pages, each a JSON list, one behind the other."""
    text = data.decode()
    found: list[Document] = []
    at = 0
    while at < len(text):
        page, at = _DECODER.raw_decode(text, at)
        found.extend((key, metadata) for key, metadata in page)
    return found


def matches(objects: Mapping[str, bytes], name: str, ref: ObjectRef) -> bool:
    """Tell whether an object written anew is the one that was written first, to the last bit."""
    data = objects.get(name)
    return data is not None and len(data) == ref.bytes and zlib.crc32(data) == ref.crc32
