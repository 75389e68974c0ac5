"""What the encoders' room loads before an encoder is opened, and when one is."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tiny_encoders import make_dual_encoder, make_text_encoder

MODULES = ("contract", "encoder", "text", "tokens", "images", "onnx_session", "parity", "check")
HEAVY = {"onnx", "onnxruntime", "tokenizers", "PIL", "huggingface_hub", "safetensors"}
PROGRAM = """
import json, sys
import numpy
before = set(sys.modules)
import {modules}
{then}
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def loaded(then: str = "") -> set[str]:
    modules = ", ".join(f"squash.encoders.{module}" for module in MODULES)
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", PROGRAM.format(modules=modules, then=then)],
        check=True,
        capture_output=True,
        text=True,
    )
    return set(json.loads(done.stdout))


def tops(names: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


@pytest.fixture(scope="module")
def before_opening() -> set[str]:
    return loaded()


def test_third_party(before_opening):
    """Importing every module loads NumPy and Squash alone, nothing that runs models."""
    found = tops(before_opening) - sys.stdlib_module_names
    assert found - {"numpy"} == {"squash"}


def test_rooms(before_opening):
    """The room stands on the lowest floors."""
    rooms = {name.split(".")[1] for name in before_opening if name.startswith("squash.")}
    assert rooms == {"arrays", "encoders", "errors", "limits", "model", "values"}


@pytest.mark.parametrize(
    ("make", "wanted"),
    [
        (make_text_encoder, {"onnxruntime", "tokenizers"}),
        (make_dual_encoder, {"onnxruntime", "tokenizers", "PIL"}),
    ],
)
def test_opening(tmp_path, make, wanted):
    """An encoder that is opened loads what its parts need; one of texts no Pillow."""
    make(tmp_path)
    then = f"import pathlib; squash.encoders.encoder.open_encoder(pathlib.Path({str(tmp_path)!r}))"
    assert tops(loaded(then)) & HEAVY == wanted
