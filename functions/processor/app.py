"""Searches partitions, for an allocator or the coordinator."""

import os
from typing import Any

from squash.api.functions import processor

_handle = processor(os.environ)  # a warm container keeps what it made


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Answer one event of Lambda's."""
    return _handle(event, context)
