"""Texts and images over HTTP: encoded by the index's encoder, or refused with the place."""

import base64
import io

import pytest
from api_world import World
from PIL import Image

from squash import limits
from tiny_encoders import DIMENSION, TOKENS_MAX, make_dual_encoder, make_text_encoder

NOTES = [
    {"key": "a", "text": "red dog runs", "metadata": {"year": 2019}},
    {"key": "b", "text": "blue bird sings", "metadata": {"year": 2021}},
    {"key": "c", "text": "green fish", "metadata": {"year": 2024}},
]


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A store with two encoders, and an index of notes by the first."""
    monkeypatch.setenv("SQUASH_ENCODER_CACHE", str(tmp_path / "cache"))
    world = World()
    world.digest = make_text_encoder(tmp_path / "tiny")
    make_dual_encoder(tmp_path / "dual")
    for name in ("tiny", "dual"):
        world.database.encoders.add(tmp_path / name)
    created = world.ask("POST", "/v1/indexes", {"name": "notes", "encoder": "tiny"})
    assert created.status == 201, created.document
    world.created = created.document
    return world


def put(world, records, index="notes", **more):
    return world.ask("POST", f"/v1/indexes/{index}/vectors", {"vectors": records, **more})


def query(world, index="notes", **body):
    return world.ask("POST", f"/v1/indexes/{index}/query", body)


def picture(colour):
    out = io.BytesIO()
    Image.new("RGB", (16, 16), colour).save(out, "PNG")
    return {"base64": base64.b64encode(out.getvalue()).decode()}


def refused(answer, place, status=400):
    assert answer.status == status, answer.document
    assert answer.document.get("field") == place, answer.document
    return answer.document["detail"]


def test_an_index_says_its_encoder(world):
    """What was pinned is told when it is made, described and listed; others have none."""
    pin = {"name": "tiny", "digest": world.digest, "text_key": "text"}
    for document in (
        world.created,
        world.ask("GET", "/v1/indexes/notes").document,
        *world.ask("GET", "/v1/indexes").document["indexes"],
    ):
        assert document["encoder"] == pin
        assert (document["dimension"], document["metric"]) == (DIMENSION, "cosine")
        assert document["non_filterable"] == ["text"]
    plain = world.ask("POST", "/v1/indexes", {"name": "plain", "dimension": 2})
    assert plain.document["encoder"] is None


def test_texts_are_put_and_found(world):
    """The text is kept, the nearest is the one asked for, and what was encoded is told."""
    done = put(world, NOTES)
    assert done.status == 200, done.document
    encoding = done.document["encoding"]
    assert encoding["encoder"] == f"tiny@{world.digest[:12]}"
    assert encoding["tokens"] == sum(len(one["text"].split()) + 2 for one in NOTES)
    assert (encoding["truncated"], encoding["chunked"]) == ([], [])
    found = query(world, text="blue bird sings").document
    assert found["matches"][0]["key"] == "b"
    assert found["matches"][0]["metadata"] == {"year": 2021, "text": "blue bird sings"}
    assert found["matches"][0]["distance"] == pytest.approx(0, abs=1e-5)
    assert found["encoding"]["tokens"] == 5
    later = query(world, text="blue bird sings", filter={"year": {"$gte": 2022}}).document
    assert [one["key"] for one in later["matches"]] == ["c"]
    assert later["encoding"]["tokens"] == 0  # remembered


def test_several_texts_are_asked_at_once(world):
    put(world, NOTES)
    texts = [one["text"] for one in NOTES]
    queries = [{"text": text, "filter": {"year": {"$gte": 2020}}} for text in texts]
    many = query(world, queries=[*queries, {"text": texts[0]}], top_k=1).document["answers"]
    assert [one["matches"][0]["key"] for one in many[1:]] == ["b", "c", "a"]
    for one, text in zip(many, [*texts, texts[0]], strict=True):
        given = {} if one is many[3] else {"filter": {"year": {"$gte": 2020}}}
        alone = query(world, text=text, top_k=1, **given).document
        assert one["matches"] == alone["matches"]


def test_what_is_cut_is_told(world):
    """Records and queries longer than the encoder takes are named by their place."""
    long = {"key": "long", "text": "red " * TOKENS_MAX}
    assert put(world, [*NOTES, long]).document["encoding"]["truncated"] == [3]
    assert query(world, text=long["text"]).document["encoding"]["truncated"] == [0]
    many = query(world, queries=[{"text": "red"}, {"text": "blue " + long["text"]}]).document
    assert [one["encoding"]["truncated"] for one in many["answers"]] == [[], [1]]


def test_images_are_put_and_found_by_text(world):
    """A dual encoder's index takes images, and finds them by words and by images."""
    world.ask("POST", "/v1/indexes", {"name": "pictures", "encoder": "tiny-dual"})
    colours = ("red", "green", "blue")
    records = [{"key": one, "image": picture(one)} for one in colours]
    assert put(world, records, "pictures").status == 200
    for colour in ("red", "blue"):
        for asked in ({"text": colour}, {"image": picture(colour)}):
            found = query(world, "pictures", top_k=1, **asked)
            assert found.document["matches"][0]["key"] == colour, found.document
    many = query(world, "pictures", queries=[{"image": picture(one)} for one in colours], top_k=1)
    assert [one["matches"][0]["key"] for one in many.document["answers"]] == list(colours)


@pytest.mark.parametrize(
    ("body", "place", "status"),
    [
        ({"name": "x"}, "dimension", 400),
        ({"name": "x", "encoder": "none"}, None, 404),
        ({"name": "x", "encoder": ""}, "encoder", 400),
        ({"name": "x", "encoder": 5}, "encoder", 400),
        ({"name": "x", "encoder": "tiny", "dimension": 3}, "dimension", 400),
        ({"name": "x", "dimension": 3, "text_key": "t"}, "text_key", 400),
        ({"name": "x", "encoder": "tiny", "text_key": "$t"}, "text_key", 400),
        ({"name": "x", "encoder": "tiny", "attributes": {"text": "string"}}, "text_key", 400),
    ],
)
def test_an_index_that_cannot_be(world, body, place, status):
    refused(world.ask("POST", "/v1/indexes", body), place, status)
    assert world.ask("GET", "/v1/indexes/x").status == 404


def test_no_text_is_kept_if_none_is_wanted(world):
    body = {"name": "bare", "encoder": "tiny", "text_key": None}
    assert world.ask("POST", "/v1/indexes", body).document["encoder"]["text_key"] is None
    put(world, NOTES, "bare")
    found = query(world, "bare", text="green fish", top_k=1).document["matches"][0]
    assert (found["key"], found["metadata"]) == ("c", {"year": 2024})


VECTOR = [0.25] * DIMENSION


@pytest.mark.parametrize(
    ("records", "place"),
    [
        ([{"key": "x"}], "vectors[0].vector"),
        ([{"key": "x", "text": "a", "vector": VECTOR}], "vectors[0].text"),
        ([NOTES[0], {"key": "x", "vector": VECTOR}], "vectors[1].vector"),
        ([NOTES[0], NOTES[1], {"key": "x", "image": {"base64": ""}}], "vectors[2].image"),
        ([NOTES[0], {"key": "x", "text": 5}], "vectors[1].text"),
        ([NOTES[0], {"key": "x", "text": None}], "vectors[1].text"),
        ([{"key": "x", "image": "no object"}], "vectors[0].image"),
        ([{"key": "x", "image": {"base64": "!"}}], "vectors[0].image.base64"),
        ([NOTES[0], {"key": "x", "text": "b", "metadata": {"text": "c"}}],
         "vectors[1].metadata.text"),
        ([{"key": "x", "vector": VECTOR}], "encoder"),
        ([{"key": "x", "image": {"base64": "AAAA"}}], "vectors[0].image"),
    ],
)  # fmt: skip
def test_records_that_are_refused(world, records, place):
    """A batch is of one kind; what is wrong is named by its place; nothing is written."""
    before = world.stored()
    detail = refused(put(world, records), place)
    assert "texts[" not in detail
    assert "images[" not in detail
    assert world.stored() == before


def test_a_picture_that_is_none_is_refused_by_its_place(world):
    world.ask("POST", "/v1/indexes", {"name": "pictures", "encoder": "tiny-dual"})
    records = [{"key": "a", "image": picture("red")}, {"key": "b", "image": {"base64": "AAAA"}}]
    detail = refused(put(world, records, "pictures"), "vectors[1].image")
    assert "images[" not in detail
    detail = refused(query(world, "pictures", image={"base64": "AAAA"}), "image")
    assert "images[" not in detail
    queries = [{"image": picture("red")}, {"image": {"base64": "AAAA"}}]
    refused(query(world, "pictures", queries=queries), "queries[1].image")


def test_vectors_say_what_made_them(world):
    """An index with an encoder takes its own vectors, by name or digest, and no others."""
    record = [{"key": "x", "vector": VECTOR}]
    for encoder in ("tiny", f"tiny@{world.digest[:8]}", world.digest):
        assert put(world, record, encoder=encoder).status == 200
    for encoder in ("tiny-dual", "tiny@" + "0" * 8, "x" * 300, 5, ""):
        refused(put(world, record, encoder=encoder), "encoder")
    world.ask("POST", "/v1/indexes", {"name": "plain", "dimension": DIMENSION})
    refused(put(world, record, "plain", encoder="tiny"), "encoder")
    assert query(world, vector=VECTOR).status == 200
    assert query(world, vector=VECTOR, encoder="tiny").status == 200
    refused(query(world, vector=VECTOR, encoder="tiny-dual"), "encoder")
    assert "encoding" not in query(world, vector=VECTOR).document


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({}, "vector"),
        ({"text": "a", "vector": VECTOR}, "text"),
        ({"text": "a", "queries": [{"text": "a"}]}, "text"),
        ({"text": 5}, "text"),
        ({"text": "\ud800"}, "text"),
        ({"queries": [{"text": "a"}, {"vector": VECTOR}]}, "queries[1].vector"),
        ({"queries": [{"text": "a"}, {}]}, "queries[1].vector"),
        ({"queries": [{"text": "a"}, {"text": ["b"]}]}, "queries[1].text"),
        ({"image": {"base64": "AAAA"}}, "image"),
        ({"text": "a", "filter": {"text": "b"}}, "filter.text"),
    ],
)
def test_queries_that_are_refused(world, body, place):
    put(world, NOTES)
    refused(query(world, **body), place)


def test_an_index_without_an_encoder_takes_no_texts(world):
    """It says what to do instead, and where."""
    world.ask("POST", "/v1/indexes", {"name": "plain", "dimension": 2})
    assert "encoder" in refused(query(world, "plain", text="a"), "text")
    assert "encoder" in refused(put(world, NOTES, "plain"), "vectors[0].text")
    refused(query(world, "plain", queries=[{"text": "a"}, {"text": "b"}]), "queries[0].text")


def test_limits_are_named(world):
    """Too many or too large is a 413 with the limit's value and the place."""
    many = [{"key": str(i), "text": "a"} for i in range(limits.VECTORS_PER_REQUEST_MAX + 1)]
    assert str(limits.VECTORS_PER_REQUEST_MAX) in refused(put(world, many), "vectors", 413)
    queries = [{"text": "a"}] * (limits.QUERIES_PER_REQUEST_MAX + 1)
    assert str(limits.QUERIES_PER_REQUEST_MAX) in refused(
        query(world, queries=queries), "queries", 413
    )
    long = "x" * (limits.TEXT_BYTES_MAX + 1)
    assert str(limits.TEXT_BYTES_MAX) in refused(query(world, text=long), "text", 413)
    records = [NOTES[0], {"key": "x", "text": long}]
    detail = refused(put(world, records), "vectors[1].text", 413)
    assert "texts[" not in detail
    image = {"base64": base64.b64encode(bytes(limits.IMAGE_BYTES_MAX + 1)).decode()}
    detail = refused(put(world, [{"key": "x", "image": image}]), "vectors[0].image.base64", 413)
    assert str(limits.IMAGE_BYTES_MAX) in detail


def test_a_text_is_changed_by_a_put(world):
    """A patch makes no vector, and says so with the place."""
    put(world, NOTES)
    patches = [
        {"key": "a", "metadata": {"year": 1}}, {"key": "b", "metadata": {"text": "other"}},
    ]  # fmt: skip
    answer = world.ask("POST", "/v1/indexes/notes/vectors/patch", {"patches": patches})
    assert "put" in refused(answer, "patches[1].metadata.text")


def test_an_encoder_that_is_gone_is_told(world):
    """An index whose encoder was removed says what is missing; its vectors are searched still."""
    world.database.encoders.remove("tiny", force=True)
    answer = put(world, NOTES)
    assert answer.status == 404, answer.document
    assert query(world, vector=VECTOR).status == 200
