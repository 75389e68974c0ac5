"""Images to vectors: from the bytes of an image file to the pixels that a model takes."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np

from squash.arrays import F32, U8, AnyArray
from squash.encoders.contract import ImagePart
from squash.encoders.encoded import Encoded
from squash.encoders.inputs import check_image
from squash.encoders.lazily import load
from squash.encoders.onnx_session import ImageModel
from squash.errors import InvalidArgumentError, TooLargeError
from squash.limits import ENCODE_IMAGES, IMAGE_PIXELS_MAX

Told: TypeAlias = Callable[[int], None]
"""Told how many inputs of a call are done."""

# Those that Pillow decodes itself, with no program of another's.
FORMATS: Final = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
_ORIENTATION: Final = 0x0112
_BITS_A_SAMPLE: Final = 258  # of a TIFF's tags
_TURNS: Final = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}


class ImageEncoder:
    """The image part of an encoder, open.

    Parameters
    ----------
    folder, part, dimension:
        Where its files are, and what `encoder.json` says of it.
    threads:
        That one run of the model uses.

    Raises
    ------
    InvalidArgumentError
        If its model is not what it must be.

    """

    def __init__(self, folder: Path, part: ImagePart, *, dimension: int, threads: int) -> None:
        load("PIL.Image", extra="images")
        self._part = part
        self._dimension = dimension
        self._model = ImageModel(
            folder / part.model,
            threads=threads,
            shape=_layout(part),
            scaled=bool(part.mean),
            dimension=dimension,
        )

    def encode(self, images: Sequence[bytes], *, told: Told | None = None) -> Encoded:
        """Return vectors as the model makes them, neither cut nor normalised.

        Raises
        ------
        InvalidArgumentError
            If an image cannot be read, or the model fails; `field` is its place, ``images[3]``.
        TooLargeError
            If an image is too large.

        """
        for place, image in enumerate(images):
            check_image(image, f"images[{place}]")
        vectors = np.zeros((len(images), self._dimension), np.float32)
        step = self._model.rows_max or ENCODE_IMAGES
        for first in range(0, len(images), step):
            last = min(first + step, len(images))
            pixels = [read_pixels(images[i], self._part, place=i) for i in range(first, last)]
            batch: AnyArray = np.stack(pixels)
            vectors[first:last] = self._model.run(batch)
            if told is not None:
                told(last)
        return Encoded(vectors)


def read_pixels(image: bytes, part: ImagePart, *, place: int = 0) -> F32 | U8:
    """Return the pixels of an image file as a model takes them: [s, s, 3] or [3, s, s].

    The image is turned as its camera says, scaled so that its shorter side is `resize`, and the
    middle of it taken.

    Raises
    ------
    InvalidArgumentError
        If it is no image, or broken.
    TooLargeError
        If it has too many pixels: a small file can hold a huge picture.

    """
    field = f"images[{place}]"
    library = load("PIL.Image", extra="images")
    try:
        pixels = _opened(library, image, part, field)
    except (InvalidArgumentError, TooLargeError):
        raise
    except (library.DecompressionBombError, library.DecompressionBombWarning) as error:
        raise _too_many_pixels(field, "more") from error
    except library.UnidentifiedImageError as error:
        raise InvalidArgumentError(
            f"{field} is no image that can be read ({', '.join(FORMATS)}): its first bytes are of "
            "no such file",
            field=field,
        ) from error
    # Pillow's readers of some file types raise whatever broken bytes lead them to.
    except Exception as error:
        raise InvalidArgumentError(
            f"{field} is no image that can be read ({', '.join(FORMATS)}): {error!s:.200}",
            field=field,
        ) from error
    if part.mean:
        mean, deviation = (np.asarray(of, np.float32) for of in (part.mean, part.deviation))
        scaled: F32 = (pixels.astype(np.float32) / np.float32(255) - mean) / deviation
        return scaled.transpose(2, 0, 1) if part.channels_first else scaled
    return pixels.transpose(2, 0, 1) if part.channels_first else pixels


def _opened(library: Any, image: bytes, part: ImagePart, field: str) -> U8:
    """Return uint8 [s, s, 3]."""
    with library.open(io.BytesIO(image), formats=FORMATS) as opened:
        width, height = opened.size
        if width * height > IMAGE_PIXELS_MAX:
            raise _too_many_pixels(field, str(width * height))
        orientation = _orientation(opened)
        # The middle is cut out and scaled at once, before the rest: a picture of one row of
        # pixels would be huge once that row had been scaled alone.
        side = min(width, height) * part.size / part.resize
        left, top = (width - side) / 2, (height - side) / 2
        found = _in_colours(library, opened, field).resize(
            (part.size, part.size),
            library.Resampling.BICUBIC,
            box=(left, top, left + side, top + side),
        )
        if found.mode == "RGBA":
            white = library.new("RGBA", found.size, "white")
            found = library.alpha_composite(white, found).convert("RGB")
        if orientation in _TURNS:
            found = found.transpose(library.Transpose[_TURNS[orientation]])
        return np.array(found, np.uint8)


def _orientation(opened: Any) -> Any:
    """Return how its camera was held; None if that is not said, or not in a form to be read."""
    try:
        return opened.getexif().get(_ORIENTATION)
    except (SyntaxError, ValueError, struct.error):
        return None  # The picture is whole; only the notes beside it are not.


def _in_colours(library: Any, opened: Any, field: str) -> Any:
    """Return an image as RGB, or as RGBA where something shines through: that becomes white."""
    tiff = opened.format == "TIFF"
    if opened.mode.startswith("F") or (tiff and opened.mode == "I"):
        # Of 0 to 1, to 255, or to anything: taken for the wrong one, every picture is black.
        kind = "floating-point" if opened.mode.startswith("F") else "signed or 32-bit"
        raise InvalidArgumentError(
            f"{field} has {kind} pixels, and what is white among them is not said: convert it to "
            "8 or 16 bits a channel",
            field=field,
        )
    if opened.mode.startswith("I"):
        bits = opened.tag_v2[_BITS_A_SAMPLE][0] if tiff else 16  # or 12
        grey = np.clip(np.asarray(opened, np.float64) / 2 ** (bits - 8), 0, 255).astype(np.uint8)
        return library.fromarray(grey).convert("RGB")
    if opened.has_transparency_data:
        return opened if opened.mode == "RGBA" else opened.convert("RGBA")
    return opened if opened.mode == "RGB" else opened.convert("RGB")


def _layout(part: ImagePart) -> tuple[int, int, int]:
    return (3, part.size, part.size) if part.channels_first else (part.size, part.size, 3)


def _too_many_pixels(field: str, found: str) -> TooLargeError:
    return TooLargeError(
        f"{field} has {found} pixels, and at most {IMAGE_PIXELS_MAX} can be encoded "
        "(IMAGE_PIXELS_MAX): scale it down",
        field=field,
    )
