"""Reading back everything a snapshot names, and saying what is damaged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import partial
from typing import Any, Final

import numpy as np

from squash.arrays import F32, U8, AnyArray, Mask, distinct
from squash.container import read_layout
from squash.index.live import unpack_mask
from squash.index.loading import Loader
from squash.index.object_keys import segment_key
from squash.index.reader import SegmentReader
from squash.index.references import read_object
from squash.index.state import State
from squash.index.trained import Trained
from squash.kernels import HadamardRotation, block_begins, split_blocks, unpack_low
from squash.maintain.history import Ledger
from squash.model import IndexConfig, Metric, ObjectRef
from squash.quantize import Codec, Codes
from squash.reports import Damage, Progress
from squash.segment import (
    HEAD,
    ROWS,
    ClusterCodes,
    Directory,
    PartitionCodes,
    describe_attributes,
    hash_keys,
)
from squash.segment.exact import unit_rows
from squash.segment.layout import ATTRIBUTES, CODES, DOCUMENTS, VECTORS
from squash.storage import ObjectStore

_KNOWN = frozenset({ROWS, VECTORS, DOCUMENTS, ATTRIBUTES, CODES, HEAD})
_SAMPLE_ROWS = 256
# Codes are written by sums of float32 products, whose last bits depend on the machine.
_FLIPPED_SHARE_MAX = 0.01
# Of a dimension's share in a sum of float64 products: two sums of it differ by twice as much.
_ROUNDING: Final = float(np.finfo(np.float64).eps)


def verify_trained(
    state: State, loader: Loader, ledger: Ledger, *, dimension: int
) -> Trained | None:
    """Read what the partitions share; None if there is nothing, or it is damaged."""
    ref = state.trained
    if ref is None:
        return None
    found: Trained | None = None

    def look() -> None:
        nonlocal found
        found = loader.load(
            ref, "trained", lambda data: Trained.from_bytes(data, ref.key, dimension=dimension)
        )

    ledger.count(ref.bytes)
    ledger.check(ref.key, look)
    return found


def verify_bitmaps(state: State, store: ObjectStore, ledger: Ledger) -> None:
    """Read the deletion bitmaps that the state names."""
    for segment in state.segments:
        ref = segment.deleted
        if ref is None:
            continue
        ledger.count(ref.bytes)

        def look(ref: ObjectRef = ref, rows: int = segment.rows) -> None:
            unpack_mask(read_object(store, ref), rows)

        ledger.check(ref.key, look)


def verify_segments(
    readers: Sequence[SegmentReader],
    trained: Trained | None,
    config: IndexConfig,
    *,
    trained_key: str | None,
    ledger: Ledger,
    report: Callable[[Progress], None],
) -> int:
    """Read every object of every segment and hold it against the others.

    Lengths, checksums and formats are checked of every object; of every segment, that its parts
    have the same number of rows and that its key table finds its documents; of partitions, that
    cells are those of the exact values, and the codes of a sample of rows those that their vectors
    give.

    Parameters
    ----------
    readers:
        The segments, on a loader that retains little.
    trained:
        What the partitions were built with; None if that is damaged: codes are then not compared.
    config:
        The index.
    trained_key:
        The object that `trained` was read from.
    ledger:
        Takes what is found.
    report:
        Told of every segment.

    Returns
    -------
    The number of rows.

    """
    for number, reader in enumerate(readers, 1):
        stored = sum(ref.bytes for ref in reader.ref.objects.values())
        ledger.count(stored, objects=len(reader.ref.objects))
        sound = True
        for name, check in _checks(reader, trained, config):
            if name in reader.ref.objects:
                sound &= ledger.check(reader.ref.objects[name].key, check)
            else:
                sound = False
                missing = segment_key(reader.ref.id, name)
                ledger.damages.append(Damage(missing, "its segment does not name it"))
        damaged = {damage.object_key for damage in ledger.damages}
        if sound and trained is not None and trained_key and trained_key not in damaged:
            ledger.check(trained_key, partial(_sections, reader, trained))
        if HEAD in reader.ref.objects:  # earlier writers made none
            # Held against the others only if nothing is wrong with those.
            look = partial(_head, reader) if sound else partial(_whole, reader, HEAD)
            ledger.check(reader.ref.objects[HEAD].key, look)
        for name in sorted(reader.ref.objects.keys() - _KNOWN):
            # A newer release may give segments further objects; their checksums are known here.
            whole = partial(_whole, reader, name)
            ledger.check(reader.ref.objects[name].key, whole)
        report(Progress("verify", number, len(readers), "segments"))
    return sum(reader.ref.rows for reader in readers)


def _checks(
    reader: SegmentReader, trained: Trained | None, config: IndexConfig
) -> list[tuple[str, Callable[[], str | None]]]:
    checks: list[tuple[str, Callable[[], str | None]]] = [
        (ROWS, lambda: _count(reader, len(reader.keys()))),
        (VECTORS, lambda: _vectors(reader, config)),
        (DOCUMENTS, lambda: _documents(reader)),
        (ATTRIBUTES, lambda: _attributes(reader, trained)),
    ]
    if reader.ref.kind == "partition":
        checks.append((CODES, lambda: _codes(reader, trained, config)))
    return checks


def _count(reader: SegmentReader, rows: int) -> str | None:
    expected = reader.ref.rows
    return None if rows == expected else f"holds {rows} rows where its segment has {expected}"


def _vectors(reader: SegmentReader, config: IndexConfig) -> str | None:
    vectors = reader.all_vectors()
    if vectors.shape != (reader.ref.rows, config.dimension):
        return f"has shape {vectors.shape}, not {(reader.ref.rows, config.dimension)}"
    return None if np.isfinite(vectors).all() else "holds values that are not finite"


def _documents(reader: SegmentReader) -> str | None:
    reader.check_documents()
    rows = np.arange(reader.ref.rows, dtype=np.int64)
    found: list[tuple[str, dict[str, Any]]] = reader.documents(rows)
    looked_up = reader.keys().lookup(hash_keys([key for key, _ in found]))
    wrong = int((looked_up != rows).sum())
    return f"{wrong} of its keys are not those of the key table" if wrong else None


def _attributes(reader: SegmentReader, trained: Trained | None) -> str | None:
    """Read every column, and hold the cells against them: a wrong cell would hide a row."""
    columns = reader.columns()
    for name in columns.names:
        column = columns.column(name)
        _ = column and column.strings
    if reader.ref.kind != "partition":
        return None
    cells = reader.cells()
    if trained is None or reader.ref.id not in trained.partition_ids:
        return None
    again = trained.cells.encode(columns)
    for name in columns.names:
        pairs = (
            (cells.codes(name), again.codes(name)),
            (cells.signatures(name), again.signatures(name)),
        )
        for stored, made in pairs:
            if stored is None or made is None:
                fits = stored is made
            else:
                fits = np.array_equal(stored, made)
            if not fits:
                return f"cells of attribute {name!r} are not those of its values"
    return None


def _sections(reader: SegmentReader, trained: Trained) -> str | None:
    """Hold what was trained against the attributes of which it says where they lie."""
    if reader.ref.id not in trained.partition_ids:
        return None
    told = trained.sections_of(trained.partition_ids.index(reader.ref.id))
    if told is None or told == describe_attributes(reader.whole(ATTRIBUTES)):
        return None
    return f"says that attributes of {reader.ref.id} are where others are"


def _codes(reader: SegmentReader, trained: Trained | None, config: IndexConfig) -> str | None:
    if trained is None:
        reader.all_codes()
        return None
    codes = reader.partition(trained.codec).codes
    if reader.ref.id in trained.partition_ids:
        number = trained.partition_ids.index(reader.ref.id)
        first, last = trained.partition_begins[number : number + 2]
        if not np.array_equal(trained.cluster_rows[first:last], np.diff(codes.cluster_begins)):
            return "has other clusters than the routing table says"
    if not np.isfinite(codes.centers).all():
        return "has centers that are no numbers"
    # A few whole clusters are coded anew: rows of one cluster lie side by side.
    clusters = distinct(np.linspace(0, len(codes.centers) - 1, 4).astype(np.int64))
    for cluster in clusters.tolist():
        first, last = codes.cluster_begins[cluster : cluster + 2].tolist()
        last = min(last, first + _SAMPLE_ROWS)
        if last == first:
            continue
        vectors: F32 = np.asarray(reader.all_vectors()[first:last])
        with np.errstate(all="ignore"):
            if config.metric is Metric.COSINE:
                vectors = unit_rows(vectors)
        if not np.isfinite(vectors).all():
            continue  # these have no codes; where they lie they are named
        with np.errstate(all="ignore"):  # A center may be as far off as numbers go.
            encode = partial(
                trained.codec.encode,
                centers=codes.centers[cluster : cluster + 1],
                cluster_begins=np.array([0, last - first]),
            )
            again, *between = map(encode, _projections(trained.codec, vectors))
        if _differ(trained.codec, codes, again, between, cluster, rows=(first, last)):
            return f"codes of rows {first} to {last} are not those of their vectors"
    return None


def _whole(reader: SegmentReader, name: str) -> None:
    reader.whole(name)


def _head(reader: SegmentReader) -> str | None:
    """Hold what a head says against the objects of which it says it."""
    head, codes = reader.stored_head(), reader.all_codes()
    if not _alike(reader.directory(HEAD), reader.directory(ROWS)):
        return "says that pages are where its rows say that others are"
    same = np.array_equal(head.cluster_begins, codes.cluster_begins)
    if not same or not np.array_equal(head.centers, codes.centers):
        return "has other clusters than its codes"
    data = memoryview(reader.whole(CODES))
    header = read_layout(data, where=CODES).header
    if (head.codec, head.codec_version) != (header["codec"], header["codec_version"]):
        return "names another codec than its codes"
    if head.arrays is None:
        return None
    described = ClusterCodes(head.arrays, reader.ref.objects[HEAD].key)
    for cluster in range(len(head.centers)):
        described.fill(cluster, [data[start:stop] for start, stop in described.ranges(cluster)])
    if described.keys() != codes.arrays.keys() or any(
        not np.array_equal(described[name], codes.arrays[name]) for name in described
    ):
        return "describes other codes than there are"
    return None


def _alike(one: Directory, other: Directory) -> bool:
    return all(
        np.array_equal(getattr(one, field.name), getattr(other, field.name))
        for field in fields(Directory)
    )


def _projections(codec: Codec, vectors: F32) -> list[F32]:
    """Return how rows project here, and the least and the most that they may elsewhere.

    A rotation without a matrix has the same bits everywhere. Products with a matrix are summed in
    an order that depends on the machine, and on how many rows there are: where vectors do not
    reach, as where rows are fewer than dimensions, what comes of it is nothing but rounding.
    """
    projected = codec.project(vectors)
    if isinstance(codec.rotation, HadamardRotation):
        return [projected]
    apart = vectors.astype(np.float64) - codec.mean
    lengths = np.sqrt(np.vecdot(apart, apart))[:, np.newaxis]
    reach = 2 * vectors.shape[1] * _ROUNDING * lengths
    least, most = (projected - reach).astype(np.float32), (projected + reach).astype(np.float32)
    infinity = np.float32(np.inf)
    return [projected, np.nextafter(least, -infinity), np.nextafter(most, infinity)]


def _differ(
    codec: Codec,
    codes: PartitionCodes,
    again: Codes,
    between: Sequence[Codes],
    cluster: int,
    *,
    rows: tuple[int, int],
) -> bool:
    """Tell whether the first rows of a cluster have other codes than those of their vectors.

    Codes are compared where those of the least and the most that rows may project to, `between`,
    agree: what differs there is no rounding.
    """
    first, last = rows
    first_block = int(block_begins(codes.cluster_begins)[cluster])
    for spec in codec.specs:
        made = again[spec.name]
        if made.dtype != np.uint8 or spec.per == "cluster":
            continue
        several: list[AnyArray] = [made, *(one[spec.name] for one in between)]
        if spec.per == "row":
            stored: AnyArray = codes.arrays[spec.name][first:last]
        else:
            # A block's factors are floats, whose last bits may differ; its signs are compared.
            blocks = codes.arrays[spec.name][first_block : first_block + len(made)]
            stored = _signs(blocks, codec, last - first)
            several = [_signs(one, codec, last - first) for one in several]
        made, *bounds = several
        flipped = stored != made
        sure = np.logical_and.reduce([bound == made for bound in bounds])
        if np.any(sure) and float(np.mean(flipped, where=sure)) > _FLIPPED_SHARE_MAX:
            return True
    return False


def _signs(blocks: U8, codec: Codec, rows: int) -> Mask:
    """Return bool [rows, d], the signs of the first rows of some blocks."""
    return unpack_low(split_blocks(blocks, codec.dimension)[0], codec.dimension)[:rows]
