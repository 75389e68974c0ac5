"""Importers: they read what was written, in batches of bounded size, and refuse the rest."""

from __future__ import annotations

import datetime as dt
import decimal
import json
import os
import sys
import threading

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from amounts import examples
from squash import limits
from squash.cli.importers import ImportOptions, open_rows
from squash.cli.importers.rows import batch_rows
from squash.errors import InvalidArgumentError


def read(path, *, dimension=2, **options):
    """All rows of a file: keys, vectors, metadata."""
    source = open_rows(path, dimension=dimension, options=ImportOptions(**options))
    keys, vectors, metadata = [], [np.zeros((0, dimension), dtype=np.float32)], []
    for batch in source.batches():
        assert 0 < len(batch) <= limits.IMPORT_BATCH_ROWS_MAX
        assert batch.vectors.dtype == np.float32
        assert batch.vectors.flags.c_contiguous
        assert batch.vectors.shape == (len(batch.keys), dimension)
        assert len(batch.metadata) == len(batch.keys)
        keys += batch.keys
        vectors.append(batch.vectors)
        metadata += batch.metadata
    step = source.progress()
    assert step.done == step.total
    return keys, np.concatenate(vectors), metadata


def refused(path, *, dimension=2, **options):
    with pytest.raises(InvalidArgumentError) as caught:
        read(path, dimension=dimension, **options)
    return str(caught.value)


def write_lines(path, *texts):
    path.write_bytes(b"".join(text.encode() + b"\n" for text in texts))
    return path


@pytest.mark.parametrize("rows", [0, 1, 7, 8, 9, 31, 32, 33, 63, 64, 65])
@pytest.mark.parametrize("kind", ["npy", "parquet", "jsonl"])
def test_what_is_read_is_what_was_written(tmp_path, monkeypatch, rows, kind):
    """For every format, whatever the number of rows beside the size of a batch."""
    monkeypatch.setattr(limits, "IMPORT_BATCH_ROWS_MAX", 8)
    vectors = np.random.default_rng(rows).standard_normal((rows, 3)).astype(np.float32)
    keys = [f"k{row}é" for row in range(rows)]
    metadata = [{"row": row} for row in range(rows)]
    path = tmp_path / f"rows.{kind}"
    options = {}
    if kind == "npy":
        np.save(path, vectors)
        options["keys"] = write_lines(tmp_path / "keys.txt", *keys)
        options["metadata"] = write_lines(tmp_path / "m.jsonl", *map(json.dumps, metadata))
    elif kind == "parquet":
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 3)
        table = {"key": keys, "vector": column, "row": pa.array(range(rows), pa.int64())}
        parquet.write_table(pa.table(table), path, row_group_size=5)
    else:
        records = zip(keys, vectors.tolist(), metadata, strict=True)
        lines = [json.dumps({"key": k, "vector": v, "metadata": m}) for k, v, m in records]
        write_lines(path, *lines)
    got_keys, got_vectors, got_metadata = read(path, dimension=3, **options)
    assert got_keys == keys
    assert np.array_equal(got_vectors, vectors)
    assert got_metadata == metadata


@given(dimension=st.integers(1, limits.DIMENSION_MAX))
def test_a_batch_is_bounded_in_rows_and_bytes(dimension):
    rows = batch_rows(dimension)
    assert 1 <= rows <= limits.IMPORT_BATCH_ROWS_MAX
    assert rows * dimension * 4 <= limits.IMPORT_BATCH_BYTES_MAX


def test_npy_without_companions_numbers_its_rows(tmp_path):
    np.save(tmp_path / "v.npy", np.arange(6).reshape(3, 2))
    keys, vectors, metadata = read(tmp_path / "v.npy")
    assert keys == ["0", "1", "2"]
    assert vectors.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert metadata == [{}, {}, {}]


def test_npy_in_fortran_order_reads_the_same(tmp_path):
    np.save(tmp_path / "v.npy", np.asfortranarray([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))
    assert read(tmp_path / "v.npy")[1].tolist() == [[1, 2], [3, 4], [5, 6]]


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.ones(4, dtype=np.float32), "shape (4,)"),
        (np.ones((2, 3), dtype=np.float32), "dimension 3"),
        (np.ones((2, 2), dtype=np.complex64), "real numbers"),
        (np.ones((2, 2), dtype=bool), "real numbers"),
        (np.full((2, 2), 1e39), "float32's range"),
        (np.array([["a", "b"]]), "real numbers"),
        (np.array([[None, 1]], dtype=object), "numpy.save"),
    ],
)
def test_npy_that_is_no_matrix_of_numbers_is_refused(tmp_path, array, words):
    np.save(tmp_path / "v.npy", array, allow_pickle=True)
    message = refused(tmp_path / "v.npy")
    assert words in message
    assert "v.npy" in message


@pytest.mark.parametrize("kept", [0, 10, 100, 140])
def test_npy_cut_short_is_refused(tmp_path, kept):
    path = tmp_path / "v.npy"
    np.save(path, np.ones((4, 2), dtype=np.float32))
    path.write_bytes(path.read_bytes()[:kept])
    assert "cut short" in refused(path)


def test_npy_that_goes_on_after_its_array_is_refused(tmp_path):
    """Of arrays that were saved into one file, the second would be passed over in silence."""
    with (tmp_path / "v.npy").open("wb") as file:
        np.save(file, np.ones((4, 2), dtype=np.float32))
        np.save(file, np.zeros((4, 2), dtype=np.float32))
    assert "160 bytes after its array" in refused(tmp_path / "v.npy")


def test_npy_in_name_alone_is_refused(tmp_path):
    """An archive of arrays, and text: neither is opened as what numpy.load would take it for."""
    with (tmp_path / "v.npy").open("wb") as file:
        np.savez(file, a=np.ones((2, 2)))
    assert "not an array that numpy.save wrote" in refused(tmp_path / "v.npy")
    (tmp_path / "v.npy").write_bytes(b"key,vector\n")
    message = refused(tmp_path / "v.npy")
    assert "not an array that numpy.save wrote" in message
    assert "pickle" not in message


@pytest.mark.parametrize("lines", [["a"], ["a", "b", "c"]])
def test_npy_with_another_number_of_keys_is_refused_before_anything(tmp_path, lines):
    np.save(tmp_path / "v.npy", np.ones((2, 2)))
    keys = write_lines(tmp_path / "keys.txt", *lines)
    assert "keys.txt has" in refused(tmp_path / "v.npy", keys=keys)


def test_npy_key_twice_names_both_lines(tmp_path):
    np.save(tmp_path / "v.npy", np.ones((3, 2)))
    keys = write_lines(tmp_path / "keys.txt", "a", "b", "a")
    assert "keys.txt line 3: the key 'a' stands in line 1" in refused(tmp_path / "v.npy", keys=keys)


def test_npy_keys_may_end_without_a_line_end_and_with_windows_ones(tmp_path):
    np.save(tmp_path / "v.npy", np.ones((2, 2)))
    (tmp_path / "keys.txt").write_bytes(b"a\r\nb c")
    assert read(tmp_path / "v.npy", keys=tmp_path / "keys.txt")[0] == ["a", "b c"]


def test_npy_keys_do_not_begin_with_the_mark_of_an_editor(tmp_path):
    np.save(tmp_path / "v.npy", np.ones((2, 2)))
    (tmp_path / "keys.txt").write_bytes(b"\xef\xbb\xbfa\n\xef\xbb\xbfb\n")
    assert read(tmp_path / "v.npy", keys=tmp_path / "keys.txt")[0] == ["a", "\ufeffb"]


def test_npy_keys_from_a_pipe_are_refused(tmp_path):
    """They are read twice: the second reader would wait for ever."""
    np.save(tmp_path / "v.npy", np.ones((2, 2)))
    os.mkfifo(tmp_path / "keys.txt")
    assert "is a pipe" in refused(tmp_path / "v.npy", keys=tmp_path / "keys.txt")


@pytest.mark.parametrize("member", ["vector", "text"])
def test_jsonl_from_a_pipe(tmp_path, monkeypatch, member):
    """All of its lines are read, and once."""
    monkeypatch.setattr(limits, "IMPORT_BATCH_ROWS_MAX", 2)
    monkeypatch.setattr(limits, "IMPORT_BATCH_INPUTS_MAX", 2)
    value = {"vector": [1, 2], "text": "words"}[member]
    lines = [json.dumps({"key": str(n), member: value}) + "\n" for n in range(5)]
    pipe = tmp_path / "r.jsonl"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=("".join(lines),))
    writer.start()
    source = open_rows(pipe, dimension=2, options=ImportOptions())
    found = [list(batch.keys) for batch in source.batches()]
    writer.join()
    assert found == [["0", "1"], ["2", "3"], ["4"]]


def test_npy_bad_companion_lines_are_named(tmp_path):
    np.save(tmp_path / "v.npy", np.ones((2, 2)))
    (tmp_path / "keys.txt").write_bytes(b"a\n\xff\n")
    assert "keys.txt line 2" in refused(tmp_path / "v.npy", keys=tmp_path / "keys.txt")
    metadata = write_lines(tmp_path / "m.jsonl", "{}", "")
    assert "m.jsonl line 2" in refused(tmp_path / "v.npy", metadata=metadata)


@pytest.mark.parametrize(
    "line",
    [
        "nonsense", "[]", "1", '{"key": "a"}', '{"vector": [1, 2]}',
        '{"key": 1, "vector": [1, 2]}', '{"key": "a", "vector": [1, 2, 3]}',
        '{"key": "a", "vector": [1]}', '{"key": "a", "vector": [1, "2"]}',
        '{"key": "a", "vector": [1, NaN]}', '{"key": "a", "vector": [1, true]}',
        '{"key": "a", "vector": [1, null]}', '{"key": "a", "vector": "12"}',
        '{"key": "a", "vector": [1, 1e39]}', '{"key": "a", "vector": [1, 1' + "0" * 400 + "]}",
        '{"key": "a", "vector": [1, 2], "metadata": []}',
        '{"key": "a", "vector": [1, 2], "meta": {}}',
        '{"key": "a", "vector": [1, 2], "metadata": {"x": 1, "x": 2}}',
        '{"key": "first", "vector": [1, 2]}', '{"key": "\xff", "vector": [1, 2]',
    ],
)  # fmt: skip
def test_jsonl_refuses_a_bad_line_by_its_number(tmp_path, line):
    path = write_lines(tmp_path / "r.jsonl", '{"key": "first", "vector": [1, 2]}', "", line)
    assert "r.jsonl line 3: " in refused(path)


def test_jsonl_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "r.jsonl").write_bytes(b'{"key": "\xff\xfe", "vector": [1, 2]}\n')
    assert "r.jsonl line 1: " in refused(tmp_path / "r.jsonl")


def test_jsonl_line_without_end_is_refused_without_reading_it_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "IMPORT_LINE_BYTES_MAX", 100)
    (tmp_path / "r.jsonl").write_bytes(b"[" * 1_000)
    assert "longer than 100 bytes" in refused(tmp_path / "r.jsonl")


@settings(max_examples=examples(60, least=25))
@given(data=st.binary(max_size=200))
def test_jsonl_of_any_bytes_is_read_or_refused(data, tmp_path_factory):
    """Nothing but a typed error comes out of bytes that are not records."""
    path = tmp_path_factory.mktemp("any") / "r.jsonl"
    path.write_bytes(data)
    try:
        message = None
        read(path)
    except InvalidArgumentError as error:
        message = str(error)
    assert message is None or "r.jsonl line" in message


def parquet_file(path, **columns):
    columns.setdefault("vector", pa.array([[1.0, 2.0], [3.0, 4.0]]))
    parquet.write_table(pa.table(columns), path)
    return path


def test_parquet_values_become_json(tmp_path):
    """Times become ISO strings, nulls vanish, lists stay lists."""
    moment = dt.datetime(2020, 1, 2, 3, 4, 5, 678_901, tzinfo=dt.UTC)
    path = parquet_file(
        tmp_path / "r.parquet",
        when=pa.array([moment, None], pa.timestamp("us", tz="UTC")),
        nanoseconds=pa.array([1_577_934_245_678_901_234, None], pa.timestamp("ns")),
        day=pa.array([dt.date(2020, 1, 2), None]),
        price=pa.array([decimal.Decimal("1.50"), None]),
        tags=pa.array([["a", None, "b"], None]),
        count=pa.array([1, None]),
        kind=pa.array(["x", None]).dictionary_encode(),
        nested=pa.array([{"a": 1, "b": None}, None]),
        yes=pa.array([True, None]),
    )
    keys, vectors, metadata = read(path)
    assert keys == ["0", "1"]
    assert vectors.tolist() == [[1, 2], [3, 4]]
    assert metadata[0] == {
        "when": "2020-01-02T03:04:05.678901+00:00",
        "nanoseconds": "2020-01-02T03:04:05.678901",
        "day": "2020-01-02",
        "price": 1.5,
        "tags": ["a", "b"],
        "count": 1,
        "kind": "x",
        "nested": {"a": 1},
        "yes": True,
    }
    assert metadata[1] == {}


def test_parquet_decimals_that_no_number_holds_stay_what_they_are(tmp_path):
    """So that the index refuses them, as it does such integers: no other number is kept."""
    large = decimal.Decimal(2**53 + 1)
    path = parquet_file(tmp_path / "r.parquet", id=pa.array([large, -large], pa.decimal128(20, 0)))
    assert [one["id"] for one in read(path)[2]] == [2**53 + 1, -(2**53) - 1]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([[1, 2], [3, 4]], pa.list_(pa.float16(), 2)),
        pa.array([[1, 2], [3, 4]], pa.list_(pa.float64())),
        pa.array([[1, 2], [3, 4]], pa.large_list(pa.float32())),
        pa.array([[1, 2], [3, 4]], pa.list_(pa.uint8(), 2)),
    ],
    ids=str,
)
def test_parquet_takes_every_list_of_numbers(tmp_path, column):
    assert read(parquet_file(tmp_path / "r.parquet", vector=column))[1].tolist() == [[1, 2], [3, 4]]


def test_parquet_columns_may_be_named(tmp_path):
    path = parquet_file(tmp_path / "r.parquet", emb=pa.array([[5.0, 6.0], [7.0, 8.0]]), id=[10, 11])
    keys, vectors, metadata = read(path, vector_column="emb", key_column="id")
    assert keys == ["10", "11"]
    assert vectors.tolist() == [[5, 6], [7, 8]]
    assert metadata[0] == {"vector": [1.0, 2.0]}


@pytest.mark.parametrize(
    ("columns", "options", "words"),
    [
        ({}, {"vector_column": "none"}, "(vector)"),
        ({}, {"key_column": "none"}, "no column 'none'"),
        ({"vector": pa.array([1.0, 2.0])}, {}, "it has none"),
        ({"vector": pa.array([[1.0, 2.0], None])}, {}, "row 1: it has no vector"),
        ({"vector": pa.array([[1.0, 2.0], [1.0]])}, {}, "row 1: vectors of dimension 1"),
        ({"vector": pa.array([[1.0, 2.0], [1.0, None]])}, {}, "row 1: its vector holds a null"),
        ({"vector": pa.array([[1.0], [1.0]], pa.list_(pa.float32(), 1))}, {}, "dimension 1"),
        ({"vector": pa.array([["a", "b"]] * 2)}, {}, "real numbers"),
        ({"key": pa.array(["a", "a"])}, {}, "row 1: the key 'a' stands in row 0"),
        ({"key": pa.array(["a", None])}, {}, "row 1: the key in column 'key' is None"),
        ({"key": pa.array([1.5, 2.5])}, {}, "row 0: the key in column 'key' is 1.5"),
        ({"blob": pa.array([b"a", b"b"])}, {}, "column 'blob' holds bytes"),
        ({"took": pa.array([dt.timedelta(1)] * 2)}, {}, "column 'took' holds timedelta"),
    ],
)
def test_parquet_that_does_not_fit_is_refused(tmp_path, columns, options, words):
    message = refused(parquet_file(tmp_path / "r.parquet", **columns), **options)
    assert words in message
    assert "r.parquet" in message


def test_parquet_that_is_none_or_damaged_is_refused(tmp_path):
    path = write_lines(tmp_path / "r.parquet", "nonsense")
    assert "not a Parquet file" in refused(path)
    parquet_file(path, text=pa.array(["a" * 1000, "b" * 1000]))
    data = bytearray(path.read_bytes())
    data[4:60] = bytes(56)
    path.write_bytes(data)
    assert "r.parquet" in refused(path)


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    path = parquet_file(tmp_path / "r.parquet")
    monkeypatch.setitem(sys.modules, "squash.cli.importers.parquet", None)
    assert "pip install 'squash-search[parquet]'" in refused(path)


@pytest.mark.parametrize("kind", ["npy", "parquet", "jsonl"])
def test_a_batch_is_bounded_in_bytes_of_metadata(tmp_path, monkeypatch, kind):
    """However many rows it might hold: texts there are longer than vectors."""
    monkeypatch.setattr(limits, "IMPORT_BATCH_BYTES_MAX", 10_000)
    texts = [f"{row:04}" * 250 for row in range(40)]
    vectors, path = np.ones((40, 2), np.float32), tmp_path / f"r.{kind}"
    options = {}
    lines = [json.dumps({"text": text, "more": [{"a": 1}]}) for text in texts]
    if kind == "npy":
        np.save(path, vectors)
        options["metadata"] = write_lines(tmp_path / "m.jsonl", *lines)
    elif kind == "parquet":
        parquet_file(path, vector=pa.array(list(vectors)), text=pa.array(texts))
    else:
        rows = [
            f'{{"key": "{row}", "vector": [1, 1], "metadata": {line}}}'
            for row, line in enumerate(lines)
        ]
        write_lines(path, *rows)
    source = open_rows(path, dimension=2, options=ImportOptions(**options))
    batches = list(source.batches())
    assert max(map(len, batches)) <= 10
    assert [one["text"] for batch in batches for one in batch.metadata] == texts


def test_an_import_holds_one_batch_and_not_the_file(tmp_path, monkeypatch):
    """The vectors of a batch are a copy of its rows only."""
    monkeypatch.setattr(limits, "IMPORT_BATCH_ROWS_MAX", 4)
    np.save(tmp_path / "v.npy", np.zeros((1_000, 2), dtype=np.float32))
    source = open_rows(tmp_path / "v.npy", dimension=2, options=ImportOptions())
    batch = next(iter(source.batches()))
    assert len(batch) == 4
    assert source.progress().done == 4
    assert source.progress().total == 1_000
    assert source.place("3") == "v.npy row 3"
    assert source.place("4") is None
