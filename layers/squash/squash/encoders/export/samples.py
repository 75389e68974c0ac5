"""What an encoder brings along so that anybody can see that it does what it did here."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from squash.arrays import F64, U8
from squash.encoders.encoder import OnnxEncoder
from squash.encoders.export.texts import varied_texts
from squash.encoders.lazily import load
from squash.encoders.parity import Parity, write_parity
from squash.model import Inputs, Modality, Purpose

PARITY_TEXTS: Final = 64


def parity_of(reference: OnnxEncoder, cosine_min: float) -> bytes:
    """Return `parity.json` with what a reference makes of some texts, or of some images.

    Parameters
    ----------
    reference:
        Not rounded.
    cosine_min:
        How near to it the encoder must be; it is rounded down to four digits.

    """
    required = math.floor(cosine_min * 1e4) / 1e4
    if reference.text is None:
        images = pictures()
        vectors = reference.encode(Inputs(Modality.IMAGE, images), purpose=Purpose.DOCUMENT).vectors
        return write_parity(Parity(Purpose.DOCUMENT, vectors, required, images=images))
    every = varied_texts()
    places = np.linspace(0, len(every) - 1, PARITY_TEXTS).round().astype(int).tolist()
    texts = tuple(every[place] for place in places)
    vectors = reference.encode(Inputs(Modality.TEXT, texts), purpose=Purpose.DOCUMENT).vectors
    return write_parity(Parity(Purpose.DOCUMENT, vectors, required, texts=texts))


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
