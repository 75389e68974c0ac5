"""From a location, as a user writes it, to the store it names."""

from __future__ import annotations

import threading
from typing import Final
from urllib.parse import unquote, urlsplit

from squash.errors import InvalidArgumentError, shown
from squash.storage.folder import FolderStore
from squash.storage.memory import MemoryStore
from squash.storage.protocol import ObjectStore

_KINDS: Final = 'use "s3://bucket/prefix", "file:///folder", a folder\'s path, or "memory://name"'
_SCHEMES: Final = ("s3:", "memory:", "file:")
_memory_stores: Final[dict[str, MemoryStore]] = {}
_memory_lock: Final = threading.Lock()


def open_store(
    location: str,
    *,
    endpoint_url: str | None = None,
    region: str | None = None,
    writes: bool = False,
    silent_s: int | None = None,
) -> ObjectStore:
    """Open the store that a location names; nothing is read yet.

    Parameters
    ----------
    location:
        ``s3://bucket/prefix``, ``file:///folder``, a folder's path, or ``memory://name``: the
        same store for the same name, as long as the process lives.
    endpoint_url, region:
        For ``s3://``: another S3 than AWS's, and the bucket's region.
    writes:
        For ``s3://``: whether what writes is loaded now; else the first write loads it.
    silent_s:
        For ``s3://``: for how long a write waits for an answer before it is repeated; as long as
        the largest object may need if None.

    Raises
    ------
    InvalidArgumentError
        If the location names no store, or the endpoint or region is no text.

    """
    _check_text(endpoint_url, "endpoint_url")
    _check_text(region, "region")
    if not isinstance(location, str):
        raise InvalidArgumentError(
            f"the location {location!r:.80} is no string but {type(location).__name__}: {_KINDS}"
        )
    scheme, separator, rest = location.partition("://")
    if not location.strip() or "\0" in location:
        raise InvalidArgumentError(f"the location {location!r} names no store: {_KINDS}")
    if not separator:
        return _folder_at(location)
    if scheme == "memory":
        with _memory_lock:
            return _memory_stores.setdefault(rest, MemoryStore())
    if scheme == "file":
        parts = urlsplit(location)
        if parts.netloc not in {"", "localhost"} or not parts.path.startswith("/"):
            raise InvalidArgumentError(
                f"the location {location!r} names a host, not a folder: write three slashes, as in "
                '"file:///folder"'
            )
        return FolderStore(unquote(rest.removeprefix("localhost")))
    if scheme == "s3":
        bucket, _, prefix = rest.partition("/")
        if not bucket:
            raise InvalidArgumentError(f"the location {location!r} names no bucket: {_KINDS}")
        # Who stays local need not load what speaks to S3.
        from squash.storage.s3 import S3Store  # noqa: PLC0415

        store = S3Store(bucket, prefix, endpoint_url=endpoint_url, region=region, silent_s=silent_s)
        if writes:
            store.writes()
        return store
    raise InvalidArgumentError(f"the location {location!r} begins with an unknown scheme: {_KINDS}")


def names_scheme(location: str) -> bool:
    """Tell if a location has a scheme, or what may be half of one: then it is no folder's path."""
    return "://" in location or location.lower().startswith(_SCHEMES)


def _folder_at(path: str) -> FolderStore:
    # Else what was meant for S3 would lie in a folder here, and nobody would be told.
    if names_scheme(path):
        raise InvalidArgumentError(
            f"the location {path!r} has a colon without two slashes: {_KINDS}; for a folder that "
            f'is called so, "./{path}"'
        )
    return FolderStore(path)


def _check_text(value: object, name: str) -> None:
    if value is not None and not isinstance(value, str):
        raise InvalidArgumentError(f"{name} is a text, not {shown(value)}", field=name)
