"""Today's code opens what earlier releases wrote, answers the same, and refuses what is wrong."""

import json

import pytest
from make_golden import (
    GOLDEN,
    NEWEST,
    VERSIONS,
    answers_of,
    expected_of,
    make,
    open_database,
    store_of,
    stored_of,
    wrong,
)
from safetensors.numpy import load

import squash
from squash.container import Container, read_layout
from squash.errors import ChecksumError, ConflictError, DataError, UnsupportedFormatError
from squash.kernels import native
from squash.storage import MemoryStore

STORED = {version: stored_of(version) for version in VERSIONS}
CONTAINERS = [
    (version, key)
    for version, stored in STORED.items()
    for key in stored
    if not key.endswith("index.json") and "/deleted-" not in key
]

every_version = pytest.mark.parametrize("version", VERSIONS)
every_container = pytest.mark.parametrize(("version", "key"), CONTAINERS)


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, one in expected.items():
        assert found[name]["records"] == one["records"]
        for mine, theirs in zip(found[name]["answers"], one["answers"], strict=True):
            for answer, wanted in zip(mine, theirs, strict=True):
                assert [key for key, _ in answer] == [key for key, _ in wanted]
                assert [d for _, d in answer] == pytest.approx([d for _, d in wanted], abs=1e-7)


@every_version
def test_it_answers_the_same(version):
    """Records, exact answers and answers by codes are those of the release that wrote them."""
    assert_same(answers_of(open_database(store_of(version))), expected_of(version))


@every_version
def test_twins_answer_the_same(version):
    """So they are where no native kernels serve."""
    with native.use(native.NUMPY):
        assert_same(answers_of(open_database(store_of(version))), expected_of(version))


def test_the_writer_writes_the_same():
    """Written anew, the newest indexes are the same arrays of the same kinds, and answer so."""
    store = MemoryStore()
    make(store)
    written = {info.key: bytes(store.get(info.key)) for info in store.list("")}
    assert sorted(written) == sorted(STORED[NEWEST])
    for version, key in CONTAINERS:
        if version == NEWEST:
            assert described(key, written[key]) == described(key, STORED[version][key])
    assert_same(answers_of(open_database(store)), expected_of(NEWEST))


def described(key, data):
    """Return an object's kind and version, and its arrays' dtypes and shapes."""
    container = Container(data, kind=kind_of(key, data), versions=(1,), where=key)
    arrays = {n: container.array(n) for n in container.names()}
    return kind_of(key, data), {n: (a.dtype.str, a.shape) for n, a in arrays.items()}


@every_version
def test_a_folder_of_them_opens(version):
    """The tree of files is a database as it lies there, and nothing in it is damaged."""
    database = squash.connect((GOLDEN / version / "objects").as_uri())
    for config in database.list_indexes():
        report = database.index(config.name).verify()
        assert report.damages == ()
        assert report.objects > 0


@every_version
def test_every_kind_is_there(version):
    """The golden files hold at least one of every kind of object."""
    kinds = {kind_of(key, STORED[v][key]) for v, key in CONTAINERS if v == version}
    assert ("segment-head" in kinds) == (version not in {"v1", "v2"})
    assert kinds - {"segment-head"} == {
        "commit", "snapshot", "trained", "segment-rows", "segment-vectors", "segment-documents",
        "segment-attributes", "segment-codes",
    }  # fmt: skip
    assert any("/deleted-" in key for key in STORED[version])


@every_version
def test_which_commit_changed_records(version):
    """Snapshots say so since v4; of earlier ones their last commit is taken."""
    database = open_database(store_of(version))
    for key, data in STORED[version].items():
        if "/snapshots/" in key:
            snapshot = Container(data, kind="snapshot", versions=(1,), where=key)
            assert ("changed" in snapshot.header) == (version in {"v4", "v5", "v6"})
            assert snapshot.header.get("changed", 0) <= snapshot.header["sequence"]
    index = database.index("fresh")
    newest = index.backlog().snapshot
    condition = {"keys": ["k8"], "if_snapshot": newest}
    # The ids of these tests' databases begin anew, and would repeat those of the files.
    assert index.patch(metadata=[{"year": 1}], commit_id="a" * 32, **condition).snapshot > newest
    with pytest.raises(ConflictError):
        index.delete(commit_id="b" * 32, **condition)


@pytest.mark.parametrize(
    ("version", "name", "codec_version", "offsets"),
    [("v1", "residual", 1, False), ("v2", "residual", 2, True), ("v6", "many", 3, True)],
)
def test_what_a_version_is(version, name, codec_version, offsets):
    """Each folder holds what it was begun for."""
    assert any(key.startswith(f"{name}/") and key.endswith("/codes") for key in STORED[version])
    for key, data in STORED[version].items():
        if key.endswith("/codes") and key.startswith(f"{name}/"):
            codes = Container(data, kind="segment-codes", versions=(1,), where=key)
            assert codes.header["codec_version"] == codec_version
            assert ("codes.blocks" in codes.names()) == (codec_version >= 2)
        if "/trained/" in key and key.startswith(f"{name}/"):
            trained = Container(data, kind="trained", versions=(1,), where=key)
            assert ("codec.flips" in trained.names()) == (codec_version == 3)
            assert ("codec.rotation" in trained.names()) == (codec_version < 3)
        if key.endswith("/rows"):
            rows = Container(data, kind="segment-rows", versions=(1,), where=key)
            assert ("document_row_offsets" in rows.names()) == offsets


def kind_of(key, data):
    return read_layout(data, where=key, total_bytes=len(data)).header["kind"]


@every_container
def test_second_opinion(version, key):
    """The safetensors library opens every container, and finds the arrays that we find."""
    data = STORED[version][key]
    theirs = load(data)
    ours = Container(data, kind=kind_of(key, data), versions=(1,), where=key)
    assert {name for name in theirs if not name.startswith("_pad.")} == set(ours.names())
    for name in ours.names():
        array = ours.array(name)
        assert (theirs[name].dtype, theirs[name].shape) == (array.dtype, array.shape)
        assert theirs[name].tobytes() == array.tobytes()


@every_container
def test_alignment_and_no_holes(version, key):
    """Read without our code: entries tile the body in order, arrays begin at multiples of 64."""
    data = STORED[version][key]
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


@every_version
@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("version", UnsupportedFormatError),
        ("feature", UnsupportedFormatError),
        ("kind", DataError),
    ],
)
def test_written_wrongly(version, name, error):
    """The objects written wrongly on purpose are refused by name, as what they are."""
    data = (GOLDEN / version / "wrong" / name).read_bytes()
    with pytest.raises(error, match="here") as caught:
        Container(data, kind="segment-rows", versions=(1,), where="here")
    assert type(caught.value) is error
    assert wrong(store_of(version))[name] == data


@every_version
def test_a_wrong_checksum(version):
    """A commit whose last bit was flipped after it was sealed is refused when it is read."""
    store = store_of(version)
    keys = list(STORED[version])
    key = next(key for key in keys if key.startswith("fresh/") and "/log/" in key)
    checksum = (GOLDEN / version / "wrong" / "checksum").read_bytes()
    store.put(key, checksum)
    report = open_database(store).index("fresh").verify()
    assert [key.endswith(damage.object_key) for damage in report.damages] == [True]
    assert wrong(store_of(version))["checksum"] == checksum
    store.delete([k for k in keys if k.startswith("fresh/") and "/snapshots/" in k])
    with pytest.raises(ChecksumError, match="log/"):
        open_database(store).index("fresh").stats()
