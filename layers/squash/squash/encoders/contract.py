"""The encoder contract: a folder, or a prefix of a store, and the `encoder.json` in it.

That names every other file with its length and SHA-256, so that the SHA-256 of `encoder.json`
alone, the digest, pins all of an encoder. docs/encoders.md describes it for those who make one.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from enum import StrEnum
from typing import Any, Final

from squash.encoders.members import (
    DESCRIBED_IN,
    Members,
    dimensions,
    divisors,
    flag,
    numbers,
    object_of,
    one_of,
    optional,
    whole,
    words,
    wrong,
)
from squash.errors import InvalidArgumentError, UnsupportedFormatError
from squash.limits import (
    DIMENSION_MAX,
    ENCODER_CONFIG_BYTES_MAX,
    ENCODER_FILE_BYTES_MAX,
    ENCODER_FILE_NAME_CHARACTERS_MAX,
    ENCODER_FILES_MAX,
    ENCODER_IMAGE_PIXELS_MAX,
    ENCODER_PREFIX_BYTES_MAX,
    ENCODER_TOKENS_MAX,
    INDEX_NAME_PATTERN,
)
from squash.model import Metric, Modality
from squash.values import dataclass

FORMAT: Final = "squash-encoder"
VERSION: Final = 1
CONFIG_FILE: Final = DESCRIBED_IN
PARITY_FILE: Final = "parity.json"
_NAME: Final = re.compile(INDEX_NAME_PATTERN)
_FILE: Final = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


class Pooling(StrEnum):
    """How the vectors of a text's tokens become one."""

    MEAN = "mean"
    CLS = "cls"
    """That of the first token."""
    LAST = "last"
    """That of the last token."""
    NONE = "none"
    """The model has done it: its output is one vector a text."""


class OverLong(StrEnum):
    """What is done with a text of more tokens than the encoder takes."""

    TRUNCATE = "truncate"
    CHUNK = "chunk"
    """It is encoded part by part; the vector is the mean of the parts', weighted by tokens."""


@dataclass(frozen=True, slots=True)
class FileRef:
    """A file of an encoder."""

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class TextPart:
    """How texts are encoded.

    Parameters
    ----------
    model, tokenizer:
        The names of its files: ONNX, and what the library `tokenizers` reads.
    pooling:
        How the vectors of tokens become one.
    tokens_max:
        Of one text, special tokens among them.
    over_long:
        What is done with longer ones.
    query_prefix, document_prefix:
        Words that the model was trained to see before a text.
    batch:
        Whether texts may share a run of the model; not if their vectors then depend on each other.

    """

    model: str
    tokenizer: str
    pooling: Pooling
    tokens_max: int
    over_long: OverLong = OverLong.TRUNCATE
    query_prefix: str = ""
    document_prefix: str = ""
    batch: bool = True


@dataclass(frozen=True, slots=True)
class ImagePart:
    """How images are encoded: scaled so that they cover a square, cut to its middle.

    Parameters
    ----------
    model:
        The name of its file.
    size:
        Pixels of a side of what the model takes, three channels: red, green, blue.
    resize:
        Pixels of the shorter side before the middle is cut out; at least `size`.
    mean, deviation:
        Taken from values in [0, 1], and what the rest is divided by, a channel each; both empty
        where the model takes values 0 to 255 as uint8.
    channels_first:
        Whether the model takes [b, 3, size, size], and not [b, size, size, 3].

    """

    model: str
    size: int
    resize: int
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()
    channels_first: bool = False


@dataclass(frozen=True, slots=True)
class EncoderConfig:
    """What `encoder.json` says.

    Parameters
    ----------
    name, revision, licence, source:
        For people, save that the name is what an encoder is asked for by.
    dimension, metric:
        Of its vectors, and what they are compared by.
    normalise:
        Whether vectors are scaled to length one.
    truncate_dimensions:
        Smaller dimensions to which vectors may be cut, since the model was trained for that.
    files:
        Every file but `encoder.json`.
    text, image:
        How each modality is encoded; a dual encoder has both, with vectors of one space.

    """

    name: str
    revision: str
    dimension: int
    metric: Metric
    licence: str
    files: Mapping[str, FileRef]
    text: TextPart | None = None
    image: ImagePart | None = None
    normalise: bool = True
    truncate_dimensions: tuple[int, ...] = ()
    source: str = ""

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """What it encodes."""
        parts = {Modality.TEXT: self.text, Modality.IMAGE: self.image}
        return tuple(modality for modality, part in parts.items() if part is not None)


def write_config(config: EncoderConfig) -> bytes:
    """Return the bytes of `encoder.json`; the same configuration gives the same bytes.

    Raises
    ------
    InvalidArgumentError
        If the configuration cannot be.

    """
    content = {"format": FORMAT, "version": VERSION, **asdict(config)}
    data = json.dumps(content, sort_keys=True, indent=1, ensure_ascii=True).encode() + b"\n"
    read_config(data)
    return data


def digest_of(data: bytes) -> str:
    """Return the digest of an encoder by the bytes of its `encoder.json`: 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def read_config(data: bytes) -> EncoderConfig:
    """Read `encoder.json`.

    Raises
    ------
    InvalidArgumentError
        If it does not describe an encoder; `field` names the member that is wrong.
    UnsupportedFormatError
        If it is of a version that this release does not know.

    """
    if len(data) > ENCODER_CONFIG_BYTES_MAX:
        raise InvalidArgumentError(
            f"{CONFIG_FILE} has more than {ENCODER_CONFIG_BYTES_MAX} bytes: it describes no encoder"
        )
    try:
        content = json.loads(data, object_pairs_hook=_once, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise InvalidArgumentError(f"{CONFIG_FILE} is not JSON ({error})") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InvalidArgumentError(
            f"{CONFIG_FILE} does not describe an encoder: its format is not {FORMAT!r}"
        )
    version = content.get("version")
    if type(version) is not int or version != VERSION:
        raise UnsupportedFormatError(
            f"{CONFIG_FILE} is of version {version!r:.40}; this release reads "
            f"version {VERSION}. Install a newer release of squash-search."
        )
    members = {name: value for name, value in content.items() if name not in {"format", "version"}}
    config = EncoderConfig(
        **Members(members, "").read(
            name=_name,
            revision=words,
            dimension=whole(1, DIMENSION_MAX),
            metric=_metric,
            licence=words,
            files=_files,
            text=optional(_text_part),
            image=optional(_image_part),
            normalise=flag,
            truncate_dimensions=dimensions,
            source=words,
        )
    )
    _check_whole(config)
    return config


def _once(members: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object of its members: of two with one name, readers differ in which they take."""
    found = dict(members)
    if len(found) != len(members):
        raise ValueError("an object has two members of one name")
    return found


def _no_number(word: str) -> Any:
    raise ValueError(f"{word} is no number")


def _check_whole(config: EncoderConfig) -> None:
    """Check what members say of one another."""
    if config.text is None and config.image is None:
        raise wrong("text", "neither text nor image is described: give one of them, or both")
    named: dict[str, str] = {}
    if config.text is not None:
        named |= {"text.model": config.text.model, "text.tokenizer": config.text.tokenizer}
    if config.image is not None:
        named["image.model"] = config.image.model
    for field, name in named.items():
        if name not in config.files:
            raise wrong(field, f"names {name!r}, which files does not list")
    if any(size >= config.dimension for size in config.truncate_dimensions):
        raise wrong("truncate_dimensions", f"are smaller than the dimension, {config.dimension}")
    if config.truncate_dimensions and not config.normalise:
        raise wrong("truncate_dimensions", "need vectors that are normalised: set normalise")


def _prefix(value: Any, field: str) -> str:
    return words(value, field, ENCODER_PREFIX_BYTES_MAX)


def _name(value: Any, field: str) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise wrong(field, 'is 1 to 63 of a-z, 0-9, "-" and "_", a letter or digit first and last')
    return value


def _file_name(value: Any, field: str) -> str:
    if (
        not isinstance(value, str)
        or not _FILE.fullmatch(value)
        or len(value) > ENCODER_FILE_NAME_CHARACTERS_MAX
        or value == CONFIG_FILE
    ):
        raise wrong(
            field,
            "is the name of a file beside it: letters, digits, '-', '_' and '.', at most "
            f"{ENCODER_FILE_NAME_CHARACTERS_MAX}",
        )
    return value


_metric: Final = one_of(Metric)


def _files(value: Any, field: str) -> dict[str, FileRef]:
    found = object_of(value, field)
    if not 1 <= len(found) <= ENCODER_FILES_MAX:
        raise wrong(field, f"lists 1 to {ENCODER_FILES_MAX} files")
    return {
        _file_name(name, f"{field}.{name:.40}"): FileRef(
            **Members(object_of(one, f"{field}.{name:.40}"), f"{field}.{name:.40}").read(
                bytes=whole(1, ENCODER_FILE_BYTES_MAX), sha256=_sha256
            )
        )
        for name, one in found.items()
    }


def _sha256(value: Any, field: str) -> str:
    if not isinstance(value, str) or not _SHA256.fullmatch(value):
        raise wrong(field, "is 64 hexadecimal digits")
    return value


def _text_part(value: Any, field: str) -> TextPart:
    return TextPart(
        **Members(object_of(value, field), field).read(
            model=_file_name,
            tokenizer=_file_name,
            pooling=one_of(Pooling),
            tokens_max=whole(3, ENCODER_TOKENS_MAX),
            over_long=one_of(OverLong),
            query_prefix=_prefix,
            document_prefix=_prefix,
            batch=flag,
        )
    )


def _image_part(value: Any, field: str) -> ImagePart:
    size = whole(8, ENCODER_IMAGE_PIXELS_MAX)
    part = ImagePart(
        **Members(object_of(value, field), field).read(
            model=_file_name,
            size=size,
            resize=size,
            mean=numbers,
            deviation=divisors,
            channels_first=flag,
        )
    )
    if part.resize < part.size:
        raise wrong(f"{field}.resize", f"is at least size, {part.size}")
    if len(part.mean) != len(part.deviation):
        raise wrong(f"{field}.mean", "goes with a deviation: give three numbers of each, or none")
    return part
