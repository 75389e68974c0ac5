"""Judges a rounded encoder by the one that it was made of: what it loses, and whether too much."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Final

import numpy as np

from squash.arrays import F32, F64
from squash.encoders.encoder import OnnxEncoder
from squash.encoders.parity import cosines
from squash.errors import InvalidArgumentError
from squash.model import Inputs, Modality, Purpose
from squash.values import dataclass

NEIGHBOURS: Final = 10
TEXTS_MIN: Final = 2 * NEIGHBOURS
# Texts that are as near as the tenth neighbour, up to rounding, are as good as it.
_TIE: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Bounds:
    """The most that may be lost; see `Judgement`."""

    cosine_mean: float
    cosine_min: float
    drift_mean: float
    drift_max: float
    recall: float


# About twice what all-MiniLM-L6-v2 loses on the texts that are built in: w8 has there a mean cosine
# of .9995, the least .998, a drift of .002 and at most .014, and recall .98; int8 has .991, .974,
# .009, .059 and .92. A model that loses more has weights that rounding does not suit.
BOUNDS: Final[Mapping[str, Bounds]] = {
    "w8": Bounds(cosine_mean=0.999, cosine_min=0.99, drift_mean=0.005, drift_max=0.03, recall=0.95),
    "int8": Bounds(cosine_mean=0.98, cosine_min=0.95, drift_mean=0.02, drift_max=0.1, recall=0.85),
}


@dataclass(frozen=True, slots=True)
class Judgement:
    """How near a rounded encoder is to the reference.

    Parameters
    ----------
    texts:
        How many were encoded by both.
    cosine_mean, cosine_min:
        Of each text's two vectors.
    drift_mean, drift_max:
        By how much the similarity of two texts differs, over all pairs.
    recall:
        The share of each text's ten nearest by the reference that the other finds among its ten.

    """

    texts: int
    cosine_mean: float
    cosine_min: float
    drift_mean: float
    drift_max: float
    recall: float

    def losses(self, bounds: Bounds) -> tuple[str, ...]:
        """Return a line for each bound that is passed."""
        return tuple(line for passed, line in self._held(bounds) if passed)

    def lines(self, bounds: Bounds) -> tuple[str, ...]:
        """Return a line for each bound, whether it is passed or not."""
        return tuple(line for _, line in self._held(bounds))

    def _held(self, bounds: Bounds) -> Iterator[tuple[bool, str]]:
        for name in (field.name for field in fields(Bounds)):
            found, bound = getattr(self, name), getattr(bounds, name)
            most = name.startswith("drift")
            passed = found > bound if most else found < bound
            word = "at most" if most else "at least"
            yield passed, f"{name} is {found:.4f} and should be {word} {bound:g}"


def judge(reference: OnnxEncoder, other: OnnxEncoder, texts: Sequence[str]) -> Judgement:
    """Encode texts with both and compare.

    Raises
    ------
    InvalidArgumentError
        If there are too few texts to have neighbours, or one cannot be encoded.

    """
    if len(texts) < TEXTS_MIN:
        raise InvalidArgumentError(
            f"{len(texts)} texts are too few to judge by: give {TEXTS_MIN} at least, or none for "
            "those that are built in",
            field="texts",
        )
    inputs = Inputs(Modality.TEXT, tuple(texts))
    wanted = reference.encode(inputs, purpose=Purpose.DOCUMENT).vectors
    return compare_vectors(wanted, other.encode(inputs, purpose=Purpose.DOCUMENT).vectors)


def compare_vectors(wanted: F32, found: F32) -> Judgement:
    """Compare float32 [n, d] of the reference with the other's, row by row and pair by pair."""
    nearness = cosines(wanted, found)
    before, after = _similarities(wanted), _similarities(found)
    pairs = np.triu_indices(len(wanted), 1)
    drift = np.abs(before - after)[pairs]
    return Judgement(
        texts=len(wanted),
        cosine_mean=float(nearness.mean()),
        cosine_min=float(nearness.min()),
        drift_mean=float(drift.mean()),
        drift_max=float(drift.max()),
        recall=_recall(before, after),
    )


def _similarities(vectors: F32) -> F64:
    """Return float64 [n, n], the cosine of each pair."""
    wide = vectors.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    wide = np.divide(wide, lengths, out=np.zeros_like(wide), where=lengths > 0)
    similar: F64 = wide @ wide.T
    return similar


def _recall(before: F64, after: F64) -> float:
    """Return recall@10, by similarities [n, n]; a text is no neighbour of its own."""
    rows = np.arange(len(before))
    before, after = before.copy(), after.copy()
    before[rows, rows] = after[rows, rows] = -np.inf
    tenth = np.sort(before, axis=1)[:, -NEIGHBOURS]
    chosen = np.argsort(-after, axis=1, kind="stable")[:, :NEIGHBOURS]
    good = np.take_along_axis(before, chosen, axis=1) >= tenth[:, None] - _TIE
    return float(good.mean())
