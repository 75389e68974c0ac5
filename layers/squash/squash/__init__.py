"""Squash: vector search with exact filters, in your own account or on one machine.

>>> import squash
>>> db = squash.connect("memory://")
>>> index = db.create_index("papers", dimension=2, metric="euclidean")
>>> index.put(keys=["a", "b"], vectors=[[0, 0], [3, 4]], metadata=[{"year": 2019}, {"year": 2024}])
WriteResult(snapshot=1, rows=2)
>>> [match.key for match in index.query([0, 0], filter={"year": {"$gte": 2020}}).matches]
['b']
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from squash.errors import SquashError

if TYPE_CHECKING:
    from squash.database import Database, Index, connect

__all__ = ["Database", "Index", "SquashError", "connect"]


def __getattr__(name: str) -> Any:
    # Functions that search import their rooms alone: the whole face is loaded when it is asked for.
    if name in ("Database", "Index", "connect"):
        from squash import database  # noqa: PLC0415

        return getattr(database, name)
    raise AttributeError(f"module 'squash' has no attribute {name!r}")
