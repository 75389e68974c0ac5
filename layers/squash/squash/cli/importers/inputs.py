"""Texts and images on their way to an encoder: how many go together, and what is taken."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from squash import limits
from squash.errors import InvalidArgumentError
from squash.model import InputBatch, Inputs, Metadata, Modality

IMAGE_MEMBERS: Final = frozenset({"base64"})


class GatheredInputs:
    """Records on their way into one batch, which is bounded in rows and in bytes."""

    def __init__(self, modality: Modality) -> None:
        self._modality = modality
        self._keys: list[str] = []
        self._items: list[Any] = []
        self._metadata: list[Metadata] = []
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def full(self) -> bool:
        """Whether it is to be taken before more is added."""
        return (
            len(self._keys) >= limits.IMPORT_BATCH_INPUTS_MAX
            or self.bytes >= limits.IMPORT_BATCH_BYTES_MAX
        )

    def add(self, key: str, item: str | bytes, metadata: Metadata) -> None:
        """Add one record, whose item was checked."""
        self._keys.append(key)
        self._items.append(item)
        self._metadata.append(metadata)
        self.bytes += len(item)

    def batch(self) -> InputBatch:
        """Return what was added."""
        items: Sequence[Any] = self._items
        return InputBatch(self._keys, Inputs(self._modality, items), self._metadata)


def checked_text(value: Any, *, place: str) -> str:
    """Return a text that an encoder can be given.

    Raises
    ------
    InvalidArgumentError
        If it is no string, holds half a character, or is too long.

    """
    if not isinstance(value, str):
        raise InvalidArgumentError(
            f"{place}: the text is {_kind(value)}, where it is to be a string: convert it, or "
            "leave the record out"
        )
    try:
        size = len(value.encode())
    except UnicodeEncodeError as error:
        raise InvalidArgumentError(
            f"{place}: the text holds half a surrogate pair, which is no character: mend it"
        ) from error
    if size > limits.TEXT_BYTES_MAX:
        raise InvalidArgumentError(
            f"{place}: the text has {size:,} bytes, and at most {limits.TEXT_BYTES_MAX:,} are "
            "taken: cut it into several records"
        )
    return value


def checked_image(data: bytes, *, place: str) -> bytes:
    """Return the bytes of an image file, if they may be one; what they show is the encoder's.

    Raises
    ------
    InvalidArgumentError
        If there are none, or too many.

    """
    if not data:
        raise InvalidArgumentError(f"{place}: the image is empty")
    if len(data) > limits.IMAGE_BYTES_MAX:
        raise InvalidArgumentError(
            f"{place}: the image has more than {limits.IMAGE_BYTES_MAX:,} bytes: make it smaller, "
            "since encoders look at a few hundred pixels a side"
        )
    return data


def image_of(value: Any, *, place: str) -> bytes:
    """Return the bytes of `{"base64": "..."}`, as HTTP takes it.

    Raises
    ------
    InvalidArgumentError
        If it is another thing, or not base64.

    """
    if (
        not isinstance(value, dict)
        or value.keys() != IMAGE_MEMBERS
        or not isinstance(value["base64"], str)
    ):
        raise InvalidArgumentError(
            f'{place}: an "image" is {{"base64": "..."}}; for a file beside this one say '
            '"image_file"'
        )
    try:
        data = base64.b64decode(value["base64"], validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidArgumentError(f"{place}: the image is not base64: {error}") from error
    return checked_image(data, place=place)


def image_file_of(value: Any, *, folder: Path, place: str) -> bytes:
    """Return the bytes of an image file, whose path is relative to `folder`.

    Raises
    ------
    InvalidArgumentError
        If it cannot be read, or is too long.

    """
    if not isinstance(value, str) or not value or "\0" in value:
        raise InvalidArgumentError(f'{place}: an "image_file" is the path of a file, a string')
    try:
        return read_image(folder / value, place=place)
    except OSError as error:
        raise InvalidArgumentError(
            f"{place}: the image {value!r} cannot be read from {folder}: {error.strerror}"
        ) from error


def read_image(path: Path, *, place: str) -> bytes:
    """Read an image file; not more of it than is taken of one.

    Raises
    ------
    InvalidArgumentError
        If it is empty or too long.
    OSError
        If it cannot be read.

    """
    with path.open("rb") as file:
        data = file.read(limits.IMAGE_BYTES_MAX + 1)
    return checked_image(data, place=place)


def _kind(value: Any) -> str:
    names = {type(None): "null", bool: "a boolean", int: "a number", float: "a number"}
    names |= {list: "a list", dict: "an object", bytes: "bytes"}
    return names.get(type(value), type(value).__name__)
