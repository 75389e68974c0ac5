"""Typed attributes, the filter language, and cells that answer filters without the values."""

from squash.attributes.cells import CellScheme, CellTable
from squash.attributes.columns import Column, Columns
from squash.attributes.expiry import expired, live_node, only_live
from squash.attributes.filter_json import filter_from_json, filter_to_json
from squash.attributes.filters import parse_filter
from squash.attributes.matching import matches
from squash.attributes.metadata import check_metadata, is_metadata_key
from squash.attributes.nodes import FilterNode, is_lasting
from squash.attributes.patching import merge_patch
from squash.attributes.programs import asked_of, compile_filter, intervals_of

__all__ = [
    "CellScheme",
    "CellTable",
    "Column",
    "Columns",
    "FilterNode",
    "asked_of",
    "check_metadata",
    "compile_filter",
    "expired",
    "filter_from_json",
    "filter_to_json",
    "intervals_of",
    "is_lasting",
    "is_metadata_key",
    "live_node",
    "matches",
    "merge_patch",
    "only_live",
    "parse_filter",
]
