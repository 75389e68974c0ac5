"""Work on a whole index: build, flatten, verify."""

from squash.maintain.build import BuildOptions
from squash.maintain.flatten import flatten, plan_flatten
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
    "flatten",
    "optimize",
    "plan_flatten",
    "verify_bitmaps",
    "verify_history",
    "verify_segments",
    "verify_trained",
]
