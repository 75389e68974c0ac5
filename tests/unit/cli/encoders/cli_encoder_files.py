"""Files of texts and pictures for the commands, and what to look for in what they said."""

from __future__ import annotations

import io

from PIL import Image

from squash.encoders.encoder import open_encoder
from squash.model import Inputs, Modality, Purpose

TEXTS = {
    "fish": "the red fish swims in the sea",
    "bird": "a small bird sings in the tree",
    "bread": "new bread and salt",
}


def picture(colour):
    out = io.BytesIO()
    Image.new("RGB", (20, 16), colour).save(out, "PNG")
    return out.getvalue()


def detail(done):
    status, problem = done
    assert status == 1
    return problem["detail"]


def vectors_of(folder, texts):
    inputs = Inputs(Modality.TEXT, texts)
    return open_encoder(folder).encode(inputs, purpose=Purpose.DOCUMENT).vectors
