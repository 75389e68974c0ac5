"""JSON merge patches (RFC 7396) of one record's metadata."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from squash.limits import METADATA_DEPTH_MAX


def merge_patch(metadata: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Return metadata with a patch merged into it.

    A name that the patch gives None is removed, any other gets the patch's value; only where both
    values are objects, which filterable ones never are, they are merged in the same way. Neither
    argument is changed. What comes of it is yet to be checked.
    """
    return _merged(metadata, patch, depth=0)


def _merged(target: Mapping[str, Any], patch: Mapping[str, Any], *, depth: int) -> dict[str, Any]:
    found = dict(target)
    for name, value in patch.items():
        if value is None:
            found.pop(name, None)
        elif isinstance(value, Mapping) and depth < METADATA_DEPTH_MAX:
            before = found.get(name)
            base = before if isinstance(before, Mapping) else {}
            found[name] = _merged(base, value, depth=depth + 1)
        else:
            # An object as deep as this is refused by the check, whatever is in it.
            found[name] = value
    return found
