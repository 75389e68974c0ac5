"""Codecs: train, encode, prepare a query, score, and bound."""

from squash.quantize.protocol import ArraySpec, Codec, Codes, Prepared
from squash.quantize.registry import CODECS, load_codec, train_codec

__all__ = ["CODECS", "ArraySpec", "Codec", "Codes", "Prepared", "load_codec", "train_codec"]
