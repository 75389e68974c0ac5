"""Records that expire: from a time on, which an attribute of theirs names, they are gone."""

from __future__ import annotations

from typing import Final

from squash.attributes.nodes import And, FilterNode, Not, Within
from squash.model import IndexConfig, Metadata

_MS_A_SECOND: Final = 1000


def live_node(config: IndexConfig, now_ms: int) -> FilterNode | None:
    """Return the filter that every record passes that has not expired; None if none ever does.

    Parameters
    ----------
    config:
        The index's: `expires` names the attribute, which holds seconds since 1970 UTC.
    now_ms:
        The time, in milliseconds since 1970 UTC.

    """
    if config.expires is None:
        return None
    # One comparison, which a record without the attribute passes: it never expires.
    now_s = now_ms / _MS_A_SECOND
    return Not(Within(config.expires, float, None, False, now_s, True))


def only_live(node: FilterNode | None, live: FilterNode | None) -> FilterNode | None:
    """Return the filter that says both what a caller asks and that a record is live."""
    if node is None or live is None:
        return node or live
    # The caller's first: by it the cost of a query is estimated.
    return And((*(node.parts if isinstance(node, And) else (node,)), live))


def expired(config: IndexConfig, metadata: Metadata, now_ms: int) -> bool:
    """Say whether a record has expired; exactly those do not pass `live_node`."""
    if config.expires is None:
        return False
    value = metadata.get(config.expires)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return value <= now_ms / _MS_A_SECOND
