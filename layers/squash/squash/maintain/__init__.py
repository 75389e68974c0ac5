"""Work on a whole index: build, fold, verify."""

from squash.maintain.build import BuildOptions
from squash.maintain.live_rows import LiveRows
from squash.maintain.optimize import optimize
from squash.maintain.refold import Standing, refold
from squash.maintain.verify import (
    Ledger,
    verify_bitmaps,
    verify_history,
    verify_segments,
    verify_trained,
)

__all__ = [
    "BuildOptions",
    "Ledger",
    "LiveRows",
    "Standing",
    "optimize",
    "refold",
    "verify_bitmaps",
    "verify_history",
    "verify_segments",
    "verify_trained",
]
