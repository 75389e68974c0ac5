"""What encoders give, for those who ask and need nothing of the contract."""

from __future__ import annotations

from squash.arrays import F32
from squash.values import dataclass


@dataclass(frozen=True, slots=True)
class Encoded:
    """What an encoder made: float32 [n, d], in the order of its inputs; see `EncodingReport`."""

    vectors: F32
    tokens: int = 0
    truncated: tuple[int, ...] = ()
    chunked: tuple[int, ...] = ()
