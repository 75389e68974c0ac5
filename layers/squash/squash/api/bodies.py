"""What requests say: the members of each route's body, read into frozen values."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from squash.api import members, moments
from squash.api.contents import KINDS, Contents, one_kind
from squash.api.members import list_of, read_object, wrong
from squash.errors import InvalidArgumentError
from squash.limits import (
    ATTRIBUTE_NAME_BYTES_MAX,
    DECLARED_ATTRIBUTES_MAX,
    DIMENSION_MAX,
    GC_RETENTION_S_MIN,
    ID_PATTERN,
    INTEGER_MAGNITUDE_MAX,
    KEY_BYTES_MAX,
    KEYS_PER_REQUEST_MAX,
    LIST_PAGE_DEFAULT,
    LIST_PAGE_MAX,
    NON_FILTERABLE_KEYS_MAX,
    QUERIES_PER_REQUEST_MAX,
    TIMEOUT_MS_MAX,
    TOP_K_MAX,
    VECTORS_PER_REQUEST_MAX,
)
from squash.model import (
    INCLUDABLE,
    TEXT_KEY_DEFAULT,
    AsOf,
    AttributeType,
    Filter,
    Metadata,
    Metric,
)
from squash.values import dataclass

CODECS: Final = ("residual", "osq")
_COMMIT_ID: Final = re.compile(ID_PATTERN)
_ENCODER_BYTES_MAX: Final = 256  # of a name, "@" and 64 digits there is room
_DIGITS_MAX: Final = 20  # more than a snapshot's number can have
_QUERY_STRING: Final = "the query string"
# A "+" that stands in a query string as it is means a space.
_ZONE_WITHOUT_PLUS: Final = re.compile(r":\d\d(\.\d+)? \d\d:\d\d$", re.ASCII)
_CURSOR: Final = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class CreateBody:
    """An index to be made."""

    name: str
    dimension: int | None = None
    metric: str | None = None
    encoder: str | None = None
    text_key: str | None = TEXT_KEY_DEFAULT
    attributes: Mapping[str, str] | None = None
    non_filterable: Sequence[str] = ()
    expires: str | None = None
    codec: str = "residual"


@dataclass(frozen=True, slots=True)
class PutBody:
    """Records to be put: as many contents and metadata as keys.

    `encoder` says what made the vectors, if these are given.
    """

    keys: Sequence[str]
    contents: Contents
    metadata: Sequence[Metadata | None]
    encoder: str | None = None
    if_absent: bool = False
    if_snapshot: int | None = None
    commit_id: str | None = None


@dataclass(frozen=True, slots=True)
class PatchBody:
    """Changes of metadata: as many as keys."""

    keys: Sequence[str]
    metadata: Sequence[Metadata]
    if_snapshot: int | None = None
    commit_id: str | None = None


@dataclass(frozen=True, slots=True)
class GetBody:
    """Records to be got."""

    keys: Sequence[str]
    include: Sequence[str] = INCLUDABLE
    as_of: AsOf | None = None


@dataclass(frozen=True, slots=True)
class DeleteBody:
    """Records to be deleted, by key or by filter."""

    keys: Sequence[str] | None = None
    filter: Filter | None = None
    if_snapshot: int | None = None
    commit_id: str | None = None


@dataclass(frozen=True, slots=True)
class OptimizeBody:
    """How to fold."""

    full: bool = False


@dataclass(frozen=True, slots=True)
class GcBody:
    """What to keep: every state of the last `retention_s` seconds; None leaves it to the owner."""

    retention_s: int | None = None


@dataclass(frozen=True, slots=True)
class SnapshotsQuery:
    """Snapshots to be listed; asked for in the query string."""

    limit: int = LIST_PAGE_DEFAULT
    before: int | None = None


@dataclass(frozen=True, slots=True)
class ListQuery:
    """A page to be listed; asked for in the query string."""

    cursor: str | None = None
    limit: int = LIST_PAGE_DEFAULT
    include: Sequence[str] = ("metadata",)
    as_of: AsOf | None = None


@dataclass(frozen=True, slots=True)
class QueryBody:
    """Queries: what each asks for and perhaps a filter, and where in the body these stand.

    `single` if one was asked for by itself, and not in a list of one; `encoder` says what made the
    vectors, if these are given.
    """

    single: bool
    contents: Contents
    filters: Sequence[Filter | None]
    filter_places: Sequence[str]
    encoder: str | None = None
    top_k: int = 10
    recall_target: float | None = None
    exact: bool = False
    consistency: str = "strong"
    as_of: AsOf | None = None
    include: Sequence[str] = ("metadata",)
    explain: bool = False
    allow_partial: bool = False
    timeout_ms: int | None = None


def create_body(document: Any) -> CreateBody:
    """Read the body of `POST /v1/indexes`."""
    found = read_object(
        document,
        "",
        required={"name": members.text},
        optional={
            "dimension": members.whole(1, DIMENSION_MAX),
            "encoder": encoder_name,
            "text_key": members.or_null(_attribute_name),
            "metric": members.one_of(*Metric),
            "attributes": _attributes,
            "non_filterable": list_of(
                _attribute_name, most=NON_FILTERABLE_KEYS_MAX, way="leave some filterable"
            ),
            "expires": _attribute_name,
            "codec": members.one_of(*CODECS),
        },
    )
    if "encoder" not in found:
        if "dimension" not in found:
            raise InvalidArgumentError(
                "the body lacks 'dimension', or an 'encoder': give one", field="dimension"
            )
        if "text_key" in found:
            raise wrong("text_key", "goes with an encoder: name one, or leave it out")
    return CreateBody(**found)


def put_body(document: Any) -> PutBody:
    """Read the body of `POST …/vectors`."""
    found = read_object(
        document,
        "",
        required={"vectors": list_of(_record, most=VECTORS_PER_REQUEST_MAX, least=1)},
        optional={
            "encoder": encoder_name,
            "if_absent": members.flag,
            "if_snapshot": _snapshot,
            "commit_id": _commit_id,
        },
    )
    records = found.pop("vectors")
    return PutBody(
        keys=_distinct_keys(records, "vectors"),
        contents=one_kind(records, [f"vectors[{i}]" for i in range(len(records))]),
        metadata=[one.get("metadata") for one in records],
        **found,
    )


def patch_body(document: Any) -> PatchBody:
    """Read the body of `POST …/vectors/patch`."""
    found = read_object(
        document,
        "",
        required={"patches": list_of(_patch, most=VECTORS_PER_REQUEST_MAX, least=1)},
        optional={"if_snapshot": _snapshot, "commit_id": _commit_id},
    )
    patches = found.pop("patches")
    return PatchBody(
        keys=_distinct_keys(patches, "patches"),
        metadata=[one["metadata"] for one in patches],
        **found,
    )


def get_body(document: Any) -> GetBody:
    """Read the body of `POST …/vectors/get`."""
    found = read_object(
        document, "", required={"keys": _keys}, optional={"include": _include, "as_of": _as_of}
    )
    return GetBody(**found)


def delete_body(document: Any) -> DeleteBody:
    """Read the body of `POST …/vectors/delete`."""
    found = read_object(
        document,
        "",
        optional={
            "keys": _keys,
            "filter": members.an_object,
            "if_snapshot": _snapshot,
            "commit_id": _commit_id,
        },
    )
    if ("keys" in found) == ("filter" in found):
        raise InvalidArgumentError("give either keys or a filter to delete by", field="keys")
    return DeleteBody(**found)


def list_query(parameters: Mapping[str, str]) -> ListQuery:
    """Read the query string of `GET …/vectors`."""
    found = read_object(
        dict(parameters),
        "",
        optional={
            "cursor": _cursor,
            "limit": _limit,
            "include": _included_words,
            "as_of": _as_of_word,
        },
        whole=_QUERY_STRING,
    )
    return ListQuery(**found)


def snapshots_query(parameters: Mapping[str, str]) -> SnapshotsQuery:
    """Read the query string of `GET …/snapshots`."""
    found = read_object(
        dict(parameters),
        "",
        optional={"limit": _limit, "before": _snapshot_word},
        whole=_QUERY_STRING,
    )
    return SnapshotsQuery(**found)


def optimize_body(document: Any) -> OptimizeBody:
    """Read the body of `POST …/optimize`."""
    return OptimizeBody(**read_object(document, "", optional={"full": members.flag}))


def gc_body(document: Any) -> GcBody:
    """Read the body of `POST …/gc`."""
    retention = members.whole(GC_RETENTION_S_MIN, INTEGER_MAGNITUDE_MAX)
    return GcBody(**read_object(document, "", optional={"retention_s": retention}))


def query_body(document: Any) -> QueryBody:
    """Read the body of `POST …/query`."""
    found = read_object(
        document,
        "",
        optional={
            **KINDS,
            "queries": list_of(_one_query, most=QUERIES_PER_REQUEST_MAX, least=1),
            "encoder": encoder_name,
            "filter": members.an_object,
            "top_k": members.whole(1, TOP_K_MAX),
            "recall_target": _share,
            "exact": members.flag,
            "consistency": members.one_of("strong", "eventual"),
            "as_of": _as_of,
            "include": _include,
            "explain": members.flag,
            "allow_partial": members.flag,
            "timeout_ms": members.whole(1, TIMEOUT_MS_MAX),
        },
    )
    own = {kind: found.pop(kind) for kind in KINDS if kind in found}
    if bool(own) == ("queries" in found):
        raise InvalidArgumentError(
            "give either a vector, a text or an image, or a list of queries",
            field=next(iter(own), "vector"),
        )
    single, filter_ = bool(own), found.pop("filter", None)
    asked = [own] if single else found.pop("queries")
    places = ["" if single else f"queries[{i}]" for i in range(len(asked))]
    return QueryBody(
        single=single,
        contents=one_kind(asked, places),
        # Those without a filter of their own have the one beside them.
        filters=[one.get("filter", filter_) for one in asked],
        filter_places=[
            f"{place}.filter" if "filter" in one else "filter"
            for one, place in zip(asked, places, strict=True)
        ],
        **found,
    )


def _record(value: Any, place: str) -> dict[str, Any]:
    return read_object(
        value,
        place,
        required={"key": _key},
        optional={**KINDS, "metadata": members.an_object},
    )


def _patch(value: Any, place: str) -> dict[str, Any]:
    return read_object(value, place, required={"key": _key, "metadata": members.an_object})


def _one_query(value: Any, place: str) -> dict[str, Any]:
    return read_object(value, place, optional={**KINDS, "filter": members.an_object})


def _key(value: Any, place: str) -> str:
    if not members.text(value, place):
        raise wrong(place, f"is empty: keys have 1 to {KEY_BYTES_MAX} bytes")
    if len(value.encode()) > KEY_BYTES_MAX:
        raise wrong(place, f"has more than {KEY_BYTES_MAX} bytes of UTF-8")
    return str(value)


def _distinct_keys(records: Sequence[Mapping[str, Any]], place: str) -> list[str]:
    first: dict[str, int] = {}
    for i, key in enumerate(one["key"] for one in records):
        if key in first:
            raise wrong(
                f"{place}[{i}].key", f"is that of {place}[{first[key]}] too: give each key once"
            )
        first[key] = i
    return list(first)


_keys: Final = list_of(_key, most=KEYS_PER_REQUEST_MAX, least=1)
_include: Final = list_of(members.one_of(*INCLUDABLE), most=len(INCLUDABLE), way="name each once")


def _attributes(value: Any, place: str) -> dict[str, str]:
    declared = members.an_object(value, place)
    if len(declared) > DECLARED_ATTRIBUTES_MAX:
        raise wrong(place, f"declares {len(declared)} types; at most {DECLARED_ATTRIBUTES_MAX}")
    check = members.one_of(*AttributeType)
    for name, kind in declared.items():
        here = members.under(place, members.shown(name))
        _attribute_name(name, here)
        check(kind, here)
    return declared


def _attribute_name(value: Any, place: str) -> str:
    name = members.text(value, place)
    if not name or name.startswith("$") or len(name.encode()) > ATTRIBUTE_NAME_BYTES_MAX:
        raise wrong(
            place,
            f"is no metadata key: they have 1 to {ATTRIBUTE_NAME_BYTES_MAX} bytes and do not begin "
            "with $",
        )
    return name


def _commit_id(value: Any, place: str) -> str:
    if not _COMMIT_ID.fullmatch(members.text(value, place)):
        raise wrong(place, "is one that a problem gave, or your own: 32 of 0-9 and a-f")
    return str(value)


_snapshot: Final = members.whole(0, INTEGER_MAGNITUDE_MAX)


def _as_of(value: Any, place: str) -> AsOf:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    try:
        found = moments.parse(value)
    except ValueError as error:
        raise wrong(
            place,
            "is a snapshot's number, or a time with its zone, such as 2026-01-31T12:00:00Z",
        ) from error
    return found if isinstance(found, datetime) else int(_snapshot(found, place))


def _as_of_word(value: str, place: str) -> AsOf:
    if _ZONE_WITHOUT_PLUS.search(value):
        raise wrong(
            place, 'has a space where a zone has "+", which a query string says by %2B: or take Z'
        )
    return _as_of(_whole(value) if _is_number(value) else value, place)


def _snapshot_word(value: str, place: str) -> int:
    if not _is_number(value):
        raise wrong(place, "is a snapshot's number")
    return int(_snapshot(_whole(value), place))


def _is_number(value: str) -> bool:
    return value.isascii() and value.isdecimal()


def _whole(digits: str) -> int:
    """Return a number; of one that is longer than any may be, what its first digits say."""
    return int(digits.lstrip("0")[:_DIGITS_MAX] or "0")


def _share(value: Any, place: str) -> float:
    share = members.number(value, place)
    if not 0 < share <= 1:
        raise wrong(place, "is above 0 and at most 1")
    return share


def encoder_name(value: Any, place: str) -> str:
    """Check what an encoder is asked for by; what it means is for the library to say."""
    name = members.text(value, place)
    if not 1 <= len(name.encode()) <= _ENCODER_BYTES_MAX:
        raise wrong(place, "is an encoder's name, or name@digest")
    return name


def _cursor(value: str, place: str) -> str:
    if not _CURSOR.fullmatch(value):
        raise wrong(place, "is not one that a listing gave: begin again without one")
    return value


def _limit(value: str, place: str) -> int:
    if not _is_number(value) or not 1 <= _whole(value) <= LIST_PAGE_MAX:
        raise wrong(place, f"is a number from 1 to {LIST_PAGE_MAX}")
    return _whole(value)


def _included_words(value: str, place: str) -> list[str]:
    names = [] if value == "none" else value.split(",")
    return [members.one_of(*INCLUDABLE)(name, place) for name in names]
