"""What the command line refuses, since it would else be passed over in silence."""

from __future__ import annotations

import shlex
import subprocess
import sys

import numpy as np
import pytest

from squash.cli import main as entry


@pytest.fixture
def array(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((2, 2), dtype=np.float32))
    return tmp_path / "a.npy"


COPYING = [
    ["--check-only"], ["--no-check"], ["--create"], ["--restart"], ["--bad-rows", "3"],
    ["--sample", "7"], ["--parallel", "2"], ["--state", "s"], ["--service-url", "http://x"],
    ["--service-region", "r"], ["--service-profile", "p"],
]  # fmt: skip


@pytest.mark.parametrize("words", COPYING)
@pytest.mark.parametrize("more", [[], ["--workers", "1"]], ids=["batches", "build"])
def test_an_import_of_a_file_refuses_what_is_said_of_a_copy(run, papers, array, words, more):
    """Above all --check-only: whoever says it wants nothing to be moved."""
    before = dict(papers.records)
    done = run("import", "papers", array, *words, *more)
    assert done.status == 2
    assert words[0] in done.err
    assert papers.records == before


@pytest.mark.parametrize("words", COPYING)
def test_an_export_to_a_file_refuses_what_is_said_of_a_copy(run, papers, tmp_path, words):
    done = run("export", "papers", tmp_path / "out.jsonl", *words)
    assert done.status == 2
    assert words[0] in done.err
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize("url", ["s3://bucket/out.jsonl", "file:///out.jsonl", "https://x/o.jsonl"])
def test_an_export_to_a_url_is_refused(run, papers, tmp_path, monkeypatch, url):
    """Its path would be one of folders here, which a bucket would be missing."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path.joinpath(url).parent
    folder.mkdir(parents=True)
    done = run("export", "papers", url)
    assert done.status == 2
    assert f"{url!r} is a URL: name a file of this machine" in done.err
    assert not list(folder.iterdir())


def test_an_import_of_a_url_that_no_build_reads_is_refused_as_one(run, papers):
    done = run("import", "papers", "https://host/a.npy")
    assert done.status == 2
    assert "'https://host/a.npy' is a URL" in done.err


@pytest.mark.parametrize(
    "option",
    ["--keys", "--metadata", "--vector-column", "--text-column", "--image-column", "--key-column"],
)
def test_a_copy_refuses_what_is_said_of_a_file(run, papers, option):
    done = run("import", "papers", "s3vectors://bucket/index", option, "x")
    assert done.status == 2
    assert option in done.err


@pytest.mark.parametrize("words", [["--cursor", "x"], ["--limit", "3"], ["--as-of", "1"]])
def test_a_list_of_indexes_has_no_pages(run, papers, words):
    done = run("list", *words)
    assert done.status == 2
    assert words[0] in done.err


@pytest.mark.parametrize(
    "words",
    [
        ["create", "x", "--dimension", "2", "--attribute", "a=number", "--attribute", "a=string"],
        ["create", "x", "--dimension", "2", "--tag", "a=1", "--tag", "a=2"],
        ["buckets", "create", "media", "--tag", "a=1", "--tag", "a=2"],
    ],
)
def test_a_name_that_is_said_twice_is_refused(run, words):
    done = run(*words)
    assert done.status == 2
    assert "'a' twice" in done.err


def test_the_home_of_nobody_is_an_error_in_words(run, monkeypatch):
    assert run("--store", "~nobody-of-this-name/x", "list").status == 2
    monkeypatch.setenv(entry.STORE_VARIABLE, "~nobody-of-this-name/x")
    done = run("list", "--json")
    assert (done.status, done.problem["type"]) == (2, "urn:squash:usage")
    assert run("import", "papers", "~nobody-of-this-name/a.npy", "--workers", "1").status == 2


def test_json_is_what_was_parsed_and_not_what_stands_there(run, papers):
    assert run("list", "--js").document["indexes"]
    done = run("get", "papers", "--", "--json")
    assert (done.status, done.err) == (1, "squash: the index papers has no record '--json'\n")


def test_a_limit_that_may_be_nought_says_so(run):
    done = run("import", "papers", "a.npy", "--workers", "1", "--bad-rows-max", "-1")
    assert done.status == 2
    assert "from 0 to" in done.err


def test_a_delete_by_keys_does_not_say_that_they_were_there(run, papers):
    done = run("delete", "papers", "gone")
    assert done.status == 0
    assert done.out.startswith("Deleted what there was of 1 key;")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("words", ["list", "put papers -", "query papers [1]"])
def test_streams_that_the_shell_closed_cost_no_traceback(tmp_path, closed, words):
    python = shlex.quote(sys.executable)
    line = f"{python} -m squash.cli.main --store data {words} {closed}"
    done = subprocess.run(  # noqa: S602 - a shell is what closes them
        line, shell=True, cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    assert done.returncode == (0 if words == "list" else 1)
    assert b"Traceback" not in done.stderr


def test_an_s3_for_the_local_cloud_is_a_url(run):
    done = run("local", "--s3", "nonsense")
    assert (done.status, "http://host:port" in done.err) == (1, True)


def test_the_local_cloud_takes_no_store(run, monkeypatch):
    monkeypatch.setenv(entry.STORE_VARIABLE, "data")  # which is for other commands
    assert run("local", "--template", "gone.yaml").status == 1
    done = run("local", "--template", "gone.yaml", "--store", "data")
    assert (done.status, "--store" in done.err) == (2, True)


def test_an_export_into_a_folder_that_is_not_there_names_the_folder(run, papers, tmp_path):
    done = run("export", "papers", tmp_path / "gone" / "out.jsonl")
    assert done.status == 1
    assert done.err.startswith(f"squash: {tmp_path / 'gone'}: No such file")


@pytest.mark.parametrize("location", ["s3:/bucket/x", "S3:bucket", "file:/folder", "memory:x"])
def test_a_store_with_half_a_scheme_is_no_folder(tmp_path, monkeypatch, capsys, location):
    """What was meant for S3 would lie in a folder of the place where the command ran."""
    monkeypatch.chdir(tmp_path)
    assert entry.main(["create", "papers", "--dimension", "2", "--store", location]) == 1
    assert "two slashes" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
