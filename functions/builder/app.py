"""Does one task of a bulk build an invocation, as the state machine tells it."""

import os
from typing import Any

from squash.api.functions import builder

_handle = builder(os.environ)  # a warm container keeps what it made


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Answer one event of Lambda's."""
    return _handle(event, context)
