"""Where segments, their bitmaps and trained objects lie, below the index's own prefix.

Where commits and snapshots lie is said by `commits.log_key` and `snapshots.snapshot_key`.
"""

from __future__ import annotations

from typing import Final

SEGMENTS: Final = "segments/"
TRAINED: Final = "trained/"
_BITMAP: Final = "deleted-"


def segment_key(segment_id: str, name: str) -> str:
    """Return where one of a segment's objects lies."""
    return f"{SEGMENTS}{segment_id}/{name}"


def bitmap_key(segment_id: str, sequence: int) -> str:
    """Return where the bitmap of a segment lies whose last row died by a commit."""
    return segment_key(segment_id, f"{_BITMAP}{sequence:020}")


def trained_key(trained_id: str) -> str:
    """Return where a trained object lies."""
    return f"{TRAINED}{trained_id}"


def parted(key: str) -> tuple[str, str] | None:
    """Return the id of the segment that an object is of, and its name there; None if of none."""
    segment_id, slash, name = key.removeprefix(SEGMENTS).partition("/")
    return (segment_id, name) if slash and key.startswith(SEGMENTS) else None


def is_bitmap(key: str) -> bool:
    """Tell if an object is the bitmap of a segment."""
    of = parted(key)
    return of is not None and of[1].startswith(_BITMAP)
