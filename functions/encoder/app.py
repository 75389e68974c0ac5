"""Encodes texts and images, for the coordinator or the documents function."""

import os
from typing import Any

from squash.api.functions import encoder

_handle = encoder(os.environ)  # a warm container keeps what it made


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Answer one event of Lambda's."""
    return _handle(event, context)
