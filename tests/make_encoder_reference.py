"""Makes the reference of a known model by PyTorch: what the export of it is held against.

PyTorch and transformers are needed, and no part of this project: run it where they are, with the
model's folder as its wheel has it.

    python tests/make_encoder_reference.py MODEL_FOLDER \
        layers/squash/squash/encoders/export/references/minilm.json
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

from squash.encoders.export.samples import parity_texts
from squash.encoders.parity import Parity, write_parity
from squash.model import Purpose

TOKENS_MAX: Final = 256


def vectors_of(folder: Path, texts: tuple[str, ...]) -> np.ndarray:
    """Return float32 [n, d]: means of tokens, of length one, each text by itself."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    model.eval()
    found = []
    with torch.no_grad():
        for text in texts:
            tokens = tokenizer([text], truncation=True, max_length=TOKENS_MAX, return_tensors="pt")
            mean = model(**tokens).last_hidden_state[0].mean(dim=0)
            found.append(torch.nn.functional.normalize(mean, dim=0).numpy())
    return np.stack(found)


if __name__ == "__main__":
    source, out = map(Path, sys.argv[1:])
    texts = parity_texts()
    parity = Parity(Purpose.DOCUMENT, vectors_of(source, texts), 1 - 1e-4, texts)
    out.write_bytes(write_parity(parity))
