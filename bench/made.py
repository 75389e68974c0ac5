"""Made vectors of any dimension and number, which lie near a surface of few dimensions."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
_LATENT: Final = 24
_CENTERS: Final = 2_000
_SEED: Final = 7


class Made:
    """Points of a mixture near a surface of 24 dimensions; the same place, the same rows."""

    def __init__(self, dimension: int) -> None:
        generator = np.random.default_rng(_SEED)
        self._centers = generator.standard_normal((_CENTERS, _LATENT)).astype(np.float32)
        self._layer = generator.standard_normal((_LATENT, dimension)).astype(np.float32)
        self._bias = generator.standard_normal(dimension).astype(np.float32)

    def draw(self, rows: int, place: int) -> F32:
        """Return float32 [rows, d]."""
        generator = np.random.default_rng((_SEED, place))
        points = self._centers[generator.integers(0, _CENTERS, rows)]
        points = points + 0.5 * generator.standard_normal((rows, _LATENT)).astype(np.float32)
        found = np.tanh(points @ self._layer / np.float32(_LATENT**0.5) + self._bias)
        found += np.float32(0.05) * generator.standard_normal(found.shape, dtype=np.float32)
        return np.asarray(found, np.float32)
