"""What a newer release may write, read by this one: passed over where it may be, else refused."""

import json

import numpy as np
import pytest
from make_golden import open_database

import squash
from living import snapshot_every
from squash.cli.main import main
from squash.container import Container, pack
from squash.errors import UnsupportedFormatError
from squash.index.sealed import document_checksum, open_sealed, seal
from squash.maintain import BuildOptions
from squash.runtime.retained import RetainedObjects
from squash.storage import MemoryStore

OPTIONS = BuildOptions(
    partition_rows_target=64, partition_rows_max=128, cluster_rows_target=16, exact_rows_max=8
)
VERSIONS = {"commit": (1, 2, 3), "snapshot": (1, 2)}


@pytest.fixture
def store(monkeypatch):
    """An index of partitions, fresh rows and snapshots."""
    snapshot_every(monkeypatch, 3)
    store = MemoryStore()
    index = open_database(store).create_index("some", dimension=8, metric="euclidean")
    vectors = np.random.default_rng(3).normal(size=(200, 8)).astype(np.float32)
    index.put(keys=[f"k{i}" for i in range(200)], vectors=vectors, metadata=[{"n": 1.0}] * 200)
    index.optimize(options=OPTIONS)
    for number in range(5):
        index.put(keys=[f"f{number}"], vectors=vectors[:1], metadata=[{}])
    return store


def first(store, part):
    """Return the key of the first object that lies at a place; of snapshots that is the newest."""
    return next(info.key for info in store.list("some/") if part in info.key)


def last(store, part):
    """Return the key of the last object that lies at a place."""
    return [info.key for info in store.list("some/") if part in info.key][-1]


def rewritten(store, key, kind, change):
    """Write a commit or a snapshot again, as another release might."""
    container = open_sealed(store.get(key), kind=kind, versions=VERSIONS[kind], where=key)
    header = dict(container.header)
    arrays = {name: container.array(name) for name in container.names()}
    change(header, arrays)
    version = header.pop("version")
    rest = {name: header[name] for name in header if name not in {"kind", "crc32"}}
    store.put(key, seal(kind, version, header=rest, arrays=arrays))


def entry_of(store, **changed):
    """Write the catalogue entry again, with another content and the checksum of that."""
    content = json.loads(store.get("some/index.json")) | changed
    content["crc32"] = document_checksum(content)
    store.put("some/index.json", json.dumps(content).encode())


@pytest.mark.parametrize("kind", ["commit", "snapshot"])
def test_what_is_not_known_is_passed_over(store, kind):
    """Further fields and arrays of a known version say nothing to those who don't know them."""
    key = last(store, "/log/") if kind == "commit" else first(store, "/snapshots/")

    def more(header, arrays):
        header["later"] = {"x": [1]}
        arrays["later"] = np.arange(4, dtype=np.int8)
        arrays["later.1"] = np.arange(4, dtype=np.int8)

    rewritten(store, key, kind, more)
    index = open_database(store).index("some")
    assert index.stats().rows == 205
    assert not index.verify().damages


@pytest.mark.parametrize(
    "changed", [{"metric": "manhattan"}, {"attributes": {"n": "date"}}, {"codec": "pq"}], ids=str
)
def test_an_entry_with_what_is_not_known(store, changed):
    """Its checksum holds, so that it was written so: by a newer release, and nothing is damaged."""
    entry_of(store, **changed)
    with pytest.raises(UnsupportedFormatError, match="newer release"):
        open_database(store).index("some").optimize(options=OPTIONS, full=True)


def test_an_entry_that_cannot_be_read_hides_no_other_index(store, tmp_path, capsys):
    """Who went back to this release is told of it, and of the rest, in Python and in words."""
    for info in store.list(""):
        path = tmp_path / info.key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(store.get(info.key))
    squash.connect(str(tmp_path)).create_index("other", dimension=2)
    entry_of(store, version=2)
    (tmp_path / "some/index.json").write_bytes(store.get("some/index.json"))
    database = squash.connect(str(tmp_path))
    with pytest.raises(UnsupportedFormatError):
        database.list_indexes()
    unreadable = {}
    assert [one.name for one in database.list_indexes(unreadable=unreadable)] == ["other"]
    assert isinstance(unreadable.pop("some"), UnsupportedFormatError)
    assert not unreadable
    assert main(["list", "--store", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert "other" in said
    assert "some cannot be read" in said
    assert main(["list", "--json", "--store", str(tmp_path)]) == 1
    document = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in document["indexes"]] == ["other"]
    (hidden,) = document["unreadable"]
    assert (hidden["name"], hidden["type"]) == ("some", "urn:squash:unsupported-format")


def test_an_operation_that_is_not_known(store):
    """Whoever cannot tell what a commit did does not call it damaged."""

    def other(header, arrays):
        header["operation"] = {"type": "merge"}

    rewritten(store, last(store, "/log/"), "commit", other)
    with pytest.raises(UnsupportedFormatError, match="newer release"):
        open_database(store).index("some").stats()


def newer_snapshot(store, place):
    """Raise the version of a snapshot."""
    rewritten(store, place(store, "/snapshots/"), "snapshot", lambda h, _: h.update(version=3))


def newer_commit(store, place):
    """Raise the version of a commit."""
    rewritten(store, place(store, "/log/"), "commit", lambda h, _: h.update(version=4))


def newer_part(store, part, monkeypatch):
    """Raise the version of an object that commits and snapshots name, and let its checksum hold."""
    key = first(store, part)
    kind = "trained" if "trained" in part else f"segment-{part[1:]}"
    container = Container(store.get(key), kind=kind, versions=(1,), where=key)
    header = {name: container.header[name] for name in container.header.keys() - {"kind"}}
    arrays = {name: container.array(name) for name in container.names()}
    version = header.pop("version") + 1
    store.put(key, pack(kind, version, header=header, arrays=arrays))
    monkeypatch.setattr(RetainedObjects, "_checked", lambda self, ref: self._store.get(ref.key))


@pytest.mark.parametrize("drop_lost", [False, True])
@pytest.mark.parametrize(
    "where", ["snapshot", "old snapshot", "commit", "/vectors", "/documents", "/rows", "/codes",
              "/attributes", "/trained/"],
)  # fmt: skip
def test_repair_leaves_what_is_newer_alone(store, where, drop_lost, monkeypatch):
    """It cannot tell what is right there: it wrote other snapshots, and trained anew."""
    match where:
        case "snapshot":
            newer_snapshot(store, first)
        case "old snapshot":
            newer_snapshot(store, last)
        case "commit":
            newer_commit(store, last)
        case part:
            newer_part(store, part, monkeypatch)
    before = {info.key: store.get(info.key) for info in store.list("")}
    index = open_database(store).index("some")
    assert any(one.newer for one in index.verify().damages)
    with pytest.raises(UnsupportedFormatError, match=r"nothing was repaired.*newer release"):
        index.repair(drop_lost=drop_lost)
    assert {info.key: store.get(info.key) for info in store.list("")} == before
