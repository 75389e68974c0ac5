"""Every store of the contract, each with a way to look behind it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from store_cases import Case, files

import endpoint
from squash.storage import CountingStore, FolderStore, MemoryStore, ObjectStore, PrefixStore
from squash.storage.tmp import TmpFiles

BUCKET = "contract"


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    with endpoint.s3_endpoint() as url:
        endpoint.make_bucket(url, BUCKET)
        yield url


@pytest.fixture(scope="session")
def s3_client(s3_endpoint: str) -> Any:
    import boto3

    return boto3.client("s3", endpoint_url=s3_endpoint, region_name="us-east-1")


KINDS = [
    "memory", "folder", "s3", "s3 at the root", "counting", "prefix", "prefix of folder", "tmp",
]  # fmt: skip


@pytest.fixture(params=KINDS)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    kind = request.param
    if kind in {"memory", "counting", "prefix", "tmp"}:
        inner = MemoryStore()
        store: ObjectStore = inner
        prefix = ""
        if kind == "counting":
            store = CountingStore(inner)
        elif kind == "tmp":
            store = TmpFiles(str(tmp_path)).over(inner)
        elif kind == "prefix":
            inner.put("other", b"not ours")
            inner.put("under/here2/x", b"not ours")
            store, prefix = PrefixStore(inner, "under/here/"), "under/here/"

        def behind() -> dict[str, bytes]:
            return {
                key.removeprefix(prefix): data
                for key, (data, _) in inner._objects.items()
                if key.startswith(prefix)
            }

        yield Case(store, behind)
    elif kind == "folder":
        yield Case(FolderStore(tmp_path / "new" / "store"), lambda: files(tmp_path / "new/store"))
    elif kind == "prefix of folder":
        store = PrefixStore(FolderStore(tmp_path), "a/")
        yield Case(store, lambda: files(tmp_path / "a"))
    else:
        yield from s3_case(
            request.getfixturevalue("s3_endpoint"),
            request.getfixturevalue("s3_client"),
            at_root="root" in kind,
        )


def s3_case(endpoint: str, client: Any, *, at_root: bool) -> Iterator[Case]:
    from squash.storage.s3 import S3Store

    bucket, prefix = BUCKET, f"{uuid4().hex}/deep/"
    if at_root:
        bucket, prefix = uuid4().hex, ""
        client.create_bucket(Bucket=bucket)
    store = S3Store(bucket, prefix, endpoint_url=endpoint, region="us-east-1")

    def behind() -> dict[str, bytes]:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return {
            entry["Key"].removeprefix(prefix): client.get_object(Bucket=bucket, Key=entry["Key"])[
                "Body"
            ].read()
            for page in pages
            for entry in page.get("Contents", ())
        }

    yield Case(store, behind)
