"""Squash: vector search with exact filters, in your own account or on one machine.

>>> import squash
>>> db = squash.connect("memory://")
>>> index = db.create_index("papers", dimension=2, metric="euclidean")
>>> years = [{"year": 2019}, {"year": 2024}]
>>> index.put(keys=["a", "b"], vectors=[[0, 0], [3, 4]], metadata=years).rows
2
>>> [match.key for match in index.query([0, 0], filter={"year": {"$gte": 2020}}).matches]
['b']

An index that is created with an encoder takes texts in place of vectors, and answers to them:

    db.encoders.add("folder/of/an/encoder")
    index = db.create_index("notes", encoder="minilm")
    index.put(keys=["a"], texts=["The meeting was moved to Thursday."])
    index.query(text="When do we meet?")
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
