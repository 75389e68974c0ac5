"""Answers queries: `POST /v1/indexes/{index}/query`."""

import os
from typing import Any

from squash.api.functions import coordinator

_handle = coordinator(os.environ)  # a warm container keeps what it made


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Answer one event of Lambda's."""
    return _handle(event, context)
