"""Files to build from: listed in order, read by ranges of one version, refused in words."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pytest

from bulk_inputs import World, config_of, lists, npy, parquet_bytes
from conftest import BUCKET
from squash.errors import (
    ConflictError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    UnavailableError,
)
from squash.maintain.bulk.opened import OpenedInputs
from squash.maintain.bulk.pieces import Pieces
from squash.storage import MemoryStore
from squash.storage.inputs import CountingInputs, InputInfo, open_inputs, touches_store
from squash.storage.inputs_folder import FolderInputs
from squash.storage.inputs_memory import MemoryInputs
from squash.storage.s3_errors import error_code


class Place:
    """Somewhere to put files, with its URL and how it is read."""

    def __init__(self, root: str, inputs: Any, put: Any, delete: Any) -> None:
        self.root = root
        self.inputs = inputs
        self.put = put
        self.delete = delete


@pytest.fixture(params=["memory", "folder", "s3"])
def place(request, tmp_path):
    if request.param == "memory":
        store = MemoryStore()
        inputs = MemoryInputs("here", store)
        return Place("memory://here/", inputs, store.put, lambda name: store.delete([name]))
    if request.param == "folder":

        def put(name, data):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

        return Place(
            f"{tmp_path.as_uri()}/", FolderInputs(), put, lambda n: (tmp_path / n).unlink()
        )
    endpoint, client = (request.getfixturevalue(name) for name in ("s3_endpoint", "s3_client"))
    prefix = f"{uuid4().hex}/"
    root = f"s3://{BUCKET}/{prefix}"
    return Place(
        root,
        open_inputs(root, endpoint_url=endpoint, region="us-east-1"),
        lambda name, data: client.put_object(Bucket=BUCKET, Key=prefix + name, Body=data),
        lambda name: client.delete_object(Bucket=BUCKET, Key=prefix + name),
    )


def test_a_folder_is_its_data_files_by_their_names(place):
    for name in ("b.npy", "a/2.npy", "a/10.npy", "a-b.npy", "_SUCCESS", "a/_x/y.npy"):
        place.put(name, name.encode())
    found = list(place.inputs.files(place.root))
    assert [info.url.removeprefix(place.root) for info in found] == [
        "a-b.npy", "a/10.npy", "a/2.npy", "b.npy",
    ]  # fmt: skip
    assert [info.bytes for info in found] == [7, 8, 7, 5]
    assert [info.url for info in place.inputs.files(place.root + "a/")] == [
        place.root + "a/10.npy",
        place.root + "a/2.npy",
    ]
    assert list(place.inputs.files(place.root + "b.npy")) == [found[3]]


def test_what_is_not_there_is_not_found(place):
    for url in (place.root + "no.npy", place.root + "no/"):
        with pytest.raises(NotFoundError, match=r"there (is|are) no"):
            list(place.inputs.files(url))


def test_ranges_are_of_the_very_file_that_was_listed(place):
    place.put("x.npy", bytes(range(100)))
    (info,) = place.inputs.files(place.root + "x.npy")
    found = place.inputs.read(info, [(0, 3), (90, 100), (5, 5)])
    assert list(map(bytes, found)) == [bytes([0, 1, 2]), bytes(range(90, 100)), b""]
    place.put("x.npy", bytes(range(1, 101)))
    with pytest.raises(ConflictError, match="has changed since the build was planned"):
        place.inputs.read(info, [(0, 3)])
    place.put("x.npy", b"short")
    with pytest.raises(ConflictError, match="has changed since the build was planned"):
        place.inputs.read(info, [(90, 100), (0, 1)])
    place.delete("x.npy")
    with pytest.raises(NotFoundError, match="was there when the build was planned"):
        place.inputs.read(info, [(0, 3)])


def test_pieces_are_the_same_wherever_files_are(place):
    # And a file that changes between two pieces stops the reading, with its name.
    rows = np.random.default_rng(5).normal(size=(50, 3)).astype(np.float32)
    table = pa.table({"vector": lists(rows.tolist()), "n": range(50)})
    files = {"a.npy": npy(rows), "b.parquet": parquet_bytes(table, row_group_size=20)}
    world = World(config_of(3))
    for name, data in files.items():
        place.put(name, data)
        world.put(name, data)
    plan = world.plan(*files, cuts={7, 30})
    etags = {info.url: info for info in place.inputs.files(place.root)}
    urls = [place.root + name for name in files]
    there = [replace(file, url=url) for file, url in zip(plan.files, urls, strict=True)]
    there = [replace(file, etag=etags[file.url].etag) for file in there]
    moved = replace(plan, files=tuple(there))
    opened = OpenedInputs(lambda _url: place.inputs)
    here = Pieces(world.context, world.request, plan)
    other = Pieces(replace(world.context, open_inputs=opened), world.request, moved)
    for number in range(len(plan.pieces)):
        for one, two in zip(here.chunks(number), other.chunks(number), strict=True):
            assert np.array_equal(one.rows.vectors, two.rows.vectors)
            assert np.array_equal(one.numbers, two.numbers)
            assert (one.rows.keys, one.rows.metadata) == (two.rows.keys, two.rows.metadata)
    counts = opened.counts()
    assert counts.by_kind == {"range": 5}  # three of the array; the footer, then all at once
    assert counts.bytes_in >= len(files["b.parquet"]) + rows.nbytes
    place.put("b.parquet", parquet_bytes(table, row_group_size=10))
    fresh = Pieces(replace(world.context, open_inputs=opened), world.request, moved)
    with pytest.raises(ConflictError, match=r"b\.parquet has changed"):
        list(fresh.chunks(len(plan.pieces) - 1))


def test_requests_are_counted_by_kind():
    store = MemoryStore()
    for number in range(1001):
        store.put(f"{number:04d}.npy", b"x" * 10)
    counting = CountingInputs(MemoryInputs("here", store))
    infos = list(counting.files("memory://here/"))
    list(counting.files("memory://here/0001.npy"))
    counting.read(infos[0], [(0, 3), (5, 10)])
    counts = counting.counts()
    assert counts.by_kind == {"list": 2, "get": 1, "range": 2}
    assert counts.bytes_in == 8


@pytest.mark.parametrize("url", ["", "/data/x.npy", "https://x/y", "s3://", "x.npy", "s3:/b/x"])
def test_what_names_no_files_is_refused(url):
    with pytest.raises(InvalidArgumentError, match="names no files to build from"):
        open_inputs(url)


def test_a_folder_without_its_slash_is_told_of(tmp_path):
    with pytest.raises(InvalidArgumentError, match='write it with a "/" at its end'):
        list(open_inputs("file:///").files(tmp_path.as_uri()))


def test_names_with_marks_are_found_again(tmp_path):
    (tmp_path / "a b%20ü?#.npy").write_bytes(b"abc")
    inputs = FolderInputs()
    (info,) = inputs.files(f"{tmp_path.as_uri()}/")
    assert list(inputs.files(info.url)) == [info]
    assert inputs.read(info, [(1, 3)]) == [b"bc"]


def test_a_file_touched_in_place_is_another(tmp_path):
    path = tmp_path / "a.npy"
    path.write_bytes(b"abc")
    inputs = FolderInputs()
    (info,) = inputs.files(path.as_uri())
    os.utime(path, ns=(0, 5))
    with pytest.raises(ConflictError):
        inputs.read(info, [(0, 1)])


class Refusing:
    """A client all of whose requests end in what it was given."""

    def __init__(self, error: Exception, region: str = "us-east-1") -> None:
        self.error = error
        self.requests: list[str] = []
        self.meta = type("Meta", (), {"region_name": region})()

    def __getattr__(self, name: str) -> Any:
        def call(**_arguments: Any) -> Any:
            self.requests.append(name)
            raise self.error

        return call


def refused(code, status, **headers):
    from botocore.exceptions import ClientError

    answer = {"HTTPStatusCode": status, "HTTPHeaders": headers}
    return ClientError(
        {"Error": {"Code": code, "Message": "m"}, "ResponseMetadata": answer}, "HeadBucket"
    )


def s3_inputs(client):
    inputs: Any = open_inputs("s3://theirs/", endpoint_url="http://x", region="us-east-1")
    inputs._client = client
    return inputs


FILE = InputInfo("s3://theirs/a.npy", '"e"', 10)


@pytest.mark.parametrize("url", ["s3://theirs/a.npy", "s3://theirs/a/"])
def test_without_permission_it_says_what_must_be_allowed(url):
    inputs = s3_inputs(Refusing(refused("AccessDenied", 403)))
    for ask in (lambda: list(inputs.files(url)), lambda: inputs.read(FILE, [(0, 1)])):
        with pytest.raises(PermissionDeniedError, match="parameter BuildInputs") as caught:
            ask()
        assert "s3:GetObject" in str(caught.value)
        assert str(caught.value).startswith("s3://theirs/a")


def test_a_bucket_in_another_region_is_refused_with_both_names():
    # Also where the bucket may not be listed: S3 tells its region all the same.
    for error in (
        refused("301", 301, **{"x-amz-bucket-region": "eu-west-1"}),
        refused("403", 403, **{"x-amz-bucket-region": "eu-west-1"}),
    ):
        client = Refusing(error)
        with pytest.raises(InvalidArgumentError, match="is in eu-west-1, and the build runs in us"):
            list(s3_inputs(client).files("s3://theirs/a/"))
        assert client.requests == ["head_bucket"]


def test_a_bucket_of_another_region_is_refused_by_a_real_server(s3_endpoint, s3_client):
    name = uuid4().hex
    where = {"LocationConstraint": "eu-central-1"}
    s3_client.create_bucket(Bucket=name, CreateBucketConfiguration=where)
    found = s3_client.head_bucket(Bucket=name)["ResponseMetadata"]["HTTPHeaders"]
    if found.get("x-amz-bucket-region") != "eu-central-1":
        pytest.skip("this server does not tell regions")
    inputs = open_inputs(f"s3://{name}/", endpoint_url=s3_endpoint, region="us-east-1")
    with pytest.raises(InvalidArgumentError, match="is in eu-central-1, and the build runs in us"):
        list(inputs.files(f"s3://{name}/"))


def test_there_is_no_such_bucket(s3_endpoint):
    inputs = open_inputs("s3://nobodys-bucket/", endpoint_url=s3_endpoint, region="us-east-1")
    with pytest.raises(NotFoundError):
        list(inputs.files("s3://nobodys-bucket/x/"))


def test_archived_files_and_a_server_in_trouble_are_told_apart():
    archived = s3_inputs(Refusing(refused("InvalidObjectState", 403)))
    with pytest.raises(InvalidArgumentError, match="is in an archive: restore it first"):
        archived.read(FILE, [(0, 1)])
    with pytest.raises(UnavailableError):
        s3_inputs(Refusing(refused("InternalError", 500))).read(FILE, [(0, 1)])
    assert error_code(refused("InternalError", 500)) == "InternalError"


def test_a_listing_goes_over_pages(s3_endpoint, s3_client, monkeypatch):
    prefix = f"{uuid4().hex}/"
    for number in range(5):
        s3_client.put_object(Bucket=BUCKET, Key=f"{prefix}{number}.npy", Body=b"x")
    s3_client.put_object(Bucket=BUCKET, Key=f"{prefix}folder/", Body=b"")
    inputs: Any = open_inputs(f"s3://{BUCKET}/", endpoint_url=s3_endpoint, region="us-east-1")
    listed, pages = inputs._listed, []

    def two_at_once(full, **more):
        for page in listed(full, MaxKeys=2, **more):
            pages.append(page)
            yield page

    monkeypatch.setattr(inputs, "_listed", two_at_once)
    names = [info.url.rpartition("/")[2] for info in inputs.files(f"s3://{BUCKET}/{prefix}")]
    assert names == [f"{number}.npy" for number in range(5)]
    assert len(pages) == 3


@pytest.mark.parametrize(
    ("url", "location", "touches"),
    [
        ("s3://data/squash/", "s3://data/squash", True),
        ("s3://data/squash/papers/index.json", "s3://data/squash/", True),
        ("s3://data/squash/_keys/", "s3://data/squash", True),
        ("s3://data/", "s3://data/squash", True),
        ("s3://data/team/", "s3://data/team/_squash", False),  # what begins with _ is passed over
        ("s3://data/squash-inputs/", "s3://data/squash", False),
        ("s3://data/inputs/a.npy", "s3://data", True),
        ("s3://other/squash/", "s3://data/squash", False),
        ("s3://data/team", "s3://data/team/squash", False),  # one object
        ("file:///no/where/data/a.npy", "/no/where/data", True),
        ("file:///no/where/", "file:///no/where/data", True),
        ("file://localhost/no/other/../where/d%61ta/", "/no/where/data/", True),
        ("file:///no/where/database/", "/no/where/data", False),
        ("s3://no/where/data/", "/no/where/data", False),
        ("memory://one/papers/", "memory://one", True),
        ("file:///no/where/data/\0", "/no/where/data", False),
        ("/no/where/data/", "/no/where/data", False),  # no URL
    ],
)
def test_what_is_in_a_store_or_holds_it_is_told_by_its_name(url, location, touches):
    assert touches_store(url, location) == touches


def test_a_store_is_told_behind_a_link_too(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "store")
    assert touches_store(f"file://{tmp_path}/link/", str(tmp_path / "store"))
    assert touches_store(f"file://{tmp_path}/store/", str(tmp_path / "link"))
