"""What an encoder brings along so that anybody can see that it does what it did here."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from squash.arrays import F64, U8
from squash.encoders.encoder import OnnxEncoder
from squash.encoders.export.texts import varied_texts
from squash.encoders.lazily import load
from squash.encoders.parity import Parity, compare
from squash.model import Purpose

PARITY_TEXTS: Final = 64
_NONE: Final = np.empty((0, 1), dtype=np.float32)
_SLACK: Final = 0.005


def parity_of(reference: OnnxEncoder, encoder: OnnxEncoder, bound: float) -> Parity:
    """Return what a reference makes of some texts, or of some images.

    Parameters
    ----------
    reference:
        Not rounded.
    encoder:
        What is to be near to it; perhaps itself.
    bound:
        How near it must be; if it is not even here, then a little less than it is here.

    """
    if reference.text is None:
        parity = Parity(Purpose.DOCUMENT, _NONE, bound, images=pictures())
    else:
        every = varied_texts()
        places = np.linspace(0, len(every) - 1, PARITY_TEXTS).round().astype(int).tolist()
        parity = Parity(Purpose.DOCUMENT, _NONE, bound, tuple(every[place] for place in places))
    vectors = reference.encode(parity.inputs[0], purpose=parity.purpose).vectors
    parity = replace(parity, vectors=vectors)
    near = compare(parity, encoder).cosine_min
    if near >= bound:
        return parity
    return replace(parity, cosine_min=math.floor((near - _SLACK) * 1e4) / 1e4)


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
