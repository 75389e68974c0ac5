"""Pieces of input files: what they are read as, whatever the file's layout and the cuts."""

from __future__ import annotations

import json
from itertools import chain

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from amounts import examples
from bulk_inputs import ROOT, World, config_of, lists, npy, parquet_bytes, request_of
from squash import limits
from squash.errors import ConflictError, InvalidArgumentError, NotFoundError, UnavailableError
from squash.maintain.bulk.files.chunks import cuts
from squash.maintain.bulk.pieces import Pieces
from squash.maintain.bulk.request import InputColumns
from squash.model import AttributeType, EncoderPin, Metric

DTYPES = ["<f4", ">f4", "<f2", "<f8", "i1", "u1", "<i4", ">i8", "<u2"]


@pytest.fixture(params=[limits.BUILD_CHUNK_ROWS_MAX, 3], ids=["whole", "small"], autouse=True)
def chunk_sizes(request, monkeypatch):
    """Chunks of usual size, and so small that every piece is several."""
    monkeypatch.setattr("squash.maintain.bulk.files.chunks.BUILD_CHUNK_ROWS_MAX", request.param)


def gathered(world, plan, *, pieces=None):
    """All rows, as (key, vector, metadata, number), and the bad ones."""
    rows, bad, reader = [], [], Pieces(world.context, world.request, plan)
    for number in range(len(plan.pieces)) if pieces is None else pieces:
        passed = 0
        for some in reader.chunks(number):
            passed += some.passed
            rows += zip(
                some.rows.keys,
                some.rows.vectors.tolist(),
                some.rows.metadata,
                some.numbers.tolist(),
                strict=True,
            )
            bad += [(one.input, one.row, one.key, one.problem) for one in some.bad]
        assert passed == plan.pieces[number].rows
    return rows, bad


@st.composite
def arrays(draw):
    rows, dimension = draw(st.integers(0, 20)), draw(st.integers(1, 5))
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    numbers = np.random.default_rng(draw(st.integers(0, 99)))
    array = (numbers.normal(size=(rows, dimension)) * 50).astype(dtype)
    edges = draw(st.sets(st.integers(1, max(1, rows - 1)), max_size=4))
    return array, edges


@settings(max_examples=examples(60, least=25), deadline=None)
@given(arrays(), arrays())
def test_npy_rows_are_the_arrays(first, second):
    # Any dtype of numbers, any cuts: rows are the arrays' as float32, numbered through both files.
    (one, edges), (two, _) = first, second
    two = two[:, : one.shape[1]]
    if two.shape[1] < one.shape[1]:
        one = one[:, : two.shape[1]]
    world = World(config_of(one.shape[1]))
    world.put("a.npy", npy(np.ascontiguousarray(one)))
    world.put("b.npy", npy(np.ascontiguousarray(two)))
    rows, bad = gathered(world, world.plan("a.npy", "b.npy", cuts=edges))
    expected = np.concatenate([one.astype(np.float32), two.astype(np.float32)])
    assert not bad
    assert [row[3] for row in rows] == list(range(len(expected)))
    assert [row[0] for row in rows] == [str(n) for n in range(len(expected))]
    assert np.array_equal(np.array([row[1] for row in rows]).reshape(expected.shape), expected)


VECTORS = st.one_of(
    st.none(),
    st.lists(st.floats(-8, 8, width=16), min_size=2, max_size=2),
    st.lists(st.floats(-8, 8, width=16), min_size=2, max_size=2),
    st.lists(st.floats(-8, 8, width=16), max_size=4),
    st.lists(st.sampled_from([None, 1.0, float("nan"), float("inf"), 0.0]), min_size=2, max_size=2),
)
KEYS = st.one_of(
    st.none(),
    st.text(max_size=3),
    st.text(st.sampled_from("aé"), min_size=1, max_size=4),
    st.sampled_from(["x" * 1024, "x" * 1025, "é" * 600]),
)
NOTES = st.one_of(st.none(), st.floats(-1, 1), st.sampled_from([float("nan")]))


@st.composite
def tables(draw):
    rows = draw(st.lists(st.tuples(VECTORS, KEYS, NOTES, st.text(max_size=2)), max_size=24))
    kind, dtype = draw(st.sampled_from(["list", "large", "fixed"])), draw(st.sampled_from("efd"))
    if kind == "fixed":
        rows = [row for row in rows if row[0] is None or len(row[0]) == 2]
    table = {"vector": lists([row[0] for row in rows], dtype=dtype, kind=kind, dimension=2)}
    integers = draw(st.booleans())
    if integers:
        rows = [(row[0], i - 3, *row[2:]) for i, row in enumerate(rows)]
    table["key"] = pa.array([row[1] for row in rows], pa.int32() if integers else pa.string())
    table["score"] = pa.array([row[2] for row in rows], pa.float64())
    table["name"] = pa.array([row[3] for row in rows], pa.string()).dictionary_encode()
    options = {
        "row_group_size": draw(st.integers(1, 30)),
        "data_page_size": draw(st.sampled_from([256, 1 << 20])),
        "compression": draw(st.sampled_from(["none", "snappy", "zstd"])),
        "data_page_version": draw(st.sampled_from(["1.0", "2.0"])),
        "write_page_checksum": draw(st.booleans()),
    }
    return rows, pa.table(table), options, draw(st.sets(st.integers(1, 23), max_size=4))


def plainly(rows, metric):
    """What becomes of a table's rows, one by one: (key, vector, metadata, number), and the bad."""
    good, bad = [], []
    for number, (vector, named, score, name) in enumerate(rows):
        key = str(named) if isinstance(named, int) else named
        wrong = (
            key is None
            or not 1 <= len(key.encode()) <= 1024
            or vector is None
            or len(vector) != 2
            or any(v is None or not np.isfinite(v) for v in vector)
            or (metric is Metric.COSINE and not any(vector))
            or (score is not None and not np.isfinite(score))
        )
        if wrong:
            bad.append((number, key))
            continue
        metadata = {"name": name} if score is None else {"score": score, "name": name}
        good.append((key, [float(np.float32(v)) for v in vector], metadata, number))
    return good, bad


@settings(max_examples=examples(120, least=25), deadline=None)
@given(tables(), st.sampled_from([Metric.COSINE, Metric.DOT]), st.randoms())
def test_parquet_rows_are_those_of_a_plain_reading(made, metric, order):
    # Any layout, nulls, lengths, keys: good rows and bad ones are what looking at each row says;
    # and one piece alone, in whatever order, gives what it gives among the others.
    rows, table, options, edges = made
    world = World(config_of(2, metric=metric))
    world.put("t.parquet", parquet_bytes(table, **options))
    try:
        plan = world.plan("t.parquet", cuts=edges)
    except InvalidArgumentError as error:
        lengths = [len(row[0]) for row in rows if row[0] is not None]
        assert "dimension" in str(error)
        assert 2 not in lengths
        return
    good, bad = gathered(world, plan)
    expected, expected_bad = plainly(rows, metric)
    assert good == expected
    assert [(row, key) for _, row, key, _ in bad] == expected_bad
    assert all(url == f"{ROOT}t.parquet" and problem for url, _, _, problem in bad)
    shuffled = list(range(len(plan.pieces)))
    order.shuffle(shuffled)
    once = [gathered(world, plan, pieces=[number]) for number in range(len(plan.pieces))]
    again, again_bad = gathered(world, plan, pieces=shuffled)
    assert again == [row for number in shuffled for row in once[number][0]]
    assert again_bad == [row for number in shuffled for row in once[number][1]]


@given(st.integers(0, 50), st.integers(0, 50), st.integers(1, 9))
def test_cuts_cover_and_lie_at_the_same_places(start, rows, step):
    found = list(cuts(start, start + rows, step))
    assert [n for a, b in found for n in range(a, b)] == list(range(start, start + rows))
    assert all(b % step == 0 for _, b in found[:-1])


def refusal(world, name, data):
    world.put(name, data)
    with pytest.raises(InvalidArgumentError) as caught:
        world.probe(name)
    assert str(caught.value).startswith(f"{ROOT}{name}")
    assert caught.value.object_key == ROOT + name
    return str(caught.value)


def test_npy_files_that_cannot_be_used_are_refused_in_words():
    world, good = World(config_of(3)), npy(np.ones((5, 3), np.float32))
    objects = np.empty((1, 3), object)
    assert "it is empty, 0 bytes" in refusal(world, "empty.npy", b"")
    assert "numpy.save wrote" in refusal(world, "corrupt.npy", b"corrupt" * 9)
    assert "numpy.save wrote" in refusal(world, "head.npy", good[:40])
    assert "cut short" in refusal(world, "short.npy", good[:-1])
    assert "1 bytes after its array" in refusal(world, "long.npy", good + b"x")
    assert "Python objects" in refusal(world, "objects.npy", npy(objects))
    assert "complex64 values" in refusal(world, "c.npy", npy(np.ones((5, 3), np.complex64)))
    assert "<U3 values" in refusal(world, "s.npy", npy(np.array([["abc"] * 3])))
    assert "fortran_order" in refusal(world, "f.npy", npy(np.asfortranarray(np.eye(3))))
    assert "dimension 4, but the index has dimension 3" in refusal(
        world, "d.npy", npy(np.ones((5, 4), np.float32))
    )
    assert "shape (5,)" in refusal(world, "1.npy", npy(np.ones(5, np.float32)))
    assert "cannot be told from its ending" in refusal(world, "x.csv", b"1,2,3")
    negative = good.replace(b"(5, 3)", b"(-5,3)")
    assert "(-5, 3)" in refusal(world, "negative.npy", negative)


def test_parquet_files_that_cannot_be_used_are_refused_in_words():
    world = World(config_of(2))
    good = parquet_bytes(pa.table({"vector": lists([[1.0, 2.0]] * 9), "n": list(range(9))}))
    assert "it is empty, 0 bytes" in refusal(world, "empty.parquet", b"")
    assert "not a Parquet file" in refusal(world, "corrupt.parquet", b"corrupt" * 9)
    assert "not a Parquet file" in refusal(world, "short.parquet", good[:-20])
    assert "cut short" in refusal(world, "hole.parquet", good[:4] + good[60:])
    assert "not one of its list columns (embedding)" in refusal(
        world, "e.parquet", parquet_bytes(pa.table({"embedding": lists([[1.0, 2.0]])}))
    )
    assert "lists of string" in refusal(
        world, "s.parquet", parquet_bytes(pa.table({"vector": [["a", "b"]]}))
    )
    for kind in ("list", "large", "fixed"):
        wide = lists([[1.0, 2.0, 3.0]] * 2, kind=kind, dimension=3)
        assert "dimension 3, but the index has dimension 2" in refusal(
            world, f"{kind}.parquet", parquet_bytes(pa.table({"vector": wide}))
        )
    two = pa.Table.from_arrays([lists([[1.0, 2.0]]), pa.array([1])], ["vector", "vector"])
    assert "the same name" in refusal(world, "two.parquet", parquet_bytes(two))
    world.request = request_of(InputColumns(key="id"))
    assert "no column 'id'" in refusal(world, "good.parquet", good)


def test_wrong_columns_of_texts_are_refused_in_words():
    pin = EncoderPin("small", "ab" * 32)
    table = parquet_bytes(pa.table({"text": ["a"], "n": [1], "vector": lists([[1.0, 2.0]])}))
    bare = World(config_of(2), request_of(InputColumns(text="text")))
    assert "has no encoder" in refusal(bare, "t.parquet", table)
    texts = World(config_of(2, encoder=pin), request_of(InputColumns(text="n")))
    assert "'n' holds int64" in refusal(texts, "t.parquet", table)
    assert "a .npy file has none" in refusal(texts, "t.npy", npy(np.ones((1, 2), np.float32)))
    vectors = World(config_of(2, encoder=pin))
    assert "say encoder='small@abababababab'" in refusal(vectors, "t.parquet", table)
    vectors.request = request_of(encoder="large@abababababab")
    assert "cannot be compared" in refusal(vectors, "t.parquet", table)
    vectors.request = request_of(encoder="small@abababababab")
    assert vectors.probe("t.parquet").rows == 1


def test_a_page_that_does_not_decode_names_the_file_and_the_row():
    numbers = np.random.default_rng(1)
    vectors = lists(numbers.normal(size=(64, 2)).tolist())
    data = parquet_bytes(pa.table({"vector": vectors}), row_group_size=16, write_page_checksum=True)
    world = World(config_of(2))
    world.put("t.parquet", data)
    group = parquet.ParquetFile(pa.BufferReader(data)).metadata.row_group(2).column(0)
    at = group.dictionary_page_offset + group.total_compressed_size - 40
    world.put("t.parquet", data[:at] + bytes(40) + data[at + 40 :])
    plan = world.plan("t.parquet")
    assert len(gathered(world, plan, pieces=[0, 1])[0]) == 32
    with pytest.raises(InvalidArgumentError, match=r"t\.parquet row 3\d: from here on it does not"):
        gathered(world, plan, pieces=[2])


def test_a_file_that_changes_or_vanishes_stops_the_reading():
    world, array = World(config_of(2)), np.ones((8, 2), np.float32)
    for name, data in (
        ("a.npy", npy(array)),
        ("b.parquet", parquet_bytes(pa.table({"vector": lists(array.tolist())}))),
    ):
        world.put(name, data)
        plan = world.plan(name)
        world.put(name, data[:-1] + bytes([data[-1] ^ 1]))
        with pytest.raises(ConflictError, match=f"{name} has changed since the build was planned"):
            list(Pieces(world.context, world.request, plan).chunks(0))
        world.objects.delete([name])
        with pytest.raises(NotFoundError, match=f"{name} was there when the build was planned"):
            list(Pieces(world.context, world.request, plan).chunks(0))


def test_bad_rows_are_told_in_words():
    world = World(config_of(2, metric=Metric.COSINE, attributes={"year": AttributeType.NUMBER}))
    rows = [
        ("good", [1.0, 2.0], 1999, None),
        ("", [1.0, 2.0], 1999, None),
        ("nan", [1.0, float("nan")], 1999, None),
        ("large", [1.0, 2e15], 1999, None),
        ("none", None, 1999, None),
        ("hole", [1.0, None], 1999, None),
        ("long", [1.0, 2.0, 3.0], 1999, None),
        ("zero", [0.0, 0.0], 1999, None),
        ("huge", [1.0, 2.0], 1 << 60, None),
        ("bytes", [1.0, 2.0], 1999, b"\0"),
    ]
    keys, vectors, years, raw = zip(*rows, strict=True)
    table = {"key": keys, "vector": lists(vectors), "year": years, "raw": pa.array(raw)}
    world.put("t.parquet", parquet_bytes(pa.table(table)))
    (good,), bad = gathered(world, world.plan("t.parquet"))
    assert good == ("good", [1.0, 2.0], {"year": 1999}, 0)
    told = {row: problem for _, row, _, problem in bad}
    for row, words in enumerate(
        [
            "its key is empty: keys have 1 to 1024 bytes",
            "its vector has nan at position 1",
            "its vector has 1999999973982208.0 at position 1",
            "it has no vector",
            "its vector holds a null",
            "a vector of dimension 3, but the index has dimension 2",
            "its vector has the length zero",
            "metadata.year is beyond 2^53",
            "its 'raw' is bytes, which is not JSON",
        ],
        1,
    ):
        assert told.pop(row).startswith(words)
    assert not told


def test_a_key_that_is_not_unicode_is_a_bad_row():
    world = World(config_of(1))
    keys = pa.array([b"a", b"\xff", b"c"]).view(pa.string())
    world.put("t.parquet", parquet_bytes(pa.table({"key": keys, "vector": lists([[1.0]] * 3)})))
    rows, bad = gathered(world, world.plan("t.parquet"))
    assert [row[0] for row in rows] == ["a", "c"]
    ((_, row, key, problem),) = bad
    assert (row, key) == (1, None)
    assert problem.startswith("its key is unreadable")


def encoding(world, table, *, batch=0):
    from squash.maintain.bulk import keys
    from squash.maintain.bulk.records import write_json
    from squash.maintain.bulk.tasks import encode

    if table is not None:
        world.put("t.parquet", parquet_bytes(table, row_group_size=4))
    plan = world.plan("t.parquet")
    write_json(world.context.store, keys.plan_key(world.request.build), plan.to_json())
    return plan, encode.run(world.context, world.request, batch)


def text_world(**pin):
    calls = []

    def encode(texts):
        calls.append(list(texts))
        return np.array([[len(text), text.count("x")] for text in texts], np.float32)

    config = config_of(
        2,
        metric=Metric.COSINE,
        encoder=EncoderPin("small", "ab" * 32, **pin),
        non_filterable=("text",) if pin.get("text_key", "text") else (),
    )
    world = World(config, request_of(InputColumns(text="words")), encode)
    return world, calls


def test_texts_become_vectors_as_a_put_makes_them():
    world, calls = text_world()
    words = ["xa", None, "b", "", "c" * 50_000, "xx", "other", "d" * (1 << 20) + "x"]
    table = pa.table(
        {
            "key": [f"k{n}" for n in range(8)],
            "words": words,
            "year": [1, 2, None, 4, 5, 6, 7, 8],
            "text": [None, None, None, None, None, "xx", "another", None],
        }
    )
    plan, report = encoding(world, table)
    assert plan.encodes
    assert report.rows == 8
    rows, bad = gathered(world, plan)
    assert rows == [
        ("k0", [2.0, 1.0], {"year": 1, "text": "xa"}, 0),
        ("k2", [1.0, 0.0], {"text": "b"}, 2),
        ("k5", [2.0, 2.0], {"year": 6, "text": "xx"}, 5),
    ]
    told = {key: problem for _, _, key, problem in bad}
    assert told["k1"] == "it has no text"
    assert told["k3"].startswith("the vector of its text has the length zero")
    assert told["k4"].startswith("its text has 50000 bytes, and is kept with the record")
    assert "as JSON of 50011, of whose metadata at most 40960 are" in told["k4"]
    assert told["k6"].startswith("its metadata has 'text' already")
    assert told["k7"].startswith("its text has 1048577 bytes")
    assert list(chain(*calls)) == ["xa", "b", "", "xx"]


def test_texts_are_kept_only_where_the_index_says_so():
    world, _ = text_world(text_key=None)
    plan, _ = encoding(world, pa.table({"words": ["xa"], "year": [1]}))
    assert gathered(world, plan)[0] == [("0", [2.0, 1.0], {"year": 1}, 0)]


def test_encoding_that_was_cut_off_goes_on_and_leaves_the_same_bytes(monkeypatch):
    monkeypatch.setattr("squash.maintain.bulk.files.parquet.BUILD_CHUNK_TEXTS_MAX", 3)
    from dataclasses import replace

    table = pa.table({"words": [f"x{n}" for n in range(11)]})
    whole, _ = text_world()
    encoding(whole, table)
    world, calls = text_world()
    world.context = replace(world.context, remaining_ms=lambda: 1000)
    attempts = 0
    while attempts < 10:
        attempts += 1
        try:
            encoding(world, table if attempts == 1 else None)
        except UnavailableError as error:
            assert "goes on from there" in str(error)
        else:
            break
    left = {
        info.key: world.context.store.get(info.key) for info in world.context.store.list("builds/")
    }
    assert attempts == len([key for key in left if "/encoded/" in key])
    assert left == {
        info.key: whole.context.store.get(info.key) for info in whole.context.store.list("builds/")
    }
    assert sorted(chain(*calls)) == sorted(f"x{n}" for n in range(11))


def test_what_is_not_encoded_yet_is_to_be_asked_for_again():
    world, _ = text_world()
    world.put("t.parquet", parquet_bytes(pa.table({"words": ["a"]})))
    with pytest.raises(UnavailableError, match=r"piece 0 of build .* is not encoded yet"):
        list(Pieces(world.context, world.request, world.plan("t.parquet")).chunks(0))


def test_an_export_is_read_with_its_metadata_as_it_was():
    from squash.maintain.bulk.files.parquet_marks import EXPORT_KEY

    notes = ['{"a": [1, 2.5, null], "b": {"c": "d"}}', "{}", '{"a": NaN}', "[1]", None]
    table = pa.table({"key": list("vwxyz"), "vector": lists([[1.0]] * 5), "metadata": notes})
    table = table.replace_schema_metadata({EXPORT_KEY: json.dumps({"version": 1})})
    world = World(config_of(1, non_filterable=("a", "b")))
    world.put("t.parquet", parquet_bytes(table))
    rows, bad = gathered(world, world.plan("t.parquet"))
    assert [row[2] for row in rows] == [{"a": [1, 2.5, None], "b": {"c": "d"}}, {}]
    assert ["not one JSON object" in bad[0][3], "not an object" in bad[1][3]] == [True, True]
    assert len(bad) == 3


class Failing:
    """Inputs that fail one reading of many."""

    def __init__(self, inputs, error, after):
        self.inputs = inputs
        self.error = error
        self.after = after

    def files(self, url):
        return self.inputs.files(url)

    def read(self, info, ranges):
        self.after -= 1
        if not self.after:
            raise self.error
        return self.inputs.read(info, ranges)


@pytest.mark.parametrize("name", ["a.npy", "b.parquet"])
def test_what_fails_in_the_midst_is_told_as_it_is_and_may_be_read_again(name, monkeypatch):
    # Also from within pyarrow, an error of the store comes through; and the same reader, asked
    # again, gives the piece whole: never less, never rows twice.
    for limit in ("BUILD_READ_BYTES", "BUILD_READ_BYTES_MIN"):
        monkeypatch.setattr(f"squash.maintain.bulk.files.range_file.{limit}", 512)
    monkeypatch.setattr("squash.maintain.bulk.files.parquet.BUILD_READ_BYTES_MIN", 128)
    array = np.random.default_rng(4).normal(size=(400, 4)).astype(np.float32)
    world = World(config_of(4))
    data = {
        "a.npy": npy(array),
        "b.parquet": parquet_bytes(pa.table({"vector": lists(array.tolist())})),
    }
    world.put(name, data[name])
    plan = world.plan(name, cuts={150, 300})
    expected = gathered(world, plan)
    inputs, failed = world.inputs, 0
    for after in (1, 2, 3, 5, 8, 13):
        for error in (UnavailableError("down"), ConflictError("changed"), NotFoundError("gone")):
            world.inputs = Failing(inputs, error, after)
            reader, rows = Pieces(world.context, world.request, plan), []
            for number in range(len(plan.pieces)):
                try:
                    found = list(reader.chunks(number))
                except type(error) as caught:
                    assert caught is error
                    failed += 1
                    found = list(reader.chunks(number))
                rows += [number for some in found for number in some.numbers.tolist()]
            assert rows == [row[3] for row in expected[0]]
    assert failed >= 6
    # What is left halfway is not read on from there.
    world.inputs, reader = inputs, Pieces(world.context, world.request, plan)
    next(reader.chunks(0))
    assert sum(len(some.rows) for some in reader.chunks(1)) == 150


def test_what_is_read_of_inputs_is_in_a_tasks_report(monkeypatch):
    from squash.maintain.bulk import run
    from squash.maintain.bulk.context import TaskReport
    from squash.maintain.bulk.stages import Stage, Task

    world = World(config_of(2))
    world.put("a.npy", npy(np.ones((5, 2), np.float32)))
    plan = world.plan("a.npy")

    def task(context, request, batch):
        return TaskReport(rows=sum(x.passed for x in Pieces(context, request, plan).chunks(batch)))

    monkeypatch.setattr(run, "read_request", lambda store, build: world.request)
    monkeypatch.setattr(run, "check_running", lambda store, build: None)
    monkeypatch.setattr(run, "check_task", lambda store, task: None)
    monkeypatch.setitem(run._TASKS, Stage.SAMPLE, task)
    report = run.run_task(world.context, Task("things", world.request.build, Stage.SAMPLE))
    assert report.rows == 5
    assert report.requests["range"] in {1, 2}
    assert report.bytes_in >= 40
