"""Tries an encoder of a folder before it is used: whether it does what its `encoder.json` says."""

from __future__ import annotations

import io
import mmap
from pathlib import Path
from typing import Any, Final

import numpy as np

from squash.arrays import F32
from squash.encoders.contract import PARITY_FILE, EncoderConfig
from squash.encoders.encoder import OnnxEncoder, open_encoder
from squash.encoders.lazily import load
from squash.encoders.parity import ParityReport, compare, cosines, read_parity
from squash.errors import InvalidArgumentError
from squash.model import Inputs, Modality, Purpose
from squash.values import dataclass

# Of several lengths and scripts; many have a length in common, and so share a run of the model.
TEXTS: Final = (
    *("red", "blue", "dog", "water", "house", "stone", "night", "music"),
    *(
        f"The {what} of the old town was closed for the whole winter."
        for what in ("school", "market", "church", "bridge", "station", "library")
    ),
    "a",
    "Größe, naïveté, 東京, Привет, مرحبا, \N{SNOWMAN}\N{GRINNING FACE}",
    "a tab\there, \x00 and \x07, and a line\nthat ends",
    "a long text of few words " * 100,
)
# How an ONNX file begins the name of another that holds its weights.
_ELSEWHERE: Final = b"\x0a\x08location\x12"
BATCH_COSINE_MIN: Final = 1 - 1e-6
"""A vector that is farther from the one its input has alone depends on what else is in the run."""


@dataclass(frozen=True, slots=True)
class FolderReport:
    """What a trial of an encoder found.

    Parameters
    ----------
    config, digest:
        What it is.
    tried:
        How many texts and images were encoded.
    batch_agrees:
        Whether vectors are the same for an input alone and among others. Where not, its
        `TextPart.batch` should be false.
    batch_cosine_min:
        The least cosine between the two.
    parity:
        How near it is to its reference; None if it brings none.

    """

    config: EncoderConfig
    digest: str
    tried: int
    batch_agrees: bool
    batch_cosine_min: float
    parity: ParityReport | None

    @property
    def passed(self) -> bool:
        """Whether the encoder is as it says: a difference in batches, and parity, among that."""
        return self.batch_agrees and (self.parity is None or self.parity.passed)


def check_folder(folder: Path, *, threads: int = 1) -> FolderReport:
    """Open an encoder and try it.

    Parameters
    ----------
    folder:
        With `encoder.json` and the files that it names.
    threads:
        That one run of a model uses.

    Raises
    ------
    NotFoundError, ChecksumError, InvalidArgumentError, UnsupportedFormatError
        As `open_encoder`; and if the tokenizer knows tokens that the model does not, a model keeps
        weights in another file, or an input that is tried cannot be encoded.

    """
    encoder = open_encoder(folder, threads=threads)
    _check_whole_models(folder, encoder.config)
    if encoder.text is not None:
        encoder.text.try_largest()
    tried, agreement = 0, 1.0
    for inputs in _trials(encoder.config):
        tried += len(inputs)
        agreement = min(agreement, _try(encoder, inputs))
    parity = None
    if PARITY_FILE in encoder.config.files:
        parity = compare(read_parity((folder / PARITY_FILE).read_bytes()), encoder)
    return FolderReport(
        encoder.config,
        encoder.digest,
        tried,
        batch_agrees=agreement >= BATCH_COSINE_MIN,
        batch_cosine_min=agreement,
        parity=parity,
    )


def _check_whole_models(folder: Path, config: EncoderConfig) -> None:
    """Refuse models that keep weights in other files, which the digest might not pin."""
    models = {part.model for part in (config.text, config.image) if part is not None}
    for name in sorted(models):
        with (
            (folder / name).open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as model,
        ):
            if model.find(_ELSEWHERE) >= 0:
                raise InvalidArgumentError(
                    f"{name} keeps weights in another file: export it as one file"
                )


def _trials(config: EncoderConfig) -> list[Inputs]:
    trials = []
    if config.text is not None:
        trials.append(Inputs(Modality.TEXT, TEXTS))
    if config.image is not None:
        trials.append(Inputs(Modality.IMAGE, _images()))
    return trials


def _try(encoder: OnnxEncoder, inputs: Inputs) -> float:
    """Encode inputs together and alone, for both purposes; return the least cosine between."""
    least = 1.0
    for purpose in Purpose:
        together = encoder.encode(inputs, purpose=purpose).vectors
        singles = (
            Inputs(inputs.modality, inputs.items[place : place + 1]) for place in range(len(inputs))
        )
        alone = [encoder.encode(single, purpose=purpose).vectors for single in singles]
        least = min(least, float(cosines(together, np.concatenate(alone)).min()))
        _check_spread(encoder.config.name, inputs.modality, together)
    return least


def _check_spread(name: str, modality: Modality, vectors: F32) -> None:
    """Refuse an encoder that makes the same vector of everything."""
    if float(cosines(vectors[1:], np.roll(vectors, 1, axis=0)[1:]).min()) > 1 - 1e-6:
        raise InvalidArgumentError(
            f"the encoder {name} makes the same vector of all {modality}s that were tried"
        )


def _images() -> tuple[bytes, ...]:
    """Make pictures of one colour, of stripes, and of shapes unlike a square."""
    library = load("PIL.Image", extra="images")
    plain = [("red", (64, 64)), ("green", (90, 40)), ("blue", (40, 90)), ("white", (1, 7))]
    pictures = [library.new("RGB", size, colour) for colour, size in plain]
    stripes = np.zeros((48, 48, 3), np.uint8)
    stripes[::8] = stripes[:, ::6] = 255
    pictures.append(library.fromarray(stripes))
    return tuple(map(_png, pictures))


def _png(picture: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()
