"""Snapshots: the whole state after a commit, so that a reader replays little.

A snapshot is a pure function of the log: whoever writes the one after a commit writes the same
bytes. What commits did to the rows of segments it turns into bitmaps, so that a reader needs none
of them.
"""

from __future__ import annotations

import zlib
from dataclasses import replace
from typing import Any, Final

import numpy as np

from squash.arrays import AnyArray
from squash.container import Buffer, Container
from squash.errors import ChecksumError, DataError
from squash.index.commits import log_key
from squash.index.live import LoadBitmap, LoadKeys, Opened, dead_since, fresh_dead, pack_mask
from squash.index.object_keys import TRAINED, bitmap_key
from squash.index.references import (
    MALFORMED,
    object_from_json,
    object_to_json,
    segment_from_json,
    segment_to_json,
)
from squash.index.sealed import open_sealed, seal
from squash.index.state import Claim, State
from squash.model import ObjectRef, SegmentRef
from squash.storage import ObjectStore

KIND: Final = "snapshot"
VERSION: Final = 1
VERSION_CONTENT: Final = 2
"""Of snapshots of an index that a build or a restoration has written to."""
PREFIX: Final = "snapshots/"
_FRESH_DEAD: Final = "fresh_dead."
# Of snapshots and trained objects at once: more are there only if nothing is ever collected.
_LISTED_MAX: Final = 128
_DIGITS: Final = 20
_LAST: Final = 10**_DIGITS - 1


def snapshot_key(sequence: int) -> str:
    """Return where a snapshot lies: the newest has the first key."""
    return f"{PREFIX}{_LAST - sequence:0{_DIGITS}}"


def snapshot_sequence(key: str) -> int:
    """Return the commit that a snapshot is the state after.

    Raises
    ------
    DataError
        If the key is no snapshot's.

    """
    digits = key.removeprefix(PREFIX)
    if len(digits) != _DIGITS or not digits.isdecimal() or not digits.isascii():
        raise DataError(f"{key} is no name of a snapshot: remove what was put there")
    return _LAST - int(digits)


def newest_snapshot(store: ObjectStore, *, until: int | None = None) -> int:
    """Return the newest snapshot's sequence by one LIST; 0 if there is none.

    Parameters
    ----------
    store:
        The index's objects.
    until:
        Only snapshots of this commit or of earlier ones.

    """
    later = "" if until is None else snapshot_key(until + 1)
    found = store.list(PREFIX, start_after=later, limit=1)
    return next((snapshot_sequence(info.key) for info in found), 0)


def newest_and_trained(store: ObjectStore) -> tuple[int, str | None]:
    """Return the newest snapshot's sequence, and the key of the trained object stored last.

    By one LIST: the keys of trained objects follow those of snapshots, of which there are few as
    long as old ones are collected. Where there are many, no trained object is seen: None.
    """
    newest, trained, stored_ms = 0, None, 0
    for info in store.list("", start_after=PREFIX, limit=_LISTED_MAX):
        if info.key.startswith(PREFIX):
            newest = newest or snapshot_sequence(info.key)
        elif info.key.startswith(TRAINED) and info.modified_ms >= stored_ms:
            trained, stored_ms = info.key, info.modified_ms
    return newest, trained


def oldest_snapshot(store: ObjectStore) -> int:
    """Return the oldest stored snapshot's sequence by listing all; 0 if there is none."""
    found = [snapshot_sequence(info.key) for info in store.list(PREFIX)]
    return min(found, default=0)


def check_beginning(store: ObjectStore) -> None:
    """Refuse a log that seems empty because its beginning, and each snapshot, is lost.

    Raises
    ------
    ChecksumError
        If there are commits, and not the first.

    """
    for info in store.list("log/", limit=1):
        if info.key > log_key(1):
            raise ChecksumError(
                f"the log begins with {info.key} although no snapshot leads there: restore the "
                "snapshots, or the commits before it, from a copy",
                object_key=log_key(1),
            )


def materialise(
    opened: Opened, *, load_keys: LoadKeys, load_bitmap: LoadBitmap
) -> tuple[State, dict[str, bytes]]:
    """Turn key operations into bitmaps.

    Returns
    -------
    The state as a snapshot holds it, and the bitmap objects it names, by key.

    """
    objects: dict[str, bytes] = {}
    segments: list[SegmentRef] = []
    for segment in opened.state.segments:
        last, dead = dead_since(opened, segment, load_keys=load_keys, load_bitmap=load_bitmap)
        deleted = segment.deleted
        # Named after the commit that killed last, a bitmap is shared by all snapshots it fits.
        key = bitmap_key(segment.id, last)
        if dead is not None and (deleted is None or deleted.key != key):
            data = pack_mask(dead)
            deleted = ObjectRef(key, len(data), zlib.crc32(data))
            objects[key] = data
        segments.append(replace(segment, deleted=deleted, deleted_as_of=opened.sequence))
    masks = fresh_dead(opened, load_keys=load_keys)
    state = replace(
        opened.state,
        segments=tuple(segments),
        snapshot_sequence=opened.sequence,
        log_bytes=0,
        fresh_dead={
            sequence: pack_mask(masks[sequence])
            for sequence in opened.state.fresh
            if masks[sequence].any()
        },
    )
    return state, objects


def to_bytes(state: State) -> bytes:
    """Return the snapshot's bytes for a state that `materialise` made."""
    header: dict[str, Any] = {
        "sequence": state.sequence,
        "time_ms": state.time_ms,
        "changed": state.changed,
        "segments": [segment_to_json(segment) for segment in state.segments],
        "fresh": list(state.fresh),
        "trained": object_to_json(state.trained) if state.trained else None,
        "recent": list(state.recent),
    }
    claim, version = state.claim, VERSION
    if claim is not None:
        header["claim"] = [claim.base, claim.time_ms]
        if claim.build is not None:
            header["claim"] += [claim.build, claim.lasts_ms]
            version = VERSION_CONTENT
    if state.content:
        header["content"] = state.content
        version = VERSION_CONTENT
    arrays: dict[str, AnyArray] = {
        f"{_FRESH_DEAD}{sequence}": np.frombuffer(bits, dtype=np.uint8)
        for sequence, bits in state.fresh_dead.items()
    }
    return seal(KIND, version, header=header, arrays=arrays)


def from_bytes(data: Buffer, *, sequence: int, where: str) -> State:
    """Read the snapshot of a sequence.

    Raises
    ------
    ChecksumError, DataError
        If any bit differs from what was written, or it belongs elsewhere.
    UnsupportedFormatError
        If a newer release wrote it.

    """
    container = open_sealed(data, kind=KIND, versions=(VERSION, VERSION_CONTENT), where=where)
    try:
        state = _state(container.header, container)
    except MALFORMED as error:
        raise DataError(f"{where} is no snapshot ({error!r})", object_key=where) from error
    if state.sequence != sequence:
        raise DataError(f"{where} holds snapshot {state.sequence}: it was moved", object_key=where)
    return state


def _state(header: Any, container: Container) -> State:
    sequence = int(header["sequence"])
    return State(
        sequence=sequence,
        segments=tuple(segment_from_json(one) for one in header["segments"]),
        fresh=tuple(int(one) for one in header["fresh"]),
        trained=object_from_json(header["trained"]) if header["trained"] else None,
        recent=tuple(str(one) for one in header["recent"]),
        time_ms=int(header["time_ms"]),
        # Snapshots of earlier releases don't say: they count as if their last commit was no fold.
        changed=_changed(header.get("changed", sequence), sequence),
        claim=_claim(header["claim"]) if header.get("claim") else None,
        content=_changed(header.get("content", 0), sequence),
        snapshot_sequence=sequence,
        fresh_dead={
            int(name.removeprefix(_FRESH_DEAD)): container.array(name).tobytes()
            for name in container.names()
            if name.startswith(_FRESH_DEAD)
        },
    )


def _claim(value: Any) -> Claim:
    base, time_ms, *of_build = value
    if not of_build:
        return Claim(int(base), int(time_ms))
    build, lasts_ms = of_build
    return Claim(int(base), int(time_ms), str(build), int(lasts_ms))


def _changed(value: Any, sequence: int) -> int:
    changed = int(value)
    if not 0 <= changed <= sequence:
        raise ValueError(f"records changed by commit {changed}, which is to come")
    return changed
