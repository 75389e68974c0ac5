"""What a function asks the encoder function, and what that answers: two kinds of messages."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import numpy as np

from squash.arrays import AnyArray
from squash.encoders.encoded import Encoded
from squash.limits import (
    ANSWER_BODY_BYTES_MAX,
    CALL_ENVELOPE_BYTES_MAX,
    REQUEST_BODY_BYTES_MAX,
)
from squash.model import EncoderPin, Inputs, Modality, Purpose
from squash.runtime.encoder_names import is_digest, is_name
from squash.search.wire import Reader, begins_of, open_message, reading, write_message
from squash.values import dataclass

REQUEST: Final = "encode"
ANSWER: Final = "encoded"

_FLOAT_BYTES: Final = 4
_PLACE_BYTES: Final = 8  # of an int64: where an input begins, or that it was truncated
# Of the two lists, an input is in at most one.
_ROW_BYTES: Final = _PLACE_BYTES

REQUEST_INPUT_BYTES_MAX: Final = REQUEST_BODY_BYTES_MAX - CALL_ENVELOPE_BYTES_MAX


@dataclass(frozen=True, slots=True)
class EncodeRequest:
    """Inputs of one call, and by which encoder they are to be encoded, for what."""

    pin: EncoderPin
    inputs: Inputs
    purpose: Purpose
    dimension: int


def input_bytes(data: bytes) -> int:
    """Return how many bytes an input adds to a request."""
    return len(data) + _PLACE_BYTES


def answer_rows_max(dimension: int) -> int:
    """Return how many vectors an answer can carry."""
    room = ANSWER_BODY_BYTES_MAX - CALL_ENVELOPE_BYTES_MAX
    return max(room // (dimension * _FLOAT_BYTES + _ROW_BYTES), 1)


def write_request(
    pin: EncoderPin,
    modality: Modality,
    data: Sequence[bytes],
    *,
    purpose: Purpose,
    dimension: int,
) -> bytes:
    """Write a request; `data` are images, or texts in UTF-8."""
    header = {
        "name": pin.name,
        "digest": pin.digest,
        "modality": str(modality),
        "purpose": str(purpose),
        "dimension": dimension,
    }
    arrays: dict[str, AnyArray] = {
        "begins": begins_of(data),
        "data": np.frombuffer(b"".join(data), dtype=np.uint8),
    }
    return write_message(REQUEST, header, arrays)


def read_request(body: bytes) -> EncodeRequest:
    """Read a request.

    Raises
    ------
    DataError
        If it is none.

    """
    with reading(REQUEST):
        container = open_message(body, REQUEST)
        header, reader = container.header, Reader(container)
        data = reader.array("data", "|u1", None).tobytes()
        count = len(reader.array("begins", "<i8", None)) - 1
        begins = reader.begins("begins", count, len(data))
        parts = [data[a:b] for a, b in pairwise(begins)]
        modality = Modality(header["modality"])
        texts = modality is Modality.TEXT
        dimension = header["dimension"]
        if type(dimension) is not int:
            raise ValueError(f"dimension {dimension!r:.40}")
        name, digest = header["name"], header["digest"]
        # A folder is called by the digest: what comes from elsewhere must not name another.
        if not (isinstance(name, str) and is_name(name)):
            raise ValueError(f"name {name!r:.40}")
        if not (isinstance(digest, str) and is_digest(digest)):
            raise ValueError(f"digest {digest!r:.40}")
        return EncodeRequest(
            EncoderPin(name, digest, None),
            Inputs(modality, [part.decode() for part in parts] if texts else parts),
            Purpose(header["purpose"]),
            dimension,
        )


def write_encoded(encoded: Encoded) -> bytes:
    """Write an answer."""
    arrays: dict[str, AnyArray] = {
        "vectors": np.ascontiguousarray(encoded.vectors, dtype="<f4"),
        "truncated": np.array(encoded.truncated, dtype="<i8"),
        "chunked": np.array(encoded.chunked, dtype="<i8"),
    }
    return write_message(ANSWER, {"tokens": int(encoded.tokens)}, arrays)


def read_encoded(body: bytes, count: int, dimension: int) -> Encoded:
    """Read the answer to a request of so many inputs.

    Raises
    ------
    DataError
        If it is none.

    """
    with reading(ANSWER):
        container = open_message(body, ANSWER)
        reader, tokens = Reader(container), container.header["tokens"]
        if type(tokens) is not int or tokens < 0:
            raise ValueError(f"tokens {tokens!r:.40}")
        places = {
            name: tuple(reader.numbers(name, "<i8", None, end=count).tolist())
            for name in ("truncated", "chunked")
        }
        return Encoded(reader.finite("vectors", "<f4", count, dimension), tokens, **places)
