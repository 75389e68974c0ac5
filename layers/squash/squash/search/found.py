"""Rows with their exact distances, and what becomes of them: the k nearest of all (level 7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from squash.arrays import F32, F64, I64
from squash.attributes import FilterNode
from squash.model import Match, Metadata
from squash.search.view import Rows


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked: the `k` rows nearest to `vector` (float32 [d]) that pass `node`."""

    vector: F32
    k: int
    node: FilterNode | None = None
    recall_target: float = 0.95
    exact: bool = False
    include_metadata: bool = True
    include_vector: bool = False
    explain: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """Rows of some sources: int64 [m] whose, int64 [m] which row, float64 [m] how far."""

    sources: Sequence[Rows]
    owner: I64
    rows: I64
    distances: F64


def merge(found: Sequence[Found], query: Query) -> list[Match]:
    """Keep the k nearest of all, ties by key (level 7)."""
    found = [one for one in found if len(one.rows)]
    if not found:
        return []
    joined = found[0] if len(found) == 1 else _joined(found)
    distances = joined.distances
    order = np.argsort(distances, kind="stable")
    if len(order) > query.k:
        last = distances[order[query.k - 1]]
        order = order[: int(np.searchsorted(distances[order], last, side="right"))]
    named = _named(joined, order)
    named.sort(key=lambda entry: entry[:2])
    del named[query.k :]
    vectors = _vectors(joined, [entry[2] for entry in named]) if query.include_vector else {}
    metadata = query.include_metadata
    return [
        Match(key, distance, found if metadata else None, vectors.get(place))
        for distance, key, place, found in named
    ]


def _joined(found: Sequence[Found]) -> Found:
    sources: list[Rows] = []
    owners = []
    for one in found:
        owners.append(one.owner + len(sources))
        sources.extend(one.sources)
    return Found(
        sources,
        np.concatenate(owners),
        np.concatenate([one.rows for one in found]),
        np.concatenate([one.distances for one in found]),
    )


def _named(found: Found, order: I64) -> list[tuple[float, str, int, Metadata]]:
    """Return (distance, key, place, metadata) of some rows."""
    places: dict[int, list[int]] = {}
    for place, owner in zip(order.tolist(), found.owner[order].tolist(), strict=True):
        places.setdefault(owner, []).append(place)
    named = []
    for owner, mine in places.items():
        documents = found.sources[owner].documents(found.rows[mine])
        for place, (key, metadata) in zip(mine, documents, strict=True):
            named.append((float(found.distances[place]), key, place, metadata))
    return named


def _vectors(found: Found, places: list[int]) -> dict[int, F32]:
    wanted = np.array(places, dtype=np.int64)
    vectors: dict[int, F32] = {}
    for owner in np.unique(found.owner[wanted]).tolist():
        mine = wanted[found.owner[wanted] == owner]
        read = found.sources[owner].vectors(found.rows[mine])
        vectors.update(zip(mine.tolist(), read, strict=True))
    return vectors
