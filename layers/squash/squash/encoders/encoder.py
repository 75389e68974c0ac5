"""An encoder, open: its files checked, its models ready, and what it makes finished."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final, cast

import numpy as np

from squash.arrays import F32, Mask
from squash.encoders.contract import CONFIG_FILE, EncoderConfig, digest_of, read_config
from squash.encoders.encoded import Encoded
from squash.encoders.images import ImageEncoder, Told
from squash.encoders.text import TextEncoder
from squash.errors import ChecksumError, InvalidArgumentError, NotFoundError
from squash.limits import ENCODER_CONFIG_BYTES_MAX
from squash.model import Inputs, Modality, Purpose


class OnnxEncoder:
    """An open encoder; several threads may use it at once.

    Parameters
    ----------
    folder:
        Where its files are, checked by `check_files`.
    config, digest:
        What its `encoder.json` says, and the digest of that.
    threads:
        That one run of a model uses.

    Raises
    ------
    InvalidArgumentError
        If a model or a tokenizer is not what `encoder.json` says, or what is needed to run it is
        not installed.

    """

    def __init__(self, folder: Path, config: EncoderConfig, digest: str, *, threads: int) -> None:
        self.config: Final = config
        self.digest: Final = digest
        dimension = config.dimension
        self.text: TextEncoder | None = None
        self.image: ImageEncoder | None = None
        if config.text is not None:
            self.text = TextEncoder(folder, config.text, dimension=dimension, threads=threads)
        if config.image is not None:
            self.image = ImageEncoder(folder, config.image, dimension=dimension, threads=threads)

    def encode(
        self,
        inputs: Inputs,
        *,
        purpose: Purpose,
        dimension: int | None = None,
        told: Told | None = None,
    ) -> Encoded:
        """Make vectors of texts or images, in their order.

        Parameters
        ----------
        inputs:
            Texts, or the bytes of image files.
        purpose:
            Whether they are queries or documents.
        dimension:
            Of the vectors: the encoder's own, or one that its vectors may be cut to.
        told:
            Told how many of them are done.

        Raises
        ------
        InvalidArgumentError
            If an input cannot be encoded; `field` is its place, ``texts[3]`` or ``images[3]``. Or
            if the encoder does not encode such inputs, or to that dimension.
        TooLargeError
            If an input is too large.

        """
        dimension = self._dimension(dimension)
        if inputs.modality is Modality.TEXT and self.text is not None:
            texts = cast("Sequence[str]", inputs.items)
            found = self.text.encode(texts, purpose=purpose, told=told)
        elif inputs.modality is Modality.IMAGE and self.image is not None:
            found = self.image.encode(cast("Sequence[bytes]", inputs.items), told=told)
        else:
            raise InvalidArgumentError(
                f"the encoder {self.config.name} encodes no {inputs.modality}s, only "
                f"{' and '.join(f'{modality}s' for modality in self.config.modalities)}",
                field=f"{inputs.modality}s",
            )
        vectors = finish(
            found.vectors,
            dimension,
            normalise=self.config.normalise,
            field=f"{inputs.modality}s",
        )
        return Encoded(vectors, found.tokens, found.truncated, found.chunked)

    def _dimension(self, wanted: int | None) -> int:
        known = (self.config.dimension, *self.config.truncate_dimensions)
        if wanted is not None and wanted not in known:
            raise InvalidArgumentError(
                f"the encoder {self.config.name} makes vectors of {' or '.join(map(str, known))} "
                f"dimensions, not {wanted}",
                field="dimension",
            )
        return wanted or self.config.dimension


def finish(vectors: F32, dimension: int, *, normalise: bool, field: str) -> F32:
    """Cut vectors float32 [n, d] to a dimension, and scale them to length one.

    Raises
    ------
    InvalidArgumentError
        If a vector is not finite, or has no direction; `field` with the place of its input.

    """
    vectors = np.ascontiguousarray(vectors[:, :dimension])
    _check_each(np.all(np.isfinite(vectors), axis=1), field, "a vector that is not finite")
    if not normalise:
        return vectors
    # By the largest value first: squares of very small or large ones would be lost.
    largest = np.abs(vectors).max(axis=1, initial=0)
    _check_each(largest > 0, field, "a vector of length zero, which has no direction")
    scaled: F32 = vectors / largest[:, None]
    lengths = np.sqrt(np.einsum("nd,nd->n", scaled, scaled, dtype=np.float64))
    scaled /= lengths[:, None].astype(np.float32)
    return scaled


def _check_each(good: Mask, field: str, what: str) -> None:
    if not good.all():
        place = f"{field}[{int(np.argmin(good))}]"
        raise InvalidArgumentError(f"the encoder makes of {place} {what}", field=place)


def open_encoder(folder: Path, *, threads: int = 1, checked: bool = False) -> OnnxEncoder:
    """Open the encoder of a folder.

    Parameters
    ----------
    folder:
        With `encoder.json` and the files that it names.
    threads:
        That one run of a model uses.
    checked:
        Whether somebody has just held its files against `encoder.json`, so that this need not.

    Raises
    ------
    NotFoundError
        If there is no `encoder.json`.
    ChecksumError
        If a file is not what `encoder.json` says.
    InvalidArgumentError
        If `encoder.json`, a model or a tokenizer is not what it must be, or what is needed to run
        them is not installed.

    """
    config, digest = read_folder(folder)
    if not checked:
        check_files(folder, config)
    return OnnxEncoder(folder, config, digest, threads=threads)


def read_folder(folder: Path) -> tuple[EncoderConfig, str]:
    """Read the `encoder.json` of a folder; return what it says, and its digest.

    Raises
    ------
    NotFoundError
        If there is none.
    InvalidArgumentError, UnsupportedFormatError
        If it does not describe an encoder that can be used here.

    """
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise NotFoundError(f"there is no encoder in {folder}: it has no {CONFIG_FILE}")
    with path.open("rb") as file:
        data = file.read(ENCODER_CONFIG_BYTES_MAX + 1)
    return read_config(data), digest_of(data)


def check_files(folder: Path, config: EncoderConfig) -> None:
    """Check that the files of an encoder are those that it was made of.

    Raises
    ------
    ChecksumError
        If one is missing, or of another length or SHA-256.

    """
    for name, ref in config.files.items():
        path = folder / name
        size = path.stat().st_size if path.is_file() else None
        if size != ref.bytes:
            found = "is missing" if size is None else f"has {size} bytes"
            raise ChecksumError(
                f"{name} of the encoder {config.name} {found}, and {CONFIG_FILE} says "
                f"{ref.bytes}: fetch or export it again",
                object_key=str(path),
            )
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != ref.sha256:
            raise ChecksumError(
                f"{name} of the encoder {config.name} is not the file that {CONFIG_FILE} names: "
                "its SHA-256 differs; fetch or export it again",
                object_key=str(path),
            )
