"""Rows with their exact distances, and what becomes of them: the k nearest of all (level 7)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from squash.arrays import F32, F64, I64
from squash.attributes import FilterNode
from squash.model import Match, Metadata, make_matches
from squash.search.view import Rows

T = TypeVar("T")


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


def merge(found: Sequence[Found], query: Query) -> tuple[Match, ...]:
    """Keep the k nearest of all, ties by key (level 7)."""
    found = [one for one in found if len(one.rows)]
    if not found:
        return ()
    joined = found[0] if len(found) == 1 else _joined(found)
    distances = joined.distances
    order = np.argsort(distances, kind="stable")
    if len(order) > query.k:
        last = distances[order[query.k - 1]]
        order = order[: int(np.searchsorted(distances[order], last, side="right"))]
    far = distances[order].tolist()
    if len(set(far)) < len(far):
        order = _by_key(joined, order, far)[: query.k]
        far = distances[order].tolist()
    none = (None,) * len(far)
    metadata: Sequence[Metadata | None] = none
    vectors: Sequence[F32 | None] = none
    keys: Sequence[str]
    if query.include_metadata:
        documents = _gathered(joined, order, lambda source, rows: source.documents(rows))
        keys, metadata = zip(*documents, strict=True)
    else:
        keys = _keys(joined, order)
    if query.include_vector:
        vectors = _gathered(joined, order, lambda source, rows: list(source.vectors(rows)))
    return make_matches(keys, far, metadata, vectors)


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


def _by_key(found: Found, order: I64, distances: list[float]) -> I64:
    """Order rows that may have equal distances by distance and key."""
    keys = _keys(found, order)
    places = sorted(range(len(keys)), key=lambda i: (distances[i], keys[i]))
    return order[places]


def _keys(found: Found, order: I64) -> list[str]:
    return _gathered(found, order, lambda source, rows: source.document_keys(rows))


def _gathered(found: Found, order: I64, read: Callable[[Rows, I64], Iterable[T]]) -> list[T]:
    """Read something of every row, one source after another; return it in the rows' order."""
    rows = found.rows[order]
    places: dict[int, list[int]] = {}
    for place, owner in enumerate(found.owner[order].tolist()):
        places.setdefault(owner, []).append(place)
    if len(places) == 1:
        return list(read(found.sources[next(iter(places))], rows))
    gathered: dict[int, T] = {}
    for owner, mine in places.items():
        gathered.update(zip(mine, read(found.sources[owner], rows[mine]), strict=True))
    return [gathered[place] for place in range(len(rows))]
