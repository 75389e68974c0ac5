"""Listings, a page at a time, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Generic, TypeVar

from squash.api.s3vectors import tokens
from squash.api.s3vectors.calls import Asked
from squash.limits import LISTED_MAX
from squash.values import dataclass

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """What is on a page, and the token of the next; None if this is the last."""

    found: Sequence[T]
    token: str | None


def begins_after(asked: Asked) -> str:
    """Return the name after which the page begins that a request asks for; empty for the first.

    Raises
    ------
    ServiceError
        If its token is not one of this listing.

    """
    token = asked.members.get("nextToken")
    if token is None:
        return ""
    return tokens.decode(asked.operation.name, token, fields=1, bound=_bound(asked))[0]


def page_of(asked: Asked, listed: Iterator[T], name_of: Callable[[T], str]) -> Page[T]:
    """Take a page.

    Parameters
    ----------
    asked:
        Says how long it is at most.
    listed:
        What there is from where the page begins, in the order of names.
    name_of:
        Tells a name.

    """
    found = list(islice(listed, asked.members.get("maxResults", LISTED_MAX)))
    if next(listed, None) is None:
        return Page(found, None)
    last = name_of(found[-1])
    return Page(found, tokens.encode(asked.operation.name, [last], bound=_bound(asked)))


def _bound(asked: Asked) -> list[bytes]:
    """Return what a token is for, beside its operation."""
    bucket = asked.resource.bucket if asked.resource else ""
    return [bucket.encode(), asked.members.get("prefix", "").encode()]
