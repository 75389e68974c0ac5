"""Callers of the S3 Vectors API: known by what they sign with, as long as their key is valid."""

from __future__ import annotations

import hmac
import json
import logging
from dataclasses import replace

import pytest
from api_world import NOW_MS, HandClock, World

from signing import signed_event
from squash import limits
from squash.api import credentials
from squash.api.access import IamGate, KeyGate, KeyRecords, OpenGate
from squash.api.environment import IN_THE_STORE, KeyPlace, PlaceKind
from squash.api.requests import request_of
from squash.api.routes import Scope
from squash.api.s3vectors import signing
from squash.api.s3vectors.gate import SigningGate, gate_beside
from squash.api.s3vectors.problems import ServiceError, refusal_of
from squash.api.signing_keys import SigningKey, SigningKeys, ensure_signing_key
from squash.errors import SquashError
from squash.index.sealed import document_checksum
from squash.storage import CountingStore, MemoryStore

MASTER = bytes(range(32))
FIRST = KeyPlace(PlaceKind.STORE, "key")
SECOND = KeyPlace(PlaceKind.STORE, "key-2")
UNRECOGNIZED = (403, "UnrecognizedClientException")
MISMATCH = (403, "InvalidSignatureException")


class Scene:
    """A store with a signing key, and a gate."""

    def __init__(self, places=IN_THE_STORE):
        self.store = MemoryStore()
        self.clock = HandClock()
        self.places = places
        self.signing_key = ensure_signing_key(places[0], self.store, data=MASTER)
        self.renew()

    def renew(self):
        """Forget what the gate knows, as a new container does."""
        records = KeyRecords(self.store, self.clock)
        self.gate = SigningGate(
            records, SigningKeys(self.places, self.store, self.clock), self.clock
        )

    def key(self, **changes):
        wanted = {"scopes": ["read"], "indexes": ["*"], "signing_key": self.signing_key} | changes
        return credentials.create_key(self.store, clock=self.clock, **wanted)

    def ask(self, made, **changes):
        """What the gate says: the caller, or a refusal's status, code."""
        wanted = {
            "key_id": made.record.access_key_id or f"SQKA{made.record.id.upper()}",
            "secret": made.secret,
            "at_ms": self.clock.ms,
        } | changes
        try:
            return self.gate.admit(request_of(signed_event(**wanted), fallback_id="r"))
        except SquashError as error:
            told = refusal_of(error)
            assert made.secret not in json.dumps(told.document)
            return told.status, told.code


@pytest.fixture
def scene():
    return Scene()


def test_a_caller_is_who_the_key_was_made_for(scene):
    """With the key's scopes, indexes and row filter, at both interfaces."""
    made = scene.key(indexes=["media/*", "papers"], row_filter={"team": "red"})
    caller = scene.ask(made)
    assert caller.name == made.record.id
    assert caller.scopes == {Scope.READ}
    assert caller.indexes == ("media/*", "papers")
    assert caller.row_filter == {"team": "red"}
    bearer = KeyGate(scene.store, scene.clock).admit(
        request_of(
            signed_event(key_id="x", secret="y")  # noqa: S106 - for its shape
            | {"headers": {"authorization": f"Bearer {made.token}"}},
            fallback_id="r",
        )
    )
    assert bearer == caller


def test_an_access_key_is_named_as_clients_expect_it(scene):
    """Twenty characters, and a secret of 43 that a token holds as well."""
    made = scene.key()
    assert made.record.access_key_id == "SQKA" + made.record.id.upper()
    assert len(made.record.access_key_id) == 20
    assert len(made.secret) == 43
    assert made.token == f"sqk_{made.record.id}_{made.secret}"
    assert credentials.parse_token(made.token) == (made.record.id, made.secret)


def test_nothing_of_a_secret_is_stored(scene):
    """Nor of what it is derived from, where that lies elsewhere."""
    made = scene.key()
    stored = {key: data for key, (data, _) in scene.store._objects.items()}
    del stored["_signing/key"]
    assert list(stored) == [f"_keys/{made.record.id}"]
    text = b"".join(stored.values())
    assert made.secret.encode() not in text
    assert MASTER.hex().encode() not in text
    assert json.loads(text)["signing_key"] == scene.signing_key.id
    assert MASTER.hex() not in repr(scene.signing_key)


def test_who_is_not_known_is_refused(scene):
    made, drawn = scene.key(), scene.key(signing_key=None)
    assert scene.ask(made, key_id="SQKA" + "0" * 16) == UNRECOGNIZED
    assert scene.ask(made, key_id="AKIAIOSFODNN7EXAMPLE") == UNRECOGNIZED
    assert scene.ask(made, key_id=made.record.id) == UNRECOGNIZED
    assert scene.ask(made, key_id=made.record.access_key_id.lower()) == UNRECOGNIZED
    assert scene.ask(made, secret=made.secret[:-1] + "~") == MISMATCH
    # A key whose secret was drawn signs nothing, though whoever has it knows its secret.
    assert drawn.record.access_key_id is None
    assert scene.ask(drawn) == UNRECOGNIZED
    assert scene.ask(scene.key(), secret=made.secret) == MISMATCH


def test_an_expired_key_is_refused_at_once(scene):
    made = scene.key(lifetime_ms=1_000)
    assert scene.ask(made).name == made.record.id
    scene.clock.ms += 1_000
    assert scene.ask(made) == UNRECOGNIZED


def test_a_revoked_key_is_refused_within_a_minute(scene):
    """Though its secret can be derived for ever."""
    made = scene.key()
    assert scene.ask(made).name == made.record.id
    credentials.revoke_key(scene.store, made.record.id)
    scene.clock.ms += limits.KEY_KEPT_MS_MAX
    assert scene.ask(made) == UNRECOGNIZED


def test_what_was_overheard_can_be_sent_again_for_minutes_only(scene):
    made = scene.key()
    began_ms = scene.clock.ms
    scene.clock.ms += 1000 * limits.SIGNATURE_SKEW_S_MAX
    assert scene.ask(made, at_ms=began_ms).name == made.record.id
    scene.clock.ms += 1000
    assert scene.ask(made, at_ms=began_ms) == MISMATCH


def test_as_much_is_done_for_a_key_that_is_not_there(scene, monkeypatch):
    """The same derivations and comparisons for a right, a wrong, an unknown and a malformed key."""
    made, done = scene.key(), []
    for name in ("compare_digest", "digest"):
        real = getattr(hmac, name)
        monkeypatch.setattr(
            signing.hmac, name, lambda *a, _n=name, _r=real: done.append((_n, len(a[1]))) or _r(*a)
        )
    counts, derived = [], len("squash access key v1\0") + 16
    for changes in ({}, {"secret": "x" * 43}, {"key_id": "SQKA" + "0" * 16}, {"key_id": "x" * 20}):
        done.clear()
        scene.ask(made, **changes)
        # That a key's secret is derived first is one more digest.
        counts.append([one for one in done if one != ("digest", derived)])
    assert counts[0]
    assert counts[1:] == [counts[0]] * 3


@pytest.mark.parametrize("other", [None, bytes(32)])
def test_a_signing_key_that_is_missing_or_another_is_told_to_the_operator_alone(
    scene, other, caplog
):
    """The caller is not known; the log says which key and where was looked."""
    made = scene.key()
    scene.store.delete(["_signing/key"])
    if other is not None:
        ensure_signing_key(FIRST, scene.store, data=other)
    with caplog.at_level(logging.ERROR, "squash"):
        assert scene.ask(made) == UNRECOGNIZED
    (line,) = caplog.messages
    assert made.record.id in line
    assert scene.signing_key.id in line
    assert "store:key" in line
    assert "SQUASH_SIGNING_KEY" in line
    assert made.secret not in line
    # Once it is back, it is found.
    scene.store.delete(["_signing/key"])
    ensure_signing_key(FIRST, scene.store, data=MASTER)
    scene.clock.ms += limits.SIGNING_KEY_ABSENT_KEPT_MS_MAX
    assert scene.ask(made).name == made.record.id


def test_a_record_with_the_hash_of_another_secret_lets_nobody_sign(scene, caplog):
    """Whoever writes to the bucket, without the signing key, makes no key that signs."""
    made, other = scene.key(), scene.key(signing_key=None)
    place = f"_keys/{made.record.id}"
    content = json.loads(scene.store.get(place))
    content["secret_sha256"] = other.record.secret_sha256
    content["crc32"] = document_checksum(content)
    scene.store.put(place, json.dumps(content).encode())
    assert scene.ask(made) == UNRECOGNIZED
    assert scene.ask(made, secret=other.secret) == UNRECOGNIZED
    assert len(caplog.messages) == 2


def test_signing_keys_stand_side_by_side():
    """New keys are made with the first place's, older ones go on until it is taken out."""
    scene = Scene(places=(FIRST,))
    old = scene.key()
    scene.places = (SECOND, FIRST)
    scene.signing_key = ensure_signing_key(SECOND, scene.store, data=bytes(32))
    scene.renew()
    new = scene.key()
    assert (scene.ask(old).name, scene.ask(new).name) == (old.record.id, new.record.id)
    scene.places = (SECOND,)
    scene.renew()
    assert scene.ask(old) == UNRECOGNIZED
    assert scene.ask(new).name == new.record.id


def test_what_is_known_is_not_read_again(scene):
    """A record for a minute, a signing key for good; unknown ids and lost keys for seconds."""
    made, lost = scene.key(), scene.key(signing_key=SigningKey(bytes(32)))
    counting = CountingStore(scene.store)
    scene.gate = SigningGate(
        KeyRecords(counting, scene.clock),
        SigningKeys(IN_THE_STORE, counting, scene.clock),
        scene.clock,
    )
    for _ in range(3):
        scene.ask(made)
    assert counting.counts().by_kind["get"] == 2
    for _ in range(3):
        scene.ask(lost)
    assert counting.counts().by_kind["get"] == 3
    for _ in range(3):
        scene.ask(made, key_id="SQKA" + "0" * 16)
    assert counting.counts().by_kind["get"] == 4
    scene.clock.ms += limits.SIGNING_KEY_ABSENT_KEPT_MS_MAX
    for _ in range(3):
        scene.ask(made)
        scene.ask(lost)
    assert counting.counts().by_kind["get"] == 5


def test_the_gate_beside_lets_in_whom_the_other_would(scene):
    """Anybody beside one that does; else who signs with keys of ours, also beside IAM's."""
    store, clock = scene.store, scene.clock
    anybody = gate_beside(OpenGate(), IN_THE_STORE, store=store, clock=clock)
    unsigned = request_of(signed_event(key_id="x", secret="y"), fallback_id="r")  # noqa: S106
    assert anybody.admit(unsigned).name == "anybody"
    page = replace(unsigned, headers={"origin": "https://evil.example"})
    with pytest.raises(ServiceError, match="Web pages"):
        anybody.admit(page)
    keys = KeyGate(store, clock)
    scene.gate = gate_beside(keys, IN_THE_STORE, store=store, clock=clock)
    assert scene.gate._records is keys.records
    made = scene.key()
    assert scene.ask(made).name == made.record.id
    scene.gate = gate_beside(IamGate(), IN_THE_STORE, store=store, clock=clock)
    assert scene.ask(made).name == made.record.id
    assert scene.ask(made, secret="x" * 43) == MISMATCH


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("path", ["/ListVectorBuckets", "/QueryVectors", "/tags/x", "/PutVectors"])
def test_no_signature_no_answer(method, path):
    """Whatever is asked, there or not, with another credential or none, nothing is told."""
    world = World()
    for headers in ({}, {"x-api-key": world.admin}):
        event = world.event(method, path, {}, key="", headers=headers)
        answers = [face(event, None) for face in world.faces.values()]
        for answer in answers:
            assert answer["statusCode"] == 403
            kind = answer["headers"]["x-amzn-ErrorType"]
            assert kind == "MissingAuthenticationTokenException"
            assert json.loads(answer["body"]) == {"message": "Missing Authentication Token"}
    assert world.clock.ms == NOW_MS


def test_nothing_of_a_secret_is_told(caplog):
    """Neither in the log nor in answers, whatever fails."""
    world = World()
    master = ensure_signing_key(FIRST, world.store)
    made = credentials.create_key(
        world.store, scopes=["read"], indexes=["*"], clock=world.clock, signing_key=master
    )
    parts = made.secret[:20], made.secret[20:]
    caplog.set_level(logging.DEBUG)
    for change in ({}, {"body": b"{"}, {"path": "/CreateIndex"}, {"at_ms": 0}, {"service": "s3"}):
        event = signed_event(
            **({"key_id": made.record.access_key_id, "secret": made.secret, "body": b"{}"} | change)
        )
        caplog.clear()  # of what botocore says of its signing
        answers = [face(event, None) for face in world.faces.values()]
        told = caplog.text + json.dumps(answers)
        assert not any(part in told for part in parts)
        assert event["headers"]["authorization"][-64:] not in told
