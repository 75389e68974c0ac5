"""The specification of an index: a dict and brute force."""

from __future__ import annotations

import numpy as np

from squash.attributes import matches, parse_filter


class ModelIndex:
    """What an index must do, said as plainly as can be.

    `expires` names the attribute that says when a record is gone, in seconds; `now` is the time.
    """

    def __init__(self, metric: str, expires: str | None = None) -> None:
        self.metric = metric
        self.expires = expires
        self.now = 0.0
        self.rows: dict[str, tuple[np.ndarray, dict]] = {}
        self.history: list[tuple[float, dict]] = [(0.0, {})]

    def commit(self, snapshot: int) -> None:
        """Note what a commit made, now; the snapshot is its number."""
        self.history += [(self.now, dict(self.rows))] * (snapshot + 1 - len(self.history))

    def at(self, snapshot: int, now: float | None = None) -> ModelIndex:
        """Return what the index was after a commit, at that time or at a later one."""
        then = ModelIndex(self.metric, self.expires)
        time, then.rows = self.history[snapshot]
        then.now = time if now is None else now
        return then

    def live(self) -> dict[str, tuple[np.ndarray, dict]]:
        """Return the records that have not expired."""
        if self.expires is None:
            return self.rows
        return {
            key: row
            for key, row in self.rows.items()
            if self.expires not in row[1] or row[1][self.expires] > self.now
        }

    def put(self, keys, vectors, metadata) -> None:
        for key, vector, meta in zip(keys, vectors, metadata, strict=True):
            self.rows[key] = (np.asarray(vector, dtype=np.float32), dict(meta))

    def delete(self, keys) -> None:
        for key in keys:
            self.rows.pop(key, None)

    def passing(self, filter_) -> list[str]:
        node = parse_filter(filter_)
        return [key for key, (_, meta) in self.live().items() if matches(node, meta)]

    def distance(self, query, key) -> float:
        x = self.rows[key][0].astype(np.float64)
        q = np.asarray(query, dtype=np.float32).astype(np.float64)
        if self.metric == "euclidean":
            return float(np.sqrt(((x - q) ** 2).sum()))
        if self.metric == "dot":
            return float(-(x @ q))
        return float(1.0 - (x @ q) / np.sqrt((x @ x) * (q @ q)))

    def query(self, query, top_k, filter_=None) -> list[tuple[float, str]]:
        found = sorted((self.distance(query, key), key) for key in self.passing(filter_))
        return found[:top_k]
