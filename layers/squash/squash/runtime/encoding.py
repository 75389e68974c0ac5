"""Who encodes: the port that sessions use. It is served by this process, or by a function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from typing import Protocol, TypeAlias

import numpy as np

from squash.encoders.encoded import Encoded
from squash.errors import DataError
from squash.model import EncoderPin, Inputs, Purpose
from squash.runtime.encoder_names import encoder_label
from squash.search.spending import Spent
from squash.values import dataclass

Told: TypeAlias = Callable[[int], None]
"""Told how many inputs of a call are done."""


@dataclass(frozen=True, slots=True)
class EncodedFor:
    """What was encoded, and what that spent elsewhere than in this process."""

    encoded: Encoded
    spent: Spent = field(default_factory=Spent)


class Encoding(Protocol):
    """Makes vectors of texts and images, by the encoder that an index has pinned."""

    def encode(
        self,
        pin: EncoderPin,
        inputs: Inputs,
        *,
        purpose: Purpose,
        dimension: int,
        deadline_ms: int | None = None,
        told: Told | None = None,
    ) -> EncodedFor:
        """Encode inputs, in their order.

        Parameters
        ----------
        pin:
            The encoder, by its digest.
        inputs:
            What is to be encoded.
        purpose:
            Whether they are queries or documents.
        dimension:
            The index's: the encoder's own, or one that its vectors may be cut to.
        deadline_ms:
            When it must be done, by the clock; None if it may take its time.
        told:
            Told how far it is.

        Raises
        ------
        InvalidArgumentError, TooLargeError
            If an input cannot be encoded; `field` is its place, ``texts[3]`` or ``images[3]``.
        NotFoundError
            If the encoder is not there any more.
        DataError
            If its files are not what its digest says.
        UnavailableError, ThrottledError
            If who encodes does not answer in time.

        """
        ...


def check_encoded(encoded: Encoded, pin: EncoderPin, *, inputs: int, dimension: int) -> None:
    """Refuse what does not keep the promise of `Encoding.encode`.

    Raises
    ------
    DataError
        If vectors are not float32 [inputs, dimension] and finite.

    """
    vectors = encoded.vectors
    if vectors.shape != (inputs, dimension) or not np.isfinite(vectors).all():
        raise DataError(
            f"encoder {encoder_label(pin.name, pin.digest)} gave vectors {list(vectors.shape)} "
            f"where {[inputs, dimension]} were asked for, or some that are not finite: run `squash "
            "encoder check`"
        )
