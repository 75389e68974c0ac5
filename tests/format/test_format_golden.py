"""Today's code opens what earlier releases wrote, answers the same, and refuses what is wrong."""

import json

import pytest
from make_golden import GOLDEN, answers_of, make, open_database, wrong
from safetensors.numpy import load

import squash
from squash.container import Container, read_layout
from squash.errors import ChecksumError, DataError, UnsupportedFormatError
from squash.storage import MemoryStore

OBJECTS = GOLDEN / "objects"
KEYS = sorted(path.relative_to(OBJECTS).as_posix() for path in OBJECTS.rglob("*") if path.is_file())
CONTAINERS = [key for key in KEYS if not key.endswith("index.json") and "/deleted-" not in key]


def golden_store():
    store = MemoryStore()
    for key in KEYS:
        store.put(key, (OBJECTS / key).read_bytes())
    return store


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, one in expected.items():
        assert found[name]["records"] == one["records"]
        for mine, theirs in zip(found[name]["answers"], one["answers"], strict=True):
            for answer, wanted in zip(mine, theirs, strict=True):
                assert [key for key, _ in answer] == [key for key, _ in wanted]
                assert [d for _, d in answer] == pytest.approx([d for _, d in wanted], abs=1e-7)


def test_it_answers_the_same():
    """Records, exact answers and answers by codes are those of the release that wrote them."""
    expected = json.loads((GOLDEN / "expected.json").read_text(encoding="utf-8"))
    assert_same(answers_of(open_database(golden_store())), expected)


def test_the_writer_writes_the_same():
    """Written anew, the indexes answer as they did: what is stored has not changed its meaning."""
    store = MemoryStore()
    make(store)
    assert sorted(info.key for info in store.list("")) == KEYS
    expected = json.loads((GOLDEN / "expected.json").read_text(encoding="utf-8"))
    assert_same(answers_of(open_database(store)), expected)


def test_a_folder_of_them_opens():
    """The tree of files is a database as it lies there, and nothing in it is damaged."""
    database = squash.connect(OBJECTS.as_uri())
    for config in database.list_indexes():
        report = database.index(config.name).verify()
        assert report.damages == ()
        assert report.objects > 0


def test_every_kind_is_there():
    """The golden files hold at least one of every kind of object."""
    kinds = {kind_of(key) for key in CONTAINERS}
    assert kinds == {
        "commit", "snapshot", "trained", "segment-rows", "segment-vectors", "segment-documents",
        "segment-attributes", "segment-codes",
    }  # fmt: skip
    assert any("/deleted-" in key for key in KEYS)


def kind_of(key):
    data = (OBJECTS / key).read_bytes()
    return read_layout(data, where=key, total_bytes=len(data)).header["kind"]


@pytest.mark.parametrize("key", CONTAINERS)
def test_second_opinion(key):
    """The safetensors library opens every container, and finds the arrays that we find."""
    data = (OBJECTS / key).read_bytes()
    theirs = load(data)
    ours = Container(data, kind=kind_of(key), versions=(1,), where=key)
    assert {name for name in theirs if not name.startswith("_pad.")} == set(ours.names())
    for name in ours.names():
        array = ours.array(name)
        assert (theirs[name].dtype, theirs[name].shape) == (array.dtype, array.shape)
        assert theirs[name].tobytes() == array.tobytes()


@pytest.mark.parametrize("key", CONTAINERS)
def test_alignment_and_no_holes(key):
    """Read without our code: entries tile the body in order, arrays begin at multiples of 64."""
    data = (OBJECTS / key).read_bytes()
    base = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:base])
    header.pop("__metadata__")
    at = 0
    for name, entry in header.items():
        start, stop = entry["data_offsets"]
        assert start == at
        assert name.startswith("_pad.") or (base + start) % 64 == 0
        assert not name.startswith("_pad.") or not any(data[base + start : base + stop])
        at = stop
    assert base + at == len(data)


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("version", UnsupportedFormatError),
        ("feature", UnsupportedFormatError),
        ("kind", DataError),
    ],
)
def test_written_wrongly(name, error):
    """The objects written wrongly on purpose are refused by name, as what they are."""
    data = (GOLDEN / "wrong" / name).read_bytes()
    with pytest.raises(error, match="here") as caught:
        Container(data, kind="segment-rows", versions=(1,), where="here")
    assert type(caught.value) is error
    assert wrong(golden_store())[name] == data


def test_a_wrong_checksum():
    """A commit whose last bit was flipped after it was sealed is refused when it is read."""
    store = golden_store()
    key = next(key for key in KEYS if key.startswith("fresh/") and "/log/" in key)
    store.put(key, (GOLDEN / "wrong" / "checksum").read_bytes())
    report = open_database(store).index("fresh").verify()
    assert [key.endswith(damage.object_key) for damage in report.damages] == [True]
    assert wrong(golden_store())["checksum"] == (GOLDEN / "wrong" / "checksum").read_bytes()
    store.delete([k for k in KEYS if k.startswith("fresh/") and "/snapshots/" in k])
    with pytest.raises(ChecksumError, match="log/"):
        open_database(store).index("fresh").stats()
