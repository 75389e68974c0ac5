"""Commands on a real store, with a tiny real model."""

from __future__ import annotations

import json

import pytest
from cli_encoder_files import TEXTS
from cli_files import lines

import squash
from squash.cli.main import main
from tiny_encoders import make_text_encoder


@pytest.fixture
def store(monkeypatch, tmp_path):
    """A store in a folder, and nothing kept from other tests."""
    location = str(tmp_path / "store")
    monkeypatch.setenv("SQUASH_STORE", location)
    monkeypatch.setenv("SQUASH_ENCODER_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SQUASH_ENCODERS", raising=False)
    return squash.connect((tmp_path / "store").as_uri())


@pytest.fixture
def run(capsys, store):
    """Run a command as machines do, and give its status and its document."""

    def run_command(*words):
        status = main([*map(str, words), "--json"])
        captured = capsys.readouterr()
        return status, json.loads(captured.out or captured.err)

    return run_command


@pytest.fixture
def say(capsys, store):
    """Run a command as people do, and give its status and all it said."""

    def run_command(*words):
        status = main([*map(str, words)])
        captured = capsys.readouterr()
        return status, captured.out + captured.err

    return run_command


@pytest.fixture
def tiny(run, tmp_path):
    """The digest of a small encoder of texts that the store has."""
    digest = make_text_encoder(tmp_path / "tiny")
    assert run("encoder", "add", tmp_path / "tiny")[0] == 0
    return digest


@pytest.fixture
def notes(run, store, tiny, tmp_path):
    """An index of texts with three records."""
    assert run("create", "notes", "--encoder", "tiny")[0] == 0
    file = lines(tmp_path / "notes.jsonl", *({"key": k, "text": t} for k, t in TEXTS.items()))
    assert run("put", "notes", file)[0] == 0
    return store.index("notes")
