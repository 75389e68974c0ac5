"""`squash import --workers` and `squash build`, on a folder."""

import json
import os

import numpy as np
import pytest

import squash
from bulk_files import BUILD, DIMENSION, vectors, write_npy, write_parquet
from squash.cli import building
from squash.cli.main import main
from squash.errors import UnavailableError, UnsupportedFormatError
from squash.runtime import state_machines

MACHINE = "arn:aws:states:eu-west-1:123456789012:stateMachine:Build"


class Ran:
    def __init__(self, status, captured):
        self.status, self.out, self.err = status, captured.out, captured.err

    @property
    def document(self):
        return json.loads(self.out)


@pytest.fixture
def store(tmp_path):
    return tmp_path / "store"


@pytest.fixture
def index(store):
    return squash.connect(str(store)).create_index("papers", dimension=DIMENSION)


@pytest.fixture
def run(store, index, capsys, monkeypatch):
    monkeypatch.delenv("SQUASH_STATE_MACHINE", raising=False)

    def run_command(*words):
        status = main([*map(str, words), "--store", str(store)])
        return Ran(status, capsys.readouterr())

    return run_command


@pytest.fixture
def machine(monkeypatch):
    """A state machine that notes what it is asked."""
    asked = []

    class Machine:
        def __init__(self, arn):
            self.arn = arn

        def start(self, name, given):
            asked.append(("start", self.arn, name, given))

        def stop(self, name, *, reason):
            asked.append(("stop", self.arn, name, reason))
            return True

    monkeypatch.setattr(state_machines, "StateMachine", Machine)
    return asked


def test_files_folders_and_globs_become_one_index(run, index, tmp_path):
    write_npy(tmp_path / "a", 5, 6)
    np.save(tmp_path / "b.npy", vectors(4, 7))
    np.save(tmp_path / "c.npy", vectors(3, 8))
    done = run(
        "import", "papers", tmp_path / "a", tmp_path / "b.npy", f"{tmp_path}/[c].npy",
        "--workers", 1,
    )  # fmt: skip
    assert (done.status, done.err) == (0, "")
    assert "Published papers; the snapshot is 2." in done.out
    assert index.stats().rows == 18
    assert np.allclose(index.get(keys=["17"])[0].vector, vectors(3, 8)[2])


def test_what_is_left_out_or_replaced_is_said_with_the_way_back(run, index, tmp_path):
    index.put(keys=["old"], vectors=vectors(1))
    rows = [*vectors(3), None]
    write_parquet(tmp_path / "in", [(["a", "b", "a", "c"], rows)])
    refused = run("import", "papers", tmp_path / "in", "--workers", 1)
    assert refused.status == 1
    assert "--replace" in refused.err
    stopped = run("import", "papers", tmp_path / "in", "--workers", 1, "--replace")
    assert stopped.status == 1
    assert "squash build resume papers" in stopped.err
    build = index.builds()[0].build
    shown = run("build", "status", "papers")
    assert shown.status == 0
    assert "null" in shown.out or "no vector" in shown.out
    done = run("build", "resume", "papers", build, "--workers", 1, "--bad-rows-max", 1)
    assert (done.status, done.err) == (0, "")
    assert f"The bad rows are listed in builds/{build}/bad/." in done.out
    assert "Of each key the last row stayed: 1 earlier row gave way." in done.out
    before = index.build_status(build).before
    assert f"squash restore papers --as-of {before}" in done.out
    assert run("restore", "papers", "--as-of", before).status == 0
    assert [one.key for one in index.list().records] == ["old"]


def test_a_build_is_one_document_for_machines(run, index, tmp_path):
    write_npy(tmp_path / "in", 5)
    done = run("import", "papers", tmp_path / "in", "--workers", 1, "--build", BUILD, "--json")
    document = done.document
    assert (document["build"], document["state"], document["rows"]) == (BUILD, "published", 5)
    assert run("build", "status", "papers", BUILD, "--json").document == document
    assert run("build", "status", "papers", BUILD, "--watch", "--json").document == document
    assert run("build", "list", "papers", "--json").document == {"builds": [document]}
    assert BUILD in run("build", "list", "papers").out
    # What an error says is to be typed is a whole command.
    for action in ("resume", "cancel"):
        refused = run("build", action, "papers", BUILD)
        assert f"`squash restore papers --as-of {document['before']}`" in refused.err


@pytest.mark.parametrize(
    "words",
    [
        ["a.jsonl", "--workers", "2"], ["a.npy", "--workers", "0"], ["a.npy", "b.npy"],
        ["a.npy", "--replace"], ["a.npy", "--bad-rows-max", "1"], ["a.npy", "--build", BUILD],
        ["a.npy", "--workers", "1", "--keys", "k"], ["a.npy", "--workers", "1", "--no-optimize"],
        ["a.npy", "--workers", "1", "--image-column", "i"], ["gone.npy", "--workers", "1"],
        ["gone*.npy", "--workers", "1"], ["s3://a/b.npy"], ["a.npy", "--scratch", "x"],
        ["s3vectors://bucket/index", "--workers", "1"],
        ["a.npy", "--workers", "1", "--build", "x"],
    ],
)  # fmt: skip
def test_words_that_do_not_go_together_are_usage_errors(run, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    np.save("a.npy", vectors(3))
    done = run("import", "papers", *words)
    assert (done.status, done.out) == (2, "")


def test_a_state_machine_is_named_in_words_or_by_the_environment(run, index, machine, monkeypatch):
    start = ("build", "start", "papers", "s3://bucket/in/", "--build", BUILD)
    refused = run(*start)
    assert refused.status == 2
    assert "squash import" in refused.err
    assert machine == []
    done = run(*start, "--state-machine", MACHINE, "--dollars-max", "2.5")
    assert done.status == 0
    told = {"index": "papers", "build": BUILD}
    assert machine == [("start", MACHINE, f"{BUILD}-1", told)]
    assert f"squash build status papers {BUILD} --watch" in done.out
    attempt = index.bulk_builds().attempt(BUILD)
    assert (attempt.executor, attempt.limits.dollars_max) == ("states", 2.5)
    monkeypatch.setenv("SQUASH_STATE_MACHINE", MACHINE)
    assert run(*start, "--json").document["build"] == BUILD
    assert machine[-1] == machine[0]  # of one name there is one execution


def test_a_build_is_cancelled_where_it_runs_and_resumed_there(run, index, machine):
    run("build", "start", "papers", "s3://bucket/in/", "--build", BUILD, "--state-machine", MACHINE)
    done = run("build", "cancel", "papers", BUILD)
    assert done.status == 0
    assert machine[-1][:3] == ("stop", MACHINE, f"{BUILD}-1")
    assert run("build", "status", "papers", BUILD, "--watch").status == 1
    assert run("build", "resume", "papers", BUILD).status == 0
    assert machine[-1][:3] == ("start", MACHINE, f"{BUILD}-2")
    assert index.build_status(BUILD).state == "running"


def test_a_machine_that_cannot_be_begun_leaves_a_build_that_can_be_resumed(
    run, index, machine, monkeypatch
):
    def refuse(self, name, given):
        raise UnavailableError("Step Functions did not answer")

    monkeypatch.setattr(state_machines.StateMachine, "start", refuse)
    done = run(
        "build", "start", "papers", "s3://bucket/in/", "--build", BUILD, "--state-machine", MACHINE
    )
    assert done.status == 1
    assert f"squash build resume papers {BUILD}" in done.err
    assert index.build_status(BUILD).state == "failed"


def test_a_watched_build_is_looked_at_until_it_ends(run, index, tmp_path, monkeypatch):
    index.bulk_builds().prepare([write_npy(tmp_path / "in", 5)], build_id=BUILD)
    slept = []

    class Clock:
        def sleep(self, seconds):
            slept.append(seconds)
            if len(slept) == 2:
                index.build([f"{(tmp_path / 'in').as_uri()}/"], build=BUILD)

    monkeypatch.setattr(building, "SystemClock", Clock)
    assert run("build", "status", "papers", BUILD, "--watch").status == 0
    assert len(slept) == 2


def test_an_index_without_builds_says_so(run):
    for words in (("list", "papers"), ("status", "papers")):
        assert "There is no build of papers." in run("build", *words).out
    assert run("build", "status", "papers", BUILD).status == 1


def test_a_build_that_cannot_be_read_hides_no_other(run, index, store, tmp_path):
    """A newer release may have begun it: it is told of, and the rest is listed."""
    source, other = write_npy(tmp_path / "a", 5), "f" * 32
    for one in (BUILD, other):
        index.bulk_builds().prepare([source], build_id=one, replaces=True)
        index.cancel_build(one)
    (request,) = store.glob(f"papers/*/builds/{other}/request")
    request.write_text(json.dumps(json.loads(request.read_text()) | {"version": 2}))
    with pytest.raises(UnsupportedFormatError):
        index.builds()
    unreadable = {}
    assert [one.build for one in index.builds(unreadable=unreadable)] == [BUILD]
    assert [*unreadable] == [other]
    listed = run("build", "list", "papers")
    assert listed.status == 1
    assert BUILD in listed.out
    assert f"{other} cannot be read" in listed.out
    document = run("build", "list", "papers", "--json").document
    assert [one["build"] for one in document["builds"]] == [BUILD]
    (hidden,) = document["unreadable"]
    assert (hidden["build"], hidden["type"]) == (other, "urn:squash:unsupported-format")


def test_a_home_and_a_relative_path_are_made_whole(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    np.save("a b.npy", vectors(1))
    assert building.input_urls("~/a b.npy") == [(tmp_path / "a b.npy").as_uri()]
    assert building.input_urls("a b.npy") == [(tmp_path / "a b.npy").as_uri()]
    assert building.input_urls(".") == [f"{tmp_path.as_uri()}/"]
    assert building.input_urls("s3://bucket/x") == ["s3://bucket/x"]
    assert os.listdir(tmp_path) == ["a b.npy"]  # noqa: PTH208 - names alone


def test_restoring_nothing_says_that_nothing_is_left(run, index):
    """All is gone after it, which is not what is said where nothing was to be done."""
    before = index.put(keys=["a", "b"], vectors=vectors(2)).snapshot
    assert "No record has changed since" in run("restore", "papers", "--as-of", before).out
    for _ in range(2):
        emptied = run("restore", "papers", "--as-of", 0)
        assert emptied.status == 0
        assert "There was no record, and is none now" in emptied.out
        assert not index.list().records
    assert "Restored 2 records" in run("restore", "papers", "--as-of", before).out
