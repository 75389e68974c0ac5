"""Which rows live: what later commits did to the rows of segments and of earlier commits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from squash.arrays import F32, U64, Mask
from squash.container import Buffer
from squash.errors import DataError
from squash.index.commits import Commit, DeleteKeys, Operation, PutRows, PutSegments, Replace
from squash.index.state import State, killed_until
from squash.model import Metadata, ObjectRef, RowBatch, SegmentRef
from squash.segment.keys import KeyTable, hash_keys

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
        return Opened(self.state, self.commits, read_ms, self.retained)


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
    """Return the last commit that killed a row (0 if none did), and `dead_rows`."""
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
    vectors: list[F32] = []
    keys: list[str] = []
    metadata: list[Metadata] = []
    for sequence, dead in fresh_dead(opened, load_keys=load_keys).items():
        rows = _rows(opened, sequence)
        live = np.flatnonzero(~dead)
        if rows.vectors.shape[1] != dimension:
            raise DataError(
                f"commit {sequence} holds vectors of dimension {rows.vectors.shape[1]}, its index "
                f"has {dimension}: restore the log from a copy"
            )
        vectors.append(rows.vectors[live])
        keys.extend(rows.keys[row] for row in live.tolist())
        metadata.extend(rows.metadata[row] for row in live.tolist())
    all_vectors = np.concatenate(vectors) if vectors else np.empty((0, dimension), np.float32)
    all_vectors.flags.writeable = False
    found = RowBatch(keys, all_vectors, metadata)
    opened.retained.fresh = (opened.sequence, found)
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
        match operation:
            case PutRows(rows):
                self._kill(rows.keys)
            case DeleteKeys(keys):
                self._kill(keys)
            case PutSegments(segments):
                living = list(self._places)
                hashes = hash_keys(living)
                for segment in segments:
                    there = np.flatnonzero(load_keys(segment).lookup(hashes) >= 0)
                    self._kill([living[at] for at in there.tolist()])
            case Replace():
                pass

    def _kill(self, keys: Iterable[str]) -> None:
        for key in keys:
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
    True, too, if not all commits since are held: they are in a snapshot by now.

    """
    for later in range(max(sequence, 0) + 1, opened.sequence + 1):
        commit = opened.commits.get(later)
        if commit is None or (keys.lookup(_hashes(opened, commit, load_keys)) >= 0).any():
            return True
    return False


def pack_mask(mask: Mask) -> bytes:
    """Pack bool [n] into ceil(n / 8) bytes, the first row in the lowest bit."""
    return np.packbits(mask, bitorder="little").tobytes()


def unpack_mask(data: Buffer | None, rows: int) -> Mask:
    """Unpack what `pack_mask` made; all False of None.

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
        case Replace():
            return np.empty((0, 2), np.uint64)


def _rows(opened: Opened, sequence: int) -> RowBatch:
    commit = opened.commits.get(sequence)
    if commit is None or not isinstance(commit.operation, PutRows):
        raise DataError(f"commit {sequence} should hold rows, and does not")
    return commit.operation.rows
