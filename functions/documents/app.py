"""Puts, gets, lists and deletes records: `/v1/indexes/{index}/vectors…`."""

import os
from typing import Any

from squash.api.functions import documents

_handle = documents(os.environ)  # a warm container keeps what it made


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Answer one event of Lambda's."""
    return _handle(event, context)
