"""Encoders found in folders, fetched once, a few kept open, given up when it is late."""

from __future__ import annotations

import errno
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from fakes import FakeClock
from squash.encoders.contract import CONFIG_FILE
from squash.encoders.encoded import Encoded
from squash.encoders.encoder import open_encoder
from squash.errors import (
    ChecksumError,
    DataError,
    NotFoundError,
    UnavailableError,
)
from squash.limits import ENCODERS_OPEN_MAX
from squash.model import EncoderPin, Inputs, Modality, Purpose
from squash.runtime.encoders import EncoderRegistry
from squash.runtime.local_encoding import EncoderFolders, LocalEncoding, encoder_folders
from squash.storage import CountingStore, MemoryStore
from tiny_encoders import make_text_encoder


class World:
    """A store with an encoder, and processes that share a cache."""

    def __init__(self, tmp_path):
        self.store = CountingStore(MemoryStore())
        self.clock = FakeClock()
        self.cache = tmp_path / "cache"
        self.made = tmp_path / "made"
        self.digest = make_text_encoder(self.made)
        self.registry = EncoderRegistry(self.store, check=lambda folder: None)
        self.registry.add(self.made)
        self.pin = EncoderPin("tiny", self.digest)

    def process(self, *search, **more):
        folders = EncoderFolders(search, self.cache)
        return LocalEncoding(self.registry, folders, clock=self.clock, **more)

    def requests(self, work):
        before = self.store.counts().requests
        work()
        return self.store.counts().requests - before


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def encode(encoding, pin, *texts, **more):
    inputs = Inputs(Modality.TEXT, texts)
    return encoding.encode(pin, inputs, purpose=Purpose.DOCUMENT, dimension=16, **more)


def test_it_encodes_what_the_encoder_does(world):
    """Vectors, tokens and places are those of the encoder, opened by hand."""
    found = encode(world.process(), world.pin, "red dog", "", "blue " * 20)
    plain = open_encoder(world.made).encode(
        Inputs(Modality.TEXT, ["red dog", "", "blue " * 20]), purpose=Purpose.DOCUMENT
    )
    np.testing.assert_array_equal(found.encoded.vectors, plain.vectors)
    assert (found.encoded.tokens, found.encoded.truncated) == (plain.tokens, (2,))
    assert found.spent.invocations == 0


def test_fetched_once(world):
    """The second call, and the next process, ask nothing of the store."""
    one = world.process()
    assert world.requests(lambda: encode(one, world.pin, "red")) > 0
    assert world.requests(lambda: encode(one, world.pin, "dog")) == 0
    assert world.requests(lambda: encode(world.process(), world.pin, "dog")) == 0
    assert [path.name for path in world.cache.iterdir()] == [world.digest]


def test_a_layer_is_looked_into_first(world, tmp_path):
    """What is there is not fetched; what is not is looked for in the next, then fetched."""
    layers = [tmp_path / "layer", tmp_path / "other"]
    make_text_encoder(layers[1] / world.digest)
    process = world.process(*layers)
    assert world.requests(lambda: encode(process, world.pin, "red")) == 0
    assert not world.cache.exists()
    other = make_text_encoder(tmp_path / "new", seed=1)
    world.registry.add(tmp_path / "new")
    encode(process, EncoderPin("tiny", other), "red")
    assert [path.name for path in world.cache.iterdir()] == [other]


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", CONFIG_FILE])
@pytest.mark.parametrize("change", ["cut", "changed", "gone"])
def test_a_damaged_copy_is_fetched_anew(world, name, change):
    """Whichever file it is, the next process serves the right vectors."""
    right = encode(world.process(), world.pin, "red dog").encoded.vectors
    path = world.cache / world.digest / name
    data = path.read_bytes()
    if change == "gone":
        path.unlink()
    else:
        path.write_bytes(data[:-1] if change == "cut" else bytes([data[0] ^ 1]) + data[1:])
    found = encode(world.process(), world.pin, "red dog")
    np.testing.assert_array_equal(found.encoded.vectors, right)
    assert path.read_bytes() == data


@pytest.mark.parametrize("name", ["model.onnx", CONFIG_FILE])
def test_a_damaged_layer_is_refused(world, tmp_path, name):
    """It cannot be mended from here, and is not served."""
    folder = tmp_path / "layer" / world.digest
    make_text_encoder(folder)
    path = folder / name
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(ChecksumError):
        encode(world.process(tmp_path / "layer"), world.pin, "red")
    assert path.exists()


@pytest.mark.parametrize("damage", ["other bytes", "too short", "gone"])
def test_damage_in_the_store_is_told(world, damage):
    """And what mends it, which does; nothing is cached of it."""
    key = f"_encoders/tiny/{world.digest}/model.onnx"
    data = bytes(world.store.get(key))
    if damage == "gone":
        world.store.delete([key])
    else:
        world.store.put(key, b"!" * len(data) if damage == "other bytes" else data[:-1])
    with pytest.raises(DataError, match="Add the encoder again"):
        encode(world.process(), world.pin, "red")
    assert list(world.cache.iterdir()) == []
    world.registry.add(world.made)
    encode(world.process(), world.pin, "red")


def test_an_encoder_that_was_removed(world):
    """Not found, by name; who has it cached goes on."""
    cached = world.process()
    encode(cached, world.pin, "red")
    world.registry.remove("tiny")
    encode(cached, world.pin, "dog")
    encode(world.process(), world.pin, "dog")
    elsewhere = LocalEncoding(
        world.registry, EncoderFolders((), world.cache / "new"), clock=world.clock
    )
    with pytest.raises(NotFoundError, match="tiny"):
        encode(elsewhere, world.pin, "dog")


class Fake:
    """An open encoder that takes a second an input, by the clock."""

    def __init__(self, clock):
        self.clock = clock

    def encode(self, inputs, *, purpose, dimension=None, told=None):
        for done in range(1, len(inputs) + 1):
            self.clock.sleep(1)
            told(done)
        return Encoded(np.ones((len(inputs), dimension), np.float32), len(inputs))


def test_the_least_used_is_closed(world, tmp_path):
    """So many are open, and those are not opened again."""
    opened = []

    def open_folder(folder, *, checked):
        opened.append(folder.name)
        return Fake(world.clock)

    pins = []
    for seed in range(ENCODERS_OPEN_MAX + 1):
        digest = make_text_encoder(tmp_path / "layer" / "x", seed=seed)
        (tmp_path / "layer" / "x").rename(tmp_path / "layer" / digest)
        pins.append(EncoderPin("tiny", digest))
    process = world.process(tmp_path / "layer", open_folder=open_folder)
    for pin in (*pins[:-1], pins[0], pins[-1], pins[0]):
        encode(process, pin, "red")
    assert opened == [pin.digest for pin in pins]
    encode(process, pins[1], "red")
    assert opened[-1] == pins[1].digest
    assert len(process._open) == ENCODERS_OPEN_MAX
    assert process._opening == {}


class SmallDisk(EncoderRegistry):
    """Writes into a cache on a disk that has room for two of the encoders it knows."""

    known: frozenset[str] = frozenset()

    def __init__(self, store, cache):
        super().__init__(store, check=lambda folder: None)
        self.cache = cache

    def _fetch_files(self, info, folder, progress):
        if sum(path.name in SmallDisk.known for path in self.cache.iterdir()) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        super()._fetch_files(info, folder, progress)


@pytest.mark.parametrize("own", [True, False])
def test_a_full_disk(world, tmp_path, own):
    """A container's own is made free by what it holds; of a folder of others' nothing is taken.

    A container lives on: one that had once fetched what its disk holds would fail for ever at every
    other encoder.
    """
    pins = []
    for seed in range(5):
        digest = make_text_encoder(tmp_path / f"made-{seed}", seed=seed)
        world.registry.add(tmp_path / f"made-{seed}")
        pins.append(EncoderPin("tiny", digest))
    SmallDisk.known = frozenset(pin.digest for pin in pins)
    (world.cache / "others").mkdir(parents=True)
    folders = EncoderFolders((), world.cache, own=own)
    process = LocalEncoding(SmallDisk(world.store, world.cache), folders, clock=world.clock)
    right = encode(process, pins[0], "red dog").encoded.vectors
    for pin in pins[:2]:
        encode(process, pin, "red")
    if not own:
        with pytest.raises(UnavailableError, match="make room"):
            encode(process, pins[2], "red")
        assert len(list(world.cache.iterdir())) == 3
        return
    for pin in (*pins[2:], *pins, *pins[::-1]):
        encode(process, pin, "red")
    assert (encode(process, pins[0], "red dog").encoded.vectors == right).all()
    assert (world.cache / "others").is_dir()


def test_threads_open_one_once(world):
    """Who comes while it is being opened waits for that."""
    opened = []
    ready = threading.Barrier(8)

    def open_folder(folder, *, checked):
        opened.append(folder.name)
        return Fake(FakeClock())

    process = world.process(open_folder=open_folder)

    def work(_):
        ready.wait()
        return encode(process, world.pin, "red")

    with ThreadPoolExecutor(8) as pool:
        assert len(list(pool.map(work, range(8)))) == 8
    assert opened == [world.digest]


def test_processes_fetch_at_once(world):
    """They share the cache: each has the encoder whole."""
    with ThreadPoolExecutor(6) as pool:
        done = list(pool.map(lambda _: encode(world.process(), world.pin, "red"), range(6)))
    assert len(done) == 6
    assert [path.name for path in world.cache.iterdir()] == [world.digest]


def test_what_failed_to_open_is_tried_again(world):
    """A failure is not remembered."""
    tries = []

    def open_folder(folder, *, checked):
        tries.append(folder)
        if len(tries) == 1:
            raise UnavailableError("not now")
        return Fake(world.clock)

    process = world.process(open_folder=open_folder)
    with pytest.raises(UnavailableError):
        encode(process, world.pin, "red")
    assert encode(process, world.pin, "red").encoded.tokens == 1
    assert process._opening == {}


def test_the_deadline_is_kept_between_runs(world):
    """What is late is given up; what is done in time, to the last, is not."""
    process = world.process(open_folder=lambda folder, *, checked: Fake(world.clock))
    now = world.clock.now_ms()
    assert encode(process, world.pin, *"abc", deadline_ms=now + 3_000).encoded.tokens == 3
    seen = []
    now = world.clock.now_ms()
    with pytest.raises(UnavailableError, match="2 of 5 inputs"):
        encode(process, world.pin, *"abcde", deadline_ms=now + 2_000, told=seen.append)
    assert seen == [1, 2]
    with pytest.raises(UnavailableError, match="0 of 1"):
        encode(process, world.pin, "a", deadline_ms=world.clock.now_ms())


def test_where_encoders_lie():
    """What the environment says; in Lambda below /tmp, else at home."""
    home = Path.home() / ".cache" / "squash" / "encoders"
    assert encoder_folders({}) == EncoderFolders((), home)
    given = {"SQUASH_ENCODERS": "/opt/encoders::/else", "SQUASH_ENCODER_CACHE": "/cache"}
    assert encoder_folders(given) == EncoderFolders(
        (Path("/opt/encoders"), Path("/else")), Path("/cache")
    )
    in_lambda = {"AWS_LAMBDA_FUNCTION_NAME": "encoder"}
    assert encoder_folders(in_lambda).cache == Path("/tmp/squash-encoders")  # noqa: S108
    assert encoder_folders(in_lambda).own
    assert not encoder_folders(in_lambda | given).own
    assert encoder_folders(in_lambda | given).cache == Path("/cache")
