"""Codecs by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from squash.arrays import F32, AnyArray
from squash.errors import InvalidArgumentError, UnsupportedFormatError
from squash.quantize import osq, residual
from squash.quantize.osq import OsqCodec
from squash.quantize.protocol import Codec, Space
from squash.quantize.residual import ResidualCodec

CODECS: Final = ("residual", "osq", "osq-factors", "osq-residual")
"""residual: the default. osq: the paper's. osq-factors: with row factors, so an unbiased estimate
and the Cauchy–Schwarz bound. osq-residual: that, on residuals to the cluster's centre."""


def train_codec(
    name: str, *, sample: F32, residuals: F32, space: Space, seed: int, bits: int = 4
) -> Codec:
    """Train a codec.

    Parameters
    ----------
    name:
        One of `CODECS`.
    sample:
        float32 [s, d], vectors as they will be projected (for cosine, of length one).
    residuals:
        float32 [s, d], the sample less the centre of each row's cluster.
    space:
        What distances are.
    seed:
        Decides what is left to chance.
    bits:
        Bits a dimension of the full code.

    Raises
    ------
    InvalidArgumentError
        If there is no codec of that name.

    """
    if name == "residual":
        return ResidualCodec.train(sample, space=space, seed=seed, bits=bits)
    if name not in CODECS:
        raise InvalidArgumentError(
            f"there is no codec {name!r}; take one of {', '.join(CODECS)}", field="codec"
        )
    return OsqCodec.train(
        sample,
        residuals=residuals if name == "osq-residual" else None,
        space=space,
        factors=name != "osq",
        bits=bits,
    )


def load_codec(header: Mapping[str, Any], array: Callable[[str], AnyArray]) -> Codec:
    """Make a codec from what its `to_arrays` gave.

    Raises
    ------
    UnsupportedFormatError
        If this release does not know that codec or its version.

    """
    known = header.get("name"), header.get("version")
    if known == (residual.NAME, residual.VERSION):
        return ResidualCodec.from_arrays(header, array)
    if known == (osq.NAME, osq.VERSION):
        return OsqCodec.from_arrays(header, array)
    raise UnsupportedFormatError(
        f"the index was built with codec {known[0]!r}, version {known[1]!r}, which this release "
        "does not know. Install a newer release of squash-search."
    )
