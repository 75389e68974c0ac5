"""Which indexes there are, and how each is configured.

An index is there from the moment its `index.json` is, until its log is ended by a drop, which then
removes that: see `squash.index.dropping`. Its data lies under an id of its own, so that what a
drop leaves behind never shows in a later index of the same name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Final, TypeVar

from squash.clock import IdSource
from squash.container import Buffer
from squash.errors import ConflictError, DataError, NotFoundError, UnavailableError
from squash.index import dropping
from squash.index.entries import (
    Entry,
    check_new_config,
    entry_from_bytes,
    entry_key,
    entry_to_bytes,
    prefix_of,
)
from squash.index.names import (
    BUCKETS,
    bucket_of,
    check_index_name,
    folder_of,
    is_bucket_name,
)
from squash.limits import ENTRIES_AT_ONCE, ID_PATTERN, INDEX_NAME_PATTERN
from squash.model import IndexConfig
from squash.storage import ObjectStore, PrefixStore

__all__ = [
    "Entry",
    "check_current",
    "create",
    "discard",
    "drop",
    "exists",
    "free",
    "in_bucket",
    "is_current",
    "left_of",
    "list_configs",
    "load",
    "names",
    "names_in",
    "remains",
    "side_by_side",
]

T = TypeVar("T")
_NAME: Final = re.compile(INDEX_NAME_PATTERN)
_ID: Final = re.compile(ID_PATTERN)
_NEAR_NAMES_OF_MAX: Final = 1000
_CREATE_ATTEMPTS_MAX: Final = 10


def create(
    store: ObjectStore,
    config: IndexConfig,
    ids: IdSource,
    *,
    prepare: Callable[[Entry], None] | None = None,
) -> Entry:
    """Create an index; of several at once, one wins.

    Parameters
    ----------
    store, config, ids:
        Where, what, and what names its data.
    prepare:
        Stores below the entry's prefix what must be there when the index is.

    Raises
    ------
    ConflictError
        If there is one of this name.
    InvalidArgumentError
        If the configuration cannot be.

    """
    check_new_config(config)
    mine = ids.new_id()
    entry = Entry(config, prefix_of(config.name, mine))
    data = entry_to_bytes(config, mine)
    if prepare is not None:
        prepare(entry)
    for _ in range(_CREATE_ATTEMPTS_MAX):
        try:
            created = store.put_if_absent(entry_key(config.name), data)
        except UnavailableError:
            # The answer may be what was lost; what lies there tells.
            if _id_there(store, config.name) != mine:
                raise
            created = True
        # A store that tried twice by itself may have met its own first try.
        if created or _id_there(store, config.name) == mine:
            return entry
        if not free(store, config.name):
            break
    if prepare is not None:
        dropping.remove_data(PrefixStore(store, entry.prefix))
    raise ConflictError(
        f"there is an index {config.name!r} already: open it, or choose another name",
        index=config.name,
    )


def load(store: ObjectStore, name: str) -> Entry:
    """Read an index's configuration.

    Raises
    ------
    NotFoundError
        If there is none of this name; the message has names that are near.
    DataError, UnsupportedFormatError
        If it is damaged, or was written by a newer release.

    """
    check_index_name(name)
    data = store.get(entry_key(name))
    if data is None:
        raise _none_such(store, name)
    return entry_from_bytes(data, name)


def list_configs(
    store: ObjectStore,
    *,
    in_buckets: bool = True,
    unreadable: dict[str, DataError] | None = None,
) -> list[IndexConfig]:
    """Return the configurations of all indexes, by name; those in vector buckets come last.

    Parameters
    ----------
    store:
        The database's.
    in_buckets:
        Without it, of those alone that are in no vector bucket.
    unreadable:
        Is told, by name, why an entry cannot be read; the others are returned.

    Raises
    ------
    DataError, UnsupportedFormatError
        If one is damaged, or was written by a newer release, and nothing is to be told of it.

    """
    some = _candidates(store, in_buckets=in_buckets)
    configs: list[IndexConfig] = []
    for name, data in side_by_side(lambda name: store.get(entry_key(name)), some):
        if data is None:
            continue
        try:
            configs.append(entry_from_bytes(data, name).config)
        except DataError as error:
            if unreadable is None:
                raise
            unreadable[name] = error
    return configs


def drop(store: ObjectStore, name: str) -> None:
    """Remove an index; a call that was broken off is finished by repeating it.

    Raises
    ------
    NotFoundError
        If there is none of this name, nor anything left of one.

    """
    check_index_name(name)
    # In this order no index created meanwhile can be among those whose data is removed: it is
    # either no index yet, and then not among them, or in `index.json`.
    below_name = {one: PrefixStore(store, prefix_of(name, one)) for one in _data_of(store, name)}
    left = {one: below for one, below in below_name.items() if dropping.was_index(below)}
    data = store.get(entry_key(name))
    if data is None and not any(dropping.removable(one) for one in left.values()):
        raise _none_such(store, name)
    mine = None if data is None else _id_in(data, name)
    if mine is not None:
        left.setdefault(mine, PrefixStore(store, prefix_of(name, mine)))
    ends = {one: below for one, below in left.items() if one == mine or dropping.begins(below)}
    try:
        _end_logs(ends)
    except UnavailableError as error:
        if not error.unchanged:
            raise
        # A full disk has no room for a log's end until something of the index is gone.
        if data is not None:
            store.delete_if_same(entry_key(name), data)
        for below in ends.values():
            dropping.make_room(below)
        _end_logs(ends)
    # It took a while: another drop may have come first, and a creation after it.
    if data is not None:
        store.delete_if_same(entry_key(name), data)
    for below in left.values():
        dropping.remove_data(below)


def free(store: ObjectStore, name: str) -> bool:
    """Free a name that is listed though its index was dropped, by a drop that was broken off.

    Returns
    -------
    Whether the name was free, or is now. The data is left to garbage collection.

    """
    data = store.get(entry_key(name))
    if data is None:
        return True
    mine = _id_in(data, name)
    if mine is None or dropping.tombstone(PrefixStore(store, prefix_of(name, mine))) is None:
        return False
    store.delete_if_same(entry_key(name), data)
    return True


def discard(store: ObjectStore, entry: Entry) -> None:
    """Remove an index that was just created and that nobody was told of; not another of its name.

    Raises
    ------
    UnavailableError
        From the store: it is there, or `drop` finishes it.

    """
    below = PrefixStore(store, entry.prefix)
    # Somebody may have found it.
    dropping.end_log(below, entry.id)
    store.delete_if_same(entry_key(entry.config.name), entry_to_bytes(entry.config, entry.id))
    dropping.remove_data(below)


def is_current(store: ObjectStore, entry: Entry) -> bool:
    """Tell if an index is there still, and is the one that was opened.

    Raises
    ------
    DataError, UnsupportedFormatError
        If its entry is damaged, or of a newer release.

    """
    return _id_there(store, entry.config.name) == entry.id


def check_current(store: ObjectStore, entry: Entry) -> None:
    """Refuse an index that is no more, or that another of its name has replaced.

    Raises
    ------
    NotFoundError
        If it is so.
    DataError, UnsupportedFormatError
        If its entry is damaged, or of a newer release.

    """
    if not is_current(store, entry):
        name = entry.config.name
        raise NotFoundError(f"index {name!r} was dropped: open it anew", index=name)


def exists(store: ObjectStore, name: str) -> bool:
    """Tell if there is an index, whether its entry can be read or not."""
    return store.get(entry_key(name)) is not None


def names(store: ObjectStore) -> list[str]:
    """Return the names of all indexes, whether their entries can be read or not."""
    return list(_existing(store, _candidates(store)))


def names_in(
    store: ObjectStore, bucket: str, prefix: str = "", *, after: str = ""
) -> Iterator[str]:
    """Yield the names, without the bucket's, of a vector bucket's indexes, in order.

    Those whose entries cannot be read are among them.
    """
    some = (
        f"{bucket}/{one}"
        for one in in_bucket(store, bucket)
        if one.startswith(prefix) and one > after
    )
    return (name.partition("/")[2] for name in _existing(store, some))


def remains(store: ObjectStore) -> tuple[list[str], list[str]]:
    """Find data of indexes that are no more.

    Returns
    -------
    Prefixes below which there is what no index can be made of again: data of an index whose name
    another has now, or what a drop left that was broken off or that a writer came after. And names
    below which there is data that its `index.json` would make an index of: that was lost, or a drop
    was broken off at its first step.

    Where an index's entry cannot be read, all data below its name stays.
    """
    replaced: list[str] = []
    orphaned: list[str] = []
    for name in _candidates(store):
        # Read after the listing: an entry is there before its data is, so that data listed before
        # is of the entry found now, or of one that was dropped.
        left = _data_of(store, name)
        if not left:
            continue
        try:
            mine = _id_there(store, name)
        except DataError:
            continue
        if mine is None:
            prefixes, whole = left_of(store, name)
            replaced.extend(prefixes)
            if whole:
                orphaned.append(name)
        else:
            replaced.extend(prefix_of(name, one) for one in left if one != mine)
    return replaced, orphaned


def left_of(store: ObjectStore, name: str) -> tuple[list[str], bool]:
    """Find what lies below a name that has no index.

    Returns
    -------
    The prefixes of what no index can be made of again; and if there is more than that.

    """
    prefixes = [prefix_of(name, one) for one in _data_of(store, name)]
    hopeless = [prefix for prefix in prefixes if not _whole(PrefixStore(store, prefix))]
    return hopeless, len(hopeless) < len(prefixes)


def side_by_side(
    read: Callable[[str], T], some: Iterable[str], *, at_once: int = ENTRIES_AT_ONCE
) -> Iterator[tuple[str, T]]:
    """Yield each name with what is read of it, in order; several are read at once."""
    rest = iter(some)
    with ThreadPoolExecutor(at_once, "squash-entries") as pool:
        while window := list(islice(rest, at_once)):
            yield from zip(window, pool.map(read, window), strict=True)


def in_bucket(store: ObjectStore, bucket: str) -> Iterator[str]:
    """Yield the names, without their bucket's, below which something of an index may lie."""
    return (one for one in store.list_folders(f"{BUCKETS}{bucket}/") if is_bucket_name(one))


def _end_logs(ends: Mapping[str, ObjectStore]) -> None:
    for one, below in ends.items():
        dropping.end_log(below, one)


def _existing(store: ObjectStore, some: Iterable[str]) -> Iterator[str]:
    found = side_by_side(lambda name: exists(store, name), some)
    return (name for name, there in found if there)


def _whole(store: ObjectStore) -> bool:
    """Tell if an entry would make an index of what lies below its prefix."""
    return dropping.begins(store) and dropping.tombstone(store) is None


def _candidates(store: ObjectStore, *, in_buckets: bool = True) -> Iterator[str]:
    """Yield the names below which something of an index may lie."""
    yield from (name for name in store.list_folders("") if _NAME.fullmatch(name))
    if not in_buckets:
        return
    for bucket in store.list_folders(BUCKETS):
        if is_bucket_name(bucket):
            yield from (f"{bucket}/{name}" for name in in_bucket(store, bucket))


def _data_of(store: ObjectStore, name: str) -> list[str]:
    """Return the ids under which there is data below a name."""
    return [one for one in store.list_folders(f"{folder_of(name)}/") if _ID.fullmatch(one)]


def _id_there(store: ObjectStore, name: str) -> str | None:
    data = store.get(entry_key(name))
    return None if data is None else entry_from_bytes(data, name).id


def _id_in(data: Buffer, name: str) -> str | None:
    """Return the id that an entry has; None if it cannot be read."""
    try:
        return entry_from_bytes(data, name).id
    except DataError:
        return None


def _none_such(store: ObjectStore, name: str) -> NotFoundError:
    bucket = bucket_of(name)
    if bucket is None:
        folders = islice(store.list_folders(""), _NEAR_NAMES_OF_MAX)
        names = [one for one in folders if _NAME.fullmatch(one)]  # credentials lie there too
    else:
        names = [f"{bucket}/{one}" for one in islice(in_bucket(store, bucket), _NEAR_NAMES_OF_MAX)]
    from difflib import get_close_matches  # noqa: PLC0415 - for messages alone

    near = [one for one in get_close_matches(name, names) if one != name and exists(store, one)]
    hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    return NotFoundError(
        f"there is no index {name!r}.{hint or ' Create it first, or check the location.'}",
        index=name,
    )
