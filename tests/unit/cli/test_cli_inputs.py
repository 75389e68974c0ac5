"""Importers of texts and images: what is for an encoder, in batches of bounded size."""

from __future__ import annotations

import base64
import json

import pyarrow as pa
import pytest
from cli_files import lines
from pyarrow import parquet

from squash import limits
from squash.cli.exporters.parquet import EXPORT_KEY
from squash.cli.importers import ImportOptions, open_rows
from squash.cli.problems import UsageError
from squash.errors import InvalidArgumentError
from squash.model import InputBatch, Modality, RowBatch


def read(path, **options):
    """All inputs of a file: keys, items, metadata, how many a batch, the modality."""
    source = open_rows(path, dimension=2, options=ImportOptions(**options))
    keys, items, metadata, sizes, modality = [], [], [], [], None
    for batch in source.batches():
        assert isinstance(batch, InputBatch)
        assert len(batch.keys) == len(batch.inputs) == len(batch.metadata) > 0
        assert source.place(batch.keys[-1]) is not None
        modality = batch.inputs.modality
        keys += batch.keys
        items += batch.inputs.items
        metadata += batch.metadata
        sizes.append(len(batch))
    step = source.progress()
    assert step.done == step.total
    return keys, items, metadata, sizes, modality


def refused(path, **options):
    with pytest.raises(InvalidArgumentError) as caught:
        read(path, **options)
    return str(caught.value)


def table(path, marks=None, **columns):
    made = pa.table(columns)
    if marks is not None:
        made = made.replace_schema_metadata(marks)
    parquet.write_table(made, path, row_group_size=5)
    return path


@pytest.mark.parametrize("rows", [1, 7, 8, 9, 15, 16, 17, 31, 32, 33])
@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_what_is_read_is_what_was_written(tmp_path, monkeypatch, rows, kind):
    """For every format, whatever the number of rows beside that of a batch."""
    monkeypatch.setattr(limits, "IMPORT_BATCH_INPUTS_MAX", 8)
    keys = [f"k{row}é" for row in range(rows)]
    texts = ["", *(f"text {row} 文\n" for row in range(1, rows))]
    metadata = [{"row": row} for row in range(rows)]
    path, options = tmp_path / f"rows.{kind}", {}
    if kind == "parquet":
        table(path, key=keys, words=texts, row=pa.array(range(rows), pa.int64()))
        options["text_column"] = "words"
    else:
        zipped = zip(keys, texts, metadata, strict=True)
        lines(path, *({"key": k, "text": t, "metadata": m} for k, t, m in zipped))
    got = read(path, **options)
    assert got[:3] == (keys, texts, metadata)
    assert got[3] == [8] * (rows // 8) + [rows % 8] * (rows % 8 > 0)
    assert got[4] is Modality.TEXT


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_a_batch_is_bounded_in_bytes(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(limits, "IMPORT_BATCH_BYTES_MAX", 10)
    texts = ["1234", "5678", "9", "", "12345678901234", "1"]
    path = tmp_path / f"r.{kind}"
    if kind == "parquet":
        table(path, text=texts)
        assert read(path, text_column="text")[3] == [5, 1]
    else:
        lines(path, *({"key": str(row), "text": text} for row, text in enumerate(texts)))
        assert read(path)[3] == [5, 1]


def test_images_come_as_base64_or_as_files_beside_the_lines(tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").write_bytes(b"\x89PNG a")
    path = lines(tmp_path / "r.jsonl", {"key": "a", "image_file": "pictures/a.png"})
    assert read(path) == (["a"], [b"\x89PNG a"], [{}], [1], Modality.IMAGE)
    told = {"base64": base64.b64encode(b"\x89PNG b").decode()}
    path = lines(tmp_path / "r.jsonl", {"key": "b", "image": told})
    assert read(path) == (["b"], [b"\x89PNG b"], [{}], [1], Modality.IMAGE)


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
def test_images_come_in_a_column_of_bytes(tmp_path, kind):
    column = pa.array([b"one", b"two"], kind)
    path = table(tmp_path / "r.parquet", key=["a", "b"], picture=column, year=[1, 2])
    got = read(path, image_column="picture")
    assert got == (["a", "b"], [b"one", b"two"], [{"year": 1}, {"year": 2}], [2], Modality.IMAGE)


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["x", "y"], pa.large_string()),
        pa.array(["x", "y"]).dictionary_encode(),
        pa.array(["x", "y"], pa.string_view()),
    ],
    ids=str,
)
def test_texts_come_in_a_column_of_strings_of_any_kind(tmp_path, column):
    assert read(table(tmp_path / "r.parquet", t=column), text_column="t")[1] == ["x", "y"]


def test_vectors_beside_texts_are_no_metadata(tmp_path):
    """A list column `vector` is left out, since the texts are encoded; another column is not."""
    vector = pa.array([[1.0, 2.0]])
    path = table(tmp_path / "r.parquet", text=["x"], vector=vector, other=vector)
    assert read(path, text_column="text")[2] == [{"other": [1.0, 2.0]}]
    path = table(tmp_path / "r.parquet", text=["x"], vector=["north"])
    assert read(path, text_column="text")[2] == [{"vector": "north"}]


def test_of_an_export_the_text_is_a_key_of_its_metadata(tmp_path):
    """So what one encoder had can be encoded by another, even if exported without vectors."""
    told = {EXPORT_KEY: json.dumps({"version": 1, "encoder": "other@" + "0" * 64})}
    rows = [json.dumps({"text": "red", "year": 1}), json.dumps({"text": "blue"})]
    path = table(tmp_path / "r.parquet", told, key=["a", "b"], metadata=rows)
    assert read(path, text_column="text")[:3] == (["a", "b"], ["red", "blue"], [{"year": 1}, {}])
    source = open_rows(path, dimension=2, options=ImportOptions(text_column="text"))
    assert source.made_by is None
    assert "row 0: it has no text in 'abstract'" in refused(path, text_column="abstract")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ({"key": "b"}, 'needs a "vector"'),
        ({"key": "b", "text": None}, "the text is null"),
        ({"key": "b", "text": 1.5}, "the text is a number"),
        ({"key": "b", "text": True}, "the text is a boolean"),
        ({"key": "b", "text": ["x"]}, "the text is a list"),
        ({"key": "b", "text": "\ud800"}, "half a surrogate pair"),
        ({"key": "b", "text": "x" * 101}, "has 101 bytes, and at most 100 are taken"),
        ({"key": "b", "text": "é" * 51}, "has 102 bytes"),
        ({"key": "b", "text": "x", "vector": [1, 2]}, "has 'vector' and 'text'"),
        ({"key": "b", "vector": [1, 2]}, "has 'vector', but that of line 1 has 'text'"),
        ({"key": "b", "image": {"base64": ""}}, "has 'image', but that of line 1 has 'text'"),
        ({"key": "a", "text": "x"}, "stands in line 1 already"),
        ({"key": "b", "text": "x", "words": 1}, "no 'words'"),
        ({"key": "b", "text": "x", "metadata": []}, "is to be an object"),
    ],
)
def test_jsonl_refuses_a_bad_line_by_its_number(tmp_path, monkeypatch, line, words):
    monkeypatch.setattr(limits, "TEXT_BYTES_MAX", 100)
    message = refused(lines(tmp_path / "r.jsonl", {"key": "a", "text": "x"}, line))
    assert message.startswith("r.jsonl line 2: ")
    assert words in message


def test_jsonl_of_two_kinds_is_refused_though_they_are_batches_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "IMPORT_BATCH_INPUTS_MAX", 1)
    records = [{"key": "a", "text": "x"}, {"key": "b", "text": "y"}, {"key": "c", "vector": [1, 2]}]
    message = refused(lines(tmp_path / "r.jsonl", *records))
    assert "line 3: the record has 'vector', but that of line 1 has 'text'" in message


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ({"image": "aGk="}, 'an "image" is {"base64"'),
        ({"image": {"base64": 1}}, 'an "image" is {"base64"'),
        ({"image": {"base64": "aGk=", "kind": "png"}}, 'an "image" is {"base64"'),
        ({"image": {"base64": "a"}}, "is not base64"),
        ({"image": {"base64": "é"}}, "is not base64"),
        ({"image": {"base64": ""}}, "the image is empty"),
        ({"image": {"base64": base64.b64encode(bytes(11)).decode()}}, "more than 10 bytes"),
        ({"image_file": "empty.png"}, "the image is empty"),
        ({"image_file": "long.png"}, "more than 10 bytes"),
        ({"image_file": "none.png"}, "'none.png' cannot be read"),
        ({"image_file": "."}, "'.' cannot be read"),
        ({"image_file": "a\0b"}, "is the path of a file"),
        ({"image_file": 1}, "is the path of a file"),
    ],
)
def test_jsonl_refuses_a_bad_image_by_its_line(tmp_path, monkeypatch, image, words):
    monkeypatch.setattr(limits, "IMAGE_BYTES_MAX", 10)
    (tmp_path / "empty.png").touch()
    (tmp_path / "long.png").write_bytes(bytes(11))
    message = refused(lines(tmp_path / "r.jsonl", {"key": "a", **image}))
    assert message.startswith("r.jsonl line 1: ")
    assert words in message


@pytest.mark.parametrize(
    ("columns", "options", "words"),
    [
        ({"text": ["x"]}, {"text_column": "abstract"}, "no column 'abstract' (text)"),
        ({"text": [1]}, {"text_column": "text"}, "holds int64, where texts are strings"),
        ({"text": [["x"]]}, {"text_column": "text"}, "where texts are strings"),
        ({"text": [b"x"]}, {"text_column": "text"}, "where texts are strings"),
        ({"text": ["x", None]}, {"text_column": "text"}, "row 1: it has no text in 'text'"),
        ({"text": ["x" * 101]}, {"text_column": "text"}, "row 0: the text has 101 bytes"),
        ({"text": ["x", "y"], "key": ["a", "a"]}, {"text_column": "text"}, "row 1: the key 'a'"),
        ({"text": ["x", "y"], "key": ["a", None]}, {"text_column": "text"}, "row 1: the key"),
        ({"text": ["x"]}, {}, "or, for an index with an encoder, the texts with --text-column"),
        ({"image": ["x"]}, {"image_column": "image"}, "holds string, where images are the bytes"),
        ({"image": [b"x"]}, {"image_column": "picture"}, "no column 'picture'"),
        ({"image": [b"x", None]}, {"image_column": "image"}, "row 1: it has no image"),
        ({"image": [b""]}, {"image_column": "image"}, "row 0: the image is empty"),
    ],
)
def test_parquet_refuses_what_cannot_be_encoded(tmp_path, monkeypatch, columns, options, words):
    monkeypatch.setattr(limits, "TEXT_BYTES_MAX", 100)
    message = refused(table(tmp_path / "r.parquet", **columns), **options)
    assert "r.parquet" in message
    assert words in message


def test_columns_go_with_parquet_only(tmp_path):
    path = lines(tmp_path / "r.jsonl", {"key": "a", "text": "x"})
    for option in ("text_column", "image_column"):
        with pytest.raises(UsageError, match=r"go with a \.parquet file"):
            read(path, **{option: "text"})


@pytest.mark.parametrize("encoder", [1, "nobody", {"name": "x"}])
def test_a_mark_that_names_no_encoder_is_refused(tmp_path, encoder):
    told = {EXPORT_KEY: json.dumps({"version": 1, "encoder": encoder})}
    path = table(tmp_path / "r.parquet", told, vector=pa.array([[1.0, 2.0]]))
    assert "is to be name@digest" in refused(path)


def test_vectors_are_read_as_before_whoever_made_them(tmp_path):
    made_by = "tiny@" + "0" * 64
    told = {EXPORT_KEY: json.dumps({"version": 1, "encoder": made_by})}
    path = table(tmp_path / "r.parquet", told, vector=pa.array([[1.0, 2.0]]))
    source = open_rows(path, dimension=2, options=ImportOptions())
    assert source.made_by == made_by
    assert [type(batch) for batch in source.batches()] == [RowBatch]
