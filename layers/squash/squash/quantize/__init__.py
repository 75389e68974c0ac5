"""Codecs: vectors to codes, and codes to estimates and lower bounds of distances."""

from squash.quantize.protocol import ArraySpec, Codec, Codes, Prepared, Space
from squash.quantize.registry import (
    CODEC_NAMES,
    PRESETS,
    is_of_preset,
    load_codec,
    preset_of,
    scanned_layout,
    train_codec,
)
from squash.quantize.spreads import unit_spreads
from squash.quantize.transforms import are_finite

__all__ = [
    "CODEC_NAMES",
    "PRESETS",
    "ArraySpec",
    "Codec",
    "Codes",
    "Prepared",
    "Space",
    "are_finite",
    "is_of_preset",
    "load_codec",
    "preset_of",
    "scanned_layout",
    "train_codec",
    "unit_spreads",
]
