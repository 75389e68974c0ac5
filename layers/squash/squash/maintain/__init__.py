"""Work on a whole index: build, fold, flatten, collect garbage, verify, repair."""

from squash.maintain.build import BuildOptions
from squash.maintain.flatten import flatten, plan_flatten
from squash.maintain.gc import check_retention, collect
from squash.maintain.history import (
    History,
    Ledger,
    removed_since,
    still_named,
    verify_history,
    verify_named,
    verify_newest_snapshot,
)
from squash.maintain.live_rows import LiveRows
from squash.maintain.optimize import optimize
from squash.maintain.refold import Standing, refold
from squash.maintain.remains import collect_buckets, collect_remains
from squash.maintain.repair import Repairer
from squash.maintain.verify import verify_bitmaps, verify_segments, verify_trained

__all__ = [
    "BuildOptions",
    "History",
    "Ledger",
    "LiveRows",
    "Repairer",
    "Standing",
    "check_retention",
    "collect",
    "collect_buckets",
    "collect_remains",
    "flatten",
    "optimize",
    "plan_flatten",
    "refold",
    "removed_since",
    "still_named",
    "verify_bitmaps",
    "verify_history",
    "verify_named",
    "verify_newest_snapshot",
    "verify_segments",
    "verify_trained",
]
