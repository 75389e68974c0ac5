"""Export: what is read back is what was written; a file appears whole or not at all."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

import squash.cli.main
from amounts import examples
from squash import errors, limits
from squash.cli.exporters import ExportSource, open_sink
from squash.cli.importers import ImportOptions, open_rows
from squash.errors import InvalidArgumentError
from squash.model import IndexConfig, Metric, RowBatch
from strategies import metadata_rows

JSON = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False),
        st.text(st.characters(exclude_categories=["Cs"])),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=3),
    ),
    max_leaves=5,
)  # fmt: skip
FORMATS = ["parquet", "jsonl", "ndjson"]


def source_of(dimension, *, vectors=True):
    config = IndexConfig("papers", dimension, Metric.COSINE, non_filterable=("text",))
    return ExportSource(config, snapshot=7, vectors=vectors)


def write(path, batches, *, dimension, vectors=True):
    with path.open("wb") as file:
        sink = open_sink(path, file, source_of(dimension, vectors=vectors))
        for batch in batches:
            sink.write(batch)
        sink.finish()


def read(path, dimension):
    source = open_rows(path, dimension=dimension, options=ImportOptions())
    keys, vectors, metadata = [], [np.zeros((0, dimension), np.float32)], []
    for batch in source.batches():
        keys += batch.keys
        vectors.append(batch.vectors)
        metadata += batch.metadata
    return keys, np.concatenate(vectors), metadata


def same_json(left, right):
    """Equal with types: 1 is not 1.0, and -0.0 is not 0.0."""
    return json.dumps(left) == json.dumps(right)


@settings(max_examples=examples(60, least=25), deadline=None)
@given(
    data=st.data(),
    rows=metadata_rows(max_size=20),
    dimension=st.sampled_from([1, 3, 17]),
    kind=st.sampled_from(FORMATS),
    sizes=st.lists(st.integers(1, 7), max_size=20),
)
def test_an_importer_reads_back_what_was_exported(
    tmp_path_factory, data, rows, dimension, kind, sizes
):
    """Keys, vectors bit for bit, metadata of any mixture of types with its order."""
    for row in rows:
        if data.draw(st.booleans()):
            row["text"] = data.draw(JSON)
    keys = [f'k"{row}\n\u20ac' for row in range(len(rows))]
    width = float(np.nextafter(np.float32(limits.VECTOR_VALUE_MAGNITUDE_MAX), np.float32(0)))
    values = st.floats(-width, width, width=32, allow_subnormal=True)
    vectors = np.array(
        data.draw(st.lists(values, min_size=len(rows) * dimension, max_size=len(rows) * dimension)),
        dtype=np.float32,
    ).reshape(len(rows), dimension)
    batches, start = [], 0
    for size in [*sizes, len(rows)]:
        part = slice(start, min(start + size, len(rows)))
        start = part.stop
        if keys[part]:
            batches.append(RowBatch(keys[part], vectors[part], rows[part]))
    path = tmp_path_factory.mktemp("export") / f"rows.{kind}"
    with pytest.MonkeyPatch.context() as patch:
        if kind == "parquet":
            patch.setattr("squash.cli.exporters.parquet.EXPORT_GROUP_ROWS_MAX", 5)
        write(path, batches, dimension=dimension)
    got_keys, got_vectors, got_metadata = read(path, dimension)
    assert got_keys == keys
    assert got_vectors.tobytes() == vectors.tobytes()
    assert same_json(got_metadata, rows)


def test_parquet_has_three_columns_and_says_what_it_is(tmp_path):
    """Other tools find plain columns; what the file tells of itself is enough to make the index."""
    path = tmp_path / "r.parquet"
    vectors = np.array([[1, 2]], np.float32)
    write(path, [RowBatch(["a"], vectors, [{"year": 2020}])], dimension=2)
    table = parquet.read_table(path)
    assert table.to_pylist() == [{"key": "a", "vector": [1.0, 2.0], "metadata": '{"year":2020}'}]
    assert json.loads(table.schema.metadata[b"squash.export"]) == {
        "version": 1,
        "index": "papers",
        "dimension": 2,
        "metric": "cosine",
        "attributes": {},
        "non_filterable": ["text"],
        "snapshot": 7,
    }


def test_parquet_groups_are_bounded_in_rows_and_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr("squash.cli.exporters.parquet.EXPORT_GROUP_ROWS_MAX", 10)
    monkeypatch.setattr("squash.cli.exporters.parquet.EXPORT_GROUP_BYTES_MAX", 4_000)
    small = RowBatch(["a", "b", "c", "d"], np.zeros((4, 2), np.float32), [{}] * 4)
    large = RowBatch(["e"], np.zeros((1, 2), np.float32), [{"text": "x" * 3_900}])
    write(tmp_path / "r.parquet", [small, small, large, small, small, small, small], dimension=2)
    file = parquet.ParquetFile(tmp_path / "r.parquet")
    groups = [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)]
    assert groups == [8, 1, 12, 4]


def test_an_export_without_vectors_is_refused_by_the_importer(tmp_path):
    path = tmp_path / "r.parquet"
    write(path, [RowBatch(["a"], np.zeros((1, 0), np.float32), [{}])], dimension=2, vectors=False)
    assert parquet.read_table(path).column_names == ["key", "metadata"]
    with pytest.raises(InvalidArgumentError, match="exported without vectors"):
        read(path, 2)


def test_an_export_whose_vectors_are_looked_for_elsewhere_is_not_called_one_without(tmp_path):
    path = tmp_path / "r.parquet"
    write(path, [RowBatch(["a"], np.zeros((1, 2), np.float32), [{}])], dimension=2)
    with pytest.raises(InvalidArgumentError, match="'other' is not one of its list columns"):
        open_rows(path, dimension=2, options=ImportOptions(vector_column="other"))


@pytest.mark.parametrize(
    ("told", "metadata", "words"),
    [
        ('{"version": 2}', "{}", "version 2"),
        ("{}", "{}", "version None"),
        ("x", "{}", "r.parquet metadata"),
        ('{"version": 1}', "[]", "r.parquet row 0"),
        ('{"version": 1}', "{", "r.parquet row 0"),
        ('{"version": 1}', '{"a": 1, "a": 2}', "r.parquet row 0"),
        ('{"version": 1}', None, "r.parquet row 0"),
    ],
)
def test_what_only_claims_to_be_an_export_is_refused(tmp_path, told, metadata, words):
    path = tmp_path / "r.parquet"
    columns = {
        "key": pa.array(["a"]),
        "vector": pa.array([[1.0, 2.0]]),
        "metadata": pa.array([metadata], pa.string()),
    }
    table = pa.table(columns).replace_schema_metadata({"squash.export": told})
    parquet.write_table(table, path)
    with pytest.raises(InvalidArgumentError, match=words):
        read(path, 2)


def test_a_column_metadata_of_other_files_is_a_column(tmp_path):
    path = tmp_path / "r.parquet"
    parquet.write_table(pa.table({"vector": [[1.0, 2.0]], "metadata": ['{"a": 1}']}), path)
    assert read(path, 2)[2] == [{"metadata": '{"a": 1}'}]


# The command


@pytest.mark.parametrize("kind", FORMATS)
def test_export_and_import_give_an_equal_index(run, face, papers, tmp_path, kind):
    path = tmp_path / f"out.{kind}"
    done = run("export", "papers", path, "--json")
    assert (done.status, done.err) == (0, "")
    assert done.document == {
        "file": str(path), "rows": 3, "bytes": path.stat().st_size, "snapshot": papers.snapshot,
    }  # fmt: skip
    assert [one.name for one in tmp_path.iterdir()] == [path.name]
    assert run("create", "copy", "--dimension", 2, "--metric", "euclidean").status == 0
    assert run("import", "copy", path).status == 0
    copied = face.indexes["copy"].records
    assert copied.keys() == papers.records.keys()
    for key, record in papers.records.items():
        assert copied[key].vector.tobytes() == record.vector.tobytes()
        assert copied[key].metadata == record.metadata


def test_export_hands_every_option_to_the_face(run, papers, tmp_path):
    words = ("--filter", '{"year": 2020}', "--as-of", "1", "--no-vectors")
    assert run("export", "papers", tmp_path / "o.jsonl", *words).status == 0
    text = (tmp_path / "o.jsonl").read_text()
    assert text == '{"key":"b","metadata":{"year":2020}}\n'
    assert papers.exported["as_of"] == 1


def test_export_replaces_a_file_only_if_told(run, papers, tmp_path):
    path = tmp_path / "o.jsonl"
    path.write_text("mine")
    done = run("export", "papers", path)
    assert done.status == 1
    assert "--force" in done.err
    assert path.read_text() == "mine"
    assert run("export", "papers", path, "--force").status == 0
    assert path.read_text() != "mine"
    (tmp_path / "folder.jsonl").mkdir()
    assert run("export", "papers", tmp_path / "folder.jsonl", "--force").status == 1


def test_export_does_not_replace_a_file_that_came_meanwhile(run, papers, tmp_path, monkeypatch):
    path = tmp_path / "o.jsonl"
    monkeypatch.setattr(papers, "while_exporting", lambda: path.write_text("theirs"))
    assert run("export", "papers", path).status == 1
    assert path.read_text() == "theirs"
    assert [one.name for one in tmp_path.iterdir()] == ["o.jsonl"]


def test_export_does_not_stop_at_what_a_killed_one_left(run, papers, tmp_path):
    """In a container every run has the same process number."""
    (tmp_path / f".papers.jsonl.{os.getpid()}.partial").write_bytes(b"left")
    assert run("export", "papers", str(tmp_path / "papers.jsonl")).status == 0


KILLED = """
import os
import sys
from pathlib import Path
from squash.cli.exporting import _appearing
with _appearing(Path(sys.argv[1]), force=False) as file:
    file.write(b"left")
    file.flush()
    os.kill(os.getpid(), 9)
"""


def test_an_export_removes_what_a_killed_one_left(run, papers, tmp_path, monkeypatch):
    """And no other's: of one that runs, of another file, or not of an export at all."""
    path, other = tmp_path / "papers.jsonl", tmp_path / "o.papers.jsonl"
    for name in (path, other):
        killed = [sys.executable, "-c", KILLED, name]
        subprocess.run(killed, check=False, timeout=60)  # noqa: S603 - our own
    (tmp_path / ".papers.jsonl.mine.partial").write_bytes(b"mine")
    assert len(list(tmp_path.glob(".*"))) == 3
    exporting = []

    def look():
        monkeypatch.setattr(papers, "while_exporting", lambda: None)
        exporting.extend(tmp_path.glob(".papers.jsonl.*"))
        assert run("export", "papers", path).status == 0

    monkeypatch.setattr(papers, "while_exporting", look)
    assert run("export", "papers", path, "--force").status == 0
    assert len(exporting) == 2, "its own, and what is not of an export"
    assert sorted(one.name.split(".")[1] for one in tmp_path.glob(".*")) == ["o", "papers"]


@pytest.mark.parametrize("kind", FORMATS)
def test_an_export_that_fails_leaves_nothing(run, papers, tmp_path, monkeypatch, kind):
    """Nor does it complain of the file that it left half written."""

    def fail():
        raise errors.UnavailableError("the store did not answer: try again")

    monkeypatch.setattr(papers, "while_exporting", fail)
    done = run("export", "papers", tmp_path / f"o.{kind}", "--json")
    assert (done.status, done.problem["type"]) == (1, "urn:squash:unavailable")
    assert list(tmp_path.iterdir()) == []


def test_export_into_no_folder_names_it(run, papers, tmp_path):
    done = run("export", "papers", tmp_path / "no" / "o.jsonl")
    assert done.status == 1
    assert "No such file" in done.err


def test_export_of_an_unknown_ending_is_a_usage_error(run, papers, tmp_path):
    assert run("export", "papers", tmp_path / "o.csv").status == 2
    assert list(tmp_path.iterdir()) == []


def test_export_without_pyarrow_says_what_to_install(run, papers, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "squash.cli.exporters.parquet", None)
    done = run("export", "papers", tmp_path / "o.parquet")
    assert done.status == 1
    assert "pip install 'squash-search[parquet]'" in done.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_an_index_of_the_library_goes_out_and_comes_back(tmp_path, monkeypatch, capsys, kind):
    """The whole way, through the real face: partitions, replaced and deleted rows included."""
    monkeypatch.setenv("SQUASH_STORE", str(tmp_path / "store"))
    database = squash.connect(str(tmp_path / "store"))
    index = database.create_index("a", dimension=5, metric="dot", non_filterable=["text"])
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(6_000, 5)).astype(np.float32)
    metadata = [
        {"n": row if row % 2 else float(row), "text": {"a": [row, None]}} for row in range(6_000)
    ]
    index.put(keys=[f"k{row}" for row in range(6_000)], vectors=vectors, metadata=metadata)
    index.optimize()
    index.delete(keys=["k7"])
    index.put(keys=["k8"], vectors=-vectors[8:9], metadata=[{}])
    words = ["a", str(tmp_path / f"o.{kind}")]
    assert squash.cli.main.main(["export", *words]) == 0
    copy = database.create_index("b", dimension=5, metric="dot", non_filterable=["text"])
    assert squash.cli.main.main(["import", "b", words[1]]) == 0
    assert "Exported 5,999 records" in capsys.readouterr().out
    assert records(copy) == records(index)


def records(index):
    found = {}
    for batch in index.export_batches():
        for key, vector, metadata in zip(batch.keys, batch.vectors, batch.metadata, strict=True):
            found[key] = (vector.tobytes(), json.dumps(metadata))
    return found


def test_moments_are_numbers_or_times():
    import argparse
    import datetime as dt

    from squash.cli.values import moment

    assert moment("12") == 12
    assert moment("2026-01-31T12:00:00Z") == dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)
    half = dt.timezone(dt.timedelta(hours=-3, minutes=-30))
    assert moment("2026-01-31 12:00:00.1234567-03:30") == dt.datetime(
        2026, 1, 31, 12, 0, 0, 123456, tzinfo=half
    )
    for wrong in (
        "-1", "1.5", "", "yesterday", "2026-01-31", "2026-01-31T12:00:00", "²",
        "2026-02-31T12:00:00Z", "2026-W05-6T12:00:00Z", "2026-01-31T12:00:00+25:00",
    ):  # fmt: skip
        with pytest.raises(argparse.ArgumentTypeError):
            moment(wrong)
