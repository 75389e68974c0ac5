"""What every object store does, and the rules for the keys that all of them take."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache, partial
from typing import Final, Protocol, TypeAlias

from squash.container import Buffer
from squash.errors import ChecksumError, InvalidArgumentError
from squash.limits import OBJECT_KEY_BYTES_MAX
from squash.values import dataclass

_CHECKED_KEYS_MAX: Final = 1024


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One line of a listing."""

    key: str
    bytes: int
    modified_ms: int


class ObjectStore(Protocol):
    """Named runs of bytes. Safe to use from many threads.

    Keys are parts joined by "/"; a part is not empty and does not begin with a dot. Every method
    may raise `UnavailableError`, `ThrottledError`, `PermissionDeniedError`,
    `UnauthenticatedError`, `NotFoundError` (of the bucket), and `InvalidArgumentError` for a key
    that breaks the rules.
    """

    def get(self, key: str) -> Buffer | None:
        """Return an object's bytes; None only if there certainly is no such object."""
        ...

    def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[Buffer]:
        """Return the bytes [start, stop) of each range, in the order asked.

        Raises
        ------
        ChecksumError
            If the object is missing or too short: a snapshot named it, so it is damaged.

        """
        ...

    def put(self, key: str, data: Buffer) -> None:
        """Store an object durably, replacing what was there."""
        ...

    def put_if_absent(self, key: str, data: Buffer) -> bool:
        """Store an object durably; False, and nothing changed, if there was one already.

        After an answer lost on the way a store may try again by itself, and then finds its own
        object: False can mean "yours". Who must know compares what lies there.
        """
        ...

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects; those already absent are fine."""
        ...

    def delete_if_same(self, key: str, data: Buffer) -> None:
        """Remove an object if these are its bytes; another's that lies there by then stays.

        That holds beside whoever puts it by `put_if_absent` and removes it by this.
        """
        ...

    def list(
        self, prefix: str, *, start_after: str = "", limit: int | None = None
    ) -> Iterator[ObjectInfo]:
        """Yield the objects whose key begins with `prefix`, ascending by the key's UTF-8 bytes.

        Of objects that are stored meanwhile any may be among them: one, and not one before it.

        Parameters
        ----------
        prefix:
            Any beginning of a key; empty for all.
        start_after:
            Only keys after this one.
        limit:
            At most so many.

        """
        ...

    def list_folders(self, prefix: str) -> Iterator[str]:
        """Yield, ascending, the names one level below `prefix` that have objects below them.

        `prefix` is empty or ends with "/": with "papers/index.json" stored, the empty prefix
        gives "papers".
        """
        ...


Getter: TypeAlias = Callable[[], Buffer | None]
"""Gets one object, as `ObjectStore.get` does, each time that it is called."""


class HasGetters(ABC):
    """A store that finds out beforehand what of `get` is the same each time for one key.

    A class of its own, and no optional method, so that what passes on whatever a store has does
    not pass by its own `get`.
    """

    @abstractmethod
    def getter(self, key: str) -> Getter:
        """Return what gets an object again and again."""


def getter_of(store: ObjectStore, key: str) -> Getter:
    """Return what gets an object again and again, by a shorter way if the store has one."""
    return store.getter(key) if isinstance(store, HasGetters) else partial(store.get, key)


# What passed once passes again.
@lru_cache(maxsize=_CHECKED_KEYS_MAX)
def check_key(key: str) -> None:
    """Refuse a key that some store could not hold, or that could point outside of one.

    Raises
    ------
    InvalidArgumentError
        With the rule it breaks.

    """
    if not key.isprintable() or "\\" in key:
        raise InvalidArgumentError(
            f"object key {key!r} has a character that keys may not have: use printable ones, "
            "without backslashes"
        )
    if any(not part or part.startswith(".") for part in key.split("/")):
        raise InvalidArgumentError(
            f"object key {key!r} has a part that is empty or begins with a dot: name each part "
            'and join the parts with single "/"'
        )
    length = len(key.encode())
    if length > OBJECT_KEY_BYTES_MAX:
        raise InvalidArgumentError(
            f"object key {key[:64]!r}… has {length} bytes; keys have at most {OBJECT_KEY_BYTES_MAX}"
        )


def check_prefix(prefix: str) -> None:
    """Refuse a prefix that no key can begin with.

    Raises
    ------
    InvalidArgumentError
        With the rule it breaks.

    """
    if prefix:
        check_key(prefix.removesuffix("/"))


def check_folder_prefix(prefix: str) -> None:
    """Refuse a prefix that is neither empty nor ends with "/".

    Raises
    ------
    InvalidArgumentError
        With the rule it breaks.

    """
    check_prefix(prefix)
    if prefix and not prefix.endswith("/"):
        raise InvalidArgumentError(f'prefix {prefix!r} names no folder: end it with "/"')


def missing(key: str) -> ChecksumError:
    """Make the error for an object that a snapshot names and the store lacks."""
    return ChecksumError(
        f"object {key} is missing although a snapshot names it. Run `squash verify` to see what "
        "else is, and restore it from a copy.",
        object_key=key,
    )


def too_short(key: str, *, stop: int, length: int | None = None) -> ChecksumError:
    """Make the error for an object that ends before a range that a snapshot promises."""
    has = "fewer" if length is None else str(length)
    return ChecksumError(
        f"object {key} has {has} bytes where at least {stop} are promised: it is damaged. Run "
        "`squash verify` to see what else is, and restore it from a copy.",
        object_key=key,
    )
