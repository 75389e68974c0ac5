"""What an encoder brings along so that anybody can see that it does what it did here.

Of models that are known by name, the references folder may hold what another implementation makes
of the same texts (`tests/make_encoder_reference.py` makes such a file): then an export is held
against that, and its parity file, and with that its digest, is the same on every machine.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import replace
from importlib.resources import files
from typing import Any, Final

import numpy as np

from squash.arrays import F64, U8
from squash.encoders.encoder import OnnxEncoder
from squash.encoders.export.sources import KNOWN
from squash.encoders.export.texts import varied_texts
from squash.encoders.lazily import load
from squash.encoders.parity import Parity, compare, read_parity
from squash.errors import InvalidArgumentError
from squash.model import Purpose

PARITY_TEXTS: Final = 64
_NONE: Final = np.empty((0, 1), dtype=np.float32)
_SLACK: Final = 0.005


def known_reference(source: str) -> Parity | None:
    """Return what another implementation makes of some texts by a known model, if that is kept."""
    file = files(__package__) / "references" / f"{source}.json"
    return read_parity(file.read_bytes()) if source in KNOWN and file.is_file() else None


def parity_of(
    reference: OnnxEncoder, encoder: OnnxEncoder, bound: float, known: Parity | None = None
) -> Parity:
    """Return what a reference makes of some texts, or of some images.

    Parameters
    ----------
    reference:
        Not rounded.
    encoder:
        What is to be near to it; perhaps itself.
    bound:
        How near it must be; if it is not even here, then a little less than it is here.
    known:
        What another implementation makes, where that is kept; it goes before the reference's.

    Raises
    ------
    InvalidArgumentError
        If the reference is not as near to what is known as float32 is.

    """
    if known is not None:
        found = compare(known, reference)
        if not found.passed:
            raise InvalidArgumentError(
                f"the model built of {reference.config.source} makes other vectors than it is "
                f"known to make: a cosine of {found.cosine_min:.6f}, and {found.required:.6f} is "
                "the least. Are onnx and onnxruntime here of releases that work?"
            )
        parity = replace(known, cosine_min=bound)
    else:
        parity = _made_here(reference, bound)
    near = compare(parity, encoder).cosine_min
    if near >= bound:
        return parity
    return replace(parity, cosine_min=math.floor((near - _SLACK) * 1e4) / 1e4)


def parity_texts() -> tuple[str, ...]:
    """Return the texts that parity is tried on: some of those that rounding is judged by."""
    every = varied_texts()
    places = np.linspace(0, len(every) - 1, PARITY_TEXTS).round().astype(int).tolist()
    return tuple(every[place] for place in places)


def _made_here(reference: OnnxEncoder, bound: float) -> Parity:
    if reference.text is None:
        parity = Parity(Purpose.DOCUMENT, _NONE, bound, images=pictures())
    else:
        parity = Parity(Purpose.DOCUMENT, _NONE, bound, parity_texts())
    vectors = reference.encode(parity.inputs[0], purpose=parity.purpose).vectors
    return replace(parity, vectors=vectors)


def pictures() -> tuple[bytes, ...]:
    """Return eight small images as PNG files: slopes, stripes, discs and noise."""
    library = load("PIL.Image", extra="images")
    down, across = np.mgrid[0:96, 0:128].astype(np.float64)
    disc = np.hypot(down - 48, across - 64)
    planes = (
        across * 2,
        down * 2.5,
        (across // 8 % 2) * 255,
        (down // 8 % 2) * 255,
        (disc < 30) * 220,  # noqa: PLR2004 - its radius
        255 - disc * 3,
        (np.sin(disc / 4) + 1) * 127,
        (across * 7919 + down * 104729) % 251,
    )
    return tuple(
        _png(library, [planes[place], planes[place - 1], planes[place - 3]])
        for place in range(len(planes))
    )


def _png(library: Any, planes: Sequence[F64]) -> bytes:
    pixels: U8 = np.stack([np.clip(plane, 0, 255) for plane in planes], axis=-1).astype(np.uint8)
    out = io.BytesIO()
    library.fromarray(pixels).save(out, "PNG")
    return out.getvalue()
