"""Work on a whole index: build, fold, collect garbage, verify, repair."""

from squash.maintain.build import BuildOptions
from squash.maintain.gc import check_retention, collect, collect_remains
from squash.maintain.history import (
    History,
    Ledger,
    verify_history,
    verify_named,
    verify_newest_snapshot,
)
from squash.maintain.optimize import LiveRows, optimize
from squash.maintain.repair import Repairer
from squash.maintain.verify import verify_bitmaps, verify_segments, verify_trained

__all__ = [
    "BuildOptions",
    "History",
    "Ledger",
    "LiveRows",
    "Repairer",
    "check_retention",
    "collect",
    "collect_remains",
    "optimize",
    "verify_bitmaps",
    "verify_history",
    "verify_named",
    "verify_newest_snapshot",
    "verify_segments",
    "verify_trained",
]
