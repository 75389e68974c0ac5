"""One segment to and from bytes, and search inside it: arrays in, arrays out, no I/O."""

from squash.segment.cluster_codes import ClusterCodes
from squash.segment.documents import (
    DocumentPages,
    Records,
    pack_records,
    parse_page,
    read_followed,
    read_joined,
    read_records,
    write_records,
)
from squash.segment.head import CodeArray, CodesHead
from squash.segment.keys import KeyTable, hash_keys
from squash.segment.layout import (
    ATTRIBUTES,
    CODES,
    DOCUMENTS,
    HEAD,
    ROWS,
    VECTORS,
    Directory,
    page_ranges,
)
from squash.segment.partition import Partition, PartitionCodes
from squash.segment.sections import (
    Section,
    Sections,
    describe_attributes,
    read_cells,
    read_column,
)
from squash.segment.write import build_flat, build_partition

__all__ = [
    "ATTRIBUTES",
    "CODES",
    "DOCUMENTS",
    "HEAD",
    "ROWS",
    "VECTORS",
    "ClusterCodes",
    "CodeArray",
    "CodesHead",
    "Directory",
    "DocumentPages",
    "KeyTable",
    "Partition",
    "PartitionCodes",
    "Records",
    "Section",
    "Sections",
    "build_flat",
    "build_partition",
    "describe_attributes",
    "hash_keys",
    "pack_records",
    "page_ranges",
    "parse_page",
    "read_cells",
    "read_column",
    "read_followed",
    "read_joined",
    "read_records",
    "write_records",
]
