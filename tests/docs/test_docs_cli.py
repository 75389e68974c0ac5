"""README and docs/cli.md say what the command line does."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import squash
import squash.attributes
from squash import limits
from squash.cli.arguments import VERBS, build_parser
from squash.kernels import native
from tiny_encoders import make_text_encoder

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CLI = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")

needs_library = pytest.mark.skipif(
    not hasattr(squash, "connect"), reason="the Python face is not there yet"
)


def blocks(text, language):
    """The fenced code blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def commands(block):
    """The arguments of each `squash ...` of a shell block, after any pipe."""
    found = re.findall(r"(?:^|\| )squash (.*)$", block, flags=re.MULTILINE)
    return [shlex.split(words, comments=True) for words in found]


@pytest.fixture
def shell(tmp_path):
    """Run a shell script in an empty folder, where `squash` is the command under test."""
    command = tmp_path / "bin" / "squash"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m squash.cli.main "$@"\n')
    command.chmod(0o755)
    environment = os.environ | {
        "PATH": f"{command.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(Path(squash.__file__).parents[1]),
        "SQUASH_STORE": str(tmp_path / "store"),
    }

    def run(script):
        return subprocess.run(  # noqa: S603 - a page of ours
            ["/bin/sh", "-e", "-c", script],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_every_command_has_its_section_with_an_example_that_parses(verb):
    section = re.search(
        rf"^## `squash {verb.name}`$(.*?)(?=^## |\Z)", CLI, re.MULTILINE | re.DOTALL
    )
    assert section is not None
    (block,) = blocks(section.group(1), "sh")
    (words,) = commands(block)
    assert build_parser().parse_args(words).command == verb.name


def test_every_option_is_documented():
    """An option that a command takes is named in the page."""
    parser = build_parser()
    subparsers = next(a for a in parser._actions if a.dest == "command").choices
    commands = [parser, *subparsers.values()]
    for command in commands:
        for action in command._actions:
            if action.dest == "action":
                commands += action.choices.values()
            for option in action.option_strings:
                if option not in {"-h", "--help"}:
                    assert option in CLI, f"{command.prog} {option}"


def test_readme_commands_parse():
    found = [words for block in blocks(README, "sh") for words in commands(block)]
    assert len(found) >= 5
    for words in found:
        build_parser().parse_args(words)


def test_readme_names_every_variant_of_the_kernels():
    section = README.split("## What is native")[1].split("## ")[0]
    for name in (native.NUMPY, *native._VARIANT_BITS):
        assert f"`{name}`" in section


def test_readme_begins_with_the_commands_that_are_enough():
    first = blocks(README, "sh")[0]
    commands = [line.split("#")[0].strip() for line in first.splitlines()]
    assert commands == ["make demo", "make test", "make local"]


def test_readme_states_the_limits_as_they_are():
    for row in (
        f"| dimension | {limits.DIMENSION_MAX:,} |",
        f"| key | 1 to {limits.KEY_BYTES_MAX:,} bytes |",
        f"| metadata of a record | {limits.METADATA_BYTES_MAX // limits.KIB} KiB",
        f" KiB and {limits.METADATA_KEYS_MAX} keys, of it filterable ",
        f" filterable {limits.METADATA_FILTERABLE_BYTES_MAX // limits.KIB} KiB |",
        f"| records returned by a query | {limits.TOP_K_MAX:,} |",
        f"| queries in one call | {limits.QUERIES_PER_CALL_MAX:,} |",
        f"| index name | {limits.INDEX_NAME_CHARACTERS_MAX} of `a-z 0-9 _ -` |",
        f"more than {limits.FILTER_CLAUSES_MAX} clauses",
    ):
        assert row in README
    assert f"At most {limits.PUT_FILE_ROWS_MAX:,} records" in CLI
    assert f"in batches of at most {limits.IMPORT_BATCH_INPUTS_MAX:,} records" in CLI


def test_links_lead_somewhere():
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.skipif(
    not hasattr(squash.attributes, "parse_filter"), reason="the attributes are not there yet"
)
def test_readme_names_every_operator_with_its_operands():
    """What the table says is taken is taken, and it leaves no operator out."""
    from squash.attributes import filters, parse_filter

    table = README.split("## Filters")[1].split("## ")[0]
    named = set(re.findall(r"`(\$\w+)`", table))
    assert named == {*filters._COMPARING, *filters._COMBINING}
    samples = {"string": "a", "number": 1, "boolean": True, "list": ["a", 1], "[low, high]": [1, 2]}
    samples |= {"true": True, "false": False}
    for row in re.findall(r"^\| (.*) \|.*\| (.*) \|$", table, flags=re.MULTILINE):
        for operator in re.findall(r"`(\$\w+)`", row[0]):
            for kind in re.split(r", (?!h)| or ", row[1].replace("`", "")):
                if operator in {"$and", "$or"}:
                    parse_filter({operator: [{"a": 1}]})
                elif operator == "$not":
                    parse_filter({operator: {"a": 1}})
                else:
                    parse_filter({"a": {operator: samples[kind]}})


@needs_library
def test_readme_python_runs(tmp_path, monkeypatch):
    """One block after the other, where an encoder of the name in it has been added."""
    monkeypatch.setenv("SQUASH_ENCODER_CACHE", str(tmp_path / "cache"))
    make_text_encoder(tmp_path / "encoder", name="minilm")
    location = f"file://{tmp_path}/store"
    squash.connect(location).encoders.add(tmp_path / "encoder")
    names: dict[str, object] = {}
    for block in blocks(README, "python"):
        here = block.replace("file:///data/squash", location)
        exec(compile(here, "README.md", "exec"), names)  # noqa: S102 - that is the test


@needs_library
def test_readme_shell_runs(shell):
    (script,) = [block for block in blocks(README, "sh") if "squash create" in block]
    done = shell(script)
    assert (done.returncode, done.stderr) == (0, "")
    assert "p2" in done.stdout


@needs_library
def test_the_page_of_commands_runs_from_top_to_bottom(shell, tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "vectors.npy", rng.standard_normal((50, 4)).astype(np.float32))
    (tmp_path / "keys.txt").write_text("".join(f"k{row}\n" for row in range(50)))
    (tmp_path / "metadata.jsonl").write_text('{"year": 2020}\n' * 50)
    make_text_encoder(tmp_path / "my-encoder", name="my-encoder")
    # Servers go on until they are stopped: docs/http.md is run against one, tests/system has both.
    endless = ("squash local", "squash serve")
    done = shell("".join(block for block in blocks(CLI, "sh") if not block.startswith(endless)))
    assert (done.returncode, done.stderr) == (0, "")
    assert "Imported 50 records" in done.stdout
    assert "Dropped papers." in done.stdout
    assert "Added my-encoder@" in done.stdout
    assert "a red fish swims in the sea" in done.stdout
