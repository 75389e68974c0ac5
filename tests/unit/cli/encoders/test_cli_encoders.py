"""Encoders, and indexes that have one: the commands on a real store, with tiny real models."""

from __future__ import annotations

import base64
import io

import numpy as np
import pyarrow as pa
import pytest
from cli_encoder_files import TEXTS, detail, picture, vectors_of
from cli_files import lines
from pyarrow import parquet

from squash import limits
from squash.cli.encoding_words import VectorMaker
from squash.cli.importers import ImportOptions, open_rows
from squash.cli.importing import ImportedRows
from squash.encoders.contract import OverLong
from tiny_encoders import DIMENSION, TOKENS_MAX, make_dual_encoder, make_text_encoder


def test_an_encoder_is_added_listed_shown_and_removed(run, say, tiny, tmp_path):
    """What one command says of it, the others say too; to add it again does no harm."""
    again = run("encoder", "add", tmp_path / "tiny")
    assert again[0] == 0
    status, listed = run("encoder", "list")
    assert (status, [one["digest"] for one in listed["encoders"]]) == (0, [tiny])
    (one,) = listed["encoders"]
    assert one == again[1]
    assert (one["name"], one["dimension"], one["modalities"]) == ("tiny", DIMENSION, ["text"])
    assert run("encoder", "show", f"tiny@{tiny[:8]}") == (0, one | {"indexes": []})
    for words in (("list",), ("show", "tiny")):
        assert tiny[:12] in say("encoder", *words)[1]
    assert run("encoder", "remove", "tiny", "--yes") == (0, {"removed": "tiny"})
    assert run("encoder", "list") == (0, {"encoders": []})
    assert "no encoder yet" in say("encoder", "list")[1]
    for words in (("show", "tiny"), ("check", "tiny"), ("remove", "tiny", "--yes")):
        status, problem = run("encoder", *words)
        assert (status, problem["type"]) == (1, "urn:squash:not-found")


def test_removing_asks_first_where_nobody_can_answer_it_wants_a_word(run, tiny):
    status, problem = run("encoder", "remove", "tiny")
    assert (status, problem["type"]) == (2, "urn:squash:usage")
    assert "say --yes" in problem["detail"]
    assert len(run("encoder", "list")[1]["encoders"]) == 1


@pytest.mark.parametrize(("answer", "status"), [("y\n", 0), ("n\n", 2), ("", 2)])
def test_removing_asks_at_a_terminal(say, run, tiny, monkeypatch, answer, status):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr("sys.stdin", Terminal(answer))
    assert say("encoder", "remove", "tiny")[0] == status
    assert len(run("encoder", "list")[1]["encoders"]) == (status != 0)


def test_an_encoder_that_an_index_pins_stays_unless_forced(run, notes, tiny):
    assert "notes" in detail(run("encoder", "remove", "tiny", "--yes"))
    assert run("encoder", "show", "tiny")[1]["indexes"] == ["notes"]
    assert run("encoder", "remove", "tiny", "--yes", "--force")[0] == 0


def test_of_two_of_one_name_the_digest_says_which(run, tiny, tmp_path):
    other = make_text_encoder(tmp_path / "other", seed=1)
    assert run("encoder", "add", tmp_path / "other")[0] == 0
    said = detail(run("create", "notes", "--encoder", "tiny"))
    assert tiny[:8] in said
    assert other[:8] in said
    status, made = run("create", "notes", "--encoder", f"tiny@{other[:8]}")
    assert (status, made["encoder"]["digest"]) == (0, other)


def test_check_tries_an_encoder_of_the_store_and_of_a_folder(run, say, tiny, tmp_path):
    for source in ("tiny", f"tiny@{tiny[:8]}", tmp_path / "tiny"):
        status, found = run("encoder", "check", source)
        assert status == 0
        assert (found["digest"], found["passed"], found["batch_agrees"]) == (tiny, True, True)
        assert found["parity"] is None
    status, said = say("encoder", "check", "tiny")
    assert f"tiny@{tiny[:12]} is as it says." in said


def test_check_of_a_tampered_folder_fails_and_adding_it_leaves_nothing(run, tmp_path):
    folder = tmp_path / "bad"
    make_text_encoder(folder)
    data = bytearray((folder / "model.onnx").read_bytes())
    data[-1] ^= 1
    (folder / "model.onnx").write_bytes(data)
    for action in ("check", "add"):
        assert "model.onnx" in detail(run("encoder", action, folder))
    assert run("encoder", "list") == (0, {"encoders": []})


def test_a_folder_without_an_encoder_is_told_how_one_is_made(run, tmp_path):
    (tmp_path / "model").mkdir()
    assert "squash encoder export" in detail(run("encoder", "add", tmp_path / "model"))
    assert "minilm" in detail(run("encoder", "add", "no-such-model"))


def test_the_help_of_export_lists_the_known_models(say):
    from squash.cli.action_arguments import KNOWN_MODELS
    from squash.encoders.export.sources import KNOWN

    assert tuple(KNOWN) == KNOWN_MODELS
    _, shown = say("encoder", "export", "--help")
    assert all(name in shown for name in KNOWN)


def test_create_takes_what_is_not_told_from_the_encoder(run, say, tiny):
    status, made = run("create", "notes", "--encoder", "tiny")
    assert status == 0
    assert (made["dimension"], made["metric"]) == (DIMENSION, "cosine")
    assert made["encoder"] == {"name": "tiny", "digest": tiny, "text_key": "text"}
    assert made["non_filterable"] == ["text"]
    words = ("--encoder", "tiny", "--dimension", "8", "--metric", "dot", "--text-key", "body")
    status, made = run("create", "small", *words)
    assert (made["dimension"], made["metric"], made["encoder"]["text_key"]) == (8, "dot", "body")
    status, made = run("create", "bare", "--encoder", "tiny", "--no-text")
    assert (made["encoder"]["text_key"], made["non_filterable"]) == (None, [])
    assert f"encoder tiny@{tiny[:12]}." in say("create", "said", "--encoder", "tiny")[1]
    assert say("list")[1].count(f"tiny@{tiny[:12]}") == 4
    assert f"tiny@{tiny[:12]}" in say("stats", "notes")[1]
    assert run("stats", "small")[1]["encoder"]["text_key"] == "body"


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["--encoder", "tiny", "--dimension", "9"], 1),
        (["--encoder", "none"], 1),
        (["--encoder", "Not a name"], 1),
        (["--encoder", "tiny", "--attribute", "text=string"], 1),
        (["--dimension", "4", "--text-key", "body"], 2),
        (["--dimension", "4", "--no-text"], 2),
        (["--encoder", "tiny", "--no-text", "--text-key", "body"], 2),
        ([], 2),
    ],
)
def test_create_refuses_what_does_not_fit(run, tiny, words, status):
    assert run("create", "notes", *words)[0] == status
    assert run("list") == (0, {"indexes": []})


def test_texts_are_put_and_found_by_words(run, say, notes, tiny):
    """The text is kept and shown, and its vector is the encoder's."""
    record = run("get", "notes", "fish")[1]["records"][0]
    assert record["metadata"] == {"text": TEXTS["fish"]}
    status, answer = run("query", "notes", "--text", "red fish", "--top-k", 1)
    assert status == 0
    assert answer["matches"][0]["key"] == "fish"
    assert answer["encoding"]["encoder"] == f"tiny@{tiny[:12]}"
    assert (answer["encoding"]["tokens"], answer["encoding"]["truncated"]) == (4, [])
    status, said = say("query", "notes", "--text", "red fish " * 20)
    assert status == 0
    assert "1 text was longer than it takes, cut" in said
    assert "Encoded" not in say("query", "notes", "--text", "red fish")[1]
    like = run("query", "notes", "--like", "fish", "--top-k", 2)[1]
    assert {match["key"] for match in like["matches"]} == {"bird", "bread"}
    assert "encoding" not in like


def test_put_says_what_was_encoded_and_what_was_too_long(run, say, notes, tmp_path):
    long = "fish " * (TOKENS_MAX + 1)
    file = lines(tmp_path / "r.jsonl", {"key": "a", "text": "red"}, {"key": "b", "text": long})
    status, done = run("put", "notes", file)
    assert (status, done["rows"]) == (0, 2)
    assert done["encoding"]["tokens"] == 3 + TOKENS_MAX
    assert (done["encoding"]["truncated"], done["encoding"]["chunked"]) == ([1], [])
    said = say("put", "notes", file)[1]
    assert f"Encoded {3 + TOKENS_MAX} tokens by tiny@" in said
    assert "1 text was longer than it takes (b), cut" in said


def test_texts_in_parts_are_said_to_be(run, say, tmp_path):
    make_text_encoder(tmp_path / "parts", name="parts", over_long=OverLong.CHUNK)
    run("encoder", "add", tmp_path / "parts")
    run("create", "notes", "--encoder", "parts")
    texts = ({"key": f"k{n}", "text": "fish " * 40} for n in range(7))
    said = say("put", "notes", lines(tmp_path / "r.jsonl", *texts))[1]
    assert "7 texts were longer than it takes (k0, k1, k2, k3, k4, ...), encoded part by" in said


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"key": "b", "text": 1}, "r.jsonl line 2: the text is a number"),
        ({"key": "b", "vector": [0.0] * DIMENSION}, "r.jsonl line 2: the record has 'vector'"),
        ({"key": "b", "text": "x", "metadata": {"text": "y"}}, "r.jsonl line 2"),
        ({"key": "", "text": "x"}, "key"),
    ],
)
def test_put_of_a_bad_line_names_it_and_puts_nothing(run, notes, tmp_path, record, words):
    file = lines(tmp_path / "r.jsonl", {"key": "a", "text": "red"}, record)
    assert words in detail(run("put", "notes", file))
    assert not notes.get(keys=["a"])


def test_put_of_nothing_is_refused(run, notes, tmp_path):
    assert "holds no record" in detail(run("put", "notes", lines(tmp_path / "r.jsonl")))


def test_put_is_bounded_in_bytes_of_texts(run, notes, tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "PUT_FILE_BYTES_MAX", 10)
    texts = ({"key": str(n), "text": "12345"} for n in range(3))
    status, problem = run("put", "notes", lines(tmp_path / "r.jsonl", *texts))
    assert (status, problem["type"]) == (1, "urn:squash:too-large")
    assert "use `squash import`" in problem["detail"]


def test_vectors_need_a_word_on_who_made_them(run, notes, tiny, tmp_path):
    vector = vectors_of(tmp_path / "tiny", ["the red fish"])[0].tolist()
    file = lines(tmp_path / "v.jsonl", {"key": "v", "vector": vector})
    for command in ("put", "import"):
        said = detail(run(command, "notes", file))
        assert "--encoder tiny" in said
        assert run(command, "notes", file, "--encoder", "other")[0] == 1
        for told in ("tiny", f"tiny@{tiny[:8]}", tiny):
            assert run(command, "notes", file, "--encoder", told)[0] == 0
        texts = lines(tmp_path / "t.jsonl", {"key": "t", "text": "red"})
        assert "leave it out" in detail(run(command, "notes", texts, "--encoder", "tiny"))
    assert notes.get(keys=["v"])[0].vector.tolist() == vector


def test_an_index_without_an_encoder_takes_no_texts(run, tmp_path):
    assert run("create", "bare", "--dimension", 4)[0] == 0
    texts = lines(tmp_path / "t.jsonl", {"key": "t", "text": "red"})
    for command in ("put", "import"):
        assert "has no encoder" in detail(run(command, "bare", texts))
    vectors = lines(tmp_path / "v.jsonl", {"key": "v", "vector": [1, 2, 3, 4]})
    for command in ("put", "import"):
        assert "encoder" in detail(run(command, "bare", vectors, "--encoder", "tiny"))
    assert "no encoder" in detail(run("query", "bare", "--text", "red"))


def test_a_query_is_of_one_kind(run, notes, tmp_path):
    (tmp_path / "a.png").write_bytes(picture("red"))
    for words in (["[1]", "--text", "x"], ["--text", "x", "--like", "fish"], []):
        assert run("query", "notes", *words)[0] == 2
    assert run("query", "notes", "--text", "x", "--image", tmp_path / "a.png")[0] == 2
    assert "image" in detail(run("query", "notes", "--image", tmp_path / "a.png"))
    assert "a.png" in detail(run("query", "notes", "--image", tmp_path / "none" / "a.png"))


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_texts_are_imported_batch_by_batch(run, store, tiny, tmp_path, monkeypatch, kind):
    """Every text's vector is the one it has alone, whatever batch it came in."""
    monkeypatch.setattr(limits, "IMPORT_BATCH_INPUTS_MAX", 4)
    texts = [f"the {colour} {what}" for colour in ("red", "blue", "green") for what in "abc"]
    texts += ["", "fish " * 30]
    path = tmp_path / f"r.{kind}"
    run("create", "notes", "--encoder", "tiny")
    if kind == "parquet":
        parquet.write_table(pa.table({"body": texts, "n": pa.array(range(len(texts)))}), path)
        done = run("import", "notes", path, "--text-column", "body")
    else:
        rows = enumerate(texts)
        lines(path, *({"key": str(n), "text": t, "metadata": {"n": n}} for n, t in rows))
        done = run("import", "notes", path)
    status, document = done
    assert (status, document["rows"]) == (0, len(texts))
    assert document["encoding"]["truncated"] == [len(texts) - 1]
    records = store.index("notes").get(keys=[str(n) for n in range(len(texts))])
    assert [record.metadata for record in records] == [
        {"text": text, "n": n} for n, text in enumerate(texts)
    ]
    found = np.stack([record.vector for record in records])
    expected = np.concatenate([vectors_of(tmp_path / "tiny", [text]) for text in texts])
    assert np.allclose((found * expected).sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_an_import_tells_how_many_texts_are_encoded_and_durable(
    store, tiny, tmp_path, monkeypatch, kind
):
    """What is encoded is never fewer than what is durable, and both end at all there are."""
    monkeypatch.setattr(limits, "IMPORT_BATCH_INPUTS_MAX", 4)
    path, texts = tmp_path / f"r.{kind}", ["red", "blue", "the"] * 4
    if kind == "parquet":
        parquet.write_table(pa.table({"text": texts}), path)
        source = open_rows(path, dimension=16, options=ImportOptions(text_column="text"))
    else:
        lines(path, *({"key": str(n), "text": text} for n, text in enumerate(texts)))
        source = open_rows(path, dimension=16, options=ImportOptions())
    index = store.create_index("notes", encoder="tiny")
    imported = ImportedRows(source, VectorMaker(index.config, path.name, None))
    steps = []
    index.import_batches(
        imported.batches(steps.append), progress=lambda step: imported.encoding(step, steps.append)
    )
    unit = "texts" if kind == "parquet" else "lines"
    assert {(step.total, step.unit) for step in steps} == {(len(texts), unit)}
    done = {"encode": 0, "import": 0}
    for step in steps:
        assert step.done >= done[step.stage]
        done[step.stage] = step.done
        assert done["encode"] >= done["import"]
    assert done == {"encode": len(texts), "import": len(texts)}
    assert [step.done for step in steps if step.stage == "import"] == [4, 8, 12]


@pytest.mark.parametrize("bad_row", [0, 3, 4, 9])
def test_an_import_that_stops_says_how_far_it_is_durable(
    run, store, tiny, tmp_path, monkeypatch, bad_row
):
    monkeypatch.setattr(limits, "IMPORT_BATCH_INPUTS_MAX", 4)
    texts = ["red"] * 12
    texts[bad_row] = None
    path = tmp_path / "r.parquet"
    parquet.write_table(pa.table({"text": texts}), path, row_group_size=2)
    run("create", "notes", "--encoder", "tiny")
    monkeypatch.setattr("squash.cli.importers.parquet._INPUTS_READ_AT_ONCE", 2)
    said = detail(run("import", "notes", path, "--text-column", "text"))
    assert f"r.parquet row {bad_row}: it has no text" in said
    durable = bad_row // 4 * 4
    expected = f"{durable} rows became durable" if durable else "Nothing was imported."
    assert expected in said
    assert store.index("notes").stats().rows == durable


@pytest.mark.parametrize("texts", [["red"], [None]])
def test_an_index_without_an_encoder_is_named_before_any_row(run, tmp_path, texts):
    path = tmp_path / "r.parquet"
    parquet.write_table(pa.table({"text": pa.array(texts, pa.string())}), path)
    run("create", "plain", "--dimension", 2)
    said = detail(run("import", "plain", path, "--text-column", "text"))
    assert "the index plain has no encoder" in said


def test_a_text_that_the_library_refuses_is_named_by_its_row(run, tiny, tmp_path):
    """Here the metadata holds another text than the record's."""
    path = tmp_path / "r.parquet"
    parquet.write_table(pa.table({"body": ["red", "blue"], "text": ["red", "green"]}), path)
    run("create", "notes", "--encoder", "tiny")
    said = detail(run("import", "notes", path, "--text-column", "body"))
    assert "It stands in r.parquet row 1." in said
    assert "Nothing was imported." in said


def test_an_export_says_which_encoder_made_its_vectors(run, store, notes, tiny, tmp_path):
    """The same encoder's index takes it back bit for bit; another's refuses it, or encodes anew."""
    file = tmp_path / "notes.parquet"
    assert run("export", "notes", file)[0] == 0
    run("create", "same", "--encoder", "tiny")
    assert run("import", "same", file)[0] == 0
    before, after = (one.get(keys=list(TEXTS)) for one in (notes, store.index("same")))
    for old, new in zip(before, after, strict=True):
        assert (old.key, old.metadata) == (new.key, new.metadata)
        assert np.array_equal(old.vector, new.vector)
    other = make_text_encoder(tmp_path / "other", name="other", seed=1)
    run("encoder", "add", tmp_path / "other")
    run("create", "another", "--encoder", "other")
    for words in ([], ["--encoder", "other"]):
        said = detail(run("import", "another", file, *words))
        assert f"tiny@{tiny[:12]}" in said
        assert f"other@{other[:12]}" in said
    assert run("import", "another", file, "--text-column", "text")[0] == 0
    (record,) = store.index("another").get(keys=["fish"])
    assert record.metadata == {"text": TEXTS["fish"]}
    assert np.allclose(record.vector, vectors_of(tmp_path / "other", [TEXTS["fish"]])[0], atol=1e-6)
    run("create", "bare", "--dimension", DIMENSION)
    assert run("import", "bare", file)[0] == 0


def test_images_are_put_imported_and_found_by_words_and_pictures(run, store, tmp_path):
    make_dual_encoder(tmp_path / "dual")
    run("encoder", "add", tmp_path / "dual")
    run("create", "pictures", "--encoder", "tiny-dual", "--no-text")
    colours = ["red", "green", "blue"]
    for colour in colours:
        (tmp_path / f"{colour}.png").write_bytes(picture(colour))
    files = ({"key": colour, "image_file": f"{colour}.png"} for colour in colours[:2])
    status, done = run("put", "pictures", lines(tmp_path / "files.jsonl", *files))
    assert (status, done["rows"], done["encoding"]["tokens"]) == (0, 2, 0)
    told = {"base64": base64.b64encode(picture("blue")).decode()}
    file = lines(tmp_path / "bytes.jsonl", {"key": "blue", "image": told})
    assert run("import", "pictures", file)[0] == 0
    for colour in colours:
        for words in (["--image", tmp_path / f"{colour}.png"], ["--text", colour]):
            answer = run("query", "pictures", *words, "--top-k", 1)[1]
            assert answer["matches"][0]["key"] == colour
    column = pa.array([picture("white"), picture("purple")], pa.binary())
    path = tmp_path / "r.parquet"
    parquet.write_table(pa.table({"key": ["white", "purple"], "file": column}), path)
    assert run("import", "pictures", path, "--image-column", "file")[1]["rows"] == 2
    (tmp_path / "no.png").write_bytes(b"no picture")
    file = lines(tmp_path / "no.jsonl", {"key": "no", "image_file": "no.png"})
    assert "It stands in no.jsonl line 1." in detail(run("put", "pictures", file))
    assert store.index("pictures").stats().rows == 5


def test_without_the_extra_it_says_what_to_install(run, notes, tmp_path, monkeypatch):
    """Vectors still go in and come out: only what encodes needs the library."""
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    for words in (("encoder", "check", "tiny"), ("encoder", "add", tmp_path / "tiny")):
        assert "pip install 'squash-search[encoders]'" in detail(run(*words))
    texts = lines(tmp_path / "t.jsonl", {"key": "t", "text": "red"})
    for words in (("put", "notes", texts), ("import", "notes", texts)):
        assert "pip install 'squash-search[encoders]'" in detail(run(*words))
    assert "pip install" in detail(run("query", "notes", "--text", "red"))
    assert run("query", "notes", "--like", "fish")[0] == 0


def test_commands_that_encode_nothing_load_nothing_that_encodes(tmp_path):
    """The set of modules is what is promised, not the time."""
    import subprocess
    import sys

    program = (
        "import sys\nfrom squash.cli.main import main\n"
        f"store = ['--store', {str(tmp_path / 'store')!r}]\n"
        "main(['create', 'papers', '--dimension', '4', *store])\n"
        "main(['encoder', 'list', *store])\n"
        "bad = {'onnx', 'onnxruntime', 'tokenizers', 'PIL', 'squash.encoders.export.sources'}\n"
        "sys.exit(bool(bad & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False)  # noqa: S603
    assert done.returncode == 0
