"""The encoders of a store: added whole or not at all, found by name and digest, never half read."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from fakes import CountedIds, FakeClock
from squash.database import Database
from squash.encoders.contract import CONFIG_FILE, digest_of
from squash.errors import (
    ChecksumError,
    ConflictError,
    DataError,
    InvalidArgumentError,
    NotFoundError,
    TooLargeError,
    UnavailableError,
    UnsupportedFormatError,
)
from squash.runtime import Settings
from squash.runtime.encoder_names import read_reference
from squash.runtime.encoders import EncoderRegistry
from squash.storage import CountingStore, FolderStore, MemoryStore
from squash.storage.scratch import scratch_folder
from tiny_encoders import make_dual_encoder, make_text_encoder


@pytest.fixture(params=["memory", "folder"])
def store(request, tmp_path):
    if request.param == "memory":
        return MemoryStore()
    return FolderStore(tmp_path / "store")


@pytest.fixture
def tiny(tmp_path):
    """A folder with an encoder."""
    make_text_encoder(tmp_path / "tiny")
    return tmp_path / "tiny"


def unchecked(store):
    """A registry that takes folders without a trial."""
    return EncoderRegistry(store, check=lambda folder: None)


def database(store):
    return Database(store, settings=Settings(), clock=FakeClock(), ids=CountedIds())


def keys(store):
    return [info.key for info in store.list("")]


class Stops:
    """A store that stops in the middle of an addition: it takes so many writes."""

    def __init__(self, store, writes):
        self._store = store
        self._writes = writes

    def __getattr__(self, name):
        return getattr(self._store, name)

    def put(self, key, data):
        self._count()
        self._store.put(key, data)

    def put_if_absent(self, key, data):
        self._count()
        return self._store.put_if_absent(key, data)

    def _count(self):
        if self._writes == 0:
            raise UnavailableError("stopped")
        self._writes -= 1


def test_what_is_added_is_found_and_fetched(store, tiny, tmp_path):
    """By its name, by name and digits, by its digest; its files come back as they were."""
    registry = EncoderRegistry(store)
    seen = []
    info = registry.add(tiny, seen.append)
    assert [one.done for one in seen] == sorted(one.done for one in seen)
    assert (seen[-1].done, seen[-1].total, seen[-1].unit) == (info.bytes, info.bytes, "bytes")
    assert info.digest == digest_of((tiny / CONFIG_FILE).read_bytes())
    assert info.label == f"tiny@{info.digest[:12]}"
    for reference in ("tiny", f"tiny@{info.digest[:8]}", info.label, info.digest):
        assert registry.resolve(reference) == info
    config, digest = registry.resolve("tiny")
    assert (config, digest) == (info.config, info.digest)
    assert registry.list() == [info]
    assert registry.fetch("tiny", tmp_path / "new" / "fetched") == info
    fetched = tmp_path / "new" / "fetched"
    assert {path.name: path.read_bytes() for path in fetched.iterdir()} == {
        path.name: path.read_bytes() for path in tiny.iterdir()
    }
    assert [path.name for path in fetched.parent.iterdir()] == ["fetched"]
    with pytest.raises(InvalidArgumentError, match="there already"):
        registry.fetch("tiny", fetched)


def test_it_is_tried_out_before_it_is_added(store, tmp_path):
    """A folder without an encoder, or with a model that is none, leaves nothing."""
    make_text_encoder(tmp_path / "broken")
    (tmp_path / "broken" / "model.onnx").write_bytes(b"no model")
    for folder in (tmp_path / "none", tmp_path / "broken"):
        with pytest.raises((InvalidArgumentError, NotFoundError, DataError)):
            EncoderRegistry(store).add(folder)
    assert keys(store) == []


@pytest.mark.parametrize("writes", [0, 1, 2])
def test_an_addition_broken_off_is_invisible(store, tiny, tmp_path, writes):
    """Nobody sees half an encoder; to add it again finishes it, and its remains can be removed."""
    registry = unchecked(store)
    with pytest.raises(UnavailableError):
        unchecked(Stops(store, writes)).add(tiny)
    assert len(keys(store)) == writes
    assert registry.list() == []
    with pytest.raises(NotFoundError):
        registry.resolve("tiny")
    with pytest.raises(NotFoundError):
        registry.fetch("tiny", tmp_path / "fetched")
    assert not (tmp_path / "fetched").exists()
    if writes:
        registry.remove("tiny")
        assert keys(store) == []
    info = registry.add(tiny)
    assert registry.list() == [info]
    registry.fetch("tiny", tmp_path / "fetched")


def test_an_answer_lost_on_the_way(store, tiny):
    """A store that tried again by itself says that something was there: it was the same."""

    class Lost:
        def __getattr__(self, name):
            return getattr(store, name)

        def put_if_absent(self, key, data):
            store.put_if_absent(key, data)
            return False

    info = unchecked(Lost()).add(tiny)
    assert unchecked(store).list() == [info]


def test_a_removal_broken_off(store, tiny):
    """It is gone at once, and a repetition takes the rest."""
    registry = unchecked(store)
    registry.add(tiny)

    class Stopped:
        def __getattr__(self, name):
            return getattr(store, name)

        def delete(self, keys):
            store.delete(keys[:1] if isinstance(keys, list) else [])
            if not isinstance(keys, list):
                raise UnavailableError("stopped")

    with pytest.raises(UnavailableError):
        unchecked(Stopped()).remove("tiny")
    assert len(keys(store)) == 2
    assert registry.list() == []
    registry.remove("tiny")
    assert keys(store) == []


def test_two_of_one_name(store, tmp_path):
    """They lie side by side; who asks must say which, and is told what there is."""
    registry = unchecked(store)
    for seed in (0, 1):
        make_text_encoder(tmp_path / f"{seed}", seed=seed)
    one, other = (registry.add(tmp_path / f"{seed}") for seed in (0, 1))
    assert {info.digest for info in registry.list()} == {one.digest, other.digest}
    with pytest.raises(InvalidArgumentError) as told:
        registry.resolve("tiny")
    assert one.label in str(told.value)
    assert other.label in str(told.value)
    assert registry.resolve(f"tiny@{other.digest[:8]}") == other
    with pytest.raises(InvalidArgumentError, match="any of"):
        registry.remove("tiny")
    registry.remove(one.label)
    assert registry.resolve("tiny") == other


def test_none_such(store, tiny):
    """The message says what there is, or how to have one."""
    registry = unchecked(store)
    with pytest.raises(NotFoundError, match="squash encoder add"):
        registry.resolve("tiny")
    info = registry.add(tiny)
    for reference in ("other", f"other@{info.digest[:8]}", "tiny@00000000", "0" * 64):
        with pytest.raises(NotFoundError, match=info.label):
            registry.resolve(reference)
        with pytest.raises(NotFoundError):
            registry.remove(reference)


@pytest.mark.parametrize(
    "reference", ["", "Tiny", "tiny@", "tiny@1234567", "tiny@0000000G", "../tiny", None, 3, "a@b"]
)
def test_what_names_no_encoder(reference):
    """Neither a name, nor one with digits of a digest, nor a digest."""
    with pytest.raises(InvalidArgumentError, match="names no encoder"):
        read_reference(reference)


def test_a_damaged_description(store, tiny):
    """It is told as damage, whatever was changed, and adding the encoder again mends it."""
    registry = unchecked(store)
    info = registry.add(tiny)
    key = f"_encoders/tiny/{info.digest}/{CONFIG_FILE}"
    data = bytes(store.get(key))
    for changed in (b"", data[:-1], data.replace(b"Apache", b"apache"), b"\xff" + data):
        store.put(key, changed)
        for reading in (registry.list, lambda: registry.resolve("tiny")):
            with pytest.raises(ChecksumError) as told:
                reading()
            assert told.value.object_key == key
        assert registry.add(tiny) == info
        assert registry.list() == [info]
    store.put(key, b"")
    registry.remove("tiny")
    assert keys(store) == []


def test_a_description_under_its_digest_that_is_none(store, tiny):
    """What was put there by another hand is damage too, and a newer release's is called that."""
    registry = unchecked(store)
    content = json.loads((tiny / CONFIG_FILE).read_bytes())
    for change, error in (
        ({"version": 2}, UnsupportedFormatError),
        ({"dimension": 0}, DataError),
        ({"name": "moved"}, DataError),
    ):
        data = json.dumps(content | change).encode()
        digest = digest_of(data)
        store.put(f"_encoders/tiny/{digest}/{CONFIG_FILE}", data)
        with pytest.raises(error):
            registry.resolve(digest)
        registry.remove(digest)


def test_a_tampered_file(store, tiny, tmp_path):
    """Neither added nor fetched: nothing of it is there afterwards."""
    registry = unchecked(store)
    info = registry.add(tiny)
    key = f"_encoders/tiny/{info.digest}/model.onnx"
    data = bytes(store.get(key))
    for changed in (data[:-1], data[:-1] + bytes([data[-1] ^ 1])):
        store.put(key, changed)
        with pytest.raises(ChecksumError):
            registry.fetch("tiny", tmp_path / "fetched")
        assert [path.name for path in tmp_path.iterdir() if "fetched" in path.name] == []
    store.delete([key])
    with pytest.raises(ChecksumError):
        registry.fetch("tiny", tmp_path / "fetched")
    registry.remove("tiny")
    for name in ("model.onnx", "tokenizer.json"):
        path = tiny / name
        path.write_bytes(path.read_bytes() + b" ")
        with pytest.raises(ChecksumError, match=name):
            registry.add(tiny)
        assert registry.list() == []
        path.unlink()
        with pytest.raises(InvalidArgumentError, match=name):
            registry.add(tiny)
        make_text_encoder(tiny)


def test_a_folder_that_cannot_be_written(store, tiny, tmp_path):
    """A file stands where its folder should be."""
    registry = unchecked(store)
    registry.add(tiny)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UnavailableError, match="cannot be written"):
        registry.fetch("tiny", tmp_path / "file" / "below")


@pytest.mark.parametrize("into", ["fetched", "[a-z]*"])
def test_what_an_ended_process_left_is_removed(store, tiny, tmp_path, into):
    """But not what another is writing just now, nor what is the user's own."""
    registry = unchecked(store)
    registry.add(tiny)
    cache = tmp_path / "cache"
    others = {f".{into}.old", ".git.d", "squash-scratch"}
    for name in ("squash-scratch-left", *others):
        (cache / name / "made").mkdir(parents=True)
        (cache / name / "made" / "model.onnx").write_bytes(b"half")
        (cache / name / ".lock").touch()
    with scratch_folder(cache) as busy:
        registry.fetch("tiny", cache / into)
        assert {path.name for path in cache.iterdir()} == {busy.name, *others, into}


def test_remove_is_refused_while_an_index_pins_it(store, tmp_path):
    """It names the indexes; by force it is removed, and their vectors stay searchable."""
    db = database(store)
    digests = [make_text_encoder(tmp_path / f"{seed}", seed=seed) for seed in (0, 1)]
    for seed in (0, 1):
        db.encoders.add(tmp_path / f"{seed}")
    first = db.create_index("first", encoder=f"tiny@{digests[0][:8]}")
    db.create_index("second", encoder=digests[0])
    db.create_index("plain", dimension=2)
    first.put(keys=["a"], vectors=[[1.0] * 16], encoder="tiny")
    assert db.encoders.pinned_by(digests[0]) == ("first", "second")
    with pytest.raises(ConflictError, match="first, second"):
        db.encoders.remove(digests[0])
    assert len(db.encoders.list()) == 2
    db.encoders.remove(digests[1])
    db.encoders.remove("tiny", force=True)
    assert db.encoders.list() == []
    assert [match.key for match in db.index("first").query([1.0] * 16).matches] == ["a"]
    db.drop_index("first")
    db.drop_index("second")


def test_many_add_at_once(store, tmp_path):
    """Of one encoder and of several: all of them are there afterwards, whole."""
    for seed in range(3):
        make_text_encoder(tmp_path / f"{seed}", seed=seed)
    make_dual_encoder(tmp_path / "3")
    with ThreadPoolExecutor(8) as pool:
        added = list(pool.map(lambda i: unchecked(store).add(tmp_path / f"{i % 4}"), range(16)))
    assert {info.digest for info in added} == {info.digest for info in unchecked(store).list()}
    for i, info in enumerate(added[:4]):
        unchecked(store).fetch(info.digest, tmp_path / "fetched" / str(i))


def test_a_store_has_room_for_so_many(store, tmp_path, monkeypatch):
    """One more is refused; one that is there may be added again."""
    monkeypatch.setattr("squash.runtime.encoders.ENCODERS_MAX", 2)
    registry = unchecked(store)
    for seed in range(3):
        make_text_encoder(tmp_path / f"{seed}", seed=seed)
    registry.add(tmp_path / "0")
    registry.add(tmp_path / "1")
    with pytest.raises(TooLargeError, match="at most 2"):
        registry.add(tmp_path / "2")
    registry.add(tmp_path / "0")
    assert len(registry.list()) == 2


def test_pieces_of_large_files(store, tiny, tmp_path, monkeypatch):
    """A file is read piece by piece, whatever its length is."""
    registry = unchecked(store)
    registry.add(tiny)
    size = (tiny / "model.onnx").stat().st_size
    for piece in (1000, size - 1, size, size + 1):
        monkeypatch.setattr("squash.runtime.encoder_files._PIECE_BYTES", piece)
        into = tmp_path / f"piece-{piece}"
        registry.fetch("tiny", into)
        assert (into / "model.onnx").read_bytes() == (tiny / "model.onnx").read_bytes()


def test_encoders_are_no_index(store, tiny):
    """No listing, collection, check or drop of indexes sees them, nor takes anything of theirs."""
    db = database(store)
    info = unchecked(store).add(tiny)
    before = {key: bytes(store.get(key)) for key in keys(store)}
    index = db.create_index("x", encoder="tiny")
    index.put(keys=["a"], vectors=[[1.0] * 16], encoder=info.label)
    assert [config.name for config in db.list_indexes()] == ["x"]
    report = db.gc(3_600)
    assert list(report.indexes) == ["x"]
    assert (report.failed, report.left, report.remains.objects) == ({}, (), 0)
    assert index.verify().damages == ()
    assert index.verify().unreferenced.objects == 0
    for name in ("_encoders", "_encoders/tiny"):
        with pytest.raises(InvalidArgumentError):
            db.drop_index(name)
        with pytest.raises(InvalidArgumentError):
            db.create_index(name, dimension=2)
    db.drop_index("x")
    left = {key: bytes(store.get(key)) for key in keys(store) if not key.startswith("x/")}
    assert left == before


def test_fetched_files_are_private(store, tiny, tmp_path):
    """Nobody else can change them on their way in."""
    unchecked(store).add(tiny)
    unchecked(store).fetch("tiny", tmp_path / "fetched")
    assert (tmp_path / "fetched").stat().st_mode & 0o077 == 0


def test_verify_misses_an_encoder_that_is_gone(store, tiny):
    """An index whose encoder was removed by force is named damaged, until it is added again."""
    held = database(store)
    held.encoders.add(tiny)
    index = held.create_index("notes", encoder="tiny")
    assert index.verify().damages == ()
    held.encoders.remove("tiny", force=True)
    (damage,) = index.verify().damages
    assert (damage.object_key, "tiny@" in damage.problem) == ("notes/index.json", True)
    held.encoders.add(tiny)
    assert index.verify().damages == ()


def test_what_an_index_pins_is_fetched_without_looking_for_it(store, tiny, tmp_path):
    """A cold start asks for `encoder.json` once, for each other file once, and lists nothing."""
    info = unchecked(store).add(tiny)
    counting = CountingStore(store)
    EncoderRegistry(counting).fetch(f"{info.config.name}@{info.digest}", tmp_path / "fetched")
    assert counting.counts().by_kind == {"get": 1, "range": len(info.config.files)}
