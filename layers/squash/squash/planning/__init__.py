"""Choices as pure functions: which clusters, how deep, which byte ranges, how to merge."""

from squash.planning.costs import (
    DEFAULT_COSTS,
    UNSURE_SHARE_MAX,
    CostModel,
    Matches,
    plan_matches,
    planner_of,
    prices_of,
)
from squash.planning.folding import (
    FoldFacts,
    PartitionCounts,
    choose_partitions,
    join_partitions,
    measures_recall,
    pending_rows_max,
    why_rebuild,
)
from squash.planning.probing import (
    BANDS,
    CALIBRATED_NEIGHBOURS,
    EXPONENTS,
    Calibration,
    Need,
    Weighted,
    search_plan,
    take_clusters,
)
from squash.planning.recall import TARGETS
from squash.planning.sampling import choose_rows
from squash.planning.scanning import (
    KEEP_MAX,
    KEPT_FOR,
    KEPT_MEASURED_MAX,
    KEPT_TARGETS,
    Keep,
    Kept,
    keep_for,
)

__all__ = [
    "BANDS",
    "CALIBRATED_NEIGHBOURS",
    "DEFAULT_COSTS",
    "EXPONENTS",
    "KEEP_MAX",
    "KEPT_FOR",
    "KEPT_MEASURED_MAX",
    "KEPT_TARGETS",
    "TARGETS",
    "UNSURE_SHARE_MAX",
    "Calibration",
    "CostModel",
    "FoldFacts",
    "Keep",
    "Kept",
    "Matches",
    "Need",
    "PartitionCounts",
    "Weighted",
    "choose_partitions",
    "choose_rows",
    "join_partitions",
    "keep_for",
    "measures_recall",
    "pending_rows_max",
    "plan_matches",
    "planner_of",
    "prices_of",
    "search_plan",
    "take_clusters",
    "why_rebuild",
]
