"""docs/encoders.md names every member of encoder.json, and what it shows in Python runs."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

import squash
from squash.encoders.contract import (
    CONFIG_FILE,
    PARITY_FILE,
    EncoderConfig,
    ImagePart,
    OverLong,
    Pooling,
    TextPart,
)
from squash.runtime.local_encoding import CACHE_VARIABLE, FOLDERS_VARIABLE
from tiny_encoders import make_text_encoder

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "encoders.md").read_text(encoding="utf-8")


def test_what_encoders_shows_runs(tmp_path, monkeypatch):
    """With an encoder of that name in the store, the example puts a text and finds it."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    make_text_encoder(tmp_path / "encoder", name="minilm")
    location = f"file://{tmp_path}/store"
    squash.connect(location).encoders.add(tmp_path / "encoder")
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names = {"squash": squash}
    exec(block.replace("file:///data/squash", location), names)  # noqa: S102 - the page says it runs
    assert names["answer"].matches[0].metadata == {"year": 2020, "text": "Terns follow the sun."}


@pytest.mark.parametrize("kind", [EncoderConfig, TextPart, ImagePart])
def test_encoders_names_every_member(kind):
    """The tables have every member of encoder.json, and every value that a choice has."""
    for field in fields(kind):
        assert f"`{field.name}`" in PAGE, field.name
    for value in (*Pooling, *OverLong):
        assert f'"{value}"' in PAGE or f"`{value}`" in PAGE, value


def test_encoders_names_files_and_variables():
    for name in (CONFIG_FILE, PARITY_FILE, CACHE_VARIABLE, FOLDERS_VARIABLE):
        assert f"`{name}`" in PAGE, name
