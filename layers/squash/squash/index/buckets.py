"""Vector buckets: named groups of indexes, with settings of their own.

A vector bucket is there from the moment its `bucket.json` is, until that is removed; an index in
it is called ``bucket/index`` and is an index like every other.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from squash.clock import Clock, IdSource
from squash.container import Buffer
from squash.errors import (
    ChecksumError,
    ConflictError,
    DataError,
    InvalidArgumentError,
    NotFoundError,
    UnavailableError,
    UnsupportedFormatError,
)
from squash.index import catalogue
from squash.index.names import BUCKETS, bucket_of, is_bucket_name
from squash.index.references import MALFORMED
from squash.index.settings import SettingsLog
from squash.limits import INDEX_NAME_CHARACTERS_MAX
from squash.model import IndexConfig
from squash.storage import ObjectStore

FORMAT: Final = "squash-bucket"
VERSION: Final = 1
_ID: Final = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class VectorBucket:
    """What `bucket.json` holds."""

    name: str
    id: str
    created_ms: int


@dataclass(frozen=True, slots=True)
class BucketSettings:
    """What of a vector bucket can be changed; `policy` is JSON text as it was given."""

    tags: Mapping[str, str] = field(default_factory=dict)
    policy: str | None = None


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """What of an index in a vector bucket can be changed."""

    tags: Mapping[str, str] = field(default_factory=dict)


class VectorBuckets:
    """The vector buckets of a store."""

    def __init__(self, store: ObjectStore, *, clock: Clock, ids: IdSource) -> None:
        self._store = store
        self._clock = clock
        self._ids = ids

    def create(self, name: str, settings: BucketSettings | None = None) -> VectorBucket:
        """Make a vector bucket; of several at once, one wins.

        Raises
        ------
        ConflictError
            If there is one of this name.
        InvalidArgumentError
            If the name cannot be.

        """
        _check(name)
        bucket = VectorBucket(name, self._ids.new_id(), self._clock.now_ms())
        if settings is not None and settings != BucketSettings():
            # Before the bucket is there, so that nobody sees it without them.
            self._settings(bucket).change(lambda _: _bucket_content(settings))
        try:
            created = self._store.put_if_absent(_key(name), _to_bytes(bucket))
        except UnavailableError:
            # The answer may be what was lost; what lies there tells.
            found = self._find(name)
            if found is None or found.id != bucket.id:
                raise
            created = True
        if not created:
            found = self._find(name)
            if found is None or found.id != bucket.id:
                raise ConflictError(
                    f"there is a vector bucket {name!r} already: choose another name"
                )
        return bucket

    def get(self, name: str) -> VectorBucket:
        """Return a vector bucket.

        Raises
        ------
        NotFoundError
            If there is none of this name.
        DataError, UnsupportedFormatError
            If its entry is damaged, or of a newer release.

        """
        found = self._find(name) if is_bucket_name(name) else None
        if found is None:
            raise NotFoundError(f"there is no vector bucket {name!r}: create it first")
        return found

    def names(self, prefix: str = "") -> Iterator[str]:
        """Yield the names of vector buckets in order, whether they can be read or not."""
        for name in self._store.list_folders(BUCKETS):
            if name.startswith(prefix) and is_bucket_name(name):
                yield name

    def delete(self, name: str) -> None:
        """Remove a vector bucket that has no index.

        Raises
        ------
        NotFoundError
            If there is none of this name.
        ConflictError
            If there is an index in it.

        """
        bucket = self.get(name)
        self._refuse_full(name)
        self._store.delete([_key(name)])
        try:
            self._refuse_full(name)
        except ConflictError:
            # An index came meanwhile: whoever made it may have been told that it is there.
            self._store.put_if_absent(_key(name), _to_bytes(bucket))
            raise
        self._store.delete(info.key for info in self._store.list(_folder(bucket)))

    def create_index(self, config: IndexConfig) -> catalogue.Entry:
        """Create an index in a vector bucket.

        Raises
        ------
        NotFoundError
            If there is no such vector bucket.
        ConflictError
            If there is an index of this name.

        """
        name = bucket_of(config.name) or ""
        bucket = self.get(name)
        entry = catalogue.create(self._store, config, self._ids)
        found = self._find(name)
        if found is None or found.id != bucket.id:
            # It was deleted meanwhile, by one who may not have seen this index.
            catalogue.drop(self._store, config.name)
            raise NotFoundError(f"vector bucket {name!r} was deleted at this moment")
        return entry

    def index_names(self, bucket: str, prefix: str = "") -> Iterator[str]:
        """Yield the names of a bucket's indexes, without the bucket's, in order."""
        for name in catalogue.in_bucket(self._store, bucket):
            if name.startswith(prefix):
                yield name

    def settings(self, bucket: VectorBucket) -> BucketSettings:
        """Return a vector bucket's settings."""
        return _bucket_settings(self._settings(bucket).read())

    def change(
        self, bucket: VectorBucket, change: Callable[[BucketSettings], BucketSettings]
    ) -> BucketSettings:
        """Change a vector bucket's settings; `change` may be asked several times."""
        changed = self._settings(bucket).change(
            lambda content: _bucket_content(change(_bucket_settings(content)))
        )
        return _bucket_settings(changed)

    def index_settings(self, entry: catalogue.Entry) -> IndexSettings:
        """Return the settings of an index."""
        return _index_settings(self._index_log(entry).read())

    def change_index(
        self, entry: catalogue.Entry, change: Callable[[IndexSettings], IndexSettings]
    ) -> IndexSettings:
        """Change the settings of an index; `change` may be asked several times."""
        changed = self._index_log(entry).change(
            lambda content: _index_content(change(_index_settings(content)))
        )
        return _index_settings(changed)

    def _settings(self, bucket: VectorBucket) -> SettingsLog:
        return SettingsLog(self._store, f"{_folder(bucket)}settings/")

    def _index_log(self, entry: catalogue.Entry) -> SettingsLog:
        return SettingsLog(self._store, f"{entry.prefix}settings/")

    def _refuse_full(self, name: str) -> None:
        full = next(catalogue.in_bucket(self._store, name), None)
        if full is not None:
            raise ConflictError(f"vector bucket {name!r} has indexes: delete them first")

    def _find(self, name: str) -> VectorBucket | None:
        data = self._store.get(_key(name))
        return None if data is None else _from_bytes(data, name)


def _check(name: str) -> None:
    if not is_bucket_name(name):
        raise InvalidArgumentError(
            f"{name!r} cannot name a vector bucket: use 3 to {INDEX_NAME_CHARACTERS_MAX} of a-z, "
            '0-9, "-" and ".", with a letter or digit first and last',
            field="name",
        )


def _key(name: str) -> str:
    return f"{BUCKETS}{name}/_bucket/bucket.json"


def _folder(bucket: VectorBucket) -> str:
    return f"{BUCKETS}{bucket.name}/_bucket/{bucket.id}/"


def _bucket_settings(content: Mapping[str, Any]) -> BucketSettings:
    return BucketSettings(**content)


def _bucket_content(settings: BucketSettings) -> Mapping[str, Any]:
    return {"tags": dict(settings.tags), "policy": settings.policy}


def _index_settings(content: Mapping[str, Any]) -> IndexSettings:
    return IndexSettings(**content)


def _index_content(settings: IndexSettings) -> Mapping[str, Any]:
    return {"tags": dict(settings.tags)}


def _to_bytes(bucket: VectorBucket) -> bytes:
    content: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "name": bucket.name,
        "id": bucket.id,
        "created_ms": bucket.created_ms,
    }
    content["crc32"] = _checksum(content)
    return (json.dumps(content, indent=2) + "\n").encode()


def _from_bytes(data: Buffer, name: str) -> VectorBucket:
    key = _key(name)
    try:
        content = json.loads(bytes(data))
        if (content["format"], content["version"]) != (FORMAT, VERSION):
            raise UnsupportedFormatError(
                f"{key} is of another format than this release reads: install a newer one",
                object_key=key,
            )
        if content["crc32"] != _checksum(content):
            raise ChecksumError(f"{key} is not as it was written", object_key=key)
        if content["name"] != name or not _ID.fullmatch(content["id"]):
            raise ValueError("its name or its id is not what it must be")
        return VectorBucket(name, content["id"], int(content["created_ms"]))
    except MALFORMED as error:
        raise DataError(f"{key} does not describe a bucket ({error!r})", object_key=key) from error


def _checksum(content: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in content.items() if key != "crc32"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    return f"{zlib.crc32(text.encode()):08x}"
