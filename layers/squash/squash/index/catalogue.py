"""Which indexes there are, and how each is configured.

An index is there from the moment its `index.json` is, until that is removed. Its data lies under
an id of its own, so that what a half-done drop leaves behind never shows in a later index of the
same name.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from itertools import islice
from typing import Any, Final

from squash.clock import IdSource
from squash.container import Buffer
from squash.errors import (
    ChecksumError,
    ConflictError,
    DataError,
    InvalidArgumentError,
    NotFoundError,
    UnavailableError,
    UnsupportedFormatError,
)
from squash.index.names import (
    BUCKETS,
    bucket_of,
    check_index_name,
    folder_of,
    is_bucket_name,
)
from squash.index.references import MALFORMED
from squash.limits import (
    ATTRIBUTE_NAME_BYTES_MAX,
    DIMENSION_MAX,
    INDEX_NAME_PATTERN,
    NON_FILTERABLE_KEYS_MAX,
)
from squash.model import AttributeType, EncoderPin, IndexConfig, Metric
from squash.storage import ObjectStore

FORMAT: Final = "squash-index"
VERSION: Final = 1
VECTOR_FIELDS: Final = ("vector",)
# Features, each with the field that it brings: who does not know them must not read on.
EXPIRES: Final = "expires"  # records may expire
ENCODER: Final = "encoder"  # vectors are those of one encoder
FEATURES: Final = (ENCODER, EXPIRES)
_NAME: Final = re.compile(INDEX_NAME_PATTERN)
_ID: Final = re.compile(r"[0-9a-f]{32}")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_NEAR_NAMES_OF_MAX: Final = 1000


@dataclass(frozen=True, slots=True)
class Entry:
    """One index: its configuration, and the prefix its data lies under (ends with "/")."""

    config: IndexConfig
    prefix: str


def create(store: ObjectStore, config: IndexConfig, ids: IdSource) -> Entry:
    """Create an index; of several at once, one wins.

    Raises
    ------
    ConflictError
        If there is one of this name.
    InvalidArgumentError
        If the configuration cannot be.

    """
    _check_config(config)
    mine = ids.new_id()
    data = _to_bytes(config, mine)
    try:
        created = store.put_if_absent(_key(config.name), data)
    except UnavailableError:
        # The answer may be what was lost; what lies there tells.
        if _id_there(store, config.name) != mine:
            raise
        created = True
    # A store that tried twice by itself may have met its own first try.
    if not created and _id_there(store, config.name) != mine:
        raise ConflictError(
            f"there is an index {config.name!r} already: open it, or choose another name",
            index=config.name,
        )
    return Entry(config, _prefix(config.name, mine))


def load(store: ObjectStore, name: str) -> Entry:
    """Read an index's configuration.

    Raises
    ------
    NotFoundError
        If there is none of this name; the message has names that are near.
    DataError, UnsupportedFormatError
        If it is damaged, or was written by a newer release.

    """
    check_index_name(name)
    data = store.get(_key(name))
    if data is None:
        raise _none_such(store, name)
    return _from_bytes(data, name)


def list_configs(store: ObjectStore) -> list[IndexConfig]:
    """Return the configurations of all indexes, by name; those in vector buckets come last.

    Raises
    ------
    DataError, UnsupportedFormatError
        If one is damaged, or was written by a newer release.

    """
    found = []
    for name in _candidates(store):
        data = store.get(_key(name))
        if data is not None:
            found.append(_from_bytes(data, name).config)
    return found


def drop(store: ObjectStore, name: str) -> None:
    """Remove an index; a call that was broken off is finished by repeating it.

    Raises
    ------
    NotFoundError
        If there is none of this name, nor anything left of one.

    """
    check_index_name(name)
    # In this order no index created meanwhile can be among those whose data is removed: it is
    # either not in the list yet, or in `index.json`.
    left = _data_of(store, name)
    data = store.get(_key(name))
    if data is None and not left:
        raise _none_such(store, name)
    if data is not None:
        store.delete([_key(name)])
    for one in left:
        store.delete(info.key for info in store.list(_prefix(name, one)))


def names(store: ObjectStore) -> list[str]:
    """Return the names of all indexes, whether their entries can be read or not."""
    return [name for name in _candidates(store) if store.get(_key(name)) is not None]


def remains(store: ObjectStore) -> tuple[list[str], list[str]]:
    """Find data of indexes that are no more.

    Returns
    -------
    Prefixes below which there is data of an index whose name another has now; and names below
    which there is data and no index at all: a drop that was broken off, or an `index.json` that was
    lost, for which its data must stay.

    Where an index's entry cannot be read, all data below its name stays.
    """
    replaced: list[str] = []
    orphaned: list[str] = []
    for name in _candidates(store):
        # Read after the listing: an entry is there before its data is, so that data listed before
        # is of the entry found now, or of one that was dropped.
        left = _data_of(store, name)
        if not left:
            continue
        try:
            mine = _id_there(store, name)
        except DataError:
            continue
        if mine is None:
            orphaned.append(name)
        else:
            replaced.extend(_prefix(name, one) for one in left if one != mine)
    return replaced, orphaned


def entry_to_text(entry: Entry) -> str:
    """Return what `index.json` holds, for a message to those who need not read it then."""
    return _to_bytes(entry.config, _id_in(entry)).decode()


def entry_from_text(text: str, name: str) -> Entry:
    """Read back what `entry_to_text` made of an index of this name.

    Raises
    ------
    DataError, UnsupportedFormatError
        If it is not what that makes.

    """
    return _from_bytes(text.encode(), name)


def in_bucket(store: ObjectStore, bucket: str) -> Iterator[str]:
    """Yield the names, without their bucket's, below which something of an index may lie."""
    return (one for one in store.list_folders(f"{BUCKETS}{bucket}/") if is_bucket_name(one))


def _candidates(store: ObjectStore) -> Iterator[str]:
    """Yield the names below which something of an index may lie."""
    yield from (name for name in store.list_folders("") if _NAME.fullmatch(name))
    for bucket in store.list_folders(BUCKETS):
        if is_bucket_name(bucket):
            yield from (f"{bucket}/{name}" for name in in_bucket(store, bucket))


def _data_of(store: ObjectStore, name: str) -> list[str]:
    """Return the ids under which there is data below a name."""
    return [one for one in store.list_folders(f"{folder_of(name)}/") if _ID.fullmatch(one)]


def _key(name: str) -> str:
    return f"{folder_of(name)}/index.json"


def _prefix(name: str, index_id: str) -> str:
    return f"{folder_of(name)}/{index_id}/"


def _id_in(entry: Entry) -> str:
    return entry.prefix.split("/")[-2]


def _id_there(store: ObjectStore, name: str) -> str | None:
    data = store.get(_key(name))
    return None if data is None else _id_in(_from_bytes(data, name))


def _none_such(store: ObjectStore, name: str) -> NotFoundError:
    bucket = bucket_of(name)
    if bucket is None:
        folders = islice(store.list_folders(""), _NEAR_NAMES_OF_MAX)
        names = [one for one in folders if _NAME.fullmatch(one)]  # credentials lie there too
    else:
        names = [f"{bucket}/{one}" for one in islice(in_bucket(store, bucket), _NEAR_NAMES_OF_MAX)]
    near = [one for one in get_close_matches(name, names) if one != name]
    hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    return NotFoundError(
        f"there is no index {name!r}.{hint or ' Create it first, or check the location.'}",
        index=name,
    )


def _check_config(config: IndexConfig) -> None:
    check_index_name(config.name)
    if not 1 <= config.dimension <= DIMENSION_MAX:
        raise InvalidArgumentError(
            f"index {config.name!r} cannot have the dimension {config.dimension}: use 1 to "
            f"{DIMENSION_MAX}",
            index=config.name,
            field="dimension",
        )
    if len(config.non_filterable) > NON_FILTERABLE_KEYS_MAX:
        raise InvalidArgumentError(
            f"index {config.name!r} declares {len(config.non_filterable)} keys as not filterable: "
            f"at most {NON_FILTERABLE_KEYS_MAX} can be, the text_key among them",
            index=config.name,
            field="non_filterable",
        )
    _check_expires(config)
    _check_encoder(config)


def _check_encoder(config: IndexConfig) -> None:
    pin = config.encoder
    if pin is None:
        return
    if not _NAME.fullmatch(pin.name):
        raise InvalidArgumentError(
            f"{pin.name!r:.80} names no encoder", index=config.name, field=ENCODER
        )
    key = pin.text_key
    if key is None:
        return
    if not isinstance(key, str) or not key or key.startswith("$") or _too_long(key):
        raise InvalidArgumentError(
            f"text_key names the metadata key that keeps texts, not {key!r:.80}: 1 to "
            f"{ATTRIBUTE_NAME_BYTES_MAX} bytes, the first not $",
            index=config.name,
            field="text_key",
        )
    if key in config.attributes or key not in config.non_filterable:
        raise InvalidArgumentError(
            f"the texts of index {config.name!r} are kept under {key!r}, which cannot be filtered "
            "by: don't declare it as an attribute, or choose another text_key",
            index=config.name,
            field="text_key",
        )


def _too_long(name: str) -> bool:
    return len(name.encode(errors="replace")) > ATTRIBUTE_NAME_BYTES_MAX


def _check_expires(config: IndexConfig) -> None:
    name = config.expires
    if name is None:
        return
    if not isinstance(name, str) or not name or name.startswith("$"):
        raise InvalidArgumentError(
            f"expires names a metadata attribute, not {name!r:.80}",
            index=config.name,
            field=EXPIRES,
        )
    if config.attributes.get(name) is not AttributeType.NUMBER or name in config.non_filterable:
        raise InvalidArgumentError(
            f"attribute {name!r} says when records of index {config.name!r} expire: declare it as "
            "number, or not at all, and keep it filterable",
            index=config.name,
            field=EXPIRES,
        )


def _to_bytes(config: IndexConfig, index_id: str) -> bytes:
    content: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "features": [name for name in FEATURES if getattr(config, name) is not None],
        "id": index_id,
        "name": config.name,
        "vector_fields": list(VECTOR_FIELDS),
        "dimension": config.dimension,
        "metric": config.metric.value,
        "encoder": None if config.encoder is None else asdict(config.encoder),
        "attributes": {name: kind.value for name, kind in config.attributes.items()},
        "non_filterable": list(config.non_filterable),
        "codec": config.codec,
        "seed": config.seed,
        "created_ms": config.created_ms,
    }
    if config.expires is not None:
        content[EXPIRES] = config.expires
    content["crc32"] = _checksum(content)
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


def _from_bytes(data: Buffer, name: str) -> Entry:
    key = _key(name)
    try:
        content = json.loads(bytes(data))
        _refuse_newer(content, key)
        if content["crc32"] != _checksum(content):
            raise ChecksumError(
                f"{key} is not as it was written: its checksum differs. It never changes once an "
                "index is there: restore it from a copy.",
                object_key=key,
            )
        config = _config(content)
        _check_config(config)
    except InvalidArgumentError as error:
        raise DataError(f"{key} does not describe an index ({error})", object_key=key) from error
    except MALFORMED as error:
        raise DataError(
            f"{key} does not describe an index ({error!r}): restore it from a copy", object_key=key
        ) from error
    if config.name != name:
        raise DataError(f"{key} describes index {config.name!r}: it was moved", object_key=key)
    return Entry(config, _prefix(name, content["id"]))


def _refuse_newer(content: Mapping[str, Any], key: str) -> None:
    features = content["features"]
    known = isinstance(features, list) and all(one in FEATURES for one in features)
    if (content["format"], content["version"]) != (FORMAT, VERSION) or not known:
        raise UnsupportedFormatError(
            f"{key} is a {content['format']!r} of version {content['version']} with the features "
            f"{features}; this release reads {FORMAT!r} of version {VERSION}, with none but "
            f"{', '.join(FEATURES)}. Install a newer release of squash-search.",
            object_key=key,
        )
    if tuple(content["vector_fields"]) != VECTOR_FIELDS:
        raise UnsupportedFormatError(
            f"{key} has the vector fields {content['vector_fields']}; this release reads "
            f"{list(VECTOR_FIELDS)}. Install a newer release of squash-search.",
            object_key=key,
        )


def _config(content: Mapping[str, Any]) -> IndexConfig:
    if not _ID.fullmatch(content["id"]):
        raise ValueError("its id is not 32 hexadecimal digits")
    return IndexConfig(
        name=content["name"],
        dimension=int(content["dimension"]),
        metric=Metric(content["metric"]),
        encoder=_pin(content[ENCODER]) if ENCODER in content["features"] else None,
        attributes={key: AttributeType(kind) for key, kind in content["attributes"].items()},
        non_filterable=tuple(content["non_filterable"]),
        codec=content["codec"],
        seed=int(content["seed"]),
        created_ms=int(content["created_ms"]),
        # Without the feature the field says nothing: a reader that knows neither ignores it.
        expires=content[EXPIRES] if EXPIRES in content["features"] else None,
    )


def _pin(content: Mapping[str, Any]) -> EncoderPin:
    digest = content["digest"]
    if not _DIGEST.fullmatch(digest):
        raise ValueError("its encoder's digest is not 64 hexadecimal digits")
    text_key = content["text_key"]
    return EncoderPin(str(content["name"]), digest, None if text_key is None else str(text_key))


def _checksum(content: Mapping[str, Any]) -> str:
    """Return the CRC-32 of the content without its checksum, whatever its layout."""
    rest = {key: value for key, value in content.items() if key != "crc32"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return f"{zlib.crc32(text.encode()):08x}"
