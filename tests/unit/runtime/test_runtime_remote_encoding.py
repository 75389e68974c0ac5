"""The encoder function and who calls it: what is divided, sent, lost and joined is as one call."""

import base64
import hashlib
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes import FakeClock
from simulated import START_MS, Cloud, Fate, fates
from squash.encoders.encoded import Encoded
from squash.errors import (
    DataError,
    InvalidArgumentError,
    NotFoundError,
    ThrottledError,
    TooLargeError,
    UnavailableError,
)
from squash.limits import IMAGE_BYTES_MAX, QUERY_TIMEOUT_MS, TEXT_BYTES_MAX
from squash.model import EncoderPin, Inputs, Modality, Purpose
from squash.runtime.encode_messages import (
    answer_rows_max,
    read_encoded,
    read_request,
    write_encoded,
    write_request,
)
from squash.runtime.encoder_role import EncoderRole, StoreMeter
from squash.runtime.encoders import EncoderRegistry
from squash.runtime.encoding import EncodedFor
from squash.runtime.local_encoding import EncoderFolders, LocalEncoding
from squash.runtime.remote_encoding import POLICY, CallLimits, RemoteEncoding, divide
from squash.search.spending import Spent
from squash.storage import CountingStore, MemoryStore

PIN = EncoderPin("tiny", "ab" * 32)
DIMENSION = 4
TEXTS = ["", "a", "zwei drei", "日本語", "\0\x1b\n", "x" * 40, "🙂🙂", "long " * 20]


class FakeEncoding:
    """Vectors of texts are of their bytes; those with an `l` are truncated, with a `z` chunked."""

    def __init__(self, refused=None, error=None):
        self.refused, self.error = refused, error
        self.seen = []

    def encode(self, pin, inputs, *, purpose, dimension, deadline_ms=None, told=None):
        self.seen.append((pin, inputs, purpose, deadline_ms))
        if self.error is not None:
            raise self.error
        data = [one if isinstance(one, bytes) else one.encode() for one in inputs.items]
        word = "texts" if inputs.modality is Modality.TEXT else "images"
        for i, one in enumerate(inputs.items):
            if one == self.refused:
                raise InvalidArgumentError(f"{word}[{i}] is bad", field=f"{word}[{i}]")
        vectors = np.zeros((len(data), dimension), np.float32)
        for i, one in enumerate(data):
            seed = hashlib.sha256(one + purpose.encode()).digest()
            vectors[i] = np.random.default_rng(list(seed)).standard_normal(dimension)
        return EncodedFor(
            Encoded(
                vectors,
                sum(map(len, data)),
                tuple(i for i, one in enumerate(data) if b"l" in one),
                tuple(i for i, one in enumerate(data) if b"z" in one),
            ),
            Spent(store_bytes=7),
        )


def world_of(encoding, *which, store=None):
    store = store or CountingStore(MemoryStore())

    def handle(world, event):
        return EncoderRole(encoding, lambda: StoreMeter(store), world.clock).handle(event)

    return Cloud({"encoder": handle}, fates(*which), POLICY).world()


def encode(world, items=TEXTS, *, limits=None, modality=Modality.TEXT, **more):
    options = {"purpose": Purpose.DOCUMENT, "dimension": DIMENSION, **more}
    return RemoteEncoding(world.calling, limits).encode(PIN, Inputs(modality, items), **options)


def same(one, other):
    assert one.vectors.dtype == np.float32
    assert np.array_equal(one.vectors, other.vectors)
    assert (one.tokens, one.truncated, one.chunked) == (
        other.tokens, other.truncated, other.chunked,
    )  # fmt: skip


def alone(items, modality=Modality.TEXT, purpose=Purpose.DOCUMENT, dimension=DIMENSION):
    inputs = Inputs(modality, items)
    return FakeEncoding().encode(PIN, inputs, purpose=purpose, dimension=dimension).encoded


def test_one_call_is_what_the_encoder_says():
    """Texts, purpose, dimension and digest reach the encoder as they are, and vectors come back."""
    encoding = FakeEncoding()
    world = world_of(encoding)
    found = encode(world, deadline_ms=START_MS + 5_000)
    same(found.encoded, alone(TEXTS))
    found.encoded.vectors[0] = 0  # they are the caller's own
    ((pin, inputs, purpose, deadline_ms),) = encoding.seen
    assert (pin.name, pin.digest, purpose) == (PIN.name, PIN.digest, Purpose.DOCUMENT)
    assert list(inputs.items) == TEXTS
    assert START_MS < deadline_ms < START_MS + 5_000
    assert (found.spent.invocations, found.spent.store_bytes) == (1, 7)
    assert found.spent.gb_seconds >= 0


def test_images_are_sent_as_they_are():
    encoding = FakeEncoding()
    images = [b"\x89PNG\0", b"", bytes(range(256))]
    found = encode(world_of(encoding), images, modality=Modality.IMAGE, purpose=Purpose.QUERY)
    same(found.encoded, alone(images, Modality.IMAGE, Purpose.QUERY))
    assert list(encoding.seen[0][1].items) == images


def test_nothing_is_no_call():
    world = world_of(FakeEncoding())
    found = encode(world, [])
    assert found.encoded.vectors.shape == (0, DIMENSION)
    assert found.spent == Spent()
    assert world.cloud.seen == []


@given(
    items=st.lists(st.text(max_size=30), max_size=25),
    tokens=st.integers(1, 40),
    size=st.integers(8, 120),
    at_once=st.integers(1, 4),
    bad=st.lists(st.sampled_from(["ok", "ok", "fail", "throttle"]), max_size=6),
)
@settings(deadline=None)
def test_any_division_is_as_one_call(items, tokens, size, at_once, bad):
    """Whatever a call may hold, and whatever becomes of it once, all is as if sent at once."""
    # Two failures after one another may be one call's, which then has none left.
    which = [Fate(kind) for one in bad for kind in (one, "ok")]
    world = world_of(FakeEncoding(), *which)
    told = []
    limits = CallLimits(tokens, size, at_once)
    found = encode(world, items, limits=limits, told=told.append)
    same(found.encoded, alone(items))
    assert told == sorted(told)
    assert not items or told[-1] == len(items)
    calls = [len(read_request_of(one)) for one in world.cloud.seen if one.fate.kind == "ok"]
    assert sum(calls) == len(items)


def read_request_of(seen):
    return read_request(base64.b64decode(json.loads(seen.payload)["body"])).inputs


@given(
    lengths=st.lists(st.integers(0, 400), max_size=60),
    tokens=st.integers(1, 500),
    size=st.integers(1, 2_000),
    image=st.booleans(),
)
def test_a_division_takes_every_input_once(lengths, tokens, size, image):
    """Calls follow each other, none is empty, and only an input alone passes a limit."""
    data = [bytes(length) for length in lengths]
    modality = Modality.IMAGE if image else Modality.TEXT
    calls = list(divide(data, modality, DIMENSION, CallLimits(tokens, size)))
    assert [place for begin, end in calls for place in range(begin, end)] == list(range(len(data)))
    for begin, end in calls:
        assert end > begin
        if end - begin > 1:
            assert sum(len(one) + 8 for one in data[begin:end]) <= size
            weights = [256 if image else len(one) // 3 + 2 for one in data[begin:end]]
            assert sum(weights) <= tokens


def test_an_answer_carries_what_a_call_asks_for():
    """Rows are as many as fit, at every dimension."""
    for dimension in (1, 16, 384, 4_096):
        rows = answer_rows_max(dimension)
        assert rows * dimension * 4 < 6 * 2**20 * 3 / 4
        calls = list(divide([b""] * (rows + 1), Modality.TEXT, dimension, CallLimits(tokens=10**9)))
        assert calls == [(0, rows), (rows, rows + 1)]
    encoded = Encoded(np.zeros((rows, 4_096), np.float32), 1, tuple(range(rows)))
    from squash.search.events import Answered, answer_event

    assert answer_event(Answered(write_encoded(encoded)))


def test_no_more_calls_at_once_than_may_be():
    """Of many calls only some are under way, and the next begins when the first is done."""
    world = world_of(FakeEncoding(), *[Fate(late_ms=100)] * 8)
    encode(world, ["abc"] * 8, limits=CallLimits(tokens=3, calls_at_once=2))
    begins = [one.at_ms for one in world.cloud.seen]
    assert len(begins) == 8
    assert len(set(begins)) == 4


@pytest.mark.parametrize("kind", ["fail", "throttle"])
def test_what_failed_once_is_repeated(kind):
    world = world_of(FakeEncoding(), Fate(kind))
    found = encode(world)
    same(found.encoded, alone(TEXTS))
    assert found.spent.retries == (kind == "fail")


def test_a_lost_answer_is_asked_for_again():
    """A call that is late beyond measure is made a second time."""
    world = world_of(FakeEncoding(), Fate("lose"))
    found = encode(world, deadline_ms=START_MS + 25_000)
    same(found.encoded, alone(TEXTS))
    assert found.spent.hedges == 1
    assert world.clock.ms < START_MS + 20_000


def test_a_cold_container_is_waited_for():
    """Fetching a model takes seconds, in which no second call is made."""
    world = world_of(FakeEncoding(), Fate(late_ms=8_000, cold=True))
    found = encode(world, deadline_ms=START_MS + 25_000)
    assert (found.spent.invocations, found.spent.invocations_cold) == (1, 1)


def test_what_fails_again_is_unavailable():
    with pytest.raises(UnavailableError, match="repeat") as caught:
        encode(world_of(FakeEncoding(), *[Fate("fail")] * 4))
    assert type(caught.value) is UnavailableError
    with pytest.raises(UnavailableError):
        encode(world_of(FakeEncoding(), *[Fate("lose")] * 4), deadline_ms=START_MS + 3_000)


def test_what_stays_throttled_is_told_so():
    with pytest.raises(ThrottledError):
        encode(world_of(FakeEncoding(), *[Fate("throttle")] * 99), deadline_ms=START_MS + 2_000)


def test_without_a_deadline_it_ends_all_the_same():
    world = world_of(FakeEncoding(), *[Fate("lose")] * 4)
    with pytest.raises(UnavailableError):
        encode(world)
    assert world.clock.ms <= START_MS + QUERY_TIMEOUT_MS


def test_one_of_several_calls_that_fails_fails_all():
    """There is no answer in part: a vector is there for every input, or none."""
    which = [Fate(), *[Fate("fail")] * 2]
    with pytest.raises(UnavailableError):
        encode(world_of(FakeEncoding(), *which), limits=CallLimits(tokens=3, calls_at_once=1))


def test_places_are_those_of_the_whole_call():
    """An error and what was cut name inputs by their place in what the caller gave."""
    limits = CallLimits(tokens=5)
    with pytest.raises(InvalidArgumentError, match=r"^texts\[5\] is bad$") as caught:
        encode(world_of(FakeEncoding(refused=TEXTS[5])), limits=limits)
    assert caught.value.field == "texts[5]"
    found = encode(world_of(FakeEncoding()), ["a", "z", "l", "zl"], limits=limits)
    assert (found.encoded.truncated, found.encoded.chunked) == ((2, 3), (1, 3))


@pytest.mark.parametrize(
    "error",
    [NotFoundError("no such encoder"), DataError("damaged", object_key="_encoders/x")],
    ids=["gone", "damaged"],
)
def test_the_encoders_errors_are_the_callers(error):
    """What the encoder refuses is not asked again, and is told by the same class."""
    world = world_of(FakeEncoding(error=error))
    with pytest.raises(type(error), match=str(error)):
        encode(world)
    assert len(world.cloud.seen) == 1


@pytest.mark.parametrize(
    ("items", "modality", "error"),
    [
        (["a", 5], Modality.TEXT, InvalidArgumentError),
        (["a", None], Modality.TEXT, InvalidArgumentError),
        (["a", "\ud800"], Modality.TEXT, InvalidArgumentError),
        (["a", "x" * (TEXT_BYTES_MAX + 1)], Modality.TEXT, TooLargeError),
        ([b"a", "text"], Modality.IMAGE, InvalidArgumentError),
        ([b"a", bytes(IMAGE_BYTES_MAX + 1)], Modality.IMAGE, TooLargeError),
    ],
    ids=["number", "null", "surrogate", "long", "no-bytes", "large"],
)
def test_what_is_no_input_is_never_sent(items, modality, error):
    world = world_of(FakeEncoding())
    with pytest.raises(error) as caught:
        encode(world, items, modality=modality)
    assert caught.value.field in {"texts[1]", "images[1]"}
    assert world.cloud.seen == []


def test_the_largest_inputs_are_sent():
    """A text and an image of the largest size each fit into a call."""
    for item, modality in (
        ("\0" * TEXT_BYTES_MAX, Modality.TEXT),
        (bytes(IMAGE_BYTES_MAX), Modality.IMAGE),
    ):
        world = world_of(FakeEncoding())
        encode(world, [item, item], modality=modality)
        assert all(len(one.payload) <= 6 * 2**20 for one in world.cloud.seen)


def test_the_role_refuses_what_is_late_or_damaged():
    """It answers with an error that its caller can read, and does not encode."""
    encoding = FakeEncoding()
    world = world_of(encoding)
    role = EncoderRole(encoding, lambda: StoreMeter(CountingStore(MemoryStore())), world.clock)
    event = {"v": 1, "kind": "encode", "body": "AAAA", "deadline_ms": START_MS + 1_000}
    unread = role.handle(event)["error"]
    # As of another release, which soon none is: who asks tries it again.
    assert unread["type"] == "UnavailableError"
    assert "cannot be read" in unread["message"]
    assert role.handle(event | {"deadline_ms": START_MS})["error"]["type"] == "UnavailableError"
    assert role.handle(event | {"kind": "process"})["error"]["type"] == "InvalidArgumentError"
    assert encoding.seen == []


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("tiny", digest)
        for digest in (
            "",
            ".",
            "..",
            "../kept",
            "{folder}/kept",
            "0" * 63,
            "0" * 64 + "\n",
            "A" * 64,
        )
    ]
    + [("../x", "0" * 64), ("", "0" * 64), (None, "0" * 64), ("tiny", None), ("tiny", ["0"])],
)
def test_the_role_lets_nobody_name_a_folder(tmp_path, name, digest):
    """Folders are called by digests: what is none is refused, and no folder is touched."""
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_bytes(b"1")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "file").write_bytes(b"1")
    digest = digest.format(folder=tmp_path) if isinstance(digest, str) else digest
    store = CountingStore(MemoryStore())
    folders = EncoderFolders((), tmp_path / "cache")
    encoding = LocalEncoding(EncoderRegistry(store), folders, clock=FakeClock(START_MS))
    role = EncoderRole(encoding, lambda: StoreMeter(store), FakeClock(START_MS))
    pin = EncoderPin(name, digest)
    body = write_request(pin, Modality.TEXT, [b"red"], purpose=Purpose.QUERY, dimension=16)
    event = {"v": 1, "kind": "encode", "body": base64.b64encode(body).decode()}
    answer = role.handle(event | {"deadline_ms": START_MS + 1_000})
    assert answer["error"]["type"] == "UnavailableError"
    assert "cannot be read" in answer["error"]["message"]
    if isinstance(name, str) and isinstance(digest, str) and name == "tiny":
        # Not from elsewhere either.
        with pytest.raises(InvalidArgumentError, match="digest"):
            encoding.opened(pin)
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
    assert left == ["cache", "cache/file", "kept", "kept/file"]


def test_the_role_tells_what_it_asked_of_the_store():
    """The files of an encoder that is new to a container are in its answer's `spent`."""
    store = CountingStore(MemoryStore())
    store.put("_encoders/x", b"12345")

    class Fetching(FakeEncoding):
        def encode(self, *args, **options):
            store.get("_encoders/x")
            return super().encode(*args, **options)

    found = encode(world_of(Fetching(), store=store))
    assert found.spent.store_kinds == {"get": 1}
    assert found.spent.store_bytes == 5 + 7


@given(cut=st.integers(0, 400), flip=st.integers(0, 400))
@settings(deadline=None)
def test_damaged_messages_are_refused(cut, flip):
    """A message that is cut or changed is an error that Squash knows, or reads as one."""
    request = write_request(
        PIN, Modality.TEXT, [b"one", b"two"], purpose=Purpose.QUERY, dimension=DIMENSION
    )
    answer = write_encoded(alone(["one", "two"]))
    for body, read in ((request, read_request), (answer, lambda b: read_encoded(b, 2, DIMENSION))):
        damaged = bytearray(body)
        damaged[flip % len(body)] ^= 0x41
        for one in (bytes(damaged), body[: cut % len(body)]):
            try:
                read(one)
            except DataError:
                continue


def test_an_answer_of_another_shape_is_refused():
    body = write_encoded(alone(["one", "two"]))
    for count, dimension in ((1, DIMENSION), (3, DIMENSION), (2, DIMENSION + 1)):
        with pytest.raises(DataError):
            read_encoded(body, count, dimension)
