"""Work on a whole index: build, verify."""

from squash.maintain.build import BuildOptions
from squash.maintain.optimize import LiveRows, optimize
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
    "optimize",
    "verify_bitmaps",
    "verify_history",
    "verify_segments",
    "verify_trained",
]
