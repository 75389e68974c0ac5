"""Choices as pure functions: which clusters, how deep, which byte ranges, how to merge."""

from squash.planning.probing import (
    BANDS,
    CALIBRATED_NEIGHBOURS,
    TARGETS,
    Calibration,
    choose_clusters,
)
from squash.planning.scanning import Keep, keep_for, scan_mode

__all__ = [
    "BANDS",
    "CALIBRATED_NEIGHBOURS",
    "TARGETS",
    "Calibration",
    "Keep",
    "choose_clusters",
    "keep_for",
    "scan_mode",
]
