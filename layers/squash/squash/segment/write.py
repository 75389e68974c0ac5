"""Writing a segment: rows in, named objects out."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from squash.arrays import F32, I64, AnyArray
from squash.attributes import CellScheme, Columns
from squash.container import Buffer, pack, read_layout
from squash.limits import ROW_PAGE_ROWS
from squash.model import RowBatch
from squash.quantize import Codec
from squash.segment import layout
from squash.segment.documents import pack_records, write_records
from squash.segment.head import describe_codes
from squash.segment.keys import KeyTable


def build_flat(
    rows: RowBatch, *, non_filterable: tuple[str, ...], records: Sequence[bytes] | None = None
) -> dict[str, bytes]:
    """Write a flat segment: rows as they came, searched exactly, without training.

    Parameters
    ----------
    rows, non_filterable:
        The rows, and which attributes of them have no columns.
    records:
        What `write_records` gives for the rows, where it is at hand.

    Returns
    -------
    The segment's objects by name (`layout.ROWS` and so on).

    """
    columns = Columns.from_metadata(rows.metadata, non_filterable=non_filterable)
    header, arrays = columns.to_arrays()
    stored, _, _ = _stored_rows(rows, records)
    return {
        **stored,
        layout.ATTRIBUTES: pack(
            "segment-attributes",
            layout.VERSION,
            header={"rows": len(rows), "columns": header},
            arrays=_prefixed("columns", arrays),
        ),
    }


def build_partition(
    rows: RowBatch,
    *,
    projected: F32,
    centers: F32,
    cluster_begins: I64,
    codec: Codec,
    cells: CellScheme,
    columns: Columns,
    records: Sequence[bytes] | None = None,
) -> dict[str, bytes]:
    """Write a partition.

    Parameters
    ----------
    rows:
        The rows, side by side by cluster.
    projected:
        float32 [n, D], `codec.project` of the (for cosine, normalised) vectors.
    centers:
        float32 [c, D], the clusters' centres, projected.
    cluster_begins:
        int64 [c + 1], cluster i is rows cluster_begins[i] to cluster_begins[i + 1].
    codec, cells:
        What the index was trained with.
    columns:
        The rows' attributes, those that are filterable.
    records:
        What `write_records` gives for the rows, where it is at hand.

    Returns
    -------
    The segment's objects by name.

    """
    column_header, column_arrays = columns.to_arrays()
    cell_header, cell_arrays = cells.encode(columns).to_arrays()
    codes = codec.encode(projected, centers=centers, cluster_begins=cluster_begins)
    clusters: dict[str, AnyArray] = {
        "cluster_begins": cluster_begins.astype(np.int64),
        "centers": centers.astype(np.float32),
    }
    coded = {"codec": codec.name, "codec_version": codec.version}
    codes_object = pack(
        "segment-codes",
        layout.VERSION,
        header={"rows": len(rows), **coded},
        arrays={**clusters, **_prefixed("codes", codes)},
    )
    stored, directory_header, directory_arrays = _stored_rows(rows, records)
    head_header: dict[str, Any] = {**directory_header, **coded}
    head_arrays: dict[str, AnyArray] = {**clusters, **directory_arrays}
    if codec.scannable:
        entries = read_layout(codes_object, where=layout.CODES).entries
        more_header, more_arrays = describe_codes(
            codes,
            codec.specs,
            starts={spec.name: entries[f"codes.{spec.name}"].start for spec in codec.specs},
            cluster_begins=cluster_begins.astype(np.int64),
        )
        head_header.update(more_header)
        head_arrays.update(more_arrays)
    return {
        **stored,
        layout.ATTRIBUTES: pack(
            "segment-attributes",
            layout.VERSION,
            header={"rows": len(rows), "cells": cell_header, "columns": column_header},
            arrays=_by_attribute(cell_arrays, column_arrays, len(columns.names)),
        ),
        layout.CODES: codes_object,
        layout.HEAD: pack("segment-head", layout.VERSION, header=head_header, arrays=head_arrays),
    }


def _stored_rows(
    rows: RowBatch, records: Sequence[bytes] | None
) -> tuple[dict[str, bytes], dict[str, Any], dict[str, AnyArray]]:
    """Return the objects that every segment has, and what their directory is made of."""
    if records is None:
        records = write_records(rows.keys, rows.metadata)
    documents = pack_records(records)
    vectors = np.ascontiguousarray(rows.vectors, dtype=np.float32)
    vector_object = pack("segment-vectors", layout.VERSION, header={}, arrays={"vector": vectors})
    document_object = pack(
        "segment-documents",
        layout.VERSION,
        header={},
        arrays={"pages": np.frombuffer(documents.data, dtype=np.uint8)},
    )
    header = {
        "rows": len(rows),
        "dimension": int(vectors.shape[1]),
        "page_rows": ROW_PAGE_ROWS,
        "vector_start": _start(vector_object, "vector"),
        "document_start": _start(document_object, "pages"),
    }
    arrays: dict[str, AnyArray] = {
        "vector_page_crc32": _page_checksums(vectors),
        "document_page_offsets": documents.offsets,
        "document_page_crc32": documents.crc32,
        "document_row_offsets": documents.row_offsets,
    }
    directory = pack(
        "segment-rows",
        layout.VERSION,
        header=header,
        arrays={**arrays, **KeyTable.build(rows.keys).arrays()},
    )
    objects = {
        layout.VECTORS: vector_object,
        layout.DOCUMENTS: document_object,
        layout.ROWS: directory,
    }
    return objects, header, arrays


def _page_checksums(vectors: F32) -> AnyArray:
    starts = range(0, len(vectors), ROW_PAGE_ROWS)
    pages = vectors.astype("<f4", copy=False)
    return np.array(
        [zlib.crc32(pages[s : s + ROW_PAGE_ROWS].data) for s in starts], dtype=np.uint32
    )


def _start(data: Buffer, name: str) -> int:
    return read_layout(data, where=name).entries[name].start


def _by_attribute(
    cells: Mapping[str, AnyArray], columns: Mapping[str, AnyArray], count: int
) -> dict[str, AnyArray]:
    """Return each attribute's cells and then its column: who filters by it needs one range."""
    arrays: dict[str, AnyArray] = {}
    for i in range(count):
        for prefix, some in (("cells", cells), ("columns", columns)):
            mine = {name: array for name, array in some.items() if name.startswith(f"{i}.")}
            arrays.update(_prefixed(prefix, mine))
    return arrays


def _prefixed(prefix: str, arrays: Mapping[str, AnyArray]) -> dict[str, AnyArray]:
    return {f"{prefix}.{name}": array for name, array in arrays.items()}
