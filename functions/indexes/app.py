"""Creates, lists, describes and deletes indexes: `/v1/indexes…` and `/v1/health`."""

import os
from typing import Any

from squash.api.functions import indexes

_handle = indexes(os.environ)  # a warm container keeps what it made


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Answer one event of Lambda's."""
    return _handle(event, context)
