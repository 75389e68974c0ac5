"""The encoders that benchmarks run: all-MiniLM-L6-v2, its weights in three forms."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from data import CACHE
from report import told
from squash.encoders.contract import CONFIG_FILE
from squash.encoders.encoder import OnnxEncoder, read_folder
from squash.model import Inputs, Modality, Purpose

NAME: Final = "minilm"
# What the data set `text` was cut at when it was first measured.
SHORT_TOKENS_MAX: Final = 64
_TOLD_EVERY: Final = 10_000
Weights = Literal["none", "w8", "int8"]
TITLES: Final[dict[Weights, str]] = {"none": "fp32", "w8": "w8", "int8": "int8"}


def minilm(weights: Weights) -> Path:
    """Return the folder of the encoder, exporting it first where it is not cached."""
    folder = CACHE.parent / "encoders" / f"{NAME}-{TITLES[weights]}"
    if not (folder / CONFIG_FILE).exists():
        from squash.encoders.export.export import export_encoder

        told(f"exporting {NAME}, {TITLES[weights]}")
        # It is judged here, by more than what would refuse it there.
        export_encoder(
            NAME, folder, quantize=weights, force=True, cache=CACHE.parent / "packages", report=told
        )
    return folder


def encode_short(texts: Sequence[str]) -> NDArray[np.float32]:
    """Return float32 [n, 384] of the unquantised model, texts cut at 64 tokens; on all cores."""
    folder = minilm("none")
    config, digest = read_folder(folder)
    if config.text is None:
        raise RuntimeError(f"{folder} encodes no texts")
    config = replace(config, text=replace(config.text, tokens_max=SHORT_TOKENS_MAX))
    encoder = OnnxEncoder(folder, config, digest, threads=os.cpu_count() or 1)
    before = 0

    def told_of(done: int) -> None:
        nonlocal before
        if before // _TOLD_EVERY < done // _TOLD_EVERY:
            told(f"{done:,} of {len(texts):,} texts encoded")
        before = done

    inputs = Inputs(Modality.TEXT, list(texts))
    return encoder.encode(inputs, purpose=Purpose.DOCUMENT, told=told_of).vectors
