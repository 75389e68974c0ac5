"""Text in, answers out: the built artefacts in the local cloud, from HTTP to the encoder."""

from __future__ import annotations

from http import HTTPStatus

import numpy as np
import pytest
from test_system_deployment import Asking, counted

from deployed import deployed
from squash.local import Fault, FaultKind
from tiny_encoders import DIMENSION, TOKENS_MAX, WORDS, make_dual_encoder, make_text_encoder

NOTES = "/v1/indexes/notes"
ENCODER = "*-encoder"
COUNT = 120


def texts(seed, count):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, size=rng.integers(1, 9))) for _ in range(count)]


TEXTS = texts(1, COUNT)
QUERIES = texts(2, 8)


@pytest.fixture(scope="module", autouse=True)
def _environment(tmp_path_factory):
    """`deployed` tells this process where S3 is; afterwards it is told nothing."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
            patch.setenv(name, "local")
        patch.setenv("SQUASH_ENCODER_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def place(artefacts, tmp_path_factory):
    """A deployment with two encoders added; every call of a warm container is told as such."""
    folder = tmp_path_factory.mktemp("encoders")
    make_text_encoder(folder / "tiny")
    make_dual_encoder(folder / "dual")
    options = {"build": artefacts.folder, "s3_proxy": True, "s3_memory": True}
    # Each container has a /tmp of its own in Lambda; here it is the machine's.
    cache = {"SQUASH_ENCODER_CACHE": str(folder / "fetched")}
    with deployed(environment=cache, **options) as found:
        database = found.database()
        for name in ("tiny", "dual"):
            database.encoders.add(folder / name)
        yield found


@pytest.fixture(scope="module")
def asking(place):
    """An index made over HTTP, with the texts put over HTTP."""
    asking = Asking(place)
    body = {"name": "notes", "encoder": "tiny", "attributes": {"year": "number"}}
    assert asking.ok("POST", "/v1/indexes", body)["dimension"] == DIMENSION
    records = [
        {"key": f"n{i}", "text": text, "metadata": {"year": 2000 + i % 20}}
        for i, text in enumerate(TEXTS)
    ]
    with counted(place) as counts:
        done = asking.ok("POST", f"{NOTES}/vectors", {"vectors": records})
    assert done["rows"] == COUNT
    assert done["encoding"]["tokens"] == sum(len(text.split()) + 2 for text in TEXTS)
    assert counts["s3"]
    return asking


@pytest.fixture(autouse=True)
def _undisturbed(place):
    yield
    place.cloud.set_faults(())


def test_answers_are_those_of_one_process(place, asking):
    """With the filter held, and distances as this process encodes and measures them."""
    index = place.database().index("notes")
    for filter_ in (None, {"year": {"$gte": 2010}}):
        more = {} if filter_ is None else {"filter": filter_}
        body = {"queries": [{"text": text} for text in QUERIES], "top_k": 5, **more}
        answers = asking.ok("POST", f"{NOTES}/query", body)["answers"]
        alone = index.query_many(texts=QUERIES, top_k=5, filters=filter_)
        for one, other in zip(answers, alone, strict=True):
            assert [m["key"] for m in one["matches"]] == [m.key for m in other.matches]
            near = [m["distance"] for m in one["matches"]]
            assert near == pytest.approx([m.distance for m in other.matches], abs=1e-6)
            assert filter_ is None or all(m["metadata"]["year"] >= 2010 for m in one["matches"])
    for i in (0, 7):  # the vectors that were put are those that this process makes
        (record,) = asking.ok("POST", f"{NOTES}/vectors/get", {"keys": [f"n{i}"]})["records"]
        assert record["metadata"]["text"] == TEXTS[i]
        (found,) = index.query(text=TEXTS[i], top_k=1).matches
        assert found.distance == pytest.approx(0, abs=1e-6)
        assert np.linalg.norm(record["vector"]) == pytest.approx(1, abs=1e-6)


def test_a_strong_read_sees_the_text_just_put(asking):
    record = {"key": "new", "text": "horse horse wheel", "metadata": {"year": 2030}}
    asking.ok("POST", f"{NOTES}/vectors", {"vectors": [record]})
    found = asking.ok("POST", f"{NOTES}/query", {"text": record["text"], "top_k": 1})
    assert found["matches"][0]["key"] == "new"
    asking.ok("POST", f"{NOTES}/vectors/delete", {"keys": ["new"]})


def test_usage_tells_of_the_encoder_and_a_query_is_remembered(place, asking):
    """Encoding is an invocation, cold or warm; the same question again needs none."""
    asked = {"text": "quick salt sings", "consistency": "eventual"}
    asking.ok("POST", f"{NOTES}/query", {"text": "wake up"})
    first = asking.ok("POST", f"{NOTES}/query", asked)
    assert first["usage"]["invocations"] == 1
    assert first["usage"]["invocations_cold"] == 0
    assert first["usage"]["gb_seconds"] >= 0
    assert first["encoding"]["tokens"] == 5
    for _ in range(5):  # by then one comes to a container that knows it
        again = asking.ok("POST", f"{NOTES}/query", asked)
        assert again["matches"] == first["matches"]
        if again["usage"]["invocations"] == 0:
            break
    assert (again["usage"]["invocations"], again["encoding"]["tokens"]) == (0, 0)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(FaultKind.KILL, target=ENCODER, count=1),
        Fault(FaultKind.THROTTLE, target=ENCODER, count=2),
    ],
    ids=["killed", "throttled"],
)
def test_an_encoder_that_fails_once_is_not_seen(place, asking, fault):
    """The answer is right still, by a container that started anew."""
    text = f"dog cat horse {fault.kind.value}"
    place.cloud.evict_idle()  # so that none but a new one can stand in
    place.cloud.set_faults([fault])
    found = asking.ok("POST", f"{NOTES}/query", {"text": text, "top_k": 3})
    alone = place.database().index("notes").query(text=text, top_k=3)
    assert [one["key"] for one in found["matches"]] == [one.key for one in alone.matches]
    if fault.kind is FaultKind.KILL:
        assert found["usage"]["invocations_cold"] == 1


def test_an_encoder_that_stays_away_is_told(place, asking):
    """No answer is made up, and nothing is written."""
    before = asking.ok("GET", f"{NOTES}/stats")["snapshot"]
    place.cloud.set_faults([Fault(FaultKind.KILL, target=ENCODER, count=99)])
    status, problem = asking.answer("POST", f"{NOTES}/query", {"text": "bread milk away"})
    assert status == HTTPStatus.SERVICE_UNAVAILABLE, problem
    body = {"vectors": [{"key": "lost", "text": "bread"}]}
    assert asking.answer("POST", f"{NOTES}/vectors", body)[0] == HTTPStatus.SERVICE_UNAVAILABLE
    place.cloud.set_faults(())
    assert asking.ok("GET", f"{NOTES}/stats")["snapshot"] == before


def test_long_and_bad_input_is_told_by_its_place(asking):
    long = {"key": "long", "text": "red " * (TOKENS_MAX + 5)}
    body = {"vectors": [{"key": "short", "text": "red"}, long]}
    assert asking.ok("POST", f"{NOTES}/vectors", body)["encoding"]["truncated"] == [1]
    asking.ok("POST", f"{NOTES}/vectors/delete", {"keys": ["short", "long"]})
    body = {"vectors": [{"key": "a", "text": "red"}, {"key": "b", "text": 1}]}
    status, problem = asking.answer("POST", f"{NOTES}/vectors", body)
    assert (status, problem["field"]) == (HTTPStatus.BAD_REQUEST, "vectors[1].text")
    status, problem = asking.answer("POST", "/v1/indexes", {"name": "no", "encoder": "absent"})
    assert status == HTTPStatus.NOT_FOUND, problem


def test_images_are_found_by_words(place, asking):
    """The same function encodes images, by the dual encoder that another index pins."""
    import base64
    import io

    from PIL import Image

    asking.ok("POST", "/v1/indexes", {"name": "pictures", "encoder": "tiny-dual"})
    records = []
    for colour in ("red", "green", "blue"):
        out = io.BytesIO()
        Image.new("RGB", (20, 12), colour).save(out, "PNG")
        image = {"base64": base64.b64encode(out.getvalue()).decode()}
        records.append({"key": colour, "image": image})
    asking.ok("POST", "/v1/indexes/pictures/vectors", {"vectors": records})
    for one in records:
        for asked in ({"text": one["key"]}, {"image": one["image"]}):
            body = {**asked, "top_k": 1}
            found = asking.ok("POST", "/v1/indexes/pictures/query", body)
            assert found["matches"][0]["key"] == one["key"]
