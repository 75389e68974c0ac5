"""The demo's data is what the demo says it is."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "demo"


@pytest.fixture(scope="module")
def words():
    """The demo's module of words; it lies in a folder of scripts, so it is loaded by its path."""
    spec = importlib.util.spec_from_file_location("squash_demo_words", DEMO / "words.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    path = list(sys.path)
    spec.loader.exec_module(module)
    sys.path[:] = path
    return module


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("salmon", "word"), ("väänänen", "word"), ("1,000", "number"), ("3.14", "number"),
        ("1990-91", "number"), (".5", "number"), ("man-at-arms", "hyphenated"),
        ("10-digit", "hyphenated"), ("u.s.", "abbreviation"), ("j.r", "abbreviation"),
        ("inc.", "abbreviation"), ("--", "punctuation"), ("_", "punctuation"), ("m9", "mixed"),
        ("forex.com", "mixed"), ("'s", "mixed"),
    ],
)  # fmt: skip
def test_kinds_of_words(words, word, kind):
    assert words.kind_of(word) == kind


def test_wordnet_table_knows_what_salmon_is(words):
    known = words.read_wordnet()
    assert len(known) == 83_118
    assert known["salmon"]["pos"] == ["noun", "adjective"]
    assert "noun.food" in known["salmon"]["categories"]
    assert "verb.motion" in known["run"]["categories"]
    assert known["thunder"]["pos"] == ["noun", "verb"]


def test_wordnet_table_is_small_sorted_and_the_one_its_script_makes():
    """Its hash changes only together with `make_wordnet.py`'s input or code."""
    data = (DEMO / "wordnet.tsv.gz").read_bytes()
    assert len(data) < 1_500_000
    lines = gzip.decompress(data).decode("ascii").splitlines()
    names = [line.split("\t")[0] for line in lines]
    assert names == sorted(set(names))
    text = hashlib.sha256(gzip.decompress(data)).hexdigest()
    assert text == "67a84d35692ab96fc72677ed089b9064c6655538a7deb1d059e23c11421a3872"


def test_wordnet_comes_with_its_licence():
    licence = (DEMO / "WORDNET-LICENSE").read_text(encoding="ascii")
    assert "WordNet 3.0 Copyright 2006 by Princeton University." in licence
    assert "permission" in licence.lower()
