"""Arrays to arrays: the operations that a native kernel may take over.

Each function here has a plain NumPy form, which is the definition of its operation. What
`layers/squash/native/README.md` specifies is native too, and gives the same bits, floats included.
"""

from squash.kernels.batching import NearMany, search_many
from squash.kernels.bounding import (
    alignments,
    cosine_interval,
    product_limits,
    rescaling_cosines,
    safe_bounds,
)
from squash.kernels.code_dots import (
    cell_begins,
    grid_bytes,
    grid_dots,
    pack_grid,
    table_sums,
    unpack_grid,
)
from squash.kernels.distances import (
    centroid_scan,
    exact_distances,
    gather_rows,
    refine,
    row_distances,
)
from squash.kernels.expecting import (
    Expected,
    MatchPlan,
    MatchPlanner,
    Prices,
    Ranges,
    expect,
    share_within,
)
from squash.kernels.filtering import filter_clusters, filter_sample
from squash.kernels.hamming import hamming_scan
from squash.kernels.listed import filter_listed, list_rows, listed_bytes
from squash.kernels.low_scan import SignTable, low_scan, sign_table
from squash.kernels.making import Maker
from squash.kernels.masks import truth_of_spans
from squash.kernels.native_table import refresh
from squash.kernels.outcomes import (
    Missing,
    Near,
    Settled,
    SettledCounts,
    StaysOpen,
    Unchecked,
    ascends,
)
from squash.kernels.packing import (
    block_begins,
    concatenated_ranges,
    low_groups,
    pack_blocks,
    pack_low,
    pack_nibbles,
    pack_rows,
    packed_bytes,
    split_blocks,
    uniform_widths,
    unpack_low,
    unpack_nibbles,
    unpack_rows,
    whole_blocks,
)
from squash.kernels.prepare import prepare, prepare_projected
from squash.kernels.record_keys import RecordTable
from squash.kernels.rotations import FLIPS, HadamardRotation, Rotation, rotate_rows, rotated
from squash.kernels.scanning import scan
from squash.kernels.search_rooms import SearchPlan, Straight
from squash.kernels.searching import ANY, Sound, StandingSearch, search, standing_search
from squash.kernels.tables import (
    AND,
    BLOCK_FACTOR_BYTES,
    LEAF,
    NOT,
    OR,
    ClusterTable,
    FilterProgram,
    Leaf,
    PreparedQuery,
    Range,
    Ranked,
    Taken,
    all_hold,
)
from squash.kernels.top_k import top_k
from squash.kernels.walking import (
    FARTHEST,
    UNANCHORED,
    cell_of,
    cell_values,
    cells_of,
    ratios_beyond,
    walk,
)
from squash.limits import CODE_BLOCK_ROWS as BLOCK_ROWS

__all__ = [
    "AND",
    "ANY",
    "BLOCK_FACTOR_BYTES",
    "BLOCK_ROWS",
    "FARTHEST",
    "FLIPS",
    "LEAF",
    "NOT",
    "OR",
    "UNANCHORED",
    "ClusterTable",
    "Expected",
    "FilterProgram",
    "HadamardRotation",
    "Leaf",
    "Maker",
    "MatchPlan",
    "MatchPlanner",
    "Missing",
    "Near",
    "NearMany",
    "PreparedQuery",
    "Prices",
    "Range",
    "Ranges",
    "Ranked",
    "RecordTable",
    "Rotation",
    "SearchPlan",
    "Settled",
    "SettledCounts",
    "SignTable",
    "Sound",
    "StandingSearch",
    "StaysOpen",
    "Straight",
    "Taken",
    "Unchecked",
    "alignments",
    "all_hold",
    "ascends",
    "block_begins",
    "cell_begins",
    "cell_of",
    "cell_values",
    "cells_of",
    "centroid_scan",
    "concatenated_ranges",
    "cosine_interval",
    "exact_distances",
    "expect",
    "filter_clusters",
    "filter_listed",
    "filter_sample",
    "gather_rows",
    "grid_bytes",
    "grid_dots",
    "hamming_scan",
    "list_rows",
    "listed_bytes",
    "low_groups",
    "low_scan",
    "pack_blocks",
    "pack_grid",
    "pack_low",
    "pack_nibbles",
    "pack_rows",
    "packed_bytes",
    "prepare",
    "prepare_projected",
    "product_limits",
    "ratios_beyond",
    "refine",
    "refresh",
    "rescaling_cosines",
    "rotate_rows",
    "rotated",
    "row_distances",
    "safe_bounds",
    "scan",
    "search",
    "search_many",
    "share_within",
    "sign_table",
    "split_blocks",
    "standing_search",
    "table_sums",
    "top_k",
    "truth_of_spans",
    "uniform_widths",
    "unpack_grid",
    "unpack_low",
    "unpack_nibbles",
    "unpack_rows",
    "walk",
    "whole_blocks",
]
