"""What `index.json` holds: an index's entry, to and from bytes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final, TypeVar

from squash.attributes import is_metadata_key
from squash.container import Buffer
from squash.errors import ChecksumError, DataError, InvalidArgumentError, UnsupportedFormatError
from squash.index.names import check_index_name, folder_of
from squash.index.references import MALFORMED
from squash.index.sealed import document_checksum
from squash.limits import (
    ATTRIBUTE_NAME_BYTES_MAX,
    DECLARED_ATTRIBUTES_MAX,
    DIMENSION_MAX,
    ID_PATTERN,
    INDEX_NAME_PATTERN,
    NON_FILTERABLE_KEYS_MAX,
)
from squash.model import AttributeType, EncoderPin, IndexConfig, Metric
from squash.values import dataclass

FORMAT: Final = "squash-index"
VERSION: Final = 1
VECTOR_FIELDS: Final = ("vector",)
# Features, each with the field that it brings: who does not know them must not read on.
EXPIRES: Final = "expires"  # records may expire
ENCODER: Final = "encoder"  # vectors are those of one encoder
FEATURES: Final = (ENCODER, EXPIRES)
_NAME: Final = re.compile(INDEX_NAME_PATTERN)
_ID: Final = re.compile(ID_PATTERN)
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
T = TypeVar("T", Metric, AttributeType)


@dataclass(frozen=True, slots=True)
class Entry:
    """One index: its configuration, and the prefix its data lies under (ends with "/")."""

    config: IndexConfig
    prefix: str

    @property
    def id(self) -> str:
        """What tells its data from that of other indexes of its name: 32 hexadecimal digits."""
        return self.prefix.split("/")[-2]


def entry_key(name: str) -> str:
    """Return the key of an index's entry."""
    return f"{folder_of(name)}/index.json"


def entry_to_text(entry: Entry) -> str:
    """Return what `index.json` holds, for a message to those who need not read it then."""
    return entry_to_bytes(entry.config, entry.id).decode()


def entry_from_text(text: str, name: str) -> Entry:
    """Read back what `entry_to_text` made of an index of this name.

    Raises
    ------
    DataError, UnsupportedFormatError
        If it is not what that makes.

    """
    return entry_from_bytes(text.encode(), name)


def prefix_of(name: str, index_id: str) -> str:
    """Return below what an index's data lies."""
    return f"{folder_of(name)}/{index_id}/"


def check_config(config: IndexConfig) -> None:
    """Refuse what no index can be.

    Raises
    ------
    InvalidArgumentError
        With what is wrong.

    """
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


def check_new_config(config: IndexConfig) -> None:
    """Refuse what no new index can be; there may be older ones that are, and serve.

    Raises
    ------
    InvalidArgumentError
        With what is wrong.

    """
    check_config(config)
    if len(config.attributes) > DECLARED_ATTRIBUTES_MAX:
        raise InvalidArgumentError(
            f"index {config.name!r} declares the types of {len(config.attributes)} attributes: at "
            f"most {DECLARED_ATTRIBUTES_MAX} can be, as many as a record has",
            index=config.name,
            field="attributes",
        )
    declared = [(name, "attributes") for name in config.attributes]
    for name, field in [*declared, *((name, "non_filterable") for name in config.non_filterable)]:
        # What is no string may be a list, which cannot be remembered.
        if not isinstance(name, str) or not is_metadata_key(name):
            raise InvalidArgumentError(
                f"{field} names metadata keys, and {name!r:.80} is none: they are strings of 1 to "
                f"{ATTRIBUTE_NAME_BYTES_MAX} bytes, the first not $",
                index=config.name,
                field=field,
            )
    both = next((name for name in config.attributes if name in config.non_filterable), None)
    if both is not None:
        raise InvalidArgumentError(
            f"index {config.name!r} declares a type for {both!r}, and that it is not filterable, "
            "which may hold anything: declare one of the two",
            index=config.name,
            field="non_filterable",
        )
    if config.seed < 0:
        raise InvalidArgumentError(
            f"seed is a whole number from 0, not {config.seed}", index=config.name, field="seed"
        )


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


def entry_to_bytes(config: IndexConfig, index_id: str) -> bytes:
    """Return what `index.json` holds."""
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
    content["crc32"] = document_checksum(content)
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


def entry_from_bytes(data: Buffer, name: str) -> Entry:
    """Read the `index.json` of an index of this name.

    Raises
    ------
    DataError, UnsupportedFormatError
        If it is damaged, or was written by a newer release.

    """
    key = entry_key(name)
    try:
        content = json.loads(bytes(data))
        _refuse_newer(content, key)
        if content["crc32"] != document_checksum(content):
            raise ChecksumError(
                f"{key} is not as it was written: its checksum differs. It never changes once an "
                "index is there: restore it from a copy.",
                object_key=key,
            )
        config = _config(content)
        check_config(config)
    except InvalidArgumentError as error:
        raise DataError(f"{key} does not describe an index ({error})", object_key=key) from error
    except MALFORMED as error:
        raise DataError(
            f"{key} does not describe an index ({error!r}): restore it from a copy", object_key=key
        ) from error
    if config.name != name:
        raise DataError(f"{key} describes index {config.name!r}: it was moved", object_key=key)
    return Entry(config, prefix_of(name, content["id"]))


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
        metric=_known(Metric, content["metric"], content),
        encoder=_pin(content[ENCODER]) if ENCODER in content["features"] else None,
        attributes={
            key: _known(AttributeType, kind, content) for key, kind in content["attributes"].items()
        },
        non_filterable=tuple(content["non_filterable"]),
        codec=content["codec"],
        seed=int(content["seed"]),
        created_ms=int(content["created_ms"]),
        # Without the feature the field says nothing: a reader that knows neither ignores it.
        expires=content[EXPIRES] if EXPIRES in content["features"] else None,
    )


def _known(kind: type[T], value: Any, content: Mapping[str, Any]) -> T:
    """Return a word of a kind; its checksum holds, so that one not known is a newer release's."""
    try:
        return kind(value)
    except ValueError as error:
        raise UnsupportedFormatError(
            f"index {content['name']!r} has {value!r:.80}, which is no {kind.__name__} of this "
            "release. Install a newer release of squash-search."
        ) from error


def _pin(content: Mapping[str, Any]) -> EncoderPin:
    digest = content["digest"]
    if not _DIGEST.fullmatch(digest):
        raise ValueError("its encoder's digest is not 64 hexadecimal digits")
    text_key = content["text_key"]
    return EncoderPin(str(content["name"]), digest, None if text_key is None else str(text_key))
