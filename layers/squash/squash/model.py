"""The values that all rooms share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import numpy as np

from squash.arrays import F32
from squash.values import dataclass

Scalar: TypeAlias = str | float | int | bool
MetadataValue: TypeAlias = Any  # filterable: Scalar or a list of scalars; else any JSON value
Metadata: TypeAlias = Mapping[str, MetadataValue]
Filter: TypeAlias = Mapping[str, Any]
Consistency: TypeAlias = Literal["strong", "eventual"]
AsOf: TypeAlias = int | datetime  # a snapshot's number, or a moment; it has a time zone
SnapshotOperation: TypeAlias = Literal["put", "delete", "fold", "build", "restore"]


class Metric(StrEnum):
    """How far apart two vectors are; smaller is nearer, always."""

    COSINE = "cosine"
    """1 - cos(q, x), in [0, 2]; vectors of length zero are refused."""
    EUCLIDEAN = "euclidean"
    """L2, not squared."""
    DOT = "dot"
    """The negated inner product."""


class AttributeType(StrEnum):
    """The declared type of an attribute; a list attribute holds elements of one of these."""

    NUMBER = "number"
    STRING = "string"
    BOOLEAN = "boolean"
    NUMBER_LIST = "number[]"
    STRING_LIST = "string[]"
    BOOLEAN_LIST = "boolean[]"


INCLUDABLE: Final = ("metadata", "vector")
"""What a reader may have with every record's key, in the order in which it is named."""


class Modality(StrEnum):
    """What an encoder makes vectors of."""

    TEXT = "text"
    IMAGE = "image"
    """The bytes of an image file."""


class Purpose(StrEnum):
    """What a vector is for: many encoders were trained to see other words before a question."""

    DOCUMENT = "document"
    QUERY = "query"


TEXT_KEY_DEFAULT: Final = "text"
"""The metadata key under which texts are kept where nothing is said."""


@dataclass(frozen=True, slots=True)
class EncoderPin:
    """The encoder of an index, pinned: vectors of any other are not comparable with its own.

    Parameters
    ----------
    name:
        What it is called in the store.
    digest:
        SHA-256 of its `encoder.json`, in hexadecimal digits; that names the SHA-256 of every other
        file of it.
    text_key:
        The metadata key that keeps the text of a record, not filterable; None keeps none.

    """

    name: str
    digest: str
    text_key: str | None = "text"


@dataclass(frozen=True, slots=True)
class Inputs:
    """What is to be encoded, all of one modality: texts (str), or the bytes of image files."""

    modality: Modality
    items: Sequence[str] | Sequence[bytes]

    def __len__(self) -> int:
        return len(self.items)


@dataclass(frozen=True, slots=True)
class EncodingReport:
    """What an encoder had to do for a call.

    `truncated` and `chunked` are the places, in the call, of texts longer than the encoder takes:
    of those truncated the end is not in the vector; those chunked were encoded part by part, and
    their vector is the mean.
    """

    encoder: str
    """``name@digest``, the digest's first 12 digits."""
    tokens: int = 0
    truncated: tuple[int, ...] = ()
    chunked: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class IndexConfig:
    """What `index.json` holds: fixed when an index is created."""

    name: str
    dimension: int
    metric: Metric
    encoder: EncoderPin | None = None
    attributes: Mapping[str, AttributeType] = field(default_factory=dict)
    non_filterable: tuple[str, ...] = ()
    codec: str = "residual"
    seed: int = 0
    created_ms: int = 0
    expires: str | None = None
    """The attribute that says when a record expires, in seconds since 1970 UTC; None if none."""


@dataclass(frozen=True, slots=True)
class RowBatch:
    """Rows on their way in or out: `vectors` is float32 [n, d], in the order of `keys`."""

    keys: Sequence[str]
    vectors: F32
    metadata: Sequence[Metadata]

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True, slots=True)
class InputBatch:
    """Records on their way in that are still to be encoded, in the order of `keys`."""

    keys: Sequence[str]
    inputs: Inputs
    metadata: Sequence[Metadata]

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """An immutable object, as the snapshot that names it knows it."""

    key: str
    """Relative to the index's own prefix."""
    bytes: int
    crc32: int


@dataclass(frozen=True, slots=True)
class SegmentRef:
    """One segment: the objects that hold its rows.

    A row is dead if a commit later than `as_of` put or deleted its key. What commits up to
    `deleted_as_of` did to it stands in the bitmap `deleted` (None if they did nothing).
    """

    id: str
    kind: Literal["flat", "partition"]
    rows: int
    as_of: int
    objects: Mapping[str, ObjectRef]
    deleted: ObjectRef | None = None
    deleted_as_of: int = 0


@dataclass(frozen=True, slots=True)
class Record:
    """One stored record; `vector` is float32 [d] or None where it was not asked for."""

    key: str
    vector: F32 | None
    metadata: Metadata | None

    def __eq__(self, other: object) -> bool:
        """Tell whether all is the same, each number of the vector too."""
        if type(other) is not Record:
            return NotImplemented
        mine, its = (self.key, self.metadata), (other.key, other.metadata)
        return mine == its and _are_alike(self.vector, other.vector)

    def __hash__(self) -> int:
        """Hash what always can be."""
        return hash(self.key)


@dataclass(frozen=True, slots=True)
class Match:
    """One returned record and its distance from the query."""

    key: str
    distance: float
    metadata: Metadata | None = None
    vector: F32 | None = None

    def __eq__(self, other: object) -> bool:
        """Tell whether all is the same, each number of the vector too."""
        if type(other) is not Match:
            return NotImplemented
        mine = self.key, self.distance, self.metadata
        its = other.key, other.distance, other.metadata
        return mine == its and _are_alike(self.vector, other.vector)

    def __hash__(self) -> int:
        """Hash what always can be."""
        return hash((self.key, self.distance))


def _are_alike(one: F32 | None, other: F32 | None) -> bool:
    # Arrays say of each number whether it is the same.
    if one is None or other is None:
        return one is other
    return np.array_equal(one, other)


@dataclass(frozen=True, slots=True)
class Level:
    """One level of a query: how many rows came in as candidates, how many survived."""

    name: str
    candidates: int
    survivors: int


@dataclass(frozen=True, slots=True)
class Usage:
    """What an answer cost.

    Bytes and requests count what was asked of the store for this query; what was retained
    already costs none. Invocations are those that the search made of other functions, and what
    they spent is in it; in one process there are none.
    """

    rows_scanned: int = 0
    vectors_read: int = 0
    store_requests: int = 0
    store_rounds: int = 0
    store_bytes: int = 0
    parts_from_memory: int = 0
    """Objects and ranges of objects that were asked for and found in memory; what a search has in
    place already is not asked for."""
    parts_from_tmp: int = 0
    """Found in files of the local disk."""
    parts_from_store: int = 0
    """Read from the store: 0 where the container was warm for this query."""
    invocations: int = 0
    invocations_cold: int = 0
    gb_seconds: float = 0.0
    cost_usd: float = 0.0
    levels: tuple[Level, ...] = ()


@dataclass(frozen=True, slots=True)
class Explanation:
    """How a query was answered."""

    plan: str
    levels: tuple[Level, ...]
    partitions_visited: int
    partitions_total: int
    clusters_visited: int
    clusters_total: int
    selectivity_predicted: float
    """Share of rows expected to pass the filter, from the sure and possible cells alone."""
    selectivity_actual: float
    """Share of the examined rows that did pass."""
    recall_target: float
    certified: bool
    """True if a bound shows that no other row of the visited clusters is nearer."""
    costs_us: Mapping[str, float] = field(default_factory=dict)
    """Microseconds that the cost model expects of the plans it chose from."""


class _UsedLater:
    """Has what makes an answer's usage, until somebody looks at that."""

    __slots__ = ("_usage_of",)


@dataclass(frozen=True, slots=True)
class Answer(_UsedLater):
    """The reply to one query: matches in ascending distance, ties by key."""

    matches: tuple[Match, ...]
    usage: Usage
    snapshot: int
    explain: Explanation | None = None
    missing: tuple[str, ...] = ()
    """What could not be searched; only where the query allows for that."""
    encoding: EncodingReport | None = None
    """How the query was encoded; None where it was a vector."""

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Make the usage of an answer that was made without, see `squash.drafts`."""
            if name != "usage":
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            usage = self._usage_of()
            object.__setattr__(self, "usage", usage)
            return usage


@dataclass(frozen=True, slots=True)
class RecordPage:
    """One page of a listing; `cursor` is None on the last."""

    records: tuple[Record, ...]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class WriteResult:
    """A durable write: the snapshot it made, and how many rows it put or keys it deleted.

    Keys that a deletion was given count whether they were there or not.
    """

    snapshot: int
    rows: int
    encoding: EncodingReport | None = None
    """How the records were encoded; None where they were vectors."""


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """One commit: the snapshot it made, when, and what it did."""

    snapshot: int
    time_ms: int
    """By its writer's clock, in milliseconds since 1970 UTC."""
    operation: SnapshotOperation
    """A fold changes no record, only how they are stored."""
    rows: int
    """How many it put, how many keys it deleted (there or not), how many rows it folded, or of a
    build or a restoration how many rows its segments have."""


@dataclass(frozen=True, slots=True)
class IndexStats:
    """An index in numbers."""

    name: str
    dimension: int
    metric: Metric
    codec: str
    rows: int
    rows_fresh: int
    partitions: int
    clusters: int
    snapshot: int
    stored_bytes: int
    code_bytes_per_row: float
    attributes: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Backlog:
    """What of a snapshot is not in partitions: it grows with every write, and a fold takes it in.

    Rows are counted with dead ones among them, by what the log says alone.
    """

    snapshot: int
    commits: int
    """How many a reader has to have read."""
    rows: int
    rows_in_partitions: int
    bytes: int = 0
    """Of what holds these rows that are in no partition."""
    fold_due: str | None = None
    """The limit of which so much is reached that a fold should come soon; beyond it puts are
    refused. None if there is time."""
    building: str | None = None
    """The build that has begun and will replace what is there: nothing is folded until then."""
