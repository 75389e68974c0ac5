"""What the log says of what clients saw: it is replayed into a plain table, commit by commit.

Every answer is held against the table as it was at the snapshot that the answer names, and every
acknowledged write must be in the log by the snapshot that it was answered with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from soaking import Asked, Load, Record
from squash.index import catalogue
from squash.index.commits import Commit, DeleteKeys, PutRows, Replace, log_key
from squash.storage import ObjectStore, PrefixStore

_TOLERANCE: Final = 2e-4


@dataclass
class Verdict:
    """What the log says of what the clients saw."""

    answers: int = 0
    wrong: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    recalls: list[float] = field(default_factory=list)
    commits: int = 0
    folds: int = 0


class Table:
    """The index as a plain table."""

    def __init__(self, keys: Sequence[str], vectors: np.ndarray, rows: Sequence[Any]) -> None:
        room = len(keys) + 4096
        self.rows = {key: row for row, key in enumerate(keys)}
        self.vectors = np.zeros((room, vectors.shape[1]))
        self.vectors[: len(keys)] = vectors
        self.alive = np.zeros(room, dtype=bool)
        self.number = np.zeros(room)
        self.group = np.full(room, "", dtype="U8")
        self.operation = np.zeros(room, dtype=np.int64)
        for row, metadata in enumerate(rows):
            self._set(row, vectors[row], metadata)

    def apply(self, commit: Commit) -> set[int]:
        """Apply a commit; return the operations that it put."""
        operation = commit.operation
        if isinstance(operation, DeleteKeys):
            for key in operation.keys:
                if key in self.rows:
                    self.alive[self.rows[key]] = False
        if not isinstance(operation, PutRows):
            return set()
        rows = operation.rows
        for key, vector, metadata in zip(rows.keys, rows.vectors, rows.metadata, strict=True):
            self._set(self.rows.setdefault(key, len(self.rows)), vector, metadata)
        return {int(metadata["operation"]) for metadata in rows.metadata}

    def _set(self, row: int, vector: np.ndarray, metadata: Mapping[str, Any]) -> None:
        self.vectors[row] = vector
        self.alive[row] = True
        self.number[row] = metadata["number"]
        self.group[row] = metadata["group"]
        self.operation[row] = metadata["operation"]

    def has(self, key: str) -> bool:
        """Tell whether there is a record of a key."""
        return key in self.rows and bool(self.alive[self.rows[key]])

    def passing(self, filter_: Mapping[str, Any] | None) -> np.ndarray:
        """Return the rows that live and pass."""
        mask = self.alive.copy()
        for name, test in (filter_ or {}).items():
            if name == "group":
                mask &= self.group == test
            elif "$lt" in test:
                mask &= self.number < test["$lt"]
            else:
                mask &= self.number >= test["$gte"]
        return np.flatnonzero(mask)

    def judge(self, asked: Asked, verdict: Verdict) -> None:
        """Hold an answer against the table as it is now."""
        rows = self.passing(asked.filter)
        distances = np.linalg.norm(self.vectors[rows] - asked.vector.astype(np.float64), axis=1)
        by_row = dict(zip(rows.tolist(), distances.tolist(), strict=True))
        count = min(asked.k, len(rows))
        problems = []
        if asked.snapshot < asked.at_least:
            problems.append(f"{asked.at_least} had been answered before")
        given = [float(match["distance"]) for match in asked.matches]
        if len(given) != count:
            problems.append(f"{len(given)} matches where {count} pass")
        if given != sorted(given):
            problems.append("not in order")
        for match, distance in zip(asked.matches, given, strict=True):
            row = self.rows.get(match["key"], -1)
            if row not in by_row:
                problems.append(f"{match['key']} does not live or pass")
                continue
            if abs(by_row[row] - distance) > _TOLERANCE * max(1.0, distance):
                problems.append(f"{match['key']} at {distance}, not {by_row[row]}")
            if match["metadata"]["operation"] != self.operation[row]:
                problems.append(f"{match['key']} with another version's metadata")
        if len({match["key"] for match in asked.matches}) != len(given):
            problems.append("a key twice")
        if count and not problems:
            nearest = np.sort(distances)[:count]
            near = sum(d <= nearest[-1] * (1 + _TOLERANCE) + _TOLERANCE for d in given)
            if asked.exact and near < count:
                problems.append(f"exact, but {count - near} of {count} are not the nearest")
            if not asked.exact:
                verdict.recalls.append(near / count)
        verdict.answers += 1
        if problems:
            verdict.wrong.append(f"snapshot {asked.snapshot}, {asked.filter}: {problems}")


def judge(
    store: ObjectStore, load: Load, record: Record, table: Table, *, base_snapshot: int
) -> Verdict:
    """Replay the log and judge what the clients saw.

    Parameters
    ----------
    store:
        Where the indexes lie, without faults.
    load, record:
        What was asked, and what came.
    table:
        The index at `base_snapshot`.
    base_snapshot:
        What was there before the load.

    """
    verdict = Verdict()
    log = PrefixStore(store, catalogue.load(store, load.index).prefix)
    asked = sorted(record.asked, key=lambda one: one.snapshot)
    at = 0
    put_at: dict[int, int] = {}
    deleted_at: dict[int, list[str]] = {}
    for one in record.deleted:
        deleted_at.setdefault(one.snapshot, []).extend(one.keys)
    sequence = base_snapshot
    while True:
        while at < len(asked) and asked[at].snapshot == sequence:
            table.judge(asked[at], verdict)
            at += 1
        verdict.lost += [
            f"deletion of {key}, answered with {sequence}"
            for key in deleted_at.pop(sequence, [])
            if table.has(key)
        ]
        sequence += 1
        data = log.get(log_key(sequence))
        if data is None:
            break
        verdict.commits += 1
        commit = Commit.from_bytes(data, sequence=sequence, where=log_key(sequence))
        verdict.folds += isinstance(commit.operation, Replace)
        for operation in table.apply(commit):
            put_at.setdefault(operation, sequence)
    verdict.wrong += [f"snapshot {one.snapshot} is not in the log" for one in asked[at:]]
    verdict.lost += [f"deletion answered with {one}, not in the log" for one in deleted_at]
    for written in record.written:
        if put_at.get(written.operation, written.snapshot + 1) > written.snapshot:
            verdict.lost.append(f"operation {written.operation}, answered with {written.snapshot}")
    return verdict
