"""A location names one store; only s3:// loads boto3."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from squash.errors import InvalidArgumentError
from squash.storage import (
    CountingStore,
    FolderStore,
    MemoryStore,
    PrefixStore,
    StoreCounts,
    getter_of,
    open_store,
)


def test_folders(tmp_path):
    """A path and its file:// form are the same store, escapes included."""
    folder = tmp_path / "a b"
    open_store(str(folder)).put("x", b"1")
    for location in (
        f"file://{folder}",
        f"file://{tmp_path}/a%20b",
        f"file://localhost{folder}",
        os.path.relpath(folder),
    ):
        store = open_store(location)
        assert isinstance(store, FolderStore)
        assert store.get("x") == b"1"


def test_memory():
    """The same name is the same store, another name another."""
    assert open_store("memory://one") is open_store("memory://one")
    assert open_store("memory://one") is not open_store("memory://two")
    assert isinstance(open_store("memory://"), MemoryStore)


@pytest.mark.parametrize(
    "location",
    ["", " ", "http://x", "s3://", "s3:///x", "file://host/x", "file://x", "S4://b", "a\0b",
     "s3:/b/x", "s3:b/x", "S3:/b", "file:/folder", "memory:x"],
)  # fmt: skip
def test_bad_locations(location):
    """A location that names no store is refused with what can be written."""
    with pytest.raises(InvalidArgumentError, match=r"location"):
        open_store(location)


def test_local_stores_do_not_load_boto3(tmp_path):
    """Importing the room, and opening what is local, loads no module of boto3."""
    code = f"""
import sys
import squash.storage
squash.storage.open_store("memory://")
squash.storage.open_store({str(tmp_path)!r}).put("a", b"")
loaded = {{name.partition(".")[0] for name in sys.modules}}
assert not loaded & {{"boto3", "botocore", "urllib3", "s3transfer"}}, loaded
"""
    subprocess.run([sys.executable, "-c", code], check=True, env=dict(os.environ))  # noqa: S603


def test_s3_locations(s3_endpoint):
    """Bucket and prefix are read from the location, with or without slashes at the end."""
    for end in ("", "/"):
        store = open_store(
            f"s3://contract/under/here{end}", endpoint_url=s3_endpoint, region="us-east-1"
        )
        store.put("key", end.encode())
        whole = open_store(f"s3://contract{end}", endpoint_url=s3_endpoint, region="us-east-1")
        assert whole.get("under/here/key") == end.encode()


def test_counts():
    """Requests, rounds and bytes are counted as S3 would be asked; differences are exact."""
    store = CountingStore(MemoryStore())
    zero = store.counts()
    assert zero == StoreCounts()
    store.put("a", b"x" * 1000)
    store.put_if_absent("a", b"yy")
    store.get("a")
    again = getter_of(store, "none")
    assert store.counts().by_kind == {"put": 2, "get": 1}
    again()
    again()
    middle = store.counts()
    assert middle == StoreCounts(5, 5, 1000, 1002, {"put": 2, "get": 3})
    store.put("big", bytes(20 << 20))
    store.get_ranges("big", [(0, 10), (100, 110), (5 << 20, 16 << 20)])
    store.get_ranges("big", [])
    list(store.list("", limit=1))
    list(store.list_folders(""))
    store.delete(["a", "b"])
    store.delete([])
    after = store.counts() - middle
    assert after.by_kind == {"put": 1, "range": 3, "list": 1, "delete": 1}
    assert after.requests == 6
    assert after.rounds == 4
    assert after.bytes_in == 110 + (11 << 20)
    assert after.bytes_out == 20 << 20
    assert after - after == StoreCounts()
    assert StoreCounts.of(store.noted()) == store.counts()


def test_failed_gets_count():
    """A get that fails was asked for all the same."""
    store = CountingStore(MemoryStore())
    with pytest.raises(InvalidArgumentError):
        store.get("../up")
    assert store.counts() == StoreCounts(1, 1, 0, 0, {"get": 1})


def test_prefixes():
    """A prefix is a folder's; stores nest."""
    inner = MemoryStore()
    nested = PrefixStore(PrefixStore(inner, "a/"), "b/")
    nested.put("c", b"1")
    assert inner.get("a/b/c") == b"1"
    for bad in ("a", "../", "/", "a//"):
        with pytest.raises(InvalidArgumentError):
            PrefixStore(inner, bad)
