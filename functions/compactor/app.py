"""Folds what is new into segments, on a schedule or when it is asked to."""

import os
from typing import Any

from squash.api.functions import compactor

_handle = compactor(os.environ)  # a warm container keeps what it made


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Answer one event of Lambda's."""
    return _handle(event, context)
