"""Filters, chooses partitions and merges, for the coordinator or another allocator."""

import os
from typing import Any

from squash.api.functions import allocator

_handle = allocator(os.environ)  # a warm container keeps what it made


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Answer one event of Lambda's."""
    return _handle(event, context)
