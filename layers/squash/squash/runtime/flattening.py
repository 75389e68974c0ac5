"""Flattening for a session, loaded when it is first a writer's turn.

Who only answers queries does without what builds segments.
"""

from __future__ import annotations

from squash.index.live import Opened
from squash.maintain import flatten
from squash.model import IndexConfig
from squash.runtime.retained import RetainedObjects
from squash.runtime.views import IndexViews


def flatten_fresh(
    views: IndexViews, opened: Opened, config: IndexConfig, loader: RetainedObjects
) -> Opened:
    """Bring fresh commits into a flat segment; see `squash.maintain.flatten`.

    Parameters
    ----------
    views, opened, config:
        The index.
    loader:
        Reads the segments that are taken in, which nobody will ask for again.

    """
    return flatten(
        views.log,
        opened,
        config,
        load_keys=lambda ref: views.reader(ref).keys(),
        live_of=lambda ref: (views.reader(ref, loader), views.live(opened, ref)),
    )
