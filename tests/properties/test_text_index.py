"""An index driven by texts against a plain model that encodes with the same encoder: no index."""

from __future__ import annotations

from itertools import count

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import squash
from living import SMALL
from model import ModelIndex
from squash.encoders.contract import OverLong
from squash.encoders.encoder import open_encoder
from squash.errors import InvalidArgumentError
from squash.model import InputBatch, Inputs, Modality, Purpose, RowBatch
from tiny_encoders import DIMENSION, WORDS, make_text_encoder

NUMBERS = count()
# Few words, so that questions meet records; some unknown, none, and more than the encoder takes.
TEXTS = st.one_of(
    st.lists(st.sampled_from(WORDS[:12]), max_size=4).map(" ".join),
    st.lists(st.sampled_from(WORDS), min_size=9, max_size=14).map(" ".join),
    st.sampled_from(["", "Größe", "RED", "red dog", "\N{SNOWMAN}\x00"]),
)
KEYS = st.integers(0, 12).map("k{}".format)
RECORDS = st.lists(st.tuples(KEYS, TEXTS, st.integers(0, 3)), unique_by=lambda r: r[0], max_size=6)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["put texts", "put vectors", "import"]), RECORDS),
        st.tuples(st.sampled_from(["patch", "patch text"]), RECORDS),
        st.tuples(st.just("delete"), st.lists(KEYS, max_size=3)),
        st.tuples(st.just("optimize"), st.none()),
        st.tuples(st.just("reopen"), st.none()),
    ),
    max_size=8,
)


class Plain:
    """Encodes texts one by one: no batches, no memory of what was asked before."""

    def __init__(self, folder, dimension):
        self.encoder = open_encoder(folder)
        self.dimension = dimension
        self.known = {}

    def vector(self, text, purpose):
        if (text, purpose) not in self.known:
            found = self.encoder.encode(
                Inputs(Modality.TEXT, [text]), purpose=purpose, dimension=self.dimension
            )
            self.known[text, purpose] = found
        return self.known[text, purpose].vectors[0]

    def done(self, texts, purpose):
        """Tokens, and the places of what was truncated and chunked."""
        found = []
        for text in texts:
            self.vector(text, purpose)
            found.append(self.known[text, purpose])
        return (
            sum(one.tokens for one in found),
            tuple(place for place, one in enumerate(found) if one.truncated),
            tuple(place for place, one in enumerate(found) if one.chunked),
        )


@pytest.fixture(scope="module", params=[OverLong.TRUNCATE, OverLong.CHUNK])
def folder(request, tmp_path_factory):
    parent = tmp_path_factory.mktemp("encoders")
    prefixes = {"query_prefix": "the ", "document_prefix": "a "}
    make_text_encoder(parent / "tiny", over_long=request.param, **prefixes)
    return parent / "tiny"


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("SQUASH_ENCODER_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def same_report(report, plain, texts, purpose):
    """What the index says of its encoding is what the encoder did."""
    assert (report.tokens, report.truncated, report.chunked) == plain.done(texts, purpose)


class Pair:
    """An index and its model."""

    def __init__(self, folder, metric, dimension, text_key):
        self.where = f"memory://text-{next(NUMBERS)}"
        self.db = squash.connect(self.where)
        self.db.encoders.add(folder)
        self.index = self.db.create_index(
            "x", encoder="tiny", metric=metric, dimension=dimension, text_key=text_key
        )
        self.plain = Plain(folder, dimension)
        self.model = ModelIndex(metric)
        self.text_key = text_key

    def note(self, text, number):
        return {"n": number} | ({self.text_key: text} if self.text_key else {})

    def vectors(self, texts):
        found = [self.plain.vector(text, Purpose.DOCUMENT) for text in texts]
        return np.array(found, np.float32).reshape(len(texts), self.plain.dimension)

    def put(self, how, records):
        keys = [key for key, _, _ in records]
        texts = [text for _, text, _ in records]
        given = [{"n": number} for _, _, number in records]
        whole = [self.note(text, number) for _, text, number in records]
        if how == "put texts":
            report = self.index.put(keys=keys, texts=texts, metadata=given).encoding
            same_report(report, self.plain, texts, Purpose.DOCUMENT)
        elif how == "put vectors":
            vectors = self.vectors(texts)
            self.index.put(keys=keys, vectors=vectors, metadata=whole, encoder="tiny")
        else:
            self.bring(keys, texts, given, whole)
        self.model.put(keys, self.vectors(texts), whole)

    def bring(self, keys, texts, given, whole):
        """Import: the first half as texts, the second as vectors."""
        half = len(keys) // 2
        batches = [
            InputBatch(keys[:half], Inputs(Modality.TEXT, texts[:half]), given[:half]),
            RowBatch(keys[half:], self.vectors(texts[half:]), whole[half:]),
        ]
        report = self.index.import_batches(batches, encoder="tiny").encoding
        same_report(report, self.plain, texts[:half], Purpose.DOCUMENT)

    def patch(self, records):
        there = [record for record in records if record[0] in self.model.rows]
        keys = [key for key, _, _ in there]
        patches = [{"n": number} for _, _, number in there]
        self.index.patch(keys=keys, metadata=patches)
        self.model.patch(keys, patches)

    def patch_text(self, records):
        """Refused where texts are kept; else it is as any other metadata."""
        there = [record for record in records if record[0] in self.model.rows]
        keys = [key for key, _, _ in there]
        patches = [{"text": text} for _, text, _ in there]
        if self.text_key == "text" and keys:
            with pytest.raises(InvalidArgumentError):
                self.index.patch(keys=keys, metadata=patches)
        else:
            self.index.patch(keys=keys, metadata=patches)
            self.model.patch(keys, patches)

    def check(self, texts, filter_):
        """Queries by text are those by the vector of the text, and exact ones leave nothing out."""
        for text in texts:
            query = self.plain.vector(text, Purpose.QUERY)
            answer = self.index.query(text=text, top_k=5, filter=filter_, exact=True)
            self.near(answer, query, 5, filter_)
            by_vector = self.index.query(query, top_k=5, filter=filter_, exact=True)
            self.model.check_exact(by_vector, query, 5, filter_)
            assert by_vector.encoding is None
            _, truncated, chunked = self.plain.done([text], Purpose.QUERY)
            assert (answer.encoding.truncated, answer.encoding.chunked) == (truncated, chunked)
        many = self.index.query_many(texts=texts, top_k=5, filters=filter_)
        for text, answer in zip(texts, many, strict=True):
            self.near(answer, self.plain.vector(text, Purpose.QUERY), 5, filter_)

    def near(self, answer, query, k, filter_):
        """The model's, but for the last bits, in which runs of several texts may differ."""
        true = self.model.query(query, k, filter_)
        passing = set(self.model.passing(filter_))
        assert len(answer.matches) == len(true)
        for match, (distance, _) in zip(answer.matches, true, strict=True):
            assert match.key in passing
            assert match.distance == pytest.approx(distance, abs=1e-3)

    def same_records(self):
        records = self.index.list(limit=1000, include=("metadata", "vector")).records
        assert sorted(record.key for record in records) == sorted(self.model.rows)
        for record in records:
            vector, metadata = self.model.rows[record.key]
            assert record.metadata == metadata
            np.testing.assert_allclose(record.vector, vector, atol=1e-5)
            # From here on the model holds what is stored, to the last bit.
            self.model.rows[record.key] = (record.vector, metadata)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    steps=STEPS,
    metric=st.sampled_from(["cosine", "euclidean", "dot"]),
    dimension=st.sampled_from([DIMENSION, 8]),
    text_key=st.sampled_from(["text", "wörds", None]),
    asked=st.lists(TEXTS, min_size=1, max_size=4),
)
def test_any_history_of_texts(folder, steps, metric, dimension, text_key, asked):
    """Puts of texts and of their vectors, imports, patches, deletions, folds: all agree."""
    pair = Pair(folder, metric, dimension, text_key)
    for what, given_ in steps:
        if what == "patch":
            pair.patch(given_)
        elif what == "patch text":
            pair.patch_text(given_)
        elif what == "delete":
            pair.index.delete(keys=given_)
            pair.model.delete(given_)
        elif what == "optimize":
            pair.index.optimize(options=SMALL)
        elif what == "reopen":
            pair.index = squash.connect(pair.where).index("x")
        else:
            pair.put(what, given_)
        pair.same_records()
        pair.check(asked[:1], {"n": {"$lte": 1}})
    pair.check(asked, None)
    assert pair.index.verify().damages == ()


@settings(max_examples=25, deadline=None)
@given(texts=st.lists(TEXTS, min_size=2, max_size=30), seed=st.integers(0, 1000))
def test_a_vector_does_not_depend_on_its_company(folder, texts, seed):
    """Put together, one by one, in another order, or asked for alone: cosines are 1."""
    db = squash.connect(f"memory://text-{next(NUMBERS)}")
    db.encoders.add(folder)
    index = db.create_index("x", encoder="tiny", metric="dot")
    order = np.random.default_rng(seed).permutation(len(texts))
    index.put(keys=[f"a{i}" for i in range(len(texts))], texts=texts)
    index.put(keys=[f"b{i}" for i in order], texts=[texts[i] for i in order])
    for i in (0, len(texts) - 1):
        index.put(keys=[f"c{i}"], texts=[texts[i]])
    stored = {r.key: r.vector for r in index.list(limit=1000, include=("vector",)).records}
    for i in range(len(texts)):
        assert stored[f"a{i}"] @ stored[f"b{i}"] >= 1 - 1e-6
    for i in (0, len(texts) - 1):
        assert stored[f"a{i}"] @ stored[f"c{i}"] >= 1 - 1e-6
