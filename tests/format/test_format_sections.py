"""Attributes that are read one by one: only those asked for, each checked by itself."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from make_golden import NEWEST, open_database, queries, rows, store_of
from test_format_heads import remote
from test_format_native import array, objects_of, rewrite
from test_format_wrong_writers import changed

from amounts import examples
from forcing import codes_only
from squash.attributes import CellScheme, Columns
from squash.container import Container, pack
from squash.errors import ChecksumError, DataError
from squash.index.trained import Trained
from squash.runtime.retained import RetainedObjects
from squash.segment import describe_attributes, read_cells, read_column
from squash.storage import CountingStore

ASKED = {"open": {"open": True}, "year": {"year": {"$gte": 2010}}, "tags": {"tags": "b"}}


def trained_of(store):
    (key,) = [info.key for info in store.list("residual/") if "/trained/" in info.key]
    return key, Trained.from_bytes(store.get(key), key, dimension=6)


def ask(store, filter_):
    """Ask a cold reader; return the keys."""
    index = remote(store).index("residual")
    with codes_only():
        return [
            [m.key for m in index.query(q, top_k=5, filter=filter_, recall_target=0.999).matches]
            for q in queries()
        ]


@pytest.mark.parametrize("name", ASKED)
def test_an_attribute_is_read_alone(name):
    """Damage in its bytes is told by name, whatever is read before; damage elsewhere is not."""
    good = store_of(NEWEST)
    trained_key, trained = trained_of(good)
    del trained_key
    expected = {other: ask(good, filter_) for other, filter_ in ASKED.items()}
    key = objects_of(good, "residual", "attributes")[0]
    number = trained.partition_ids.index(key.split("/")[-2])
    data = good.get(key)
    section = trained.sections_of(number).cells[name]
    for at in (section.start, section.stop - 1):
        store = store_of(NEWEST)
        store.put(key, data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
        for other, filter_ in ASKED.items():
            if other != name:
                assert ask(store, filter_) == expected[other]
        index = remote(store).index("residual")
        for filter_ in (None, *(one for other, one in ASKED.items() if other != name)):
            index.query(queries()[0], top_k=5, filter=filter_)
        for _ in range(2):
            with pytest.raises(ChecksumError, match=name) as told:
                index.query(queries()[0], top_k=5, filter=ASKED[name])
            assert key.endswith(told.value.object_key)


def test_bytes_that_are_not_asked_for_are_not_read():
    """A cold filter reads its attribute's cells, and values only if it asks for numbers."""
    store = store_of(NEWEST)
    sections = [one for one in trained_of(store)[1].sections if one]
    read = {}
    for name, filter_ in ASKED.items():
        counting = CountingStore(store)
        index = remote(counting).index("residual")
        clusters = index._session.view("strong").clusters
        table = clusters.table()
        before = counting.counts()
        clusters.load_columns(table, {name: name == "year"})
        spent = counting.counts() - before
        assert (spent.requests, spent.rounds) == (len(sections), 1)
        read[name] = spent.bytes_in
        index.query(queries()[0], top_k=5, filter=filter_)
    for name, size in read.items():
        cells = sum(one.cells[name].stop - one.cells[name].start for one in sections)
        columns = sum(one.columns[name].stop - one.columns[name].start for one in sections)
        assert size == cells + (columns if name == "year" else 0)


@pytest.mark.parametrize("seed", range(3))
def test_parts_are_those_of_the_whole(seed):
    """Cells and columns cut out of the object are the ones that the whole object gives."""
    store = store_of(NEWEST)
    for key in objects_of(store, "residual", "attributes"):
        data = store.get(key)
        container = Container(data, kind="segment-attributes", versions=(1,), where=key)
        sections = describe_attributes(data)
        count = container.header["rows"]
        cells, columns = container.header["cells"], container.header["columns"]
        assert list(sections.cells) == cells["names"] == columns["names"]
        for i, name in enumerate(cells["names"]):
            one, other = sections.cells[name], sections.columns[name]
            codes, listed = read_cells(data[one.start : one.stop], count)
            np.testing.assert_array_equal(codes, container.array(f"cells.{i}.codes"))
            assert (listed is not None) == cells["lists"][i]
            column = read_column(data[other.start : other.stop], count)
            np.testing.assert_array_equal(column.ids, container.array(f"columns.{i}.ids"))
            assert (column.offsets is not None) == columns["lists"][i]
    made = Columns.from_metadata(rows(0, 20, seed)["metadata"], non_filterable=("text",))
    assert CellScheme.fit(made).encode(made).rows == 20


@given(data=st.data())
@settings(max_examples=examples(40, least=25), deadline=None)
def test_a_wrong_table_never_answers_wrongly(data):
    """Places and checksums that are absent, or anything else: refused or harmless."""
    store = store_of(NEWEST)
    expected = {name: ask(store, filter_) for name, filter_ in ASKED.items()}
    key, _ = trained_of(store)
    container = Container(store.get(key), kind="trained", versions=(1,), where=key)
    header = {n: v for n, v in container.header.items() if n not in {"kind", "version"}}
    arrays = {n: container.array(n) for n in container.names()}
    name = data.draw(st.sampled_from([n for n in arrays if n.startswith("attribute")]))
    if data.draw(st.booleans()):
        mine = dict(changed(data, container))
        arrays = {n: mine.get(n, arrays[n]) if n == name else arrays[n] for n in arrays}
    elif data.draw(st.booleans()):
        arrays.pop(name)
    else:
        value = st.sampled_from([None, 1, "x", [], ["open"], [["open"]], ["a", "a"], {}])
        header["attribute_names"] = data.draw(value)
    store.put(key, pack("trained", 1, header=header, arrays=arrays))
    unchecked = RetainedObjects._checked
    RetainedObjects._checked = lambda self, ref: self._store.get(ref.key)
    try:
        for asked, filter_ in ASKED.items():
            try:
                assert ask(store, filter_) == expected[asked]
            except DataError as error:
                assert error.object_key
        open_database(store).index("residual").verify()
    finally:
        RetainedObjects._checked = unchecked


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("a checksum", array("attribute_crc32", lambda old: old ^ 1)),
        ("a place", array("attribute_places", lambda old: old + 64)),
        ("beyond", array("attribute_places", lambda old: old + 2**40)),
    ],
)
def test_verify_names_a_wrong_table(monkeypatch, what, change):
    """A table that does not fit is refused where it is used, and `verify` names it."""
    del what
    monkeypatch.setattr(RetainedObjects, "_checked", lambda self, ref: self._store.get(ref.key))
    store = store_of(NEWEST)
    key, _ = trained_of(store)
    rewrite(store, key, change)
    with pytest.raises(DataError, match="year"):
        ask(store, ASKED["year"])
    (damage,) = open_database(store).index("residual").verify().damages
    assert key.endswith(damage.object_key)
    assert json.dumps(damage.problem)
