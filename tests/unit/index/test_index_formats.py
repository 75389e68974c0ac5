"""Commits and snapshots: the same bytes from whoever writes them, and no bit of them unchecked."""

from __future__ import annotations

import json
from dataclasses import replace

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from index_world import World

from amounts import examples
from squash.container import Container
from squash.errors import ChecksumError, DataError, UnsupportedFormatError
from squash.index import commits, snapshots, writer
from squash.index.commits import Commit, DeleteKeys, PutRows, PutSegments, Replace, log_key
from squash.index.live import pack_mask, unpack_mask
from squash.index.sealed import open_sealed, seal
from squash.model import ObjectRef, RowBatch, SegmentRef
from squash.storage import MemoryStore

SEGMENT = SegmentRef(
    id="s1",
    kind="partition",
    rows=9,
    as_of=3,
    objects={"rows": ObjectRef("segments/s1/rows", 5, 7), "codes": ObjectRef("c", 1 << 33, 2)},
    deleted=ObjectRef("segments/s1/deleted-00000000000000000004", 2, 9),
    deleted_as_of=6,
)
KEYS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"))
)
METADATA = st.dictionaries(KEYS, st.recursive(LEAVES, st.lists, max_leaves=4), max_size=3)


def commit_of(operation, sequence=4) -> Commit:
    return Commit(sequence, "c" * 32, 1_700_000_000_000, operation)


def read(data: bytes, sequence=4) -> Commit:
    return Commit.from_bytes(data, sequence=sequence, where="log/4")


@settings(max_examples=examples(60, least=25), deadline=None)
@given(st.data(), st.lists(KEYS, unique=True, max_size=9), st.integers(1, 5))
def test_rows_survive(data, keys, dimension):
    """Rows come back as they were put: keys, bits of vectors, and metadata."""
    metadata = [data.draw(METADATA) for _ in keys]
    generator = np.random.default_rng(len(keys))
    vectors = generator.standard_normal((len(keys), dimension)).astype(np.float32)
    stored = commit_of(PutRows(RowBatch(keys, vectors, metadata))).to_bytes()
    rows = read(stored).operation.rows
    assert list(rows.keys) == keys
    assert rows.vectors.tobytes() == vectors.tobytes()
    assert rows.vectors.shape == vectors.shape
    assert rows.metadata == metadata
    assert read(stored).to_bytes() == stored
    assert read(stored).stored_bytes == len(stored)


@pytest.mark.parametrize(
    "operation",
    [
        PutSegments((SEGMENT, replace(SEGMENT, id="s2", deleted=None, kind="flat"))),
        PutSegments(()),
        DeleteKeys(["a", "é\n\0"]),
        Replace(("a", "b"), (1, 3), (SEGMENT,), ObjectRef("trained/x", 3, 4), 3),
        Replace((), (), (), None, 0),
        Replace(("a",), (), (), ObjectRef("trained/y", 3, 4), 3, "trained/x"),
        Replace(("a",), (1,), (SEGMENT,), None, 2, content="build", build="b" * 32),
        Replace(("a",), (1,), (SEGMENT,), None, 3, content="restore", restored=1),
        Replace((), (), (SEGMENT,), None, 3, content="restore", begins=True, restored=0),
        Replace((), (), (), None, 3, build="b" * 32, lasts_ms=0),
    ],
)
def test_operations_survive(operation):
    """Every other operation comes back equal."""
    commit = commit_of(operation)
    assert read(commit.to_bytes()) == commit


def test_only_what_needs_it_is_of_version_2():
    """Releases that know version 1 alone read all other commits."""
    for operation, version in (
        (DeleteKeys(["a"]), 1),
        (Replace(("a",), (), (), None, 3, "trained/x"), 1),
        (Replace((), (), (), None, 3), 1),
        (Replace((), (), (), None, 3, content="build"), 2),
        (Replace((), (), (), None, 3, build="b" * 32, lasts_ms=5), 2),
    ):
        data = commit_of(operation).to_bytes()
        open_sealed(data, kind=commits.KIND, versions=(version,), where="c")


def some_commit() -> bytes:
    rows = RowBatch(["a", "é"], np.array([[1, 2], [3, 4]], np.float32), [{"x": 1}, {}])
    return commit_of(PutRows(rows)).to_bytes()


def some_snapshot() -> bytes:
    world, opened = grown(MemoryStore())
    state, _ = snapshots.materialise(
        opened,
        load_keys=world.log._load_keys,
        load_bitmap=world.log.load_bitmap,
    )
    assert state.fresh_dead
    return snapshots.to_bytes(state)


def grown(store: MemoryStore, *, snapshots_at: tuple[int, ...] = ()):
    """Build an index with everything in it: segments, folds, dead rows here and there."""
    world = World.on(store)
    opened = world.log.refresh(None)
    steps = [
        lambda o: world.put_segments(o, {f"k{i}": i for i in range(9)}, {"x": 1}),
        lambda o: world.put(o, {"k1": 10, "a": 1, "b": 2}),
        lambda o: writer.delete(world.log, o, ["k2", "a"]),
        lambda o: world.put(o, {"c": 3, "k3": 11}),
        lambda o: writer.replace(
            world.log, o, **world.fold(o, list(o.state.segments[:1]), [o.state.fresh[0]])
        ),
        lambda o: world.put(o, {"c": 4, "d": 5}),
        lambda o: writer.delete(world.log, o, ["k5"]),
    ]
    for number, step in enumerate(steps, 1):
        opened = step(opened)
        if number in snapshots_at:
            opened = world.log.write_snapshot(opened)
    return world, opened


@pytest.mark.parametrize("make", [some_commit, some_snapshot])
def test_every_flipped_bit_is_refused(make):
    """No bit can change, no byte be lost or added, without the reader's noticing."""
    data = make()

    def open_it(changed: bytes) -> object:
        if make is some_commit:
            return read(changed)
        return snapshots.from_bytes(changed, sequence=7, where="snapshots/7")

    def attempt(changed: bytes) -> None:
        with pytest.raises(DataError):
            open_it(changed)

    for at in range(len(data)):
        for bit in range(8) if at < 400 or at % 7 == 0 else (at % 8,):
            attempt(data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :])
    for length in (0, 1, 7, 8, 9, 63, 64, 65, len(data) // 2, len(data) - 1):
        attempt(data[:length])
    attempt(data + b"\0")
    attempt(b"\0" * len(data))


def test_newer_formats_are_refused_by_name():
    """A newer version, or a feature not known, is told apart from damage."""
    for kind, newer, open_it in (
        (commits.KIND, 4, read),
        (snapshots.KIND, 3, lambda data: snapshots.from_bytes(data, sequence=4, where="s")),
    ):
        header = {"sequence": 4, "commit_id": "c", "time_ms": 0, "operation": {"type": "new"}}
        with pytest.raises(UnsupportedFormatError, match=f"version {newer}"):
            open_it(seal(kind, newer, header=header, arrays={}))
        with pytest.raises(UnsupportedFormatError, match="sparse"):
            open_it(seal(kind, 1, header=header | {"features": ["sparse"]}, arrays={}))
        with pytest.raises(DataError):
            open_it(seal(kind, 1, header=header, arrays={}))
        with pytest.raises(DataError, match="not a"):
            open_it(seal("other", 1, header=header, arrays={}))


@pytest.mark.parametrize(("type_", "version"), [("dropped", 1), ("dropped", 2), ("new", 3)])
def test_version_3_is_of_tombstones_alone(type_, version):
    """So who knows versions 1 and 2 alone refuses an end of a log by name."""
    header = {"sequence": 4, "commit_id": "c", "time_ms": 0, "operation": {"type": type_}}
    with pytest.raises(DataError, match="no commit"):
        read(seal(commits.KIND, version, header=header, arrays={}))


def test_moved_objects_are_refused():
    """A commit or snapshot under another number is refused."""
    with pytest.raises(DataError, match="moved"):
        read(some_commit(), sequence=5)
    with pytest.raises(DataError, match="moved"):
        snapshots.from_bytes(some_snapshot(), sequence=8, where="x")
    store = MemoryStore()
    world, opened = grown(store)
    world.log.write_snapshot(opened)
    store.put("snapshots/rubbish", b"")
    store.put("snapshots/0", b"")
    with pytest.raises(DataError, match="no name of a snapshot"):
        world.log.refresh(None)


@pytest.mark.parametrize("changed", [8, -1, "x", None, [1]])
def test_a_snapshot_is_changed_by_its_own_commits(changed):
    """Records changed by a commit that is to come, or by none at all, are no snapshot's."""
    container = open_sealed(
        some_snapshot(), kind=snapshots.KIND, versions=(snapshots.VERSION,), where="s"
    )
    arrays = {name: container.array(name) for name in container.names()}
    known = {"sequence", "time_ms", "segments", "fresh", "trained", "recent"}
    header = {name: container.header[name] for name in known}

    def opened(header):
        data = seal(snapshots.KIND, snapshots.VERSION, header=header, arrays=arrays)
        return snapshots.from_bytes(data, sequence=7, where="s")

    assert opened(header).changed == 7
    assert opened(header | {"changed": 5}).changed == 5
    with pytest.raises(DataError):
        opened(header | {"changed": changed})


def test_crc_is_of_the_rest():
    """The checksum is what the format page says: CRC-32 with zeros in its own place."""
    import zlib

    data = seal("kind", 1, header={"x": [1]}, arrays={"a": np.arange(3, dtype=np.uint8)})
    header = open_sealed(data, kind="kind", versions=(1,), where="x").header
    assert header["crc32"] == f"{zlib.crc32(data.replace(header['crc32'].encode(), b'0' * 8)):08x}"
    assert header["x"] == [1]


def test_snapshots_are_byte_identical():
    """Whatever snapshots were written before, the one after a commit has the same bytes."""
    plain, often = MemoryStore(), MemoryStore()
    _, opened = grown(plain, snapshots_at=(7,))
    grown(often, snapshots_at=(1, 2, 4, 5, 6, 7))
    key = snapshots.snapshot_key(7)
    assert bytes(plain.get(key)) == bytes(often.get(key))
    # A reader that starts from a snapshot writes the same as one that read every commit.
    later = World.on(often, 5)
    store = MemoryStore()
    for info in often.list(""):
        if info.key != key:
            store.put(info.key, often.get(info.key))
    again = World.on(store, 6)
    again.log.write_snapshot(again.log.refresh(None))
    assert bytes(store.get(key)) == bytes(plain.get(key))
    for segment in opened.state.segments:
        if segment.deleted:
            assert bytes(plain.get(segment.deleted.key)) == bytes(often.get(segment.deleted.key))
    assert later.everything(later.log.refresh(None)) == later.everything(opened)


def test_newest_snapshot_is_first():
    """Keys descend as sequences ascend, and give them back."""
    numbers = [0, 1, 9, 10, 255, 256, 10**6, 10**19, 10**20 - 1]
    keys = [snapshots.snapshot_key(n) for n in numbers]
    assert sorted(keys, reverse=True) == keys
    assert [snapshots.snapshot_sequence(key) for key in keys] == numbers
    assert len(set(map(len, keys))) == 1


def test_a_snapshot_needs_no_earlier_commit():
    """After a fold of all and a snapshot, a reader gets by without any log before it."""
    store = MemoryStore()
    world, opened = grown(store)
    fold = world.fold(opened, list(opened.state.segments), list(opened.state.fresh), pieces=2)
    opened = world.log.write_snapshot(writer.replace(world.log, opened, **fold))
    records = world.everything(opened)
    opened = writer.delete(world.log, opened, ["k1"])
    store.delete(log_key(i) for i in range(1, 9))
    reader = World.on(store, 3)
    assert reader.everything(reader.log.refresh(None)) == {
        key: v for key, v in records.items() if key != "k1"
    }


@pytest.mark.parametrize("missing", ["log", "snapshot bitmap"])
def test_what_is_missing_is_an_error(missing):
    """A commit or bitmap that is needed and gone is an error, never an empty answer."""
    store = MemoryStore()
    world, opened = grown(store, snapshots_at=(7,))
    world.put(opened, {"late": 1})
    reader = World.on(store, 3)
    if missing == "log":
        store.delete([log_key(4)])
        with pytest.raises(ChecksumError, match="missing"):
            reader.log.refresh(None)
    else:
        (key,) = [info.key for info in store.list("segments/") if "deleted-" in info.key]
        store.put(key, bytes(len(store.get(key))))
        with pytest.raises(ChecksumError, match="deleted-"):
            reader.everything(reader.log.refresh(None))


@pytest.mark.parametrize("rows", [0, 1, 7, 8, 9, 31, 32, 33, 63, 64, 65, 255, 256])
def test_masks_survive(rows):
    """A bitmap comes back whatever its length, and another length is refused."""
    mask = np.random.default_rng(rows).random(rows) < 0.5
    assert (unpack_mask(pack_mask(mask), rows) == mask).all()
    assert not unpack_mask(None, rows).any()
    with pytest.raises(DataError):
        unpack_mask(pack_mask(mask) + b"\0", rows)


def test_readable_by_others():
    """A commit is a valid safetensors file with readable content."""
    from safetensors.numpy import load

    arrays = load(some_commit())
    assert json.loads(arrays["keys"].tobytes()) == ["a", "é"]
    assert arrays["vector"].tolist() == [[1, 2], [3, 4]]
    assert Container(some_commit(), kind="commit", versions=(1,), where="x").header["sequence"] == 4
