"""Indexes are created once, found by name, and dropped whole."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from index_world import CountedIds, FakeClock

from squash.errors import (
    ChecksumError,
    ConflictError,
    DataError,
    InvalidArgumentError,
    NotFoundError,
    UnavailableError,
    UnsupportedFormatError,
)
from squash.index import catalogue
from squash.index.entries import entry_from_text, entry_to_text
from squash.model import AttributeType, EncoderPin, IndexConfig, Metric
from squash.storage import MemoryStore

CONFIG = IndexConfig(
    name="papers",
    dimension=384,
    metric=Metric.COSINE,
    encoder=EncoderPin("small", "0f" * 32, "text-é"),
    attributes={"year": AttributeType.NUMBER, "tags": AttributeType.STRING_LIST},
    non_filterable=("text", "text-é"),
    codec="osq",
    seed=7,
    created_ms=1_700_000_000_000,
)


def test_what_is_created_is_loaded():
    """The configuration comes back equal, and its data has a place of its own."""
    store = MemoryStore()
    entry = catalogue.create(store, CONFIG, CountedIds())
    assert catalogue.load(store, "papers") == entry
    assert entry.config == CONFIG
    assert entry.prefix == f"papers/{CountedIds().new_id()}/"
    content = json.loads(store.get("papers/index.json"))
    assert content["vector_fields"] == ["vector"]
    assert content["features"] == ["encoder"]
    assert catalogue.list_configs(store) == [CONFIG]


@pytest.mark.parametrize(
    "change",
    [
        {"encoder": EncoderPin("Small", "0f" * 32, None)},
        {"encoder": EncoderPin("small", "0f" * 32, "year")},
        {"encoder": EncoderPin("small", "0f" * 32, "elsewhere")},
        {"encoder": EncoderPin("small", "0f" * 32, "$text"), "non_filterable": ("$text",)},
        {"encoder": EncoderPin("small", "0f" * 32, ""), "non_filterable": ("",)},
        {"encoder": EncoderPin("small", "0f" * 32, "x" * 64), "non_filterable": ("x" * 64,)},
    ],
)
def test_an_encoder_that_cannot_be_pinned(change):
    """Its name is one, and the key that keeps texts is a metadata key that is not filtered by."""
    store = MemoryStore()
    with pytest.raises(InvalidArgumentError):
        catalogue.create(store, replace(CONFIG, **change), CountedIds())
    assert not list(store.list(""))


def test_an_index_whose_records_expire():
    """It says so by a feature, which older releases refuse; other indexes are as they were."""
    store = MemoryStore()
    attributes = {**CONFIG.attributes, "gone_at": AttributeType.NUMBER}
    config = replace(CONFIG, expires="gone_at", attributes=attributes)
    entry = catalogue.create(store, config, CountedIds())
    assert entry.config == config
    assert catalogue.load(store, "papers") == entry
    assert entry_from_text(entry_to_text(entry), "papers") == entry
    content = json.loads(store.get("papers/index.json"))
    assert (content["features"], content["expires"]) == (["encoder", "expires"], "gone_at")
    store = MemoryStore()
    catalogue.create(store, CONFIG, CountedIds())
    assert "expires" not in json.loads(store.get("papers/index.json"))


@pytest.mark.parametrize("name", ["", "$a", "tags", "text", "absent", 7, "year"])
def test_what_cannot_say_when_records_expire(name):
    """Only an attribute that is declared a number, and is filterable."""
    config = replace(CONFIG, expires=name)
    if name == "year":
        config = replace(config, non_filterable=("year",))
    with pytest.raises(InvalidArgumentError) as told:
        catalogue.create(MemoryStore(), config, CountedIds())
    assert told.value.field == "expires"


def test_created_once():
    """Of many who create one name at once, one does; the others hear of a conflict."""
    store, ids = MemoryStore(), CountedIds()

    def attempt(seed: int) -> int | None:
        try:
            return catalogue.create(store, replace(CONFIG, seed=seed), ids).config.seed
        except ConflictError:
            return None

    with ThreadPoolExecutor(8) as pool:
        seeds = [seed for seed in pool.map(attempt, range(8)) if seed is not None]
    assert len(seeds) == 1
    assert catalogue.load(store, "papers").config.seed == seeds[0]


def test_lost_answer_of_create():
    """Who creates and loses the answer, or tries twice unknowingly, has created."""

    class Lost(MemoryStore):
        def put_if_absent(self, key, data):
            super().put_if_absent(key, data)
            raise UnavailableError("lost")

    class Twice(MemoryStore):
        def put_if_absent(self, key, data):
            super().put_if_absent(key, data)
            return super().put_if_absent(key, data)

    class Down(MemoryStore):
        def put_if_absent(self, *_):
            raise UnavailableError("down")

    for store in (Lost(), Twice()):
        entry = catalogue.create(store, CONFIG, CountedIds())
        assert catalogue.load(store, "papers") == entry
    with pytest.raises(UnavailableError, match="down"):
        catalogue.create(Down(), CONFIG, CountedIds())


def test_near_names():
    """Who asks for a name that is not there hears of names that are near."""
    store = MemoryStore()
    for name in ("papers", "images"):
        catalogue.create(store, replace(CONFIG, name=name), CountedIds())
    with pytest.raises(NotFoundError, match="Did you mean 'papers'") as caught:
        catalogue.load(store, "paper")
    assert caught.value.index == "paper"
    with pytest.raises(NotFoundError, match="Create it"):
        catalogue.load(store, "zzz")
    with pytest.raises(NotFoundError, match="Did you mean 'images'"):
        catalogue.drop(store, "image")


def test_drop_removes_everything_of_one():
    """A drop removes an index and nothing else; then its name is free."""
    store, ids = MemoryStore(), CountedIds()
    entry = catalogue.create(store, CONFIG, ids)
    catalogue.create(store, replace(CONFIG, name="papers-2"), ids)
    store.put(entry.prefix + "log/1", b"x")
    catalogue.drop(store, "papers")
    assert [info.key for info in store.list("papers/")] == [f"{entry.prefix}log/{1:020d}"]
    assert [config.name for config in catalogue.list_configs(store)] == ["papers-2"]
    with pytest.raises(NotFoundError):
        catalogue.load(store, "papers")
    assert catalogue.create(store, CONFIG, ids).prefix != entry.prefix


@pytest.mark.parametrize("fails_at", [0, 2])
def test_a_drop_broken_off(fails_at):
    """A drop that breaks off leaves nothing that shows, and is finished by repeating it."""
    calls = []

    class Breaking(MemoryStore):
        def delete(self, keys):
            calls.append(1)
            if len(calls) == fails_at + 1:
                raise UnavailableError("broken off")
            super().delete(keys)

        def delete_if_same(self, key, data):
            assert self.get(key) == data
            self.delete([key])

    store, ids = Breaking(), CountedIds()
    entry = catalogue.create(store, CONFIG, ids)
    store.put(entry.prefix + "log/1", b"x")
    with pytest.raises(UnavailableError):
        catalogue.drop(store, "papers")
    assert len(catalogue.list_configs(store)) == (1 if fails_at == 0 else 0)
    catalogue.drop(store, "papers")
    assert [info.key for info in store.list("")] == [f"{entry.prefix}log/{1:020d}"]
    with pytest.raises(NotFoundError):
        catalogue.drop(store, "papers")
    again = catalogue.create(store, CONFIG, ids)
    assert again.prefix != entry.prefix


@pytest.mark.parametrize("wanted", [0, 1, 2, 5, 6])
def test_a_full_disk_has_no_room_for_the_logs_end(wanted):
    """It is made of the index that is dropped; a drop that found too little is repeated."""

    class Full(MemoryStore):
        free = 100

        def put_if_absent(self, key, data):
            if self.free < wanted:
                raise UnavailableError("no space left on device", unchanged=True)
            return super().put_if_absent(key, data)

        put = put_if_absent

        def delete(self, keys):
            before = len(self._objects)
            super().delete(keys)
            self.free += before - len(self._objects)

        def delete_if_same(self, key, data):
            if self.get(key) == data:
                self.delete([key])

    store, ids = Full(FakeClock()), CountedIds()
    entry = catalogue.create(store, CONFIG, ids)
    for name in (f"log/{1:020d}", "snapshots/1", "segments/a/rows", "segments/a/vectors"):
        MemoryStore.put(store, entry.prefix + name, b"x")
    store._clock.sleep(3_600)
    MemoryStore.put(store, f"{entry.prefix}log/{2:020d}", b"x")
    store.free = 0
    if wanted <= 5:
        catalogue.drop(store, "papers")
        left = [f"{entry.prefix}log/{number:020d}" for number in (2, 3)]
        assert [info.key for info in store.list("")] == left
    else:
        with pytest.raises(UnavailableError, match="no space"):
            catalogue.drop(store, "papers")
        catalogue.drop(store, "papers")
        assert not list(store.list(""))
    assert catalogue.list_configs(store) == []


def test_a_damaged_entry_can_be_dropped():
    """An index whose description is damaged can still be removed."""
    store = MemoryStore()
    entry = catalogue.create(store, CONFIG, CountedIds())
    store.put(f"{entry.prefix}log/{1:020d}", b"x")
    store.put("papers/index.json", b"{")
    catalogue.drop(store, "papers")
    left = [info.key for info in store.list("")]
    assert left == [f"{entry.prefix}log/{number:020d}" for number in (1, 2)]


def test_every_flipped_bit_is_refused():
    """No bit of the description can change without notice, save in its white space."""
    store = MemoryStore()
    entry = catalogue.create(store, CONFIG, CountedIds())
    data = bytes(store.get("papers/index.json"))
    for at in range(len(data)):
        for bit in range(8):
            store.put(
                "papers/index.json", data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]
            )
            try:
                found = catalogue.load(store, "papers")
            except DataError:
                continue
            assert found == entry


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"version": 2}, UnsupportedFormatError),
        ({"features": ["lanes"]}, UnsupportedFormatError),
        ({"vector_fields": ["title", "body"]}, UnsupportedFormatError),
        ({"format": "other"}, UnsupportedFormatError),
        ({"dimension": 385}, ChecksumError),
        ({"crc32": "00000000"}, ChecksumError),
        ({"crc32": None}, ChecksumError),
    ],
)
def test_changed_descriptions(change, error):
    """A newer release's index is told apart from a damaged one."""
    store = MemoryStore()
    catalogue.create(store, CONFIG, CountedIds())
    content = json.loads(store.get("papers/index.json"))
    store.put("papers/index.json", json.dumps(content | change).encode())
    with pytest.raises(error):
        catalogue.load(store, "papers")


def test_a_moved_description_is_refused():
    """A description under another name is refused; layout and order of its keys are free."""
    store = MemoryStore()
    entry = catalogue.create(store, CONFIG, CountedIds())
    data = store.get("papers/index.json")
    store.put("images/index.json", data)
    with pytest.raises(DataError, match="moved"):
        catalogue.load(store, "images")
    compact = json.dumps(dict(reversed(json.loads(data).items())))
    store.put("papers/index.json", compact.encode())
    assert catalogue.load(store, "papers") == entry
    for rubbish in (b"", b"[]", b"1", b"null", b"\xff", b"{}", b"[" * 100_000):
        store.put("papers/index.json", rubbish)
        with pytest.raises(DataError):
            catalogue.load(store, "papers")


@pytest.mark.parametrize("name", ["a", "0", "a-b_c", "a" * 63, "papers-2"])
def test_good_names(name):
    """Names at the edges of the rule are taken."""
    catalogue.check_index_name(name)


@pytest.mark.parametrize(
    "name", ["", "A", "-a", "a-", "_a", "a" * 64, "a/b", "..", "a b", "é", "a\n", "a.b", None, 1]
)
def test_bad_names(name):
    """A bad name is refused by a message that says what is allowed, before the store is asked."""
    with pytest.raises(InvalidArgumentError, match="a-z, 0-9"):
        catalogue.load(MemoryStore(), name)
    with pytest.raises(InvalidArgumentError):
        catalogue.create(MemoryStore(), replace(CONFIG, name=name), CountedIds())


def test_bad_configurations():
    """Dimensions and numbers of keys out of their limits are refused."""
    for change in ({"dimension": 0}, {"dimension": 4097}, {"non_filterable": ("x",) * 11}):
        with pytest.raises(InvalidArgumentError):
            catalogue.create(MemoryStore(), replace(CONFIG, **change), CountedIds())
