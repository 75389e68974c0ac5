"""The specification of an index: a dict with its history, and brute force."""

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
        self.folds: set[int] = set()

    @property
    def newest(self) -> int:
        """The number of the last commit."""
        return len(self.history) - 1

    def commit(self, snapshot: int, *, fold: bool = False) -> None:
        """Note what a commit made, now; the snapshot is its number."""
        self.history += [(self.now, dict(self.rows))] * (snapshot + 1 - len(self.history))
        if fold:
            self.folds.add(snapshot)

    def changed(self) -> int:
        """Return the last commit that changed records: folds do not."""
        return max(set(range(len(self.history))) - self.folds)

    def last_until(self, now: float) -> int:
        """Return the last commit that is not later than a time."""
        return max(i for i, (time, _) in enumerate(self.history) if time <= now)

    def at(self, snapshot: int, now: float | None = None) -> ModelIndex:
        """Return what the index was after a commit, at that time or at a later one."""
        then = ModelIndex(self.metric, self.expires)
        time, rows = self.history[snapshot]
        then.rows = dict(rows)
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

    def patch(self, keys, patches) -> None:
        """Merge each patch into a record's metadata, by RFC 7396: null removes a name."""
        for key, patch in zip(keys, patches, strict=True):
            vector, meta = self.rows[key]
            merged = {name: value for name, value in (meta | patch).items() if value is not None}
            self.rows[key] = (vector, merged)

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

    def check(self, answer, query, k, filter_=None) -> None:
        """Exactly min(k, matches) rows, all passing, with true distances, in order."""
        passing = set(self.passing(filter_))
        assert len(answer.matches) == min(k, len(passing))
        assert len({m.key for m in answer.matches}) == len(answer.matches)
        for match in answer.matches:
            assert match.key in passing
            assert match.metadata == self.rows[match.key][1]
            true = self.distance(query, match.key)
            assert abs(match.distance - true) <= 1e-9 + 1e-9 * abs(true)
        order = [(m.distance, m.key) for m in answer.matches]
        assert order == sorted(order)

    def check_exact(self, answer, query, k, filter_=None) -> None:
        """No row that was left out is nearer than one that is there."""
        self.check(answer, query, k, filter_)
        true = [distance for distance, _ in self.query(query, k, filter_)]
        np.testing.assert_allclose([m.distance for m in answer.matches], true, 1e-9, 1e-9)

    def check_records(self, records, keys) -> None:
        """Each of the keys that is there, in their order, with vector and metadata."""
        live = self.live()
        assert [record.key for record in records] == [key for key in keys if key in live]
        for record in records:
            self.check_record(record)

    def check_record(self, record) -> None:
        """A record that is there, with its vector and metadata."""
        vector, metadata = self.live()[record.key]
        assert record.metadata == metadata
        np.testing.assert_array_equal(record.vector, vector)
