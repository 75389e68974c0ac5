"""Damage to any stored object is a DataError or harmless, and `verify` names what is damaged."""

import json
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from make_golden import (
    FILTERS,
    NEWEST,
    VERSIONS,
    expected_of,
    open_database,
    queries,
    stored_of,
)

from amounts import examples
from forcing import codes_only
from squash.container import read_layout
from squash.errors import ChecksumError, DataError, NotFoundError, UnsupportedFormatError
from squash.storage import MemoryStore

STORED = {
    f"{version}/{key}": data for version in VERSIONS for key, data in stored_of(version).items()
}
EXPECTED = {version: expected_of(version) for version in VERSIONS}
# What today's writer writes no more is damaged too; all else is in the newest folder.
OLDER = {"trained", "segment-codes", "segment-rows"}


def kind_of(key):
    if key.endswith("index.json"):
        return "index.json"
    if "/deleted-" in key:
        return "deleted"
    return read_layout(STORED[key], where=key).header["kind"]


# One index has every kind that there is; the others add what is special about fresh rows, osq and
# many dimensions.
BY_KIND = {}
for each in STORED:
    version, name, _ = each.split("/", 2)
    if version == NEWEST and name in {"residual", "fresh", "osq", "many"}:
        BY_KIND.setdefault(kind_of(each), []).append(each)
    elif name == "residual" and kind_of(each) in OLDER:
        BY_KIND.setdefault(f"{version} {kind_of(each)}", []).append(each)
KINDS = sorted(BY_KIND)


@pytest.fixture(autouse=True)
def codes_are_used():
    """Let queries go by the codes, however few rows there are."""
    with codes_only():
        yield


def store_with(key=None, data=None):
    """The golden objects of one index, with one of them changed, or gone."""
    version, name, _ = key.split("/", 2)
    store = MemoryStore()
    for each, good in STORED.items():
        if each.startswith(f"{version}/{name}/") and each != key:
            store.put(each.removeprefix(f"{version}/"), good)
    if data is not None:
        store.put(key.removeprefix(f"{version}/"), data)
    return name, store


def everything(store, name, version=NEWEST):
    """Ask an index all that the public face can; what it answers, by what was asked."""
    expected = EXPECTED[version][name]
    index = open_database(store).index(name)
    answers = []
    for number, query in enumerate(queries(index.config.dimension)):
        for exact in (True, False):
            asked = [
                index.query(query, top_k=5, filter=f, exact=exact, recall_target=0.999)
                for f in FILTERS
            ]
            answers.append([[m.key for m in one.matches] for one in asked])
            wanted = expected["answers"][2 * number + (not exact)]
            assert answers[-1] == [[key for key, _ in one] for one in wanted]
    records = index.get(keys=list(expected["records"]))
    found = {r.key: [r.vector.tobytes().hex(), r.metadata] for r in records}
    assert found == expected["records"]
    assert index.stats().rows == len(records)


def damaged(key, data):
    """Check the whole promise for one changed object; tell if it was noticed."""
    name, store = store_with(key, data)
    # The answer of old, or a DataError: nothing else gets out of here.
    problems = []
    try:
        everything(store, name, key.split("/")[0])
    except DataError as error:
        problems.append(error.object_key or "no key")
    try:
        report = open_database(store).index(name).verify()
        named = [damage.object_key for damage in report.damages]
    except DataError as error:
        named = [error.object_key or "no key"]
    # Whatever a reader notices, verify names; both name the object that was damaged, no other.
    assert named or not problems
    assert {one for one in problems + named if not key.endswith(one)} == set()
    return bool(named)


@pytest.mark.parametrize("version", VERSIONS)
def test_undamaged(version):
    """What the tests start from answers as expected, and verifies."""
    for name in ("residual", "fresh", "osq"):
        prefix = f"{version}/{name}/"
        store = store_with(f"{prefix}none")[1]
        everything(store, name, version)
        report = open_database(store).index(name).verify()
        assert report.damages == ()
        assert report.rows >= len(EXPECTED[version][name]["records"])
        data = [key for key in STORED if key.startswith(prefix) and "index.json" not in key]
        assert report.objects == len(data)
        assert report.bytes == sum(len(STORED[key]) for key in data)


@pytest.mark.parametrize("kind", KINDS)
def test_verify_names_what_was_flipped(kind):
    """A bit flipped at the front, in the middle or at the end of any object is found and named."""
    for key in BY_KIND[kind][:3]:
        good = STORED[key]
        for at in (0, len(good) // 2, len(good) - 1):
            # The newline that ends `index.json` may turn into other blank space, unnoticed.
            mask = 0x40 if kind == "index.json" else 0x01
            bad = good[:at] + bytes([good[at] ^ mask]) + good[at + 1 :]
            assert damaged(key, bad), (key, at)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(max_examples=examples(40), deadline=None)
def test_random_mutations(kind, data):
    """Bytes changed, cut out or put in anywhere: a DataError, or the answer of old."""
    key = data.draw(st.sampled_from(BY_KIND[kind]))
    bad = bytearray(STORED[key])
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(bad) - 1))
        what = data.draw(st.sampled_from(["set", "cut", "insert"]))
        some = data.draw(st.binary(min_size=1, max_size=4))
        if what == "set":
            bad[at : at + len(some)] = some
        elif what == "cut":
            del bad[at : at + len(some)]
        else:
            bad[at:at] = some
        if not bad:
            break
    damaged(key, bytes(bad))


@pytest.mark.parametrize("kind", KINDS)
def test_truncation(kind):
    """An object cut short at several places is noticed and named."""
    key = BY_KIND[kind][0]
    good = STORED[key]
    for length in {0, 1, 7, 8, 63, 64, len(good) // 2, len(good) - 2}:
        if length < len(good) - 1:
            assert damaged(key, good[:length]), (key, length)


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"index.json", "snapshot", "commit"}))
def test_missing(kind):
    """An object that is named and gone is noticed and named."""
    assert damaged(BY_KIND[kind][0], None)


def test_missing_entry():
    """Without its `index.json` there is no such index."""
    name, store = store_with(f"{NEWEST}/residual/index.json", None)
    with pytest.raises(NotFoundError):
        open_database(store).index(name)


def test_missing_snapshot():
    """A snapshot that is gone costs reading more of the log, and nothing else."""
    assert not damaged(BY_KIND["snapshot"][0], None)


@pytest.mark.parametrize("sequence", [1, 2, 3, 4, 5])
def test_missing_commit(sequence):
    """Verify names every commit that is gone, but for the last; readers don't hang on a hole."""
    (key,) = [
        key
        for key in STORED
        if key.startswith(f"{NEWEST}/residual/") and key.endswith(f"/log/{sequence:020}")
    ]
    name, store = store_with(key, None)
    with suppress(DataError):
        open_database(store).index(name).stats()
    named = {damage.object_key for damage in open_database(store).index(name).verify().damages}
    # The first could have been collected: the snapshot needs it no more.
    assert named == ({f"log/{sequence:020}"} if sequence > 1 else set())
    store.delete([info.key for info in store.list("") if "/snapshots/" in info.key])
    if sequence > 1:
        with suppress(DataError):
            open_database(store).index(name).stats()
    named = {damage.object_key for damage in open_database(store).index(name).verify().damages}
    assert f"log/{sequence:020}" in named


def test_an_open_index_verifies_its_entry():
    """Verify looks at `index.json` again, also where it was read long ago."""
    name, store = store_with(f"{NEWEST}/fresh/none")
    index = open_database(store).index(name)
    good = STORED[f"{NEWEST}/fresh/index.json"]
    store.put("fresh/index.json", good.replace(b"euclidean", b"dot"))
    assert [d.object_key for d in index.verify().damages] == ["fresh/index.json"]


@pytest.mark.parametrize("key", ["version", "features", "vector_fields", "format"])
def test_a_newer_entry(key):
    """An `index.json` of a newer release is told apart from a damaged one."""
    place = f"{NEWEST}/fresh/index.json"
    content = json.loads(STORED[place])
    content[key] = {"version": 2, "features": ["x"], "vector_fields": ["a", "b"], "format": "y"}[
        key
    ]
    name, store = store_with(place, json.dumps(content).encode())
    with pytest.raises(UnsupportedFormatError, match="newer"):
        open_database(store).index(name)


def test_a_page_read_by_range():
    """Where only pages are read, a page's own checksum finds the damage."""
    key = next(k for k in BY_KIND["segment-documents"] if k.startswith(f"{NEWEST}/osq/"))
    good = STORED[key]
    bad = good[:-70] + bytes([good[-70] ^ 1]) + good[-69:]
    name, store = store_with(key, bad)
    with pytest.raises(ChecksumError, match="documents"):
        open_database(store).index(name).list(limit=1000)
