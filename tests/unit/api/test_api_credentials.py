"""API keys: made, kept as hashes, expiring, revoked; and what each lets its bearer do."""

from __future__ import annotations

import hashlib
import hmac
import json

import pytest
from api_world import NOW_MS, HandClock, World
from hypothesis import example, given
from hypothesis import strategies as st

from squash import limits
from squash.api import access, credentials
from squash.api.access import Caller
from squash.api.routes import ROUTES, Scope
from squash.api.signing_keys import SigningKey
from squash.errors import DataError, InvalidArgumentError, NotFoundError, SquashError
from squash.index import catalogue
from squash.index.sealed import document_checksum
from squash.storage import MemoryStore

Q = "/v1/indexes/papers/query"
BODY = {"vector": [1, 0]}


def create(store, **changes):
    wanted = {"scopes": ["read"], "indexes": ["*"], "clock": HandClock()} | changes
    return credentials.create_key(store, **wanted)


def test_only_the_hash_of_a_secret_is_stored():
    """From 32 random bytes; what is stored tells neither the token nor the secret."""
    store = MemoryStore()
    drawn = iter([bytes(range(32)), b"\xab" * 8])
    made = create(store, random_bytes=lambda count: next(drawn)[:count])
    assert made.token == "sqk_" + "ab" * 8 + "_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
    ((key, (data, _)),) = store._objects.items()
    assert key == "_keys/" + "ab" * 8
    # It may have any character of base64, "_" among them.
    secret = made.token.split("_", 2)[2]
    assert secret.encode() not in data
    assert json.loads(data)["secret_sha256"] == hashlib.sha256(secret.encode()).hexdigest()
    assert credentials.list_keys(store) == [made.record]


def test_keys_are_drawn_anew():
    tokens = {create(MemoryStore()).token for _ in range(50)}
    assert len(tokens) == 50
    assert all(credentials.parse_token(token) for token in tokens)


def test_no_index_can_lie_where_keys_do():
    """The folder's name names no index, and is none in any listing."""
    world = World()
    with pytest.raises(InvalidArgumentError):
        catalogue.check_index_name(credentials.FOLDER.rstrip("/"))
    assert world.database.list_indexes() == []
    with pytest.raises(NotFoundError) as caught:
        world.database.index("keys")
    assert "_keys" not in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"scopes": []}, {"scopes": ["root"]}, {"indexes": []}, {"indexes": ["Papers"]},
        {"indexes": ["a*b"]}, {"indexes": ["**"]}, {"indexes": [""]}, {"indexes": ["../x"]},
        {"indexes": ["a"] * 65}, {"lifetime_ms": 0}, {"description": "x" * 257},
        {"row_filter": {}}, {"row_filter": {"a": {"$x": 1}}},
        {"row_filter": {"a": 1}, "scopes": ["read", "write"]},
        {"row_filter": {"a": 1}, "scopes": ["admin"]},
        {"row_filter": {"$or": [{"a": i} for i in range(200)]}},
        {"indexes": ["media/"]}, {"indexes": ["media*/a"]}, {"indexes": ["*/a"]},
        {"indexes": ["/a"]}, {"indexes": ["media/a/b"]}, {"indexes": ["media/**"]},
        {"indexes": ["me/abc"]}, {"indexes": ["media/A*"]}, {"indexes": ["media/-*"]},
        {"indexes": ["media/../x"]}, {"indexes": ["media/ab"]},
    ],
)  # fmt: skip
def test_what_no_key_can_be_is_refused_and_not_stored(changes):
    store = MemoryStore()
    with pytest.raises(SquashError):
        create(store, **changes)
    assert not store._objects


@pytest.mark.parametrize(
    "damage",
    [
        lambda c: c | {"scopes": ["admin"]}, lambda c: c | {"indexes": ["*", "x"]},
        lambda c: c | {"expires_ms": None}, lambda c: c | {"version": 2}, lambda c: {},
        lambda c: [c], lambda c: {n: v for n, v in c.items() if n != "row_filter"},
        lambda c: c | {"row_filter": None}, lambda c: c | {"signing_key": "0" * 16},
    ],
)  # fmt: skip
def test_a_damaged_key_lets_nobody_in(damage):
    """It is the service's failure, and not a key that allows more."""
    world = World()
    token = world.key("read", row_filter={"a": 1}, lifetime_ms=1_000)
    place = "_keys/" + token.split("_")[1]
    content = json.loads(world.store.get(place))
    world.store.put(place, json.dumps(damage(content)).encode())
    answer = world.ask("GET", "/v1/indexes", key=token)
    assert (answer.status, answer.kind[:3]) in {(500, "dam"), (500, "che"), (500, "uns")}
    with pytest.raises(DataError):
        credentials.list_keys(world.store)


def test_no_credential_no_answer(papers):
    """By every route but health, and the same for paths and indexes that are not there."""
    before = papers.stored()
    for route in ROUTES:
        for index in ("papers", "none", ".."):
            path = route.path.replace("{index}", index)
            answer = papers.ask(route.method, path, {}, key="")
            if route.scope is None:
                assert answer.status == 200
                continue
            assert (answer.status, answer.kind) == (401, "unauthenticated")
            assert answer.headers["www-authenticate"] == 'Bearer realm="squash"'
    assert papers.stored() == before


@pytest.mark.parametrize(
    "bad",
    [
        "x", "sqk_", "sqk_0123456789abcdef_", "sqk_0123456789abcdef_" + "A" * 43,
        "sqk_" + "g" * 16 + "_" + "A" * 43, "sqk_../../x_" + "A" * 43, "\u00e9",
        "sqk_" + "a" * 10_000,
    ],
)  # fmt: skip
def test_unknown_tokens_are_refused_alike(papers, bad):
    answer = papers.ask("POST", Q, BODY, key=bad)
    assert answer.status == 401
    assert "invalid_token" in answer.headers["www-authenticate"]
    expected = papers.ask("POST", Q, BODY, key="sqk_" + "0" * 16 + "_" + "B" * 43)
    assert answer.document == expected.document


def test_a_key_with_another_secret_is_refused_in_the_same_words(papers):
    wrong = papers.admin[:-1] + ("A" if papers.admin[-1] != "A" else "B")
    answer = papers.ask("POST", Q, BODY, key=wrong)
    unknown = papers.ask("POST", Q, BODY, key="sqk_" + "0" * 16 + "_" + "B" * 43)
    assert (answer.status, answer.document) == (401, unknown.document)


def test_secrets_are_compared_in_constant_time_whether_there_is_a_key_or_not(papers, monkeypatch):
    """One comparison of two digests for a right, a wrong, an unknown and a malformed token."""
    compared = []
    real = hmac.compare_digest
    monkeypatch.setattr(
        access.hmac, "compare_digest", lambda a, b: compared.append((len(a), len(b))) or real(a, b)
    )
    for token in (papers.admin, papers.admin[:-1] + "_", "sqk_" + "0" * 16 + "_" + "B" * 43, "x"):
        papers.ask("POST", Q, BODY, key=token)
    assert compared == [(64, 64)] * 4


def test_a_token_comes_in_either_header_but_is_one(papers):
    other = papers.key("read")
    assert papers.ask("POST", Q, BODY, key="", headers={"x-api-key": other}).status == 200
    assert papers.ask("POST", Q, BODY, key="", headers={"X-API-Key": other}).status == 200
    assert papers.ask("POST", Q, BODY, headers={"x-api-key": papers.admin}).status == 200
    assert papers.ask("POST", Q, BODY, headers={"x-api-key": other}).status == 401
    basic = {"authorization": f"Basic {other}"}
    assert papers.ask("POST", Q, BODY, key="", headers=basic).status == 401


def test_an_expired_key_is_refused_at_once(papers):
    """Also while it is known: only what is stored of it is kept, not that it is valid."""
    token = papers.key("read", lifetime_ms=1_000)
    assert papers.ask("POST", Q, BODY, key=token).status == 200
    papers.clock.ms = NOW_MS + 999
    assert papers.ask("POST", Q, BODY, key=token).status == 200
    papers.clock.ms = NOW_MS + 1_000
    assert papers.ask("POST", Q, BODY, key=token).status == 401


def test_a_revoked_key_is_refused_within_a_minute(papers):
    token = papers.key("read")
    assert papers.ask("POST", Q, BODY, key=token).status == 200
    credentials.revoke_key(papers.store, token.split("_")[1])
    papers.clock.ms += limits.KEY_KEPT_MS_MAX - 1
    assert papers.ask("POST", Q, BODY, key=token).status == 200
    papers.clock.ms += 1
    assert papers.ask("POST", Q, BODY, key=token).status == 401
    for key_id in (token.split("_")[1], "x", "../papers"):
        with pytest.raises(NotFoundError):
            credentials.revoke_key(papers.store, key_id)


def test_a_new_key_works_soon_though_it_was_asked_for_before_it_was_there(papers):
    token = papers.key("read")
    place = "_keys/" + token.split("_")[1]
    data = papers.store.get(place)
    papers.store.delete([place])
    assert papers.ask("POST", Q, BODY, key=token).status == 401
    papers.store.put(place, data)
    papers.clock.ms += limits.KEY_ABSENT_KEPT_MS_MAX
    assert papers.ask("POST", Q, BODY, key=token).status == 200


def test_what_is_kept_of_keys_is_bounded_and_unknown_ones_drive_out_none(papers):
    token = papers.key("read")
    assert papers.ask("POST", Q, BODY, key=token).status == 200
    for i in range(limits.KEYS_KEPT_MAX + 10):
        papers.gate.records.find(f"{i:016x}")
    assert len(papers.gate.records._unknown) == limits.KEYS_KEPT_MAX
    assert token.split("_")[1] in papers.gate.records._known


def test_a_clock_set_back_lets_nothing_be_known_for_longer(papers):
    token = papers.key("read")
    papers.ask("POST", Q, BODY, key=token)
    credentials.revoke_key(papers.store, token.split("_")[1])
    papers.clock.ms -= 1
    assert papers.ask("POST", Q, BODY, key=token).status == 401


@pytest.mark.parametrize(
    "damage",
    [
        lambda c: c | {"version": 1}, lambda c: c | {"version": 3}, lambda c: c | {"version": "2"},
        lambda c: c | {"signing_key": "x"}, lambda c: c | {"signing_key": None},
        lambda c: c | {"signing_key": 1},
    ],
)  # fmt: skip
def test_a_damaged_key_that_signs_lets_nobody_in(damage):
    """Though its checksum were right."""
    store = MemoryStore()
    made = create(store, signing_key=SigningKey(bytes(32)))
    place = f"_keys/{made.record.id}"
    content = damage(json.loads(store.get(place)))
    content["crc32"] = document_checksum(content)
    store.put(place, json.dumps(content).encode())
    with pytest.raises(DataError):
        credentials.load_key(store, made.record.id)


@pytest.mark.parametrize("held", [Scope.READ, Scope.WRITE, Scope.ADMIN])
def test_a_scope_allows_its_own_routes_alone(papers, held):
    """None includes another."""
    token = papers.key(held)
    before = papers.stored()
    for route in ROUTES:
        path = route.path.replace("{index}", "papers")
        answer = papers.ask(route.method, path, "{", key=token)
        if route.scope is not None and route.scope is not held:
            assert (answer.status, answer.kind) == (403, "permission-denied")
            assert held is Scope.ADMIN or papers.stored() == before


def test_a_key_is_for_its_indexes_whether_others_are_there_or_not(papers):
    """What it may not see answers alike, there or not; what it may see is listed alone."""
    papers.papers("other").papers("papers-2")
    token = papers.key("read", "write", "admin", indexes=["papers", "new-*"])
    before = papers.stored()
    for route in ROUTES:
        if "{index}" not in route.path:
            continue
        answers = [
            papers.ask(route.method, route.path.replace("{index}", name), {}, key=token)
            for name in ("other", "none", "papers-2")
        ]
        for answer in answers:
            assert (answer.status, answer.kind) == (403, "permission-denied")
            document = {**answer.document, "index": ""}
            assert document == {**answers[0].document, "index": ""}
    create = {"name": "other", "dimension": 2}
    assert papers.ask("POST", "/v1/indexes", create, key=token).status == 403
    assert papers.stored() == before
    listed = papers.ask("GET", "/v1/indexes", key=token).document["indexes"]
    assert [one["name"] for one in listed] == ["papers"]
    create = {"name": "new-1", "dimension": 2}
    assert papers.ask("POST", "/v1/indexes", create, key=token).status == 201
    assert papers.ask("POST", Q, BODY, key=token).status == 200


STEMS = st.text("ab-", min_size=1, max_size=4)
BUCKETS = st.sampled_from(["", "a/", "ab/", "b/"])
NAMES = st.builds(str.__add__, BUCKETS, STEMS)
PATTERNS = st.lists(
    st.one_of(
        st.tuples(NAMES, st.booleans()), st.tuples(BUCKETS.filter(bool), st.just(value=True))
    ),
    max_size=3,
)


@given(patterns=PATTERNS, name=NAMES)
@example(patterns=[("a", True)], name="ab/a")
@example(patterns=[("ab/a", True)], name="ab/a-")
def test_patterns_mean_what_they_say(patterns, name):
    """What has no slash is for no index in a vector bucket, though that's name begins so."""
    caller = Caller("x", indexes=tuple(stem + "*" * star for stem, star in patterns))
    expected = any(
        (name[: len(stem)] == stem and ("/" in stem) == ("/" in name)) if star else name == stem
        for stem, star in patterns
    )
    assert caller.sees(name) == expected
    bucket = name.partition("/")[0]
    reaches = any(stem.startswith(f"{bucket}/") for stem, _ in patterns)
    assert caller.sees_bucket(bucket) == reaches
    assert caller.sees_all_of(bucket) == ((f"{bucket}/", True) in patterns)


def test_a_star_is_for_every_index_in_vector_buckets_and_outside():
    caller = Caller("x")
    assert caller.sees("papers")
    assert caller.sees("media/papers")
    assert caller.sees_bucket("media")
    assert caller.sees_all_of("media")


BUCKET_PATTERNS = ["media/*", "media/a.b", "my.media-1/pre*", "media/a-*", "media/p.*"]


@pytest.mark.parametrize("pattern", BUCKET_PATTERNS)
def test_a_key_can_be_for_indexes_in_a_vector_bucket(pattern):
    store = MemoryStore()
    made = create(store, indexes=["papers", pattern])
    assert credentials.load_key(store, made.record.id).indexes == ("papers", pattern)


def test_an_older_release_reads_the_keys_that_it_could_have_made():
    """What it could not have made has a version that it refuses, and so says that it is newer."""
    store = MemoryStore()

    def version(**changes):
        made = create(store, **changes)
        content = json.loads(store.get(f"_keys/{made.record.id}"))
        assert credentials.load_key(store, made.record.id) == made.record
        assert ("signing_key" in content) == ("signing_key" in changes)
        return content["version"]

    assert version() == version(indexes=["papers", "notes-*"]) == 1
    assert version(row_filter={"a": 1}, lifetime_ms=5) == 1
    assert version(indexes=["papers", "media/*"]) == 2
    assert version(signing_key=SigningKey(bytes(32))) == 2
