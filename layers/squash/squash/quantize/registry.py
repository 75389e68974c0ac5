"""Codecs by name: training a new one, and making one of what is stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from squash.arrays import F32, AnyArray
from squash.errors import InvalidArgumentError, UnsupportedFormatError
from squash.quantize.checks import checked_space
from squash.quantize.osq import OsqCodec
from squash.quantize.protocol import Codec, Space
from squash.quantize.residual import BLOCKS_VERSION, ResidualCodec
from squash.quantize.residual import VERSION as RESIDUAL_VERSION

CODEC_NAMES: Final = (ResidualCodec.name, OsqCodec.name)
PRESETS: Final[Mapping[str, tuple[str, Mapping[str, Any]]]] = {
    "residual": (ResidualCodec.name, {}),
    "osq": (OsqCodec.name, {"factors": False}),
    "osq-factors": (OsqCodec.name, {"factors": True}),
    "osq-residual": (OsqCodec.name, {"factors": True, "residual": True}),
}
"""What an index may be created with: the default; the paper's own; that with row factors, so with
an unbiased estimate and the Cauchy-Schwarz bound; and that on residuals to the cluster's centre."""
_OPTIONS: Final = {
    ResidualCodec.name: ("bits",),
    OsqCodec.name: ("bits_per_dimension", "factors", "residual"),
}
_VERSIONS: Final[Mapping[tuple[str, int], type[ResidualCodec | OsqCodec]]] = {
    **{(ResidualCodec.name, version): ResidualCodec for version in range(1, RESIDUAL_VERSION + 1)},
    (OsqCodec.name, OsqCodec.version): OsqCodec,
}
# Versions that need not be trained anew for what a newer one does better.
_SERVES_FROM: Final = {ResidualCodec.name: BLOCKS_VERSION, OsqCodec.name: OsqCodec.version}


def train_codec(
    name: str,
    *,
    sample: F32,
    space: Space,
    seed: int,
    residuals: F32 | None = None,
    **options: Any,
) -> Codec:
    """Train a codec; the same arguments give the same codec.

    Parameters
    ----------
    name:
        `residual` or `osq`.
    sample:
        float32 [s, d], vectors of the index.
    space:
        What a distance is; cosine indexes normalise first and take `l2`.
    seed:
        For the codec's random choices.
    residuals:
        float32 [s, d], the sample minus the centers of its clusters, in the vectors' own space;
        `osq` with the option `residual` fits its axes and cells to them.
    options:
        `residual`: `bits` (1 to 8, default 4). `osq`: `bits_per_dimension` (1 to 8, default 4),
        `factors` (default true), `residual` (default false).

    Raises
    ------
    InvalidArgumentError
        If the name, an option or its value is not known.

    """
    known = _OPTIONS.get(name)
    if known is None:
        raise InvalidArgumentError(
            f"there is no codec {name!r}: take one of {', '.join(CODEC_NAMES)}", field="codec"
        )
    for option in options:
        if option not in known:
            raise InvalidArgumentError(
                f"the codec {name!r} has no option {option!r}: it has {', '.join(known)}",
                field=option,
            )
    checked_space(space)
    if name == ResidualCodec.name:
        return ResidualCodec.train(sample, space=space, seed=seed, **options)
    return OsqCodec.train(sample, space=space, residuals=residuals, **options)


def preset_of(name: str) -> tuple[str, Mapping[str, Any]]:
    """Return a preset of `PRESETS`: the codec's name, and its options.

    Raises
    ------
    UnsupportedFormatError
        If it is none, as an index may have that a newer release made.

    """
    if name not in PRESETS:
        raise UnsupportedFormatError(
            f"the index has the codec {name!r:.80}; this release trains {', '.join(PRESETS)}. "
            "Install a newer release of squash-search."
        )
    return PRESETS[name]


def is_of_preset(codec: Codec, preset: str) -> bool:
    """Tell if a codec is what training by a preset of `PRESETS` gives, or serves as it does."""
    name, options = preset_of(preset)
    header = codec.to_arrays()[0]
    return (
        codec.name == name
        and codec.version >= _SERVES_FROM[name]
        and all(
            header.get(option) == value
            for option, value in {"residual": False, **options}.items()
            if option in header
        )
    )


def load_codec(header: Mapping[str, Any], array: Callable[[str], AnyArray]) -> Codec:
    """Make a codec of a stored header and arrays; `array` returns an array by its name.

    Raises
    ------
    UnsupportedFormatError
        If the codec, or this version of it, is not known.
    DataError
        If the header or an array is not what it must be.

    """
    name, version = header.get("codec"), header.get("codec_version")
    if isinstance(name, str) and isinstance(version, int):
        kind = _VERSIONS.get((name, version))
        if kind is not None:
            return kind.from_arrays(header, array)
    known = ", ".join(f"{name} {version}" for name, version in _VERSIONS)
    raise UnsupportedFormatError(
        f"codes were made by codec {name!r} version {version!r}; this release reads {known}. "
        "Install a newer release of squash-search."
    )


def scanned_layout(name: str, version: int, *, space: Space, dimension: int) -> Codec:
    """Return what codes that the kernels scan are laid out like; nothing is trained of it.

    Raises
    ------
    UnsupportedFormatError
        If the codec, or this version of it, is not known, or not one that the kernels scan.

    """
    if _VERSIONS.get((name, version)) is not ResidualCodec:
        raise UnsupportedFormatError(
            f"the kernels do not scan the codes of codec {name!r} version {version!r}. Install a "
            "newer release of squash-search."
        )
    return ResidualCodec.layout(space=space, dimension=dimension, version=version)
