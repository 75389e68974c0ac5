"""Making all of it the index's content, by one commit."""

from __future__ import annotations

from squash.maintain.bulk.context import BuildContext, TaskReport
from squash.maintain.bulk.request import BuildRequest


def run(context: BuildContext, request: BuildRequest, batch: int) -> TaskReport:
    """Do one batch; what it leaves is the same however often, and wherever, it runs."""
    raise NotImplementedError
