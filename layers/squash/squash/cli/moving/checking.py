"""Whether two indexes hold the same: the count and the set of keys, and a sample of records."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

import numpy as np

from squash.arrays import F32
from squash.cli.moving.records import same_metadata, same_vector
from squash.limits import MOVE_DIFFERENCES_KEYS_MAX
from squash.model import Metadata
from squash.values import dataclass

_GROUPS: Final = 4_096
_HASH_BYTES: Final = 16
_HALF: Final = 8
_WRAP: Final = 1 << 64
KEYS_SHOWN_MAX: Final = 10

KeyPages: TypeAlias = Callable[[], Iterator[Sequence[str]]]
Fetch: TypeAlias = Callable[[Sequence[str]], Mapping[str, tuple[F32, Metadata]]]


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two indexes: how its keys are listed, as often as asked, and records got."""

    key_pages: KeyPages
    fetch: Fetch


@dataclass(frozen=True, slots=True)
class Check:
    """What was found; keys that only one side has are counted, and some of them named.

    A count is None where so many differ that they were not looked for.
    """

    source_rows: int
    target_rows: int
    only_in_source: int | None
    only_in_target: int | None
    only_in_source_keys: tuple[str, ...]
    only_in_target_keys: tuple[str, ...]
    sampled: int
    differing_keys: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Whether no difference was found."""
        counted = self.source_rows == self.target_rows
        return counted and (self.only_in_source, self.only_in_target, self.differing_keys) == (
            0,
            0,
            (),
        )


class KeyDigest:
    """A set of keys in bounded memory: so many groups of them, each counted and summed by hash.

    Two sets of one sum and count in every group are the same, but for one chance in 2^64.
    """

    def __init__(self) -> None:
        self.counts = np.zeros(_GROUPS, np.int64)
        self.sums = [0] * _GROUPS

    @property
    def rows(self) -> int:
        """How many keys there are."""
        return int(self.counts.sum())

    def add(self, hashed: bytes) -> None:
        """Count a key, by its hash."""
        group = group_of(hashed)
        self.counts[group] += 1
        self.sums[group] = (self.sums[group] + int.from_bytes(hashed[:_HALF], "little")) % _WRAP

    def differing(self, other: KeyDigest) -> list[int]:
        """Return the groups that are not the same in both."""
        return [
            group
            for group in range(_GROUPS)
            if self.sums[group] != other.sums[group] or self.counts[group] != other.counts[group]
        ]


def hash_of(key: str) -> bytes:
    """Return the hash by which keys are grouped."""
    return hashlib.blake2b(key.encode(errors="surrogatepass"), digest_size=_HASH_BYTES).digest()


def group_of(hashed: bytes) -> int:
    """Return the group of a hash."""
    return int.from_bytes(hashed[_HALF:], "little") % _GROUPS


def check(source: Side, target: Side, *, left_out: Container[str], sample: int, salt: str) -> Check:
    """Compare two indexes.

    Parameters
    ----------
    source, target:
        The two.
    left_out:
        Keys of the source that are not meant to be at the target.
    sample:
        How many records are compared whole: those of the source with the least hashes, salted.
    salt:
        What makes the sample another each time.

    """
    drawn = _Sample(sample, salt)
    digests = KeyDigest(), KeyDigest()
    for key in _wanted(source, left_out):
        digests[0].add(hash_of(key))
        drawn.add(key)
    for keys in target.key_pages():
        for key in keys:
            digests[1].add(hash_of(key))
    groups = digests[0].differing(digests[1])
    only = _only(source, target, groups, digests, left_out)
    compared = drawn.keys()
    return Check(
        source_rows=digests[0].rows,
        target_rows=digests[1].rows,
        only_in_source=None if only is None else len(only[0]),
        only_in_target=None if only is None else len(only[1]),
        only_in_source_keys=() if only is None else tuple(only[0][:KEYS_SHOWN_MAX]),
        only_in_target_keys=() if only is None else tuple(only[1][:KEYS_SHOWN_MAX]),
        sampled=len(compared),
        differing_keys=tuple(_differing(source, target, compared)),
    )


def _wanted(source: Side, left_out: Container[str]) -> Iterator[str]:
    for keys in source.key_pages():
        yield from (key for key in keys if key not in left_out)


class _Sample:
    """The keys with the least salted hashes: each key is as likely as any other."""

    def __init__(self, size: int, salt: str) -> None:
        self._size = size
        self._salt = salt.encode()
        self._heap: list[tuple[int, str]] = []

    def add(self, key: str) -> None:
        if not self._size:
            return
        data = key.encode(errors="surrogatepass")
        hashed = hashlib.blake2b(data, digest_size=_HALF, key=self._salt).digest()
        item = (-int.from_bytes(hashed, "little"), key)
        if len(self._heap) < self._size:
            heapq.heappush(self._heap, item)
        elif item > self._heap[0]:
            heapq.heapreplace(self._heap, item)

    def keys(self) -> list[str]:
        return sorted({key for _, key in self._heap})


def _only(
    source: Side,
    target: Side,
    groups: Sequence[int],
    digests: tuple[KeyDigest, KeyDigest],
    left_out: Container[str],
) -> tuple[list[str], list[str]] | None:
    """Return the keys that one side alone has; None if they are too many to be held."""
    if not groups:
        return [], []
    rows = sum(int(digest.counts[group]) for digest in digests for group in groups)
    if rows > MOVE_DIFFERENCES_KEYS_MAX:
        return None
    chosen = frozenset(groups)

    def within(keys: Iterable[str]) -> set[str]:
        return {key for key in keys if group_of(hash_of(key)) in chosen}

    at_source = within(_wanted(source, left_out))
    at_target = within(key for keys in target.key_pages() for key in keys)
    return sorted(at_source - at_target), sorted(at_target - at_source)


def _differing(source: Side, target: Side, keys: Sequence[str]) -> Iterator[str]:
    """Yield the keys of records that are not the same on both sides, or not there."""
    left: Mapping[str, Any] = source.fetch(keys) if keys else {}
    right: Mapping[str, Any] = target.fetch(keys) if keys else {}
    for key in keys:
        there = key in left and key in right
        if not (there and _same(left[key], right[key])):
            yield key


def _same(left: tuple[F32, Metadata], right: tuple[F32, Metadata]) -> bool:
    return same_vector(left[0], right[0]) and same_metadata(left[1], right[1])
