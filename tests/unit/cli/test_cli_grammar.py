"""The grammar: help, examples, usage errors."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from squash import errors, strict_json
from squash.api.problems import TITLES
from squash.cli import problems
from squash.cli.arguments import DISTRIBUTION, VERBS, build_parser
from squash.cli.commands import COMMANDS
from squash.cli.main import main

ROOT = Path(__file__).parents[3]


def test_every_verb_has_a_command():
    # `local` opens no store: it stands apart.
    assert [verb.name for verb in VERBS if verb.name != "local"] == list(COMMANDS)


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_help_holds_an_example_that_parses(verb, capsys):
    assert main([verb.name, "--help"]) == 0
    example = re.search(r"example:\n  squash (.*)", capsys.readouterr().out)
    arguments = build_parser().parse_args(shlex.split(example.group(1)))
    assert arguments.command == verb.name


def test_the_release_is_that_of_the_project(capsys):
    """As it is written where the package is made."""
    assert main(["--version"]) == 0
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["name"] == DISTRIBUTION
    assert capsys.readouterr().out == f"squash {project['version']}\n"
    for words in (["--version", "--json"], ["--json", "--version"]):
        assert main(words) == 0
        assert json.loads(capsys.readouterr().out) == {"version": project["version"]}


def test_what_is_not_installed_has_no_release(monkeypatch, capsys):
    """As in a layer, or where the source is run."""

    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.version", missing)
    assert main(["--version"]) == 2
    assert "is not installed" in capsys.readouterr().err


def test_a_vector_of_numbers_that_no_float_holds_is_refused(run, papers):
    """Python's integers have no end."""
    done = run("query", "papers", f"[{'1' * 400}, 0]", "--json")
    assert done.status == 2
    assert "beyond what a float can be" in done.problem["detail"]


def test_help_needs_no_store(capsys):
    assert main(["--help"]) == 0
    assert "COMMAND" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        [], ["nonsense"], ["create"], ["create", "x"], ["create", "x", "--dimension", "two"],
        ["create", "x", "--dimension", "2", "--metric", "hamming"],
        ["create", "x", "--dimension", "2", "--attribute", "year"],
        ["create", "x", "--dimension", "2", "--attribute", "year=date"],
        ["query", "x"], ["query", "x", "[1]", "--like", "a"],
        ["query", "x", "[1]", "--top-k", "0"], ["query", "x", "[1]", "--top-k", "-1"],
        ["query", "x", "[1]", "--top-k", "10001"], ["query", "x", "[1]", "--top-k", "²"],
        ["query", "x", "[1]", "--filter", "{"], ["query", "x", "[1]", "--filter", "[]"],
        ["query", "x", "[1]", "--filter", '{"a": 1, "a": 2}'],
        ["query", "x", "[1]", "--filter", '{"a": NaN}'],
        ["query", "x", "[1]", "--recall-target", "0"],
        ["query", "x", "[1]", "--recall-target", "1.01"],
        ["query", "x", "[1]", "--recall-target", "nan"],
        ["query", "x", "[1]", "--include", "vectors"], ["list", "--limit", "0"],
        ["query", "x", "[1]", "--as-of", "-1"], ["get", "x", "a", "--as-of", "2026-01-31"],
        ["list", "x", "--as-of", "9" * 30], ["put", "x", "-", "--if-snapshot", "-1"],
        ["delete", "x", "a", "--if-snapshot", "1.0"], ["snapshots", "x", "--before", "²"],
        ["snapshots", "x", "--limit", "1001"], ["export", "x"],
    ],
)  # fmt: skip
def test_what_is_not_well_formed_is_a_usage_error(run, words):
    done = run(*words)
    assert done.status == 2
    assert done.err.startswith("squash: ")
    assert run(*words, "--json").problem["type"] == "urn:squash:usage"


def test_options_of_one_format_are_refused_for_another(run, papers, tmp_path):
    for name, option in (("a.jsonl", "--keys"), ("a.npy", "--key-column")):
        (tmp_path / name).touch()
        assert run("import", "papers", tmp_path / name, option, "x").status == 2
    assert run("import", "papers", tmp_path / "a.csv").status == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["query", "papers", "--top-k", "3", "[1, 0]"], {"vector": "[1, 0]", "top_k": 3}),
        (["query", "papers", "--like", "a", "--exact"], {"vector": None, "like": "a"}),
        (["delete", "papers", "--json", "a", "b"], {"keys": ["a", "b"]}),
        (["delete", "papers", "--if-snapshot", "3", "--", "-a"], {"keys": ["-a"]}),
        (["delete", "papers", "--filter", "{}"], {"keys": []}),
        (["build", "status", "papers", "--json", "ab"], {"build": "ab"}),
        (["build", "status", "papers", "--watch"], {"build": None, "watch": True}),
    ],
)
def test_what_may_be_missing_may_stand_behind_options(words, said):
    """As whatever must be there may."""
    found = vars(build_parser().parse_args(words))
    assert found["index"] == "papers"
    assert {name: found[name] for name in said} == said


def test_every_error_class_has_a_title_of_its_own():
    assert set(TITLES) == set(errors.HTTP_STATUS)
    assert len(set(TITLES.values())) == len(TITLES)


def test_a_problem_tells_what_the_error_knows():
    error = errors.ThrottledError("slow down", retry_after_ms=50, index="papers")
    error.add_note("Nothing was lost.")
    assert problems.problem(error) == {
        "type": "urn:squash:throttled",
        "title": "Throttled",
        "detail": "slow down. Nothing was lost.",
        "index": "papers",
        "retry_after_ms": 50,
    }
    assert problems.problem(KeyboardInterrupt())["detail"] == "interrupted."
    assert problems.problem(errors.SquashError("x"))["title"] == "Failed"


@pytest.mark.parametrize("text", ['{"a": 1, "a": 1}', "NaN", "[Infinity]", "{", "[" * 100_000])
def test_json_that_could_be_misread_is_refused(text):
    with pytest.raises(ValueError, match=r".+"):
        strict_json.loads(text)


def test_importing_the_entry_point_loads_neither_the_engine_nor_extras():
    """The set of modules is what is promised, not the time."""
    program = (
        "import sys, squash.cli.main\n"
        "bad = {'rich', 'pyarrow', 'boto3', 'squash.database', 'squash.cli.commands'}\n"
        "sys.exit(bool(bad & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False)  # noqa: S603
    assert done.returncode == 0
