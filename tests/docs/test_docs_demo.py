"""The demo's data is what the demo says it is."""

from __future__ import annotations

import gzip
import hashlib
import importlib
import json
import sys
from pathlib import Path

import pytest
from rich.console import Console

from squash.attributes import matches, parse_filter
from tiny_encoders import make_text_encoder

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "demo"
STANZAS = """\
Package: editor
Version: 1
Installed-Size: 120
Depends: libc6 (>= 2.3), zlib1g,
 libx11-6
Description: edits texts
Section: editors
Priority: optional
Tag: interface::text-mode, role::program,
 use::TODO, use::editing

Package: editor-data
Source: editor
Installed-Size: 9
Description: edits texts - data
Section: editors
Priority: optional

Package: editor-dev
Installed-Size: 9
Description: edits texts - headers
Section: editors
Priority: optional
Tag: role::program

Package: editor-too
Installed-Size: 9
Description: edits texts
Section: editors
Priority: optional

Package: newer
Installed-Size: 7
Description: a game of 2023
Section: games
Priority: optional

Package: old
Installed-Size: 7
Description: transitional package for newer
Section: games
Priority: optional
Tag: role::program
"""
TRANSLATED = """\
Package: editor
Description-en: edits texts
 Editor is an editor, e.g. for texts.  It edits.
 .
 It has menus.

Package: newer
Description-en: a game of 2023
  * one item
"""


@pytest.fixture(scope="module")
def packages():
    """The demo's module of programs; it lies in a folder of scripts."""
    return load("packages")


@pytest.fixture(scope="module")
def making():
    """The script that made the demo's data, loaded and not run."""
    return load("make_packages")


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
        for module in {"make_packages", "packages", "demo"} - before:
            sys.modules.pop(module, None)


def test_packages_know_what_gimp_is(packages):
    found = packages.read_packages()
    assert len(found) == 8_360
    (gimp,) = (package for package in found if package.name == "gimp")
    assert gimp.text.startswith("GNU Image Manipulation Program. ")
    assert gimp.text.endswith(gimp.sentence)
    known = gimp.metadata()
    assert known["section"] == "graphics"
    assert {"graphical", "x11"} <= set(known["interface"])
    assert "editing" in known["use"]
    assert "gtk" in known["toolkit"]
    assert known["title"] == gimp.title


def test_packages_have_the_attributes_that_the_demo_declares(packages):
    kinds = {"string": str, "number": int, "string[]": list}
    seen = set()
    for package in packages.read_packages():
        for name, value in package.metadata().items():
            assert isinstance(value, kinds[packages.ATTRIBUTES.get(name, "string")])
            seen.add(name)
    assert seen == {*packages.ATTRIBUTES, "title"}


def test_packages_are_few_short_sorted_and_those_that_their_script_makes():
    """Their hash changes only together with `make_packages.py`'s input or code."""
    data = (DEMO / "packages.jsonl.gz").read_bytes()
    assert len(data) < 2_500_000
    text = gzip.decompress(data)
    rows = [json.loads(line) for line in text.decode().splitlines()]
    names = [row["name"] for row in rows]
    assert names == sorted(set(names))
    assert max(len(row["title"]) + len(row["sentence"]) for row in rows) < 300
    digest = hashlib.sha256(text).hexdigest()
    assert digest == "c3bc85a5c869615682593fe34ccecea27c5c9c908494ef4862cf25228a753182"


def test_batches_hold_every_program_once(packages):
    found = packages.read_packages()[:1_500]
    parts = list(packages.batches(found))
    assert [key for part in parts for key in part.keys] == [one.name for one in found]
    assert [text for part in parts for text in part.inputs.items] == [one.text for one in found]


def test_the_script_takes_programs_and_leaves_data_doubles_and_what_stands_for_others(making):
    assert list(making.packages(STANZAS, TRANSLATED)) == [
        {
            "name": "editor",
            "title": "edits texts",
            "sentence": "Editor is an editor, e.g. for texts.",
            "section": "editors",
            "priority": "optional",
            "installed_kb": 120,
            "depends": 3,
            "tags": ["interface::text-mode", "role::program", "use::editing"],
        },
        {
            "name": "editor-too",
            "title": "edits texts",
            "sentence": "",
            "section": "editors",
            "priority": "optional",
            "installed_kb": 9,
            "depends": 0,
            "tags": [],
        },
        {
            "name": "newer",
            "title": "a game of 2023",
            "sentence": "",
            "section": "games",
            "priority": "optional",
            "installed_kb": 7,
            "depends": 0,
            "tags": [],
        },
    ]


def test_a_long_sentence_is_cut_at_a_word(making):
    sentence = making.first_sentence("title\n" + "word " * 100)
    assert sentence.endswith("word …")
    assert len(sentence) <= making.SENTENCE_CHARACTERS_MAX + 2


def test_the_judge_of_the_demo_reads_its_filters_as_the_library_does(demo, packages):
    """Each question's filter and its plain Python agree on every program."""
    metadata = [package.metadata() for package in packages.read_packages()]
    pairs = [(question.filter, question.passes) for question in demo.QUESTIONS]
    for predicate, passes in (*pairs, *demo.SAMPLE_FILTERS):
        node = parse_filter(predicate)
        passed = [matches(node, values) for values in metadata]
        assert passed == [passes(values) for values in metadata]
        assert sum(passed) >= demo.TOP_K


def test_packages_come_with_a_note_on_their_licences():
    note = (DEMO / "PACKAGES-LICENSE").read_text(encoding="utf-8")
    assert "Debian 12" in note
    assert "debian/copyright" in note
    assert "not one licence for all" in note


def test_the_demo_builds_asks_and_opens_again(demo, monkeypatch, tmp_path):
    """Twice, with an encoder of four kilobytes and every few programs: the second run builds none.

    An encoder that is there is not exported again, so nothing is downloaded.
    """
    monkeypatch.setattr(demo, "CACHE", tmp_path)
    monkeypatch.setattr(demo, "ROOT", tmp_path.parent)
    monkeypatch.setenv("SQUASH_ENCODER_CACHE", str(tmp_path / "encoders"))
    (tmp_path / "encoder").mkdir()
    make_text_encoder(tmp_path / "encoder", name=demo.ENCODER)
    packages = demo.read_packages()
    asked = [
        *(question.passes for question in demo.QUESTIONS),
        *(p for _, p in demo.SAMPLE_FILTERS),
    ]
    known = [package.metadata() for package in packages]
    kept = {row for passes in asked for row in [i for i, m in enumerate(known) if passes(m)][:12]}
    few = [packages[row] for row in sorted(kept)]
    monkeypatch.setattr(demo, "read_packages", lambda: few)
    console = Console(record=True, width=120)
    demo.run(console)
    demo.run(console)
    text = console.export_text()
    assert f"Encoded {len(few)} descriptions" in text
    assert f"Opened the index of {len(few)} programs" in text
    assert text.count("recall@10 against brute force 1.00") == 2 * len(demo.QUESTIONS)
