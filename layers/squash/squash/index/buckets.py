"""Vector buckets: named groups of indexes, with settings of their own.

All that is said of a vector bucket, that it is there too, stands in numbered versions below its
name, of which the newest holds (`squash.index.settings`). So of two who create, change or delete it
at once, one is first and the other decides again. An index in it is called ``bucket/index`` and is
an index like every other.

**Deleting** takes two versions: the bucket is *closing*, then *gone*. Between them the indexes are
listed; if there is one, the bucket is as it was. Whoever creates an index puts it first and looks
at the bucket then: if that is gone, the index is taken back; if it is closing, it is opened again,
by a version that the other's *gone* cannot follow. So an index that somebody was told of is never
in a bucket that is gone, whoever dies on the way. A bucket left closing is there as every other.

Of a gone bucket that last version stays, for ever; garbage collection removes those before it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from squash.clock import Clock, IdSource
from squash.errors import ConflictError, InvalidArgumentError, NotFoundError, SquashError
from squash.index import catalogue, dropping
from squash.index.bucket_content import (
    BucketSettings,
    IndexSettings,
    State,
    VectorBucket,
    bucket_from_content,
    bucket_to_content,
    index_from_content,
    index_to_content,
)
from squash.index.entries import Entry
from squash.index.names import BUCKETS, bucket_of, is_bucket_name
from squash.index.settings import Content, SettingsLog, Version, contended
from squash.limits import BUCKETS_KEPT_MAX, INDEX_NAME_CHARACTERS_MAX, SETTINGS_ATTEMPTS_MAX
from squash.model import IndexConfig
from squash.storage import ObjectInfo, ObjectStore, PrefixStore
from squash.values import dataclass

__all__ = ["BucketSettings", "IndexSettings", "VectorBucket", "VectorBuckets", "remains"]

FORMAT: Final = "squash-bucket"
_FOLDER: Final = "_bucket/"


class VectorBuckets:
    """The vector buckets of a store. Safe to use from many threads.

    It remembers what it read: asking for a bucket again is one GET.
    """

    def __init__(self, store: ObjectStore, *, clock: Clock, ids: IdSource) -> None:
        self._store = store
        self._clock = clock
        self._ids = ids
        self._known: OrderedDict[str, Version] = OrderedDict()
        self._lock = threading.Lock()

    def create(self, name: str, settings: BucketSettings | None = None) -> VectorBucket:
        """Make a vector bucket; of several at once, one wins.

        Raises
        ------
        ConflictError
            If there is one of this name.
        InvalidArgumentError
            If the name cannot be.
        DataError, UnsupportedFormatError
            If what is stored of the name is damaged, or of a newer release.

        """
        if not is_bucket_name(name):
            raise InvalidArgumentError(
                f"{name!r:.200} cannot name a vector bucket: use 3 to {INDEX_NAME_CHARACTERS_MAX} "
                'of a-z, 0-9, "-" and ".", with a letter or digit first and last',
                field="name",
            )
        mine = VectorBucket(
            name, self._ids.new_id(), self._clock.now_ms(), settings or BucketSettings()
        )

        def make(content: Content) -> Content:
            if _there(content, name) is not None:
                raise ConflictError(
                    f"there is a vector bucket {name!r} already: choose another name"
                )
            return bucket_to_content(mine, State.THERE)

        self._change(name, make)
        return mine

    def get(self, name: str) -> VectorBucket:
        """Return a vector bucket with its settings.

        Raises
        ------
        NotFoundError
            If there is none of this name.
        DataError, UnsupportedFormatError
            If what is stored of it is damaged, or of a newer release.

        """
        if not is_bucket_name(name):
            raise _none_such(name)
        found = _there(self._read(name).content, name)
        if found is None:
            raise _none_such(name)
        return found[0]

    def list(
        self,
        prefix: str = "",
        *,
        after: str = "",
        sees: Callable[[str], bool] | None = None,
    ) -> Iterator[VectorBucket]:
        """Yield the vector buckets whose name begins so and comes after another, in order.

        Those whose name `sees` does not answer True are not read.

        Raises
        ------
        DataError, UnsupportedFormatError
            If one is damaged, or of a newer release.

        """
        some = (
            one
            for one in self._store.list_folders(BUCKETS)
            if one.startswith(prefix) and one > after and is_bucket_name(one)
            if sees is None or sees(one)
        )
        for name, version in catalogue.side_by_side(self._read, some):
            found = _there(version.content, name)
            if found is not None:
                yield found[0]

    def names(self, prefix: str = "", *, after: str = "") -> Iterator[str]:
        """Yield the names of vector buckets, as `list`."""
        return (bucket.name for bucket in self.list(prefix, after=after))

    def delete(self, name: str) -> None:
        """Remove a vector bucket that has no index.

        Raises
        ------
        NotFoundError
            If there is none of this name.
        ConflictError
            If there is an index in it, or what may be one again: the message names it.

        """
        if not is_bucket_name(name):
            raise _none_such(name)
        try:
            # What is refused, as most is that ever will be, writes nothing: versions are limited.
            self._left_in(name)
        except ConflictError:
            self.get(name)  # else it is not there
            raise
        for _ in range(SETTINGS_ATTEMPTS_MAX):
            closing = self._change(name, lambda content: _closing(content, name))
            try:
                left = self._left_in(name)
            except ConflictError:
                self._reopen(closing, name)
                raise
            gone = self._log(name).write_next(closing, _as(State.GONE, closing.content, name))
            if gone is not None:
                self._remember(name, gone)
                for prefix in left:
                    # The bucket is gone; what stays of this is found by garbage collection.
                    with suppress(SquashError):
                        dropping.remove_data(PrefixStore(self._store, prefix))
                return
        raise contended(f"vector bucket {name!r}")

    def create_index(self, config: IndexConfig, tags: Mapping[str, str] | None = None) -> Entry:
        """Create an index in a vector bucket, with its tags.

        Raises
        ------
        NotFoundError
            If there is no such vector bucket, or it is deleted meanwhile.
        ConflictError
            If there is an index of this name.

        """
        name = bucket_of(config.name) or ""
        bucket = self.get(name)

        def prepare(entry: Entry) -> None:
            # Before the index is there, so that nobody sees it without them.
            if tags:
                self._index_log(entry).change(lambda _: index_to_content(IndexSettings(tags)))

        entry = catalogue.create(self._store, config, self._ids, prepare=prepare)
        try:
            self._keep_open(bucket)
        except NotFoundError:
            # Whoever deleted the bucket may not have seen this index.
            catalogue.discard(self._store, entry)
            raise
        return entry

    def index_names(self, bucket: str, prefix: str = "", *, after: str = "") -> Iterator[str]:
        """Yield the names of a bucket's indexes, without the bucket's, in order.

        Those whose entries cannot be read are among them; what is left of dropped ones is not.
        """
        return catalogue.names_in(self._store, bucket, prefix, after=after)

    def change(
        self, bucket: VectorBucket, change: Callable[[BucketSettings], BucketSettings]
    ) -> BucketSettings:
        """Change a vector bucket's settings; `change` may be asked several times.

        Raises
        ------
        NotFoundError
            If it is no more.
        ThrottledError, TooLargeError
            As `SettingsLog.change`.

        """

        def decide(content: Content) -> Content:
            found, _ = self._same(content, bucket)
            changed = replace(found, settings=change(found.settings))
            # If somebody is about to delete it, they have to look again.
            return bucket_to_content(changed, State.THERE)

        return _bucket(self._change(bucket.name, decide).content, bucket.name)[0].settings

    def index_settings(self, entry: Entry) -> IndexSettings:
        """Return the settings of an index."""
        log = self._index_log(entry)
        return index_from_content(log.read().content, log.prefix)

    def change_index(
        self, entry: Entry, change: Callable[[IndexSettings], IndexSettings]
    ) -> IndexSettings:
        """Change the settings of an index; `change` may be asked several times.

        Raises
        ------
        NotFoundError
            If the index is no more.
        ThrottledError, TooLargeError
            As `SettingsLog.change`.

        """
        log = self._index_log(entry)
        changed = log.change(
            lambda content: index_to_content(change(index_from_content(content, log.prefix)))
        )
        if not catalogue.is_current(self._store, entry):
            # Dropped meanwhile, perhaps by one who listed before this was written.
            self._store.delete(info.key for info in self._store.list(log.prefix))
            raise NotFoundError(
                f"index {entry.config.name!r} was dropped at this moment", index=entry.config.name
            )
        return index_from_content(changed.content, log.prefix)

    def _keep_open(self, bucket: VectorBucket) -> None:
        """Make sure that a bucket is there from now on, until its indexes are listed again."""
        _, state = self._same(self._read(bucket.name).content, bucket)
        if state is State.CLOSING:
            self._change(bucket.name, lambda content: self._opened(content, bucket))

    def _opened(self, content: Content, bucket: VectorBucket) -> Content:
        self._same(content, bucket)
        return _as(State.THERE, content, bucket.name)

    def _reopen(self, closing: Version, name: str) -> None:
        """Take a deletion back; if that fails the bucket is closing, and there all the same."""
        with suppress(SquashError):
            opened = self._log(name).write_next(closing, _as(State.THERE, closing.content, name))
            if opened is not None:
                self._remember(name, opened)

    def _same(self, content: Content, bucket: VectorBucket) -> tuple[VectorBucket, State]:
        found = _there(content, bucket.name)
        if found is None or found[0].id != bucket.id:
            raise NotFoundError(f"vector bucket {bucket.name!r} was deleted")
        return found

    def _left_in(self, name: str) -> Sequence[str]:
        """Return the prefixes of what dropped indexes left; refuse if that is not all."""
        left = []
        for one in catalogue.in_bucket(self._store, name):
            index = f"{name}/{one}"
            if not catalogue.free(self._store, index):
                raise ConflictError(
                    f"vector bucket {name!r} has indexes: drop {index!r} and its others first"
                )
            prefixes, whole = catalogue.left_of(self._store, index)
            if whole:
                raise ConflictError(
                    f"vector bucket {name!r} has the data of index {index!r}, whose entry is not "
                    "there: restore that, or drop the index (again)"
                )
            left += prefixes
        return left

    def _read(self, name: str) -> Version:
        with self._lock:
            known = self._known.get(name)
        return self._remember(name, self._log(name).read(known))

    def _change(self, name: str, change: Callable[[Content], Content]) -> Version:
        return self._remember(name, self._log(name).change(change))

    def _remember(self, name: str, version: Version) -> Version:
        with self._lock:
            known = self._known.get(name)
            if version.number and (known is None or known.number <= version.number):
                self._known[name] = version
            if name in self._known:
                self._known.move_to_end(name)
            while len(self._known) > BUCKETS_KEPT_MAX:
                self._known.popitem(last=False)
        return version

    def _log(self, name: str) -> SettingsLog:
        return SettingsLog(
            self._store, _prefix(name), clock=self._clock, ids=self._ids, kind=FORMAT
        )

    def _index_log(self, entry: Entry) -> SettingsLog:
        prefix = f"{entry.prefix}settings/"
        return SettingsLog(self._store, prefix, clock=self._clock, ids=self._ids)


@dataclass(frozen=True, slots=True)
class Remains:
    """What is stored of a bucket that is gone."""

    prefix: str
    last: ObjectInfo
    """Says that it is gone. It stays: a number is never given twice, so that whoever removes
    versions, however late, removes none of a bucket that is there."""
    earlier: Sequence[ObjectInfo]


def remains(store: ObjectStore, *, clock: Clock, ids: IdSource) -> Iterator[Remains]:
    """Yield what is stored of each bucket that is gone; one that cannot be read stays."""
    for name in store.list_folders(BUCKETS):
        if not is_bucket_name(name):
            continue
        stored = list(store.list(_prefix(name)))
        log = SettingsLog(store, _prefix(name), clock=clock, ids=ids, kind=FORMAT)
        with suppress(SquashError):
            version = log.read()
            last = next((info for info in stored if info.key == log.key(version.number)), None)
            if last is not None and _there(version.content, name) is None:
                # A key behind it is no version.
                earlier = [info for info in stored if info.key < last.key]
                yield Remains(_prefix(name), last, earlier)


def _prefix(name: str) -> str:
    return f"{BUCKETS}{name}/{_FOLDER}"


def _bucket(content: Content, name: str) -> tuple[VectorBucket, State]:
    return bucket_from_content(content, name, _prefix(name))


def _there(content: Content, name: str) -> tuple[VectorBucket, State] | None:
    """Return a bucket, if it is one that is there."""
    if not content:
        return None
    found = _bucket(content, name)
    return None if found[1] is State.GONE else found


def _as(state: State, content: Content, name: str) -> dict[str, Any]:
    bucket, _ = _bucket(content, name)
    if state is State.GONE:
        bucket = replace(bucket, settings=BucketSettings())
    return bucket_to_content(bucket, state)


def _closing(content: Content, name: str) -> Content:
    if _there(content, name) is None:
        raise _none_such(name)
    return _as(State.CLOSING, content, name)


def _none_such(name: str) -> NotFoundError:
    return NotFoundError(f"there is no vector bucket {name!r:.200}: create it first")
