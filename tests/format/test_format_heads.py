"""Heads of a wrong writer, or a damaged store: a DataError, never a crash, and `verify` names them.

Queries read parts here, as they do from S3: what a head says decides what native code reads.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from make_golden import FILTERS, NEWEST, answers_of, expected_of, open_database, queries, store_of
from test_format_golden import assert_same
from test_format_native import DIMENSION, array, header_entry, objects_of, put, rewrite, wrapped
from test_format_wrong_writers import changed

from amounts import examples, some
from forcing import codes_only
from squash.container import Container, pack
from squash.errors import ChecksumError, DataError
from squash.kernels import native
from squash.runtime import Settings


def remote(store):
    database = open_database(store)
    database._settings = Settings(whole_bytes_max=0)
    return database


def ask(store):
    """Ask everything of the index; return the errors."""
    index = remote(store).index("residual")
    errors = []
    with codes_only():
        for query in queries():
            for filter_ in FILTERS:
                try:
                    index.query(query, top_k=5, filter=filter_, recall_target=0.999)
                except DataError as error:
                    errors.append(error)
    return errors


@pytest.mark.parametrize("version", ["v2", NEWEST])
@pytest.mark.parametrize("variant", native.variants())
def test_parts_answer_as_whole_objects_do(version, variant):
    """Read by clusters and by pages, with heads and without, the answers are the same."""
    with native.use(variant):
        assert_same(answers_of(remote(store_of(version))), expected_of(version))


def described(name, field, value):
    def change(header, arrays):
        header["code_arrays"][name][field] = value

    return change


def gone(name):
    def change(header, arrays):
        del header["code_arrays"][name]

    return change


def overlapping(header, arrays):
    both = header["code_arrays"]
    both["full"]["start"] = both["blocks"]["start"] + 64


def swapped(header, arrays):
    both = header["code_arrays"]
    both["full"], both["blocks"] = both["blocks"], both["full"]


def renamed(header, arrays):
    header["code_arrays"]["low"] = header["code_arrays"].pop("full")
    arrays["code_crc32.low"] = arrays.pop("code_crc32.full")


def all_wrapped(header, arrays):
    arrays["cluster_begins"] = wrapped(arrays["cluster_begins"])
    count = len(arrays["cluster_begins"]) - 1
    arrays["centers"] = np.zeros((count, DIMENSION), np.float32)
    for name in ("blocks", "full"):
        arrays[f"code_crc32.{name}"] = np.zeros(count, np.uint32)


def moved_row(header, arrays):
    arrays["cluster_begins"][1] += 1


REFUSED = {
    "a wrong checksum of blocks": array("code_crc32.blocks", lambda old: old ^ 1),
    "a wrong checksum of full codes": array("code_crc32.full", lambda old: old ^ 1),
    "a checksum less": array("code_crc32.full", lambda old: old[:-1]),
    "checksums as 64 bits": array("code_crc32.full", lambda old: old.astype(np.uint64)),
    "codes one byte on": described("full", "start", 4097),
    "codes at the front": described("blocks", "start", 0),
    "codes far beyond": described("full", "start", 2**62),
    "codes before the object": described("full", "start", -64),
    "codes at a fraction": described("full", "start", 64.5),
    "wider blocks": described("blocks", "item_bytes", 4096),
    "narrower blocks": described("blocks", "item_bytes", 16),
    "blocks of no bytes": described("blocks", "item_bytes", 0),
    "blocks without end": described("blocks", "item_bytes", 2**61),
    "full codes by block": described("full", "per", "block"),
    "blocks by row": described("blocks", "per", "row"),
    "codes by nothing": described("full", "per", None),
    "overlapping": overlapping,
    "swapped": swapped,
    "renamed": renamed,
    "no full codes": gone("full"),
    "no blocks": gone("blocks"),
    "no arrays": header_entry("code_arrays", {}),
    "arrays as a list": header_entry("code_arrays", [1]),
    "a row in another cluster": moved_row,
    "cluster begins wrap": all_wrapped,
    "cluster begins descend": array("cluster_begins", put(1, 40)),
    "another codec": header_entry("codec", "osq"),
    "codec version 1": header_entry("codec_version", 1),
    "a row more": header_entry("rows", 10**6),
    "another dimension": header_entry("dimension", DIMENSION + 1),
    "vectors beyond": header_entry("vector_start", 2**40),
    "no directory": header_entry("page_rows", 32),
}


@pytest.mark.usefixtures("checksums_hold")
@pytest.mark.parametrize("variant", native.variants())
@pytest.mark.parametrize("what", REFUSED)
def test_what_does_not_fit_is_refused(what, variant):
    """Queries that go by it are a DataError, and `verify` names the head."""
    store = store_of(NEWEST)
    key = objects_of(store, "residual", "head")[0]
    rewrite(store, key, REFUSED[what])
    with native.use(variant):
        assert ask(store)
    (damage,) = open_database(store).index("residual").verify().damages
    assert key.endswith(damage.object_key)


@pytest.mark.usefixtures("checksums_hold")
@pytest.mark.parametrize("field", ["vector_start", "document_start"])
def test_pages_that_are_elsewhere_are_found(field):
    """`verify` finds them too, also where queries read so much that they read all."""
    store = store_of(NEWEST)
    key = objects_of(store, "residual", "head")[0]
    rewrite(store, key, header_entry(field, 0))
    ask(store)
    (damage,) = open_database(store).index("residual").verify().damages
    assert key.endswith(damage.object_key)


@pytest.mark.usefixtures("checksums_hold")
def test_codes_that_nothing_describes_are_read_whole():
    """A head may leave codes out: readers then take all of them."""
    store = store_of(NEWEST)
    for key in objects_of(store, "residual", "head"):
        rewrite(store, key, lambda header, arrays: header.pop("code_arrays"))
    assert_same(answers_of(remote(store)), expected_of(NEWEST))


@pytest.mark.parametrize("part", ["head", "codes", "vectors", "documents"])
def test_every_bit_that_is_read_is_checked(part):
    """A bit flipped anywhere: the answers of old, or a DataError that names the object."""
    good = store_of(NEWEST)
    key = objects_of(good, "residual", part)[0]
    data = good.get(key)
    told = 0
    for at in some(range(0, len(data), max(1, len(data) // 40)), salt=1):
        store = store_of(NEWEST)
        store.put(key, data[:at] + bytes([data[at] ^ 16]) + data[at + 1 :])
        errors = ask(store)
        told += bool(errors)
        assert all(key.endswith(error.object_key) for error in errors)
        assert all(isinstance(error, ChecksumError) for error in errors)
    assert told > 3


@pytest.mark.usefixtures("checksums_hold")
@given(data=st.data())
@settings(max_examples=examples(60, least=25), deadline=None)
def test_other_arrays(data):
    """An array or field of a head that is absent, or anything else: refused or harmless."""
    store = store_of(NEWEST)
    key = data.draw(st.sampled_from(objects_of(store, "residual", "head")))
    container = Container(store.get(key), kind="segment-head", versions=(1,), where=key)
    header = {n: v for n, v in container.header.items() if n not in {"kind", "version"}}
    arrays = {n: container.array(n) for n in container.names()}
    if data.draw(st.booleans()):
        values = st.sampled_from([None, -1, 0, 2**40, "x", [], {}, [[1]], 1.5, True])
        if data.draw(st.booleans()):
            entry = header["code_arrays"][data.draw(st.sampled_from(["blocks", "full"]))]
            entry[data.draw(st.sampled_from(sorted(entry)))] = data.draw(values)
        else:
            header[data.draw(st.sampled_from(sorted(header)))] = data.draw(values)
    else:
        arrays = changed(data, container)
    store.put(key, pack("segment-head", 1, header=header, arrays=arrays))
    ask(store)
    open_database(store).index("residual").verify()
