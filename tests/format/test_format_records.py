"""Where a segment says that its records begin: right, or refused, or found by `verify`."""

import numpy as np
import pytest
from make_golden import make, open_database, store_of

from squash.container import Container, pack
from squash.errors import DataError
from squash.runtime import Settings
from squash.storage import MemoryStore

NAME = "document_row_offsets"
PAGE_ROWS = 64


def fresh_store():
    store = MemoryStore()
    make(store)
    return store


def rows_objects(store, name="flat/"):
    return [info.key for info in store.list(name) if info.key.endswith("/rows")]


def container_of(store, key):
    return Container(store.get(key), kind="segment-rows", versions=(1,), where=key)


def with_offsets(store, key, offsets):
    """Write the object again with other offsets; None for none."""
    old = container_of(store, key)
    header = {n: v for n, v in old.header.items() if n not in {"kind", "version"}}
    arrays = {n: old.array(n) for n in old.names() if n != NAME}
    if offsets is not None:
        arrays[NAME] = offsets
    store.put(key, pack("segment-rows", 1, header=header, arrays=arrays))


def records_of(store, whole_bytes_max):
    database = open_database(store)
    database._settings = Settings(whole_bytes_max=whole_bytes_max)
    return {
        config.name: database.index(config.name).list(limit=1000).records
        for config in database.list_indexes()
    }


def test_records_are_where_the_segment_says():
    """Today's writer says where each record begins: at a bracket, the next at a comma."""
    store = fresh_store()
    for key in rows_objects(store, ""):
        container = container_of(store, key)
        offsets = container.array(NAME)
        assert offsets.dtype == np.uint32
        assert len(offsets) == container.header["rows"]
        documents = store.get(key.removesuffix("rows") + "documents")
        pages = container.array("document_page_offsets").astype(np.int64)
        for row, offset in enumerate(offsets.tolist()):
            at = container.header["document_start"] + int(pages[row // PAGE_ROWS]) + offset
            assert documents[at : at + 2] == b'["'
            assert documents[at - 1 : at] == (b"," if row % PAGE_ROWS else b"[")


@pytest.mark.parametrize("whole_bytes_max", [0, 1 << 20])
@pytest.mark.usefixtures("checksums_hold")
def test_with_and_without(whole_bytes_max):
    """Records are the same read whole or by pages, with offsets or without, as old segments are."""
    store = fresh_store()
    expected = records_of(store, whole_bytes_max)
    assert records_of(store, 0) == expected
    for key in rows_objects(store, ""):
        with_offsets(store, key, None)
    assert records_of(store, whole_bytes_max) == expected
    golden = store_of("v1")
    assert all(NAME not in container_of(golden, key).names() for key in rows_objects(golden, ""))
    del expected["many"]  # which v1 has not
    assert records_of(golden, whole_bytes_max) == expected


def shifted(by, row=None):
    def change(offsets):
        changed = offsets.astype(np.int64)
        changed[slice(None) if row is None else row] += by
        return changed.astype(np.uint32)

    return change


REFUSED = {
    "other type": lambda offsets: offsets.astype(np.uint64),
    "two axes": lambda offsets: offsets.reshape(-1, 1),
    "one too few": lambda offsets: offsets[:-1],
    "one too many": lambda offsets: np.append(offsets, offsets[-1] + np.uint32(9)),
    "none": lambda offsets: offsets[:0],
    "all one on": shifted(1),
    "all one back": shifted(-1),
    "one on": shifted(1, 5),
    "one back": shifted(-1, 5),
    "at the next": lambda offsets: np.where(
        np.arange(len(offsets)) == 5, offsets[6], offsets
    ).astype(np.uint32),
    "far beyond": shifted(2**31, 5),
    "last beyond": shifted(2**31, -1),
    "descending": lambda offsets: offsets[::-1].copy(),
    "zeros": np.zeros_like,
}


@pytest.mark.parametrize("whole_bytes_max", [0, 1 << 20])
@pytest.mark.parametrize("how", REFUSED)
@pytest.mark.usefixtures("checksums_hold")
def test_offsets_that_do_not_fit(how, whole_bytes_max):
    """Offsets that are not those of records are a DataError for readers, and verify names them."""
    store = fresh_store()
    (key,) = rows_objects(store)
    with_offsets(store, key, REFUSED[how](container_of(store, key).array(NAME)))
    with pytest.raises(DataError):
        records_of(store, whole_bytes_max)
    damages = open_database(store).index("flat").verify().damages
    assert damages
    assert {one.object_key.rpartition("/")[2] for one in damages} <= {"rows", "documents"}


@pytest.mark.usefixtures("checksums_hold")
def test_a_record_within_a_record():
    """An offset that points to what looks like a record, but is not the row's, verify finds."""
    store = MemoryStore()
    database = open_database(store)
    index = database.create_index("flat", dimension=2, metric="dot", non_filterable=["text"])
    keys = [f"k{i}" for i in range(40)]
    metadata = [{"text": ["other", {"a": 1}]} for _ in keys]
    index.put(keys=keys, vectors=np.ones((40, 2)), metadata=metadata)
    index.optimize()
    (key,) = rows_objects(store)
    inside = len('["k5",{"text":')
    offsets = container_of(store, key).array(NAME).copy()
    # Row 5 begins inside of itself: what comes after, "}]", gives it away at once.
    offsets[5] += inside
    with_offsets(store, key, offsets)
    with pytest.raises(DataError):
        records_of(store, 1 << 20)
    (damage,) = open_database(store).index("flat").verify().damages
    assert damage.object_key.endswith("/documents")


@pytest.mark.usefixtures("checksums_hold")
def test_records_of_another_order(monkeypatch):
    """Records that are whole and yet not those of the pages' order are named by verify."""
    store = fresh_store()
    (key,) = rows_objects(store)
    from squash.segment import Records

    real = Records.record
    monkeypatch.setattr(Records, "record", lambda self, row: real(self, row ^ 1))
    named = [one.object_key for one in open_database(store).index("flat").verify().damages]
    assert named
    assert key.endswith(named[0])
