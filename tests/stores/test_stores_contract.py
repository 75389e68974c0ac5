"""What every store must do, looked at from the front and from behind."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from store_cases import Case

from squash.errors import ChecksumError, InvalidArgumentError
from squash.storage import getter_of

BIG = bytes(range(256)) * 5000


def keys_of(case: Case, prefix: str = "", **more) -> list[str]:
    return [info.key for info in case.store.list(prefix, **more)]


@pytest.mark.parametrize("data", [b"", b"x", BIG, bytearray(b"ab"), memoryview(b"abcd")[1:3]])
@pytest.mark.parametrize("absent_only", [True, False])
def test_what_is_put_is_got(case, data, absent_only):
    """An object comes back byte for byte, and lies under its key behind the store."""
    put = case.store.put_if_absent if absent_only else case.store.put
    assert put("a/b/é c", data) is (True if absent_only else None)
    assert bytes(case.store.get("a/b/é c")) == bytes(data)
    assert case.behind() == {"a/b/é c": bytes(data)}


def test_absent_is_none(case):
    """Only what is not there is None, also below and above what is there."""
    assert case.store.get("a") is None
    case.store.put("a/b", b"1")
    assert case.store.get("a") is None
    assert case.store.get("a/c") is None
    assert case.store.get("a/b/c") is None


@pytest.mark.parametrize("key", ["a/b", "é c"])
def test_what_gets_again_and_again(case, key):
    """Each time it says what is there then: nothing, or what was put last."""
    get = getter_of(case.store, key)
    assert [get(), get()] == [None, None]
    case.store.put(f"{key}/below", b"0")
    assert get() is None
    case.store.delete([f"{key}/below"])
    for data in (b"1", BIG):
        case.store.put(key, data)
        assert [bytes(get()), bytes(get())] == [data, data]
    case.store.delete([key])
    assert get() is None


def test_no_key_is_got_again_and_again(case):
    """What is no key is refused: at once, or when it is first asked for."""
    with pytest.raises(InvalidArgumentError):
        getter_of(case.store, "a/../b")()


def test_put_replaces(case):
    """A put replaces; what was got before stays as it was."""
    case.store.put("k", BIG)
    before = case.store.get("k")
    case.store.put("k", b"new")
    assert bytes(case.store.get("k")) == b"new"
    assert bytes(before) == BIG


def test_put_if_absent_never_replaces(case):
    """The second conditional put of a key says False and changes nothing."""
    assert case.store.put_if_absent("k/l", b"1") is True
    assert case.store.put_if_absent("k/l", b"2") is False
    case.store.put("p", b"3")
    assert case.store.put_if_absent("p", b"4") is False
    assert case.behind() == {"k/l": b"1", "p": b"3"}
    case.store.delete(["p"])
    assert case.store.put_if_absent("p", b"5") is True


def test_race_has_one_winner(case):
    """Of 16 threads that create one key, one is told so, and its bytes are there."""
    with ThreadPoolExecutor(16) as pool:
        for turn in range(5):
            key = f"race/{turn}"
            won = list(
                pool.map(lambda i, k=key: case.store.put_if_absent(k, bytes([i])), range(16))
            )
            assert won.count(True) == 1
            assert bytes(case.store.get(key)) == bytes([won.index(True)])
    assert len(case.behind()) == 5


def test_ranges(case):
    """Each range comes back in the order asked, overlapping, repeated and empty ones too."""
    case.store.put("r", BIG)
    n = len(BIG)
    ranges = [(5, 9), (0, n), (n - 3, n), (7, 7), (1_000_000, 1_000_100), (0, 1), (5, 9), (8, 300)]
    got = case.store.get_ranges("r", ranges)
    assert [bytes(part) for part in got] == [BIG[a:b] for a, b in ranges]
    assert case.store.get_ranges("r", []) == []


def test_ranges_of_what_is_damaged(case):
    """A missing or too short object is a checksum error that names it."""
    with pytest.raises(ChecksumError, match="gone/x is missing"):
        case.store.get_ranges("gone/x", [(0, 1)])
    case.store.put("short", b"12345")
    for ranges in (
        [(0, 6)],
        [(0, 2), (3, 9)],
        [(5, 6)],
        [(100, 200)],
        [(0, 1), (9 << 20, 10 << 20)],
    ):
        with pytest.raises(ChecksumError, match="short has") as caught:
            case.store.get_ranges("short", ranges)
        assert caught.value.object_key.endswith("short")
    with pytest.raises(ValueError, match="no range"):
        case.store.get_ranges("short", [(3, 2)])
    with pytest.raises(ValueError, match="no range"):
        case.store.get_ranges("short", [(-1, 2)])


def test_delete(case):
    """What is deleted is gone; what is absent does no harm; what is left is left."""
    for key in ("a/1", "a/2", "b"):
        case.store.put(key, b"x")
    case.store.delete(["a/1", "none", "a/1", "a/none", "b/none"])
    assert set(case.behind()) == {"a/2", "b"}
    case.store.delete(iter(["a/2", "b"]))
    assert case.behind() == {}
    assert keys_of(case) == []
    case.store.delete([])


def test_delete_if_same(case):
    """What has these bytes is gone; what has others stays, and what is absent does no harm."""
    case.store.put("a/1", b"mine")
    case.store.put("a/2", b"")
    for data in (b"other", b"", b"min", b"mine!"):
        case.store.delete_if_same("a/1", data)
    for key in ("none", "a/none", "b/none", "a"):
        case.store.delete_if_same(key, b"mine")
    assert case.behind() == {"a/1": b"mine", "a/2": b""}
    case.store.delete_if_same("a/1", memoryview(b"mine"))
    case.store.delete_if_same("a/2", b"")
    assert case.behind() == {}
    assert keys_of(case) == []


def test_list(case):
    """Listings ascend by the whole key, within prefix, after start, up to limit."""
    keys = sorted(
        [
            "a/1",
            "a/10",
            "a/2",
            "a-b/x",
            "a.b",
            "ab",
            "a0/x/y",
            "b/é",
            "b/z",
            "b/\uff46",
            "b/\U0001f600",
        ],
        key=str.encode,
    )
    for key in reversed(keys):
        case.store.put(key, key.encode())
    assert keys_of(case) == keys
    for prefix in ("", "a", "a/", "a/1", "b", "b/", "c", "a-", "a0/x/", "a0/x/y"):
        expected = [key for key in keys if key.startswith(prefix)]
        assert keys_of(case, prefix) == expected
        assert keys_of(case, prefix, limit=2) == expected[:2]
        assert keys_of(case, prefix, limit=0) == []
        for after in ("a", "a/1", "a/1/x", "a0", "b/", "zz"):
            rest = [key for key in expected if key > after]
            assert keys_of(case, prefix, start_after=after) == rest, (prefix, after)
            assert keys_of(case, prefix, start_after=after, limit=1) == rest[:1]


def test_list_tells_length_and_time(case):
    """A listing gives each object's length, and when it was stored by the store's clock."""
    case.store.put("x", b"12345")
    (info,) = case.store.list("")
    assert info.bytes == 5
    assert abs(info.modified_ms - time.time() * 1000) < 60_000


@pytest.mark.slow
def test_list_many(case):
    """More than one page of objects is listed and deleted without loss."""
    keys = [f"m/{i:05}" for i in range(1203)]
    for key in keys:
        case.store.put_if_absent(key, b"")
    assert keys_of(case, "m/") == keys
    assert keys_of(case, "m/", limit=1100) == keys[:1100]
    case.store.delete(keys)
    assert case.behind() == {}


def test_list_folders(case):
    """Folders are the names that have something below them; objects beside them are none."""
    for key in ("papers/index.json", "papers/log/1", "a-b/c", "top", "é/x", "papers-2/x"):
        case.store.put(key, b"")
    assert list(case.store.list_folders("")) == ["a-b", "papers", "papers-2", "é"]
    assert list(case.store.list_folders("papers/")) == ["log"]
    assert list(case.store.list_folders("none/")) == []
    case.store.delete(["a-b/c"])
    assert list(case.store.list_folders("")) == ["papers", "papers-2", "é"]
    with pytest.raises(InvalidArgumentError, match="end it with"):
        list(case.store.list_folders("papers"))


BAD_KEYS = ["", "/a", "a/", "a//b", "../a", "a/..", "a/./b", ".", "..", "a/../../b", "a\0b", "a\nb",
            "..\\a", ".squash-tmp/x", "\ud800", "x" * 1025]  # fmt: skip


def test_bad_keys_are_refused(case):
    """A key that could point outside the store, or that some store can't hold, is refused."""
    for key in BAD_KEYS:
        calls = [
            lambda key=key: case.store.get(key),
            lambda key=key: case.store.get_ranges(key, [(0, 1)]),
            lambda key=key: case.store.put(key, b"x"),
            lambda key=key: case.store.put_if_absent(key, b"x"),
            lambda key=key: case.store.delete([key]),
        ]
        for call in calls:
            with pytest.raises(InvalidArgumentError):
                call()
    assert case.behind() == {}
