"""The specification of an index: a dict and brute force."""

from __future__ import annotations

import numpy as np

from squash.attributes import matches, parse_filter


class ModelIndex:
    """What an index must do, said as plainly as can be."""

    def __init__(self, metric: str) -> None:
        self.metric = metric
        self.rows: dict[str, tuple[np.ndarray, dict]] = {}

    def put(self, keys, vectors, metadata) -> None:
        for key, vector, meta in zip(keys, vectors, metadata, strict=True):
            self.rows[key] = (np.asarray(vector, dtype=np.float32), dict(meta))

    def delete(self, keys) -> None:
        for key in keys:
            self.rows.pop(key, None)

    def passing(self, filter_) -> list[str]:
        node = parse_filter(filter_)
        return [key for key, (_, meta) in self.rows.items() if matches(node, meta)]

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
