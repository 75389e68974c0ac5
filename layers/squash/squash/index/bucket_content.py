"""What is stored of a vector bucket, and of an index in one, beside the index itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum
from typing import Any, Final

from squash.errors import DataError, InvalidArgumentError
from squash.index.references import MALFORMED
from squash.limits import ID_PATTERN
from squash.values import dataclass

_ID: Final = re.compile(ID_PATTERN)


class State(StrEnum):
    """Whether a vector bucket is there."""

    THERE = "there"
    CLOSING = "closing"
    """It is there, and somebody who deletes it looks if it is empty."""
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class BucketSettings:
    """What of a vector bucket can be changed; `policy` is JSON text as it was given."""

    tags: Mapping[str, str] = field(default_factory=dict)
    policy: str | None = None


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """What of an index in a vector bucket can be changed."""

    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class VectorBucket:
    """A vector bucket, and its settings as they were when it was read."""

    name: str
    id: str
    """32 hexadecimal digits; another bucket of the same name has another."""
    created_ms: int
    settings: BucketSettings = field(default_factory=BucketSettings)


def bucket_to_content(bucket: VectorBucket, state: State) -> dict[str, Any]:
    """Return what is stored.

    Raises
    ------
    InvalidArgumentError
        If the settings are none that could be read back.

    """
    policy = bucket.settings.policy
    if policy is not None and not isinstance(policy, str):
        raise InvalidArgumentError("a policy is JSON text, or None", field="policy")
    return {
        "name": bucket.name,
        "id": bucket.id,
        "state": str(state),
        "created_ms": bucket.created_ms,
        "tags": _checked(bucket.settings.tags),
        "policy": policy,
    }


def bucket_from_content(
    content: Mapping[str, Any], name: str, where: str
) -> tuple[VectorBucket, State]:
    """Read back what `bucket_to_content` made; `where` names the place.

    Raises
    ------
    DataError
        If it is not what that makes, or of another name.

    """
    try:
        if content["name"] != name:
            raise ValueError(f"it is of {content['name']!r:.80}: it was moved")
        if not _ID.fullmatch(content["id"]):
            raise ValueError("its id is not 32 hexadecimal digits")
        settings = BucketSettings(_tags(content), _text_or_none(content["policy"]))
        made = VectorBucket(name, content["id"], _whole(content["created_ms"]), settings)
        return made, State(content["state"])
    except MALFORMED as error:
        raise DataError(
            f"what lies at {where} describes no vector bucket ({error!r:.200}): restore it from a "
            "copy",
            object_key=where,
        ) from error


def index_to_content(settings: IndexSettings) -> dict[str, Any]:
    """Return what is stored.

    Raises
    ------
    InvalidArgumentError
        If the tags are no texts.

    """
    return {"tags": _checked(settings.tags)}


def index_from_content(content: Mapping[str, Any], where: str) -> IndexSettings:
    """Read back what `index_to_content` made; of nothing, no settings.

    Raises
    ------
    DataError
        If it is not what that makes.

    """
    if not content:
        return IndexSettings()
    try:
        return IndexSettings(_tags(content))
    except MALFORMED as error:
        raise DataError(
            f"what lies at {where} holds no settings of an index ({error!r:.200}): restore it from "
            "a copy",
            object_key=where,
        ) from error


def _checked(tags: Mapping[str, str]) -> dict[str, str]:
    for name, value in tags.items():
        if not isinstance(name, str) or not name or not isinstance(value, str):
            raise InvalidArgumentError(
                f"a tag is a text by a name that is not empty, not {name!r:.80}: {value!r:.80}",
                field="tags",
            )
    return dict(tags)


def _tags(content: Mapping[str, Any]) -> Mapping[str, str]:
    tags = content["tags"]
    if not isinstance(tags, dict) or not all(isinstance(one, str) for one in tags.values()):
        raise TypeError("its tags are no object of texts")
    return tags


def _text_or_none(value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError("its policy is no text")
    return value


def _whole(value: object) -> int:
    if type(value) is not int:
        raise TypeError("its time is no whole number")
    return value
