"""`squash import`: what becomes durable, and what is said of it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from cli_files import lines

import squash
from squash import limits
from squash.errors import UnavailableError


def test_import_optimizes_unless_told_not_to(run, papers, tmp_path):
    np.save(tmp_path / "v.npy", np.ones((2, 2), dtype=np.float32))
    assert run("import", "papers", tmp_path / "v.npy", "--no-optimize").status == 0
    assert papers.optimized == 0
    done = run("import", "papers", tmp_path / "v.npy", "--json")
    assert (done.status, done.document) == (0, {"snapshot": papers.snapshot, "rows": 2})
    assert papers.optimized == 1


def test_import_of_doubles_that_are_far_apart_says_how_many_records_there_are(
    run, papers, tmp_path, monkeypatch
):
    """In one batch they are refused; of two batches the later row replaces the earlier."""
    monkeypatch.setattr(limits, "IMPORT_BATCH_ROWS_MAX", 2)
    papers.records.clear()
    records = [{"key": key, "vector": [1, 1]} for key in ("a", "b", "a", "c")]
    done = run("import", "papers", lines(tmp_path / "r.jsonl", *records))
    assert (done.status, len(papers.records)) == (0, 3)
    assert "Imported 4 records;" in done.out
    assert "The index has 3 records then." in done.out
    again = run("import", "papers", lines(tmp_path / "r.jsonl", *records[1:]))
    assert "Imported 3 records;" in again.out
    assert "The index has" not in again.out


def test_import_of_a_folder_says_what_reads_one(run, papers, tmp_path):
    done = run("import", "papers", tmp_path)
    assert (done.status, papers.optimized) == (2, 0)
    assert "--workers" in done.err


@pytest.mark.parametrize("bad_batch", [0, 1, 2])
def test_import_that_stops_says_how_many_rows_are_durable(
    run, papers, tmp_path, monkeypatch, bad_batch
):
    """The number it says is the number of rows that are in the index."""
    monkeypatch.setattr(limits, "IMPORT_BATCH_ROWS_MAX", 2)
    papers.records.clear()
    records = [{"key": str(row), "vector": [row, 1]} for row in range(6)]
    records[2 * bad_batch + 1] = {"key": "bad"}
    done = run("import", "papers", lines(tmp_path / "r.jsonl", *records), "--json")
    assert done.status == 1
    assert f"r.jsonl line {2 * bad_batch + 2}:" in done.problem["detail"]
    assert len(papers.records) == 2 * bad_batch
    if bad_batch:
        assert f"Before that, {2 * bad_batch} rows became durable" in done.problem["detail"]
    else:
        assert "Nothing was imported." in done.problem["detail"]
    assert papers.optimized == 0


def test_import_that_the_store_stops_says_how_many_rows_are_durable(
    run, papers, tmp_path, monkeypatch
):
    monkeypatch.setattr(limits, "IMPORT_BATCH_ROWS_MAX", 2)
    papers.fails_at_batch = 2
    np.save(tmp_path / "v.npy", np.ones((6, 2), dtype=np.float32))
    done = run("import", "papers", tmp_path / "v.npy")
    assert done.status == 1
    assert "Before that, 4 rows became durable" in done.err


@pytest.mark.parametrize("error", [KeyboardInterrupt(), UnavailableError("the store is away")])
def test_import_that_stops_while_it_optimizes_says_that_all_rows_are_durable(
    run, papers, tmp_path, monkeypatch, error
):
    def stopped(**_):
        raise error

    monkeypatch.setattr(papers, "optimize", stopped)
    np.save(tmp_path / "v.npy", np.ones((6, 2), dtype=np.float32))
    done = run("import", "papers", tmp_path / "v.npy")
    assert done.status != 0
    assert "6 rows became durable, which is all; `squash optimize papers`" in done.err


def test_import_names_the_row_that_the_index_refuses(run, papers, tmp_path):
    np.save(tmp_path / "v.npy", np.array([[1, 1], [1, np.nan]], dtype=np.float32))
    done = run("import", "papers", tmp_path / "v.npy")
    assert done.status == 1
    assert "It stands in v.npy row 1." in done.err


def test_import_names_a_refused_row_by_its_place_in_the_file_alone(
    run, papers, tmp_path, monkeypatch
):
    """Not also by that in its batch, of which nobody is told."""
    monkeypatch.setattr(limits, "IMPORT_BATCH_ROWS_MAX", 2)
    index = squash.connect("memory://places").create_index("papers", dimension=2)
    monkeypatch.setattr(papers, "import_batches", index.import_batches)
    np.save(tmp_path / "v.npy", np.array([[1, 1]] * 3 + [[0, 0]], dtype=np.float32))
    done = run("import", "papers", tmp_path / "v.npy")
    assert done.status == 1
    assert "It stands in v.npy row 3. Before that, 2 rows became durable" in done.err
    assert "(at " not in done.err
    done = run("import", "papers", tmp_path / "v.npy", "--json")
    assert (json.loads(done.err)["key"], "field" in json.loads(done.err)) == ("3", False)
