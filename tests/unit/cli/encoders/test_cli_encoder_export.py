"""Models become encoders by a command: judged, added, or refused with nothing left behind."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from cli_encoder_files import detail
from safetensors.numpy import save_file

from squash.encoders.export import bert
from squash.encoders.export.judge import BOUNDS
from squash.encoders.export.settings import Settings
from tiny_encoders import make_text_encoder


@pytest.fixture
def model(tmp_path):
    """A folder with a model of texts that is no encoder yet, and whose weights can be rounded."""
    folder = tmp_path / "model"
    make_text_encoder(folder)
    (folder / "encoder.json").unlink()
    (folder / "model.onnx").unlink()
    words = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    config = {"model_type": "bert", "hidden_size": 32, "intermediate_size": 64}
    config |= {"num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": len(words)}
    config |= {"max_position_embeddings": 64}
    (folder / "config.json").write_text(json.dumps(config))
    rng = np.random.default_rng(0)
    weights = {
        name: rng.normal(1 if "LayerNorm.weight" in name else 0, 0.2, size).astype(np.float32)
        for name, size in bert._shapes(bert.read_shape(config)).items()
    }
    save_file(weights, folder / "model.safetensors")
    return folder


def test_a_model_becomes_an_encoder_that_a_store_takes(run, say, model, tmp_path):
    """What is printed is what JSON tells, and what the folder holds."""
    out = tmp_path / "made"
    status, made = run("encoder", "export", model, out, "--quantize", "w8", "--name", "mine")
    assert (status, made["name"], made["folder"], made["losses"]) == (0, "mine", str(out), [])
    assert made["file_bytes"] == {
        path.name: path.stat().st_size for path in out.iterdir() if path.name != "encoder.json"
    }
    assert made["judgement"]["recall"] >= made["bounds"]["recall"]
    assert run("encoder", "check", out)[1]["parity"]["passed"] is True
    assert run("encoder", "add", out)[1]["digest"] == made["digest"]
    status, said = say("encoder", "check", "mine")
    assert (status, "cosine to it, least" in said) == (0, True)
    status, said = say("encoder", "export", model, tmp_path / "again", "--name", "mine")
    assert f"mine@{made['digest'][:12]}" in said
    assert f"{made['judgement']['cosine_mean']:.4f}" in said
    status, plain = run("encoder", "export", model, tmp_path / "plain", "--quantize", "none")
    assert (status, plain["judgement"], plain["quantize"]) == (0, None, "none")
    assert (
        "nothing is lost"
        in say("encoder", "export", model, tmp_path / "plain2", "--quantize", "none")[1]
    )


def test_an_empty_folder_is_filled_and_stays(run, model, tmp_path, monkeypatch):
    """It may be the one in which the command runs, or a link to it: a rename took neither."""
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    for folder in (here, elsewhere):
        folder.mkdir()
    (tmp_path / "link").symlink_to(elsewhere)
    monkeypatch.chdir(here)
    for folder, out in ((here, "."), (elsewhere, tmp_path / "link")):
        before = folder.stat().st_ino
        status, made = run("encoder", "export", model, out, "--quantize", "none")
        assert (status, folder.stat().st_ino) == (0, before)
        assert {path.name for path in folder.iterdir()} == {"encoder.json", *made["file_bytes"]}


def test_what_a_models_files_do_not_say_is_told_on_the_command_line(run, model, tmp_path):
    """It goes into encoder.json; words that cannot be are refused before anything is made."""
    words = ("encoder", "export", model, tmp_path / "made")
    told = {"pooling": "cls", "tokens_max": 32, "over_long": "chunk", "query_prefix": "find: "}
    options = [part for name, value in told.items() for part in (f"--{name}", str(value))]
    options = [part.replace("_", "-") if part.startswith("--") else part for part in options]
    options += ["--truncate-dimensions", "16, 8", "--licence", "MIT"]
    assert run(*words, *options)[0] == 0
    made = json.loads((tmp_path / "made" / "encoder.json").read_text())
    assert told.items() <= made["text"].items()
    assert (made["truncate_dimensions"], made["licence"]) == ([16, 8], "MIT")
    for bad in (["--pooling", "most"], ["--truncate-dimensions", "8,"], ["--tokens-max", "0"]):
        assert run("encoder", "export", model, tmp_path / "none", *bad)[0] == 2
    assert not (tmp_path / "none").exists()


def test_a_loss_above_the_bounds_is_refused_and_nothing_written_unless_forced(
    run, say, model, tmp_path, monkeypatch
):
    strict = replace(BOUNDS["w8"], cosine_min=1.0)
    monkeypatch.setattr("squash.encoders.export.judge.BOUNDS", {"w8": strict})
    words = ("encoder", "export", model, tmp_path / "made", "--quantize", "w8")
    before = sorted(tmp_path.iterdir())
    assert "cosine_min is " in detail(run(*words))
    assert sorted(tmp_path.iterdir()) == before
    status, said = say(*words, "--force")
    assert (status, "It was forced: cosine_min is " in said) == (0, True)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "holds no text"),
        (b"\n \n", "holds no text"),
        (b"red\n\xff\n", "texts.txt line 2: not text in UTF-8"),
        (b"red\nblue\n", "2 texts are too few"),
    ],
)
def test_texts_to_judge_by_are_read_a_line_each(run, model, tmp_path, data, words):
    (tmp_path / "texts.txt").write_bytes(data)
    told = ("--quantize", "w8", "--texts", tmp_path / "texts.txt")
    assert words in detail(run("encoder", "export", model, tmp_path / "made", *told))
    assert not (tmp_path / "made").exists()


def test_what_is_an_encoder_already_is_not_exported_nor_rounded(run, model, tiny, tmp_path):
    folder = tmp_path / "tiny"
    assert "squash encoder add" in detail(run("encoder", "export", folder, tmp_path / "made"))
    assert run("encoder", "add", folder, "--quantize", "w8")[0] == 2
    run("encoder", "export", model, tmp_path / "made")
    assert "is there already" in detail(run("encoder", "export", model, tmp_path / "made"))


def test_a_known_model_is_exported_and_added(run, model, tmp_path, monkeypatch):
    """As `add minilm` does, save that nothing is downloaded; nothing is left beside the store."""

    @contextmanager
    def opened(source, **_):
        assert source == "minilm"
        yield model, Settings(licence="Apache-2.0")

    monkeypatch.setattr("squash.encoders.export.export.opened", opened)
    monkeypatch.setattr("squash.encoders.export.samples.known_reference", lambda source: None)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    monkeypatch.chdir(tmp_path)
    status, added = run("encoder", "add", "minilm")
    assert (status, added["name"], added["licence"]) == (0, "minilm", "Apache-2.0")
    assert list((tmp_path / "scratch").iterdir()) == []
    status, found = run("encoder", "check", "minilm")
    assert (status, found["parity"]["passed"]) == (0, True)
    assert list((tmp_path / "scratch").iterdir()) == []
