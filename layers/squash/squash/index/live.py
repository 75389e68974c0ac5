"""Which rows live: what later commits did to the rows of segments and of earlier commits."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import field
from typing import Any, Final, TypeAlias

import numpy as np

from squash.arrays import F32, U64, Mask
from squash.container import Buffer
from squash.drafts import draft_of
from squash.errors import DataError
from squash.index.commits import (
    Commit,
    DeleteKeys,
    Dropped,
    Operation,
    PutRows,
    PutSegments,
    Replace,
)
from squash.index.state import State, killed_until
from squash.model import Metadata, ObjectRef, RowBatch, SegmentRef
from squash.segment.keys import KeyTable, hash_keys
from squash.values import dataclass

LoadKeys: TypeAlias = Callable[[SegmentRef], KeyTable]
LoadBitmap: TypeAlias = Callable[[ObjectRef], Buffer]


@dataclass(slots=True)
class Retained:
    """What was computed from commits, which never change; shared by successive readings.

    Entries are replaced whole, so that threads may share it.
    """

    hashes: dict[int, U64] = field(default_factory=dict)
    """uint64 [m, 2] of the keys that a commit put or deleted, by sequence."""
    dead: dict[str, tuple[int, int, Mask | None]] = field(default_factory=dict)
    """By segment: up to which commit, which commit killed last, bool [n] of the dead rows."""
    fresh: tuple[int, RowBatch] | None = None
    """The live fresh rows after a commit."""


@dataclass(frozen=True, slots=True)
class Opened:
    """An index as it was read: its state, and the commits that a reader of it needs."""

    state: State
    commits: Mapping[int, Commit]
    read_ms: int
    """When the log was last seen to end here."""
    retained: Retained

    @property
    def sequence(self) -> int:
        """The number of the last commit."""
        return self.state.sequence

    def seen_at(self, read_ms: int) -> Opened:
        """Return the same, its log seen to end here at another time."""
        # Every query comes through here: what a frozen class takes to be made is much of it.
        seen: Any = _OpenedDraft()
        seen.state = self.state
        seen.commits = self.commits
        seen.read_ms = read_ms
        seen.retained = self.retained
        seen.__class__ = Opened
        made: Opened = seen
        return made


_OpenedDraft: Final = draft_of(Opened)


def dead_rows(
    opened: Opened, segment: SegmentRef, *, load_keys: LoadKeys, load_bitmap: LoadBitmap
) -> Mask | None:
    """Find the rows of a live segment that later commits replaced or deleted.

    Parameters
    ----------
    opened:
        The index.
    segment:
        One of its segments.
    load_keys:
        Gives a segment's key table.
    load_bitmap:
        Gives a bitmap's bytes, checked.

    Returns
    -------
    bool [n], read-only, or None if all live.

    """
    return dead_since(opened, segment, load_keys=load_keys, load_bitmap=load_bitmap)[1]


def dead_since(
    opened: Opened, segment: SegmentRef, *, load_keys: LoadKeys, load_bitmap: LoadBitmap
) -> tuple[int, Mask | None]:
    """Return the last commit that killed a row (0 if none did), and `dead_rows`, bool [n]."""
    known = opened.retained.dead.get(segment.id)
    if known is None or not killed_until(segment) <= known[0] <= opened.sequence:
        known = _from_bitmap(segment, load_bitmap)
    until, last, dead = known
    table: KeyTable | None = None
    for commit in _key_commits(opened, after=until):
        hashes = _hashes(opened, commit, load_keys)
        if not len(hashes):
            continue
        if table is None:
            table = load_keys(segment)
        rows = table.lookup(hashes)
        rows = rows[rows >= 0]
        if dead is not None:
            rows = rows[~dead[rows]]
        if len(rows):
            dead = np.zeros(segment.rows, dtype=np.bool_) if dead is None else dead.copy()
            dead[rows] = True
            last = commit.sequence
    if dead is not None:
        dead.flags.writeable = False
    opened.retained.dead[segment.id] = (opened.sequence, last, dead)
    return last, dead


def fresh_rows(opened: Opened, dimension: int, *, load_keys: LoadKeys) -> RowBatch:
    """Return the live rows that are in no segment, in the order they were put.

    Parameters
    ----------
    opened:
        The index.
    dimension:
        d, for when there are none.
    load_keys:
        Gives a segment's key table.

    """
    known = opened.retained.fresh
    if known is not None and known[0] == opened.sequence:
        return known[1]
    growing = _Growing(dimension)
    later = [] if known is None else _grown_by(opened, known[0])
    if known is not None and later is not None:
        growing.add(known[0], known[1])
        for commit in later:
            growing.follow(commit, load_keys)
    else:
        for sequence, dead in fresh_dead(opened, load_keys=load_keys).items():
            growing.add(sequence, _live_of(_rows(opened, sequence), dead))
    found = growing.rows()
    opened.retained.fresh = (opened.sequence, found)
    return found


def _grown_by(opened: Opened, since: int) -> list[Commit] | None:
    """Return the commits since one, if they are held and no fresh rows were folded by them."""
    if since > opened.sequence:
        return None
    later: list[Commit] = []
    for sequence in range(since + 1, opened.sequence + 1):
        commit = opened.commits.get(sequence)
        if commit is None or (isinstance(commit.operation, Replace) and commit.operation.fresh):
            return None
        later.append(commit)
    return later


def _live_of(rows: RowBatch, dead: Mask) -> RowBatch:
    if not dead.any():
        return rows
    live = np.flatnonzero(~dead)
    places = live.tolist()
    return RowBatch(
        [rows.keys[row] for row in places],
        rows.vectors[live],
        [rows.metadata[row] for row in places],
    )


class _Growing:
    """The live fresh rows, put together from those of some commits and what later ones did."""

    def __init__(self, dimension: int) -> None:
        self._dimension = dimension
        self._vectors: list[F32] = []
        self._keys: list[str] = []
        self._metadata: list[Metadata] = []
        self._places: dict[str, int] = {}
        self._dead: list[int] = []

    def add(self, sequence: int, rows: RowBatch) -> None:
        """Add live rows, none of whose keys is among those that are there."""
        if rows.vectors.shape[1] != self._dimension:
            raise DataError(
                f"commit {sequence} holds vectors of dimension {rows.vectors.shape[1]}, its index "
                f"has {self._dimension}: restore the log from a copy"
            )
        self._places.update(zip(rows.keys, range(len(self._keys), sys.maxsize), strict=False))
        self._vectors.append(rows.vectors)
        self._keys.extend(rows.keys)
        self._metadata.extend(rows.metadata)

    def follow(self, commit: Commit, load_keys: LoadKeys) -> None:
        """Do what a commit did, which folded none of them."""
        for key in _killed_keys(commit.operation, self._places, load_keys):
            place = self._places.pop(key, None)
            if place is not None:
                self._dead.append(place)
        if isinstance(commit.operation, PutRows):
            self.add(commit.sequence, commit.operation.rows)

    def rows(self) -> RowBatch:
        """Return what lives, in the order it was put; its vectors are read-only."""
        vectors = np.concatenate([np.empty((0, self._dimension), np.float32), *self._vectors])
        dead = np.zeros(len(self._keys), dtype=np.bool_)
        dead[self._dead] = True
        found = _live_of(RowBatch(self._keys, vectors, self._metadata), dead)
        found.vectors.flags.writeable = False
        return found


def fresh_dead(opened: Opened, *, load_keys: LoadKeys) -> dict[int, Mask]:
    """Return bool [n], the dead rows, of each fresh commit."""
    state = opened.state
    if not state.fresh:
        return {}
    fresh = set(state.fresh)
    places = _Places()
    for sequence in state.fresh:
        if sequence <= state.snapshot_sequence:
            rows = _rows(opened, sequence)
            dead = unpack_mask(state.fresh_dead.get(sequence), len(rows))
            places.add(sequence, rows.keys, dead)
    for commit in _key_commits(opened, after=max(state.snapshot_sequence, state.fresh[0] - 1)):
        places.kill(commit.operation, load_keys)
        if isinstance(commit.operation, PutRows) and commit.sequence in fresh:
            rows = commit.operation.rows
            places.add(commit.sequence, rows.keys, np.zeros(len(rows), dtype=np.bool_))
    return places.dead


def _killed_keys(
    operation: Operation, there: Collection[str], load_keys: LoadKeys
) -> Sequence[str]:
    """Return keys whose rows die by an operation: all such of `there`, and perhaps others."""
    match operation:
        case PutRows(rows):
            return rows.keys
        case DeleteKeys(keys):
            return keys
        case PutSegments(segments):
            return _keys_inside(list(there), segments, load_keys)
        case Replace() | Dropped():
            return ()


def _keys_inside(
    keys: Sequence[str], segments: Sequence[SegmentRef], load_keys: LoadKeys
) -> list[str]:
    """Return those of some keys that segments hold."""
    hashes = hash_keys(keys)
    found = np.zeros(len(keys), dtype=np.bool_)
    for segment in segments:
        found |= load_keys(segment).lookup(hashes) >= 0
    return [keys[at] for at in np.flatnonzero(found).tolist()]


class _Places:
    """Where the live row of each key lies among the fresh commits."""

    def __init__(self) -> None:
        self.dead: dict[int, Mask] = {}
        self._places: dict[str, tuple[int, int]] = {}

    def add(self, sequence: int, keys: Sequence[str], dead: Mask) -> None:
        self.dead[sequence] = dead
        for row in np.flatnonzero(~dead).tolist():
            self._places[keys[row]] = (sequence, row)

    def kill(self, operation: Operation, load_keys: LoadKeys) -> None:
        for key in _killed_keys(operation, self._places, load_keys):
            place = self._places.pop(key, None)
            if place is not None:
                self.dead[place[0]][place[1]] = True


def touched_since(opened: Opened, sequence: int, keys: KeyTable, *, load_keys: LoadKeys) -> bool:
    """Tell whether a commit after `sequence` put or deleted one of some keys.

    Parameters
    ----------
    opened:
        The index after that commit.
    sequence:
        What was read before.
    keys:
        The keys, by hash.
    load_keys:
        Gives a segment's key table.

    Returns
    -------
    True, too, if a build or a restoration made the records others, and if not all commits since
    are held: they are in a snapshot by now.

    """
    if opened.state.content > max(sequence, 0):
        return True
    for later in range(max(sequence, 0) + 1, opened.sequence + 1):
        commit = opened.commits.get(later)
        if commit is None or (keys.lookup(_hashes(opened, commit, load_keys)) >= 0).any():
            return True
    return False


def pack_mask(mask: Mask) -> bytes:
    """Pack bool [n] into ceil(n / 8) bytes, the first row in the lowest bit."""
    return np.packbits(mask, bitorder="little").tobytes()


def unpack_mask(data: Buffer | None, rows: int) -> Mask:
    """Unpack bool [n] of what `pack_mask` made; all False of None.

    Raises
    ------
    DataError
        If the length does not fit.

    """
    if data is None:
        return np.zeros(rows, dtype=np.bool_)
    if len(data) != -(-rows // 8):
        raise DataError(f"a bitmap of {rows} rows has {len(data)} bytes")
    packed = np.frombuffer(data, dtype=np.uint8)
    return np.unpackbits(packed, count=rows, bitorder="little").astype(np.bool_)


def _from_bitmap(segment: SegmentRef, load_bitmap: LoadBitmap) -> tuple[int, int, Mask | None]:
    if segment.deleted is None:
        return killed_until(segment), 0, None
    try:
        dead = unpack_mask(load_bitmap(segment.deleted), segment.rows)
    except DataError as error:
        error.object_key = error.object_key or segment.deleted.key
        raise
    return killed_until(segment), int(segment.deleted.key.rpartition("-")[2]), dead


def _key_commits(opened: Opened, *, after: int) -> Iterator[Commit]:
    """Yield the commits after one that put or deleted keys, in order."""
    for sequence in range(after + 1, opened.sequence + 1):
        commit = opened.commits.get(sequence)
        if commit is None:
            raise DataError(f"commit {sequence} is needed and was not read")
        if not isinstance(commit.operation, Replace):
            yield commit


def _hashes(opened: Opened, commit: Commit, load_keys: LoadKeys) -> U64:
    known = opened.retained.hashes.get(commit.sequence)
    if known is None:
        known = _hash(commit.operation, load_keys)
        opened.retained.hashes[commit.sequence] = known
    return known


def _hash(operation: Operation, load_keys: LoadKeys) -> U64:
    match operation:
        case PutRows(rows):
            return hash_keys(rows.keys)
        case DeleteKeys(keys):
            return hash_keys(keys)
        case PutSegments(segments):
            tables = [load_keys(segment).arrays()["key_hashes"] for segment in segments]
            hashes = np.concatenate(tables) if tables else np.empty((0, 2), np.uint64)
            return hashes.astype(np.uint64, copy=False)
        case Replace() | Dropped():
            return np.empty((0, 2), np.uint64)


def _rows(opened: Opened, sequence: int) -> RowBatch:
    commit = opened.commits.get(sequence)
    if commit is None or not isinstance(commit.operation, PutRows):
        raise DataError(f"commit {sequence} should hold rows, and does not")
    return commit.operation.rows
