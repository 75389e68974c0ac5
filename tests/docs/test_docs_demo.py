"""The demo's data is what the demo says it is."""

from __future__ import annotations

import gzip
import hashlib
import importlib
import sys
from pathlib import Path

import pytest

import squash.attributes

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "demo"


@pytest.fixture(scope="module")
def words():
    """The demo's module of words; it lies in a folder of scripts."""
    return load("words")


@pytest.fixture(scope="module")
def demo():
    """The demo itself, loaded and not run."""
    return load("demo")


def load(name):
    path, before = list(sys.path), set(sys.modules)
    sys.path.insert(0, str(DEMO))
    try:
        return importlib.import_module(name)
    finally:
        sys.path[:] = path
        # `data` and `words` are names that others may want.
        for module in {"data", "words", "demo"} - before:
            sys.modules.pop(module, None)


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


@pytest.mark.skipif(
    not hasattr(squash.attributes, "parse_filter"), reason="the attributes are not there yet"
)
def test_the_judge_of_the_demo_reads_its_filters_as_the_library_does(demo, words):
    """Each question's filter and its plain Python agree on every word that WordNet knows."""
    from squash.attributes import matches, parse_filter

    metadata = [
        {"word": word, "rank": 7 * row, "length": len(word), "kind": words.kind_of(word), **known}
        for row, (word, known) in enumerate(words.read_wordnet().items())
    ]
    metadata += [{"word": "sea-", "rank": 1, "length": 4, "kind": "mixed"}]
    pairs = [(question.filter, question.passes) for question in demo.QUESTIONS]
    for predicate, passes in (*pairs, *demo.SAMPLE_FILTERS):
        node = parse_filter(predicate)
        passed = [matches(node, values) for values in metadata]
        assert passed == [passes(values) for values in metadata]
        assert any(passed)


def test_wordnet_comes_with_its_licence():
    licence = (DEMO / "WORDNET-LICENSE").read_text(encoding="ascii")
    assert "WordNet 3.0 Copyright 2006 by Princeton University." in licence
    assert "permission" in licence.lower()
