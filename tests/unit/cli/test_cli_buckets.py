"""`squash buckets`, and indexes in vector buckets by every other command."""

from __future__ import annotations

import json
from uuid import uuid4

import pytest

import squash
from squash.cli.main import main


@pytest.fixture
def database(monkeypatch):
    location = f"memory://{uuid4().hex}"
    monkeypatch.setenv("SQUASH_STORE", location)
    return squash.connect(location)


@pytest.fixture
def run(database, capsys):
    def run_command(*words):
        status = main([*words, "--json"])
        captured = capsys.readouterr()
        return status, json.loads(captured.out or captured.err)

    return run_command


def test_a_bucket_is_made_listed_and_deleted(run, database, capsys):
    """With its tags; a second of its name is refused, and so is deleting one that is not there."""
    status, made = run("buckets", "create", "media", "--tag", "team=a=b", "--tag", "x=")
    assert (status, made["tags"], made["policy"]) == (0, {"team": "a=b", "x": ""}, None)
    assert run("buckets", "list") == (0, {"buckets": [made]})
    assert main(["buckets", "list"]) == 0
    assert "team=a=b" in capsys.readouterr().out
    status, problem = run("buckets", "create", "media")
    assert (status, problem["type"]) == (1, "urn:squash:conflict")
    status, problem = run("buckets", "create", "M")
    assert (status, problem["field"]) == (1, "name")
    assert run("buckets", "delete", "media") == (0, {"deleted": "media"})
    status, problem = run("buckets", "delete", "media")
    assert (status, problem["type"]) == (1, "urn:squash:not-found")
    assert main(["buckets", "list"]) == 0
    assert capsys.readouterr().out == "There is no vector bucket yet.\n"
    assert list(database.vector_buckets.names()) == []


def test_an_index_in_a_bucket_by_every_command(run, database, capsys, tmp_path):
    """It is made, filled, asked, listed, checked, collected and dropped by its name."""
    status, problem = run("create", "media/films", "--dimension", "2")
    assert (status, problem["type"]) == (1, "urn:squash:not-found")
    assert "vector bucket 'media'" in problem["detail"]
    assert run("buckets", "create", "media")[0] == 0
    status, made = run("create", "media/films", "--dimension", "2", "--tag", "a=1")
    assert (status, made["name"]) == (0, "media/films")
    records = tmp_path / "records.jsonl"
    records.write_text('{"key": "a", "vector": [1, 2]}\n{"key": "b", "vector": [2, 1]}\n')
    name = "media/films"
    assert run("put", name, str(records))[0] == 0
    assert run("query", name, "[1, 2]", "--top-k", "1")[1]["matches"][0]["key"] == "a"
    assert run("get", name, "b")[1]["records"][0]["key"] == "b"
    assert [one["name"] for one in run("list")[1]["indexes"]] == [name]
    assert len(run("list", name)[1]["records"]) == 2
    assert run("optimize", name)[0] == 0
    assert run("stats", name)[1]["name"] == name
    assert run("verify", name)[1]["damages"] == []
    assert run("repair", name, "--dry-run")[1]["left"] == []
    assert run("gc", name)[0] == 0
    assert list(run("gc")[1]["indexes"]) == [name]
    assert run("snapshots", name)[0] == 0
    status, problem = run("buckets", "delete", "media")
    assert (status, problem["type"], "media/films" in problem["detail"]) == (
        1,
        "urn:squash:conflict",
        True,
    )
    out = tmp_path / "films.jsonl"
    assert run("export", name, str(out))[0] == 0
    assert run("delete", name, "a")[1]["rows"] == 1
    assert run("drop", name, "--yes") == (0, {"dropped": name})
    assert run("buckets", "delete", "media")[0] == 0
    assert main(["gc"]) == 0
    assert "There is no index yet" in capsys.readouterr().out


def test_tags_are_of_indexes_in_buckets_alone(run):
    status, problem = run("create", "plain", "--dimension", "2", "--tag", "a=1")
    assert (status, problem["field"]) == (1, "tags")
    assert run("create", "plain", "--dimension", "2", "--tag", "nothing")[0] == 2
