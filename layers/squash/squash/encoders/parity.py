"""Parity: inputs with the vectors that a reference makes of them, and how near an encoder comes.

An encoder may bring such a file, `parity.json`, so that anybody can repeat the comparison.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any, Final, Protocol

import numpy as np

from squash.arrays import F32
from squash.encoders.contract import PARITY_FILE
from squash.encoders.encoded import Encoded
from squash.errors import InvalidArgumentError, UnsupportedFormatError
from squash.limits import DIMENSION_MAX, ENCODER_PARITY_INPUTS_MAX
from squash.model import Inputs, Modality, Purpose
from squash.values import dataclass

FORMAT: Final = "squash-parity"
VERSION: Final = 1
_VALUE: Final = np.dtype("<f4")
_MEMBERS: Final = {
    "format",
    "version",
    "purpose",
    "texts",
    "images",
    "dimension",
    "vectors",
    "cosine_min",
}


@dataclass(frozen=True, slots=True)
class Parity:
    """What a reference makes of some inputs.

    Parameters
    ----------
    purpose:
        What the inputs are encoded for.
    vectors:
        float32 [n, d], of the texts and then of the images.
    cosine_min:
        How near the encoder's vectors must be: the least cosine of any of them.
    texts, images:
        The inputs, n together; an image is the bytes of its file.

    """

    purpose: Purpose
    vectors: F32
    cosine_min: float
    texts: tuple[str, ...] = ()
    images: tuple[bytes, ...] = ()

    @property
    def inputs(self) -> tuple[Inputs, ...]:
        """The inputs, of one modality each, in the order of the vectors."""
        each = (Inputs(Modality.TEXT, self.texts), Inputs(Modality.IMAGE, self.images))
        return tuple(inputs for inputs in each if len(inputs))


@dataclass(frozen=True, slots=True)
class ParityReport:
    """How near an encoder came to a reference, over all inputs; `required` of the farthest."""

    inputs: int
    cosine_mean: float
    cosine_min: float
    required: float

    @property
    def passed(self) -> bool:
        """Whether every vector is as near as it must be."""
        return self.cosine_min >= self.required


class Encodes(Protocol):
    """An open encoder."""

    def encode(self, inputs: Inputs, *, purpose: Purpose) -> Encoded:
        """Make vectors of inputs."""
        ...


def compare(parity: Parity, encoder: Encodes) -> ParityReport:
    """Encode the inputs and measure the cosine of each vector to the reference's.

    Raises
    ------
    InvalidArgumentError
        If the encoder cannot encode them, or its vectors have another dimension.

    """
    made = [encoder.encode(inputs, purpose=parity.purpose).vectors for inputs in parity.inputs]
    found = cosines(np.concatenate(made), parity.vectors)
    return ParityReport(
        len(found), float(found.mean()), float(found.min()), required=parity.cosine_min
    )


def cosines(left: F32, right: F32) -> F32:
    """Return the cosine of each vector to its counterpart, float32 [n] of float32 [n, d] twice.

    Raises
    ------
    InvalidArgumentError
        If they are not as many vectors of as many dimensions.

    """
    if left.shape != right.shape:
        raise InvalidArgumentError(
            f"the encoder makes vectors {list(left.shape)}, and those it is compared with are "
            f"{list(right.shape)}"
        )
    a, b = left.astype(np.float64), right.astype(np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    dots = np.einsum("nd,nd->n", a, b)
    # To a vector of length zero none is near.
    found: F32 = np.divide(dots, lengths, out=np.zeros_like(dots), where=lengths > 0).astype(
        np.float32
    )
    return found


def write_parity(parity: Parity) -> bytes:
    """Return the bytes of `parity.json`; the same parity gives the same bytes.

    Raises
    ------
    InvalidArgumentError
        If it cannot be.

    """
    vectors = np.asarray(parity.vectors)
    content = {
        "format": FORMAT,
        "version": VERSION,
        "purpose": parity.purpose,
        "texts": list(parity.texts),
        "images": [base64.b64encode(image).decode() for image in parity.images],
        "dimension": vectors.shape[-1],
        "vectors": base64.b64encode(vectors.astype(_VALUE).tobytes()).decode(),
        "cosine_min": parity.cosine_min,
    }
    data = json.dumps(content, sort_keys=True, indent=1, ensure_ascii=True).encode() + b"\n"
    read_parity(data)
    return data


def read_parity(data: bytes) -> Parity:
    """Read `parity.json`.

    Raises
    ------
    InvalidArgumentError
        If it is not one; `field` names the member that is wrong.
    UnsupportedFormatError
        If it is of a version that this release does not know.

    """
    content = _content(data)
    if content.keys() != _MEMBERS:
        odd = min(content.keys() ^ _MEMBERS)
        raise _wrong(f"{odd:.40}", "is unknown" if odd in content else "is missing")
    texts = _strings(content["texts"], "texts")
    images = tuple(
        _bytes(image, f"images[{place}]")
        for place, image in enumerate(_strings(content["images"], "images"))
    )
    inputs = len(texts) + len(images)
    if not 1 <= inputs <= ENCODER_PARITY_INPUTS_MAX:
        raise _wrong("texts", f"and images are 1 to {ENCODER_PARITY_INPUTS_MAX} together")
    if content["purpose"] not in list(Purpose):
        raise _wrong("purpose", f"is one of {', '.join(Purpose)}")
    required = content["cosine_min"]
    if type(required) not in {int, float} or not -1 <= required <= 1:
        raise _wrong("cosine_min", "is a number from -1 to 1")
    return Parity(
        Purpose(content["purpose"]),
        _vectors(content["vectors"], inputs, content["dimension"]),
        float(required),
        texts,
        images,
    )


def _content(data: bytes) -> dict[str, Any]:
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidArgumentError(f"{PARITY_FILE} is not JSON ({error})") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InvalidArgumentError(f"{PARITY_FILE} has not the format {FORMAT!r}")
    version = content.get("version")
    if type(version) is not int or version != VERSION:
        raise UnsupportedFormatError(
            f"{PARITY_FILE} is of version {version!r:.40}; this release reads version {VERSION}. "
            "Install a newer release of squash-search."
        )
    return content


def _strings(value: Any, field: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise _wrong(field, "is a list of strings")
    return tuple(value)


def _bytes(value: Any, field: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (TypeError, ValueError, binascii.Error) as error:
        raise _wrong(field, "is a string of base64") from error


def _vectors(value: Any, rows: int, dimension: Any) -> F32:
    if type(dimension) is not int or not 1 <= dimension <= DIMENSION_MAX:
        raise _wrong("dimension", f"is a whole number from 1 to {DIMENSION_MAX}")
    data = _bytes(value, "vectors")
    if len(data) != rows * dimension * _VALUE.itemsize:
        raise _wrong("vectors", f"holds {len(data)} bytes: {rows} x {dimension} float32 are others")
    vectors = np.frombuffer(data, _VALUE).reshape(rows, dimension).astype(np.float32)
    if not np.isfinite(vectors).all():
        raise _wrong("vectors", "has values that are not finite")
    return vectors


def _wrong(field: str, what: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"{PARITY_FILE}: {field} {what}", field=field)
