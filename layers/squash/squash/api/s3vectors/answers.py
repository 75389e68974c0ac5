"""What answers hold of records: floats as short decimals, and how many bytes it all takes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from squash.arrays import F32, F64
from squash.model import Record

# Powers of ten that a float64 holds exactly: a product or quotient by one is rounded once.
_TENS: Final = np.array([float(10**power) for power in range(23)])
_WRITER: Final = json.JSONEncoder(allow_nan=False, separators=(",", ":"))
_DIGITS: Final = (9, 8, 7)  # nine tell every float32 from its neighbours, and often fewer do
RECORD_BYTES: Final = 64  # of a record's braces, quotes and names of members, and to spare


def short_floats(vectors: F32) -> F64:
    """Return float64 that are written with few digits, and read back as the same float32.

    A float32 as it is, written as JSON, takes some 21 bytes, since its exact value has many
    decimals; of those within half a step of it, the ones of at most nine digits take 13.

    Parameters
    ----------
    vectors:
        float32, of any shape; all finite.

    Returns
    -------
    float64 of that shape.

    """
    exact = vectors.astype(np.float64)
    size = np.abs(exact)
    exponent = np.floor(np.log10(np.where(size == 0, 1.0, size))).astype(np.int64)
    found = exact.copy()
    for digits in _DIGITS:
        places = digits - 1 - exponent
        up = _TENS[np.clip(places, 0, len(_TENS) - 1)]
        down = _TENS[np.clip(-places, 0, len(_TENS) - 1)]
        rounded = np.rint(exact * up / down) / up * down
        found = np.where(rounded.astype(np.float32) == vectors, rounded, found)
    return found


def record_documents(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Describe records, with what was asked for of them."""
    vectors = [record.vector for record in records if record.vector is not None]
    floats = iter(short_floats(np.array(vectors)).tolist() if vectors else ())
    documents: list[dict[str, Any]] = []
    for record in records:
        document: dict[str, Any] = {"key": record.key}
        if record.vector is not None:
            document["data"] = {"float32": next(floats)}
        if record.metadata is not None:
            document["metadata"] = dict(record.metadata)
        documents.append(document)
    return documents


def written_bytes(document: Any) -> int:
    """Return how many bytes of an answer a document takes, as Lambda counts them.

    The body is a string inside of JSON: quotes and backslashes are escaped once more.
    """
    text = _WRITER.encode(document)
    return len(text) + text.count('"') + text.count("\\")
