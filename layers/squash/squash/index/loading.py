"""What is loaded, in which pieces, and by whom: the contract between readers and retained data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

from squash.container import Buffer
from squash.model import ObjectRef
from squash.segment import ClusterCodes
from squash.values import dataclass

T = TypeVar("T")
Range: TypeAlias = tuple[int, int]
Name: TypeAlias = Range | int | None
"""Of a piece within its object: None is all of it, a range a page, a number a cluster's codes."""


@dataclass(frozen=True, slots=True)
class Whole:
    """All of an object, checked by the length and checksum of its reference."""

    ref: ObjectRef

    def names(self) -> Iterator[Name]:
        """Yield the pieces that are wanted."""
        yield None


@dataclass(frozen=True, slots=True)
class Pages:
    """Ranges of an object; the i-th becomes decode(i, bytes), which checks it."""

    ref: ObjectRef
    pages: Sequence[Range]
    decode: Callable[[int, Buffer], Any]

    def names(self) -> Iterator[Name]:
        """Yield the pieces that are wanted."""
        yield from self.pages


@dataclass(frozen=True, slots=True)
class ClusterParts:
    """The codes of some clusters, to be filled into arrays of all."""

    ref: ObjectRef
    codes: ClusterCodes
    clusters: Sequence[int]

    def names(self) -> Iterator[Name]:
        """Yield the pieces that are wanted."""
        yield from self.clusters


Want: TypeAlias = Whole | Pages | ClusterParts


class Loader(Protocol):
    """Gets immutable objects and retains what was made of them.

    `whole_bytes_max` says up to which size an object is better loaded whole than in pieces: a
    local store's are, S3's are not.
    """

    whole_bytes_max: int

    def takes_whole(self, ref: ObjectRef, ranges: Sequence[Range]) -> bool:
        """Tell whether an object is retained whole, or is now better loaded so than in pieces.

        Parameters
        ----------
        ref:
            The object.
        ranges:
            The pieces that are wanted. None are read if all of them are retained.

        """
        ...

    def holds_whole(self, ref: ObjectRef) -> bool:
        """Tell whether an object is retained whole."""
        ...

    def fills_all(self, ref: ObjectRef, missing_bytes: int) -> bool:
        """Tell whether all clusters of an object's codes are now better filled in at once.

        Parameters
        ----------
        ref:
            The object.
        missing_bytes:
            How many bytes of it are wanted and not filled in.

        """
        ...

    @property
    def evictions(self) -> int:
        """How often something was let go."""
        ...

    def load(self, ref: ObjectRef, part: str, decode: Callable[[Buffer], T]) -> T:
        """Get a whole object, check its length and checksum, decode it, retain the result."""
        ...

    def load_pages(
        self,
        ref: ObjectRef,
        pages: Sequence[Range],
        decode: Callable[[int, Buffer], T],
    ) -> list[T]:
        """Get the byte ranges `pages`, decode the i-th as decode(i, bytes), retain each result."""
        ...

    def cluster_codes(self, ref: ObjectRef, make: Callable[[], ClusterCodes]) -> ClusterCodes:
        """Return the arrays of an object's codes: the same ones for as long as somebody has them.

        What is filled in counts as retained; `fetch` fills in.
        """
        ...

    def keep_derived(self, ref: ObjectRef, name: str, size: int) -> bool:
        """Count what was made in memory as retained, until that many bytes are needed otherwise.

        Who made it holds it, and lets go of it when `evictions` says that something was let go.

        Parameters
        ----------
        ref, name:
            An object that it was made of, and what it is.
        size:
            Its bytes.

        Returns
        -------
        Whether there is room, so that nothing else is let go for it.

        """
        ...

    def fetch(self, wants: Sequence[Want]) -> None:
        """Get what is wanted of several objects and is not retained, all in one round."""
        ...

    def misses(self, wants: Sequence[Want]) -> bool:
        """Tell whether something of what is wanted is not retained, so that a read must wait."""
        ...
