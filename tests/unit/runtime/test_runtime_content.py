"""Indexes with an encoder at the public face: what they take, say, refuse and spend."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
from content_world import DIMENSION, digest_of, tiny

from fakes import CountedIds, FakeClock
from squash.database import Database
from squash.errors import (
    InternalError,
    InvalidArgumentError,
    NotFoundError,
)
from squash.index import catalogue
from squash.limits import TEXT_BYTES_MAX
from squash.model import (
    EncoderPin,
    EncodingReport,
    InputBatch,
    Inputs,
    Metric,
    Modality,
    Purpose,
    RowBatch,
)
from squash.runtime import Settings
from squash.runtime.encoders import EncoderRegistry
from squash.runtime.local_encoding import EncoderFolders, LocalEncoding
from squash.runtime.session import IndexSession
from squash.storage import MemoryStore, PrefixStore
from tiny_encoders import make_text_encoder


def test_an_index_takes_over_what_its_encoder_is(db, folders):
    """Dimension and metric are the encoder's; texts are kept where they are not filtered by."""
    config = tiny(db, folders).config
    digest = digest_of(folders, "tiny")
    assert (config.dimension, config.metric) == (DIMENSION, Metric.COSINE)
    assert config.encoder == EncoderPin("tiny", digest, "text")
    assert config.non_filterable == ("text",)
    more = {"encoder": "tiny-dual", "dimension": 8, "metric": "dot", "non_filterable": ["a", "b"]}
    config = db.create_index("y", text_key="b", **more).config
    assert (config.dimension, config.metric, config.non_filterable) == (8, Metric.DOT, ("a", "b"))
    assert db.index("y").config == config
    config = db.create_index("z", text_key=None, encoder="tiny-dual").config
    assert (config.encoder.text_key, config.non_filterable) == (None, ())


def test_without_an_encoder_nothing_changes(db):
    """A dimension is needed, and the metric is cosine."""
    config = db.create_index("plain", dimension=3).config
    assert (config.metric, config.encoder, config.non_filterable) == (Metric.COSINE, None, ())
    with pytest.raises(InvalidArgumentError) as told:
        db.create_index("none")
    assert told.value.field == "dimension"


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"dimension": 7}, "dimension"),
        ({"dimension": 32}, "dimension"),
        ({"dimension": 16.0}, "dimension"),
        ({"metric": "near"}, "metric"),
        ({"text_key": "kind", "attributes": {"kind": "string"}}, "text_key"),
        ({"text_key": "ends", "expires": "ends"}, "expires"),
        ({"text_key": ""}, "text_key"),
        ({"text_key": "$text"}, "text_key"),
        ({"text_key": "x" * 64}, "text_key"),
        ({"text_key": 3}, "text_key"),
        ({"non_filterable": [f"n{i}" for i in range(10)]}, "non_filterable"),
        ({"encoder": "Tiny"}, "encoder"),
        ({"encoder": "tiny"}, "encoder"),
    ],
)
def test_what_does_not_go_with_an_encoder(db, more, field):
    """It is refused by name, and no index is there."""
    with pytest.raises(InvalidArgumentError) as told:
        db.create_index("x", **{"encoder": "tiny-dual"} | more)
    assert told.value.field == field
    assert db.list_indexes() == []


@pytest.mark.parametrize("key", ["body", "", 5, ["body"]])
def test_a_key_of_texts_goes_with_an_encoder(db, key):
    """Without one nobody would keep a text under it."""
    with pytest.raises(InvalidArgumentError, match="goes with an encoder") as told:
        db.create_index("x", dimension=2, text_key=key)
    assert told.value.field == "text_key"
    assert db.list_indexes() == []


def test_an_encoder_that_is_not_there(db):
    """What there is, is named."""
    with pytest.raises(NotFoundError, match="tiny-dual@"):
        db.create_index("x", encoder="none")
    assert db.list_indexes() == []


def test_the_metric_of_an_encoder_that_does_not_normalise(db, folders, monkeypatch):
    """Its vectors are compared as it says, and not otherwise."""
    found = db.encoders.resolve("tiny-dual")
    plain = found._replace(config=replace(found.config, normalise=False, metric=Metric.DOT))
    monkeypatch.setattr(EncoderRegistry, "resolve", lambda self, reference: plain)
    for metric in ("cosine", "euclidean"):
        with pytest.raises(InvalidArgumentError, match="leave the metric out"):
            db.create_index("x", encoder="tiny-dual", metric=metric)
    assert db.create_index("x", encoder="tiny-dual", metric="dot").config.metric is Metric.DOT


def test_texts_are_put_and_found(db, folders, letters):
    """They are kept with the record, and each side is encoded for its purpose."""
    index = tiny(db, folders)
    label = db.encoders.resolve(index.config.encoder.digest).label
    result = index.put(
        keys=["a", "b", "c"],
        texts=["alpha", "t is far too long", "and so is this one"],
        metadata=[{"n": 1}, None, {"text": "and so is this one"}],
    )
    assert result.encoding == EncodingReport(label, 40, (1,), (2,))
    pin, inputs, purpose, dimension, _ = letters.asked[0]
    assert (pin, purpose, dimension) == (index.config.encoder, Purpose.DOCUMENT, DIMENSION)
    assert inputs.modality is Modality.TEXT
    answer = index.query(text="alpha", top_k=1)
    assert [(match.key, match.metadata) for match in answer.matches] == [
        ("a", {"n": 1, "text": "alpha"})
    ]
    assert answer.encoding == EncodingReport(label, 5)
    assert letters.asked[1][2] is Purpose.QUERY
    vector = index.get(keys=["a"])[0].vector
    assert index.query(vector, top_k=1).encoding is None
    assert index.query(vector, top_k=1, encoder=label).matches[0].key == "a"
    assert len(letters.asked) == 2


def test_images_are_put_and_found(db, letters):
    """Their bytes are not kept."""
    index = db.create_index("x", encoder="tiny-dual")
    result = index.put(keys=["a"], images=[bytearray(b"alpha")], metadata=[{"text": ["any"]}])
    assert result.encoding.tokens == 5
    assert index.get(keys=["a"])[0].metadata == {"text": ["any"]}
    assert index.query(image=memoryview(b"alpha")).matches[0].distance == pytest.approx(0, abs=1e-7)
    assert letters.asked[0][1] == Inputs(Modality.IMAGE, [b"alpha"])
    answers = index.query_many(images=[b"alpha", b"beta"])
    assert [answer.matches[0].key for answer in answers] == ["a", "a"]


def test_texts_that_are_not_kept(db, folders):
    """Where text_key is None, metadata is as it was given."""
    index = tiny(db, folders, text_key=None)
    index.put(keys=["a"], texts=["alpha"], metadata=[{"text": "else"}])
    assert index.get(keys=["a"])[0].metadata == {"text": "else"}
    index.patch(keys=["a"], metadata=[{"text": "new"}])
    index.put(keys=["b"], texts=["x" * TEXT_BYTES_MAX])


def test_each_answer_says_how_its_query_was_encoded(db, folders):
    """Places are those of the call; what is spent is counted once, in the first."""
    index = tiny(db, folders)
    index.put(keys=["a"], texts=["alpha"])
    texts = ["beta", "t is far too long", "alpha", "and so is this one"]
    answers = index.query_many(texts=texts)
    label = answers[0].encoding.encoder
    assert [answer.encoding for answer in answers] == [
        EncodingReport(label, sum(map(len, texts))),
        EncodingReport(label, 0, (1,), ()),
        EncodingReport(label),
        EncodingReport(label, 0, (), (3,)),
    ]
    assert [answer.usage.invocations for answer in answers] == [1, 0, 0, 0]
    assert answers[0].usage.invocations_cold == 1
    assert answers[0].usage.gb_seconds == 2.0
    assert answers[0].usage.cost_usd > 2 * 13e-6 > answers[1].usage.cost_usd
    again = index.query_many(texts=texts)
    assert [answer.usage.invocations for answer in again] == [0, 0, 0, 0]
    assert [answer.encoding.tokens for answer in again] == [0, 0, 0, 0]
    assert [answer.encoding.truncated for answer in again] == [(), (1,), (), ()]
    for answer, text in zip(answers, texts, strict=True):
        assert index.query(text=text).matches == answer.matches
    assert index.query_many(texts=[]) == []


def test_vectors_must_say_whose_they_are(db, folders):
    """Unsaid, another's, or an encoder's where the index has none: nothing is written."""
    index = tiny(db, folders)
    plain = db.create_index("plain", dimension=DIMENSION)
    digest, other = digest_of(folders, "tiny"), digest_of(folders, "other")
    rows = {"keys": ["a"], "vectors": np.ones((1, DIMENSION))}
    for said in (None, other, f"tiny@{other[:12]}", "tiny-dual", f"tiny-dual@{digest[:12]}"):
        with pytest.raises(InvalidArgumentError, match=f"tiny@{digest[:12]}") as told:
            index.put(**rows, encoder=said)
        assert told.value.field == "encoder"
        with pytest.raises(InvalidArgumentError):
            index.import_batches([RowBatch(["a"], rows["vectors"], [{}])], encoder=said)
        if said is not None:
            with pytest.raises(InvalidArgumentError):
                index.put(keys=["a"], texts=["alpha"], encoder=said)
            with pytest.raises(InvalidArgumentError):
                index.query(np.ones(DIMENSION), encoder=said)
            with pytest.raises(InvalidArgumentError):
                index.query_many(np.ones((2, DIMENSION)), encoder=said)
    for said in ("tiny", digest, 3):
        with pytest.raises(InvalidArgumentError):
            plain.put(**rows, encoder=said)
    assert index.stats().rows == plain.stats().rows == 0
    for count, said in enumerate((digest, f"tiny@{digest[:8]}", "tiny"), start=1):
        assert index.put(**rows, encoder=said).encoding is None
        assert index.query(np.ones(DIMENSION), encoder=said).snapshot == count
    index.import_batches([RowBatch(["b"], rows["vectors"], [{}])], encoder="tiny")


@pytest.mark.parametrize("given", [{}, {"text": "a", "vector": [1.0]}, {"text": "a", "image": b""}])
def test_one_of_three_is_asked_for(db, folders, given):
    """Nothing, or two at once, is refused, in each call that takes them."""
    index = tiny(db, folders)
    with pytest.raises(InvalidArgumentError, match="exactly one of vector, text and image"):
        index.query(given.get("vector"), **{k: v for k, v in given.items() if k != "vector"})
    many = {f"{name}s": [value] for name, value in given.items()}
    for call in (index.query_many, lambda **more: index.put(keys=["a"], **more)):
        with pytest.raises(InvalidArgumentError, match="exactly one of vectors, texts and images"):
            call(**many)


def test_an_index_without_an_encoder(db):
    """It says how to have one."""
    index = db.create_index("plain", dimension=3)
    batch = InputBatch(["a"], Inputs(Modality.TEXT, ["a"]), [{}])
    for call in (
        lambda: index.put(keys=["a"], texts=["a"]),
        lambda: index.put(keys=["a"], images=[b"a"]),
        lambda: index.query(text="a"),
        lambda: index.query(image=b"a"),
        lambda: index.query_many(texts=["a"]),
        lambda: index.import_batches([batch]),
    ):
        with pytest.raises(InvalidArgumentError, match="has no encoder"):
            call()


def test_a_query_has_the_time_it_was_given(db, folders, letters):
    """Whoever encodes is told when the answer must be there."""
    index = tiny(db, folders)
    index.query(text="alpha", timeout_ms=500)
    assert letters.asked[-1][4] == FakeClock().now_ms() + 500


def test_an_import_of_texts(db, folders, letters):
    """Batches are encoded one by one; progress is told, and places are those of the import."""
    index = tiny(db, folders)
    seen = []
    batches = [
        InputBatch(["a", "b"], Inputs(Modality.TEXT, ["alpha", "t is far too long"]), [{}, {}]),
        RowBatch(["c"], np.ones((1, DIMENSION), np.float32), [{}]),
        InputBatch(["d"], Inputs(Modality.TEXT, ["and so is this one"]), [{"n": 1}]),
    ]
    result = index.import_batches(batches, encoder="tiny", progress=seen.append)
    assert (result.rows, result.snapshot) == (4, 3)
    assert (result.encoding.tokens, result.encoding.truncated) == (40, (1,))
    assert result.encoding.chunked == (3,)
    assert [(one.stage, one.done, one.unit) for one in seen] == [
        ("encode", 2, "inputs"),
        ("import", 2, "rows"),
        ("import", 3, "rows"),
        ("encode", 4, "inputs"),
        ("import", 4, "rows"),
    ]
    assert index.get(keys=["d"])[0].metadata == {"n": 1, "text": "and so is this one"}
    assert index.import_batches([]).encoding is None
    with pytest.raises(InvalidArgumentError):
        index.import_batches([InputBatch(["e"], Inputs(Modality.TEXT, [3]), [{}])])


def test_no_records(db, folders, letters):
    """Nothing is encoded, and it is said so."""
    index = tiny(db, folders)
    assert index.put(keys=[], texts=[]).encoding.tokens == 0
    assert letters.asked == []


def test_an_index_goes_over_into_another(db, folders):
    """What is exported is imported by an index of the same encoder, and by no other's."""
    index = tiny(db, folders)
    index.put(keys=["a", "b"], texts=["alpha", "beta"])
    copy = db.create_index("copy", encoder=index.config.encoder.digest)
    copy.import_batches(index.export_batches(), encoder=index.config.encoder.digest)
    found = copy.get(keys=["a", "b"])
    for record, original in zip(found, index.get(keys=["a", "b"]), strict=True):
        assert record.metadata == original.metadata
        np.testing.assert_array_equal(record.vector, original.vector)
    other = db.create_index("other", encoder="tiny-dual")
    with pytest.raises(InvalidArgumentError, match="cannot be compared"):
        other.import_batches(index.export_batches(), encoder=index.config.encoder.digest)


def test_a_session_that_nobody_encodes_for(db, folders):
    """Whoever opened it so is told."""
    tiny(db, folders)
    entry = catalogue.load(db.store, "x")
    session = IndexSession(
        db.store, entry, settings=Settings(), clock=FakeClock(), ids=CountedIds()
    )
    asked = session.content.query(vector=None, text="a", image=None, encoder=None)
    with pytest.raises(InternalError):
        session.content.encoded_queries(asked, None)


WITHOUT = """
import sys
import threading
for name in {blocked}:
    sys.modules[name] = None
import squash
from squash.errors import InvalidArgumentError
db = squash.connect({location!r})
index = db.index("x")
assert [match.key for match in index.query([1.0] * 16, top_k=1).matches] == ["a"]
try:
    index.query(text="red dog")
except InvalidArgumentError as error:
    print(error)
assert "onnxruntime" not in sys.modules or sys.modules["onnxruntime"] is None
"""


@pytest.mark.parametrize("blocked", [("onnxruntime",), ("tokenizers",)])
def test_without_what_runs_models(folders, tmp_path, blocked):
    """An index is searched by vectors; texts are refused with what to install."""
    import squash

    db = squash.connect(str(tmp_path / "db"))
    db.encoders.add(folders / "tiny")
    db.create_index("x", encoder="tiny").put(
        keys=["a"], vectors=[[1.0] * DIMENSION], encoder="tiny"
    )
    program = WITHOUT.format(blocked=blocked, location=str(tmp_path / "db"))
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", program],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "SQUASH_ENCODER_CACHE": str(tmp_path / "cache")},
    )
    assert "pip install 'squash-search[encoders]'" in done.stdout


def test_a_cold_index_is_opened_while_a_query_is_encoded(tmp_path):
    """Of a remote store both take their time; once the index is open, nothing more is asked."""
    store, began = MemoryStore(), threading.Event()
    made = Database(store, settings=Settings(), clock=FakeClock(), ids=CountedIds())
    make_text_encoder(tmp_path / "tiny")
    made.encoders.add(tmp_path / "tiny")
    made.create_index("notes", encoder="tiny").put(keys=["a"], texts=["a red fish"])

    class Watched(PrefixStore):
        def get(self, key):
            if "/log/" in key:
                began.set()
            return super().get(key)

    class Waits(LocalEncoding):
        def encode(self, *args, **kwargs):
            assert began.wait(10), "nothing was read before the query was encoded"
            return super().encode(*args, **kwargs)

    encoding = Waits(
        EncoderRegistry(store), EncoderFolders((), tmp_path / "cache"), clock=FakeClock()
    )
    opened = Database(
        Watched(store, ""),
        settings=Settings(billed=True),
        clock=FakeClock(),
        ids=CountedIds(),
        encoding=encoding,
    )
    index = opened.index("notes")
    cold = index.query(text="fish")
    assert [match.key for match in cold.matches] == ["a"]
    warm = index.query(text="red fish")
    assert (warm.usage.store_requests, cold.usage.store_requests > 1) == (1, True)


def test_what_recall_is_aimed_at_where_nothing_is_said(db):
    """More where a query is encoded, which takes longer than the search; what is said holds."""
    plain = db.create_index("plain", dimension=2)
    encoded = db.create_index("encoded", encoder="tiny-dual")
    plain.put(keys=["a"], vectors=[[1.0, 2.0]])
    encoded.put(keys=["a"], texts=["fish"])
    vectors = {plain: [1.0, 2.0], encoded: np.ones(DIMENSION)}
    for index, vector in vectors.items():
        aimed = index.query(vector, explain=True).explain.recall_target
        assert aimed == (0.95 if index is plain else 0.99)
        (many,) = index.query_many([vector], explain=True)
        assert many.explain.recall_target == aimed
        assert index.query(vector, recall_target=0.8, explain=True).explain.recall_target == 0.8
        with pytest.raises(InvalidArgumentError, match="recall_target"):
            index.query(vector, recall_target=0.0)
