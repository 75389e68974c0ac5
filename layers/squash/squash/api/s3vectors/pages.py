"""Listings, a page at a time: by name, of those that the caller may see."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Final, Generic, TypeVar

from squash.api.s3vectors import tokens
from squash.api.s3vectors.calls import Asked
from squash.limits import LISTED_MAX

T = TypeVar("T")

_READ_AT_ONCE: Final = 16


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """What is on a page, and the token of the next; None if this is the last."""

    found: Sequence[T]
    token: str | None


def read_page(
    asked: Asked,
    names: Iterator[str],
    read: Callable[[str], T | None],
    *,
    sees: Callable[[str], bool],
    bound: Sequence[str] = (),
) -> Page[T]:
    """Read the page that a request asks for.

    Parameters
    ----------
    asked:
        Its members `maxResults`, `nextToken` and `prefix` count.
    names:
        All that there may be, in order.
    read:
        Returns what is told of a name; None if there is nothing of it. May be called by several
        threads.
    sees:
        Tells whether the caller may see a name.
    bound:
        What else a token is for, beside operation and prefix.

    Raises
    ------
    ServiceError
        If the token is not one of this listing.

    """
    members, operation = asked.members, asked.operation.name
    bytes_bound = [text.encode() for text in (members.get("prefix", ""), *bound)]
    token = members.get("nextToken")
    after = tokens.decode(operation, token, fields=1, bound=bytes_bound)[0] if token else ""
    visible = (name for name in names if name > after and sees(name))
    most = members.get("maxResults", LISTED_MAX)
    found: list[T] = []
    last = after
    while len(found) < most:
        some = list(islice(visible, most - len(found)))
        if not some:
            return Page(found, None)
        found += _read_all(some, read)
        last = some[-1]
    if next(visible, None) is None:
        return Page(found, None)
    return Page(found, tokens.encode(operation, [last], bound=bytes_bound))


def _read_all(names: Sequence[str], read: Callable[[str], T | None]) -> list[T]:
    # Each waits for the store: one after the other, a page of 500 would take many seconds.
    with ThreadPoolExecutor(min(_READ_AT_ONCE, len(names))) as pool:
        return [one for one in pool.map(read, names) if one is not None]
