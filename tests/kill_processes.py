"""What the processes do that are killed: write and keep a journal, fold, read.

A journal is a file of lines of JSON, each brought to the disk before the work goes on: what is
about to be done, and then that it was answered. A line that was cut off was never written.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

import squash
from squash.clock import SystemIds
from squash.database import Index
from squash.errors import (
    CommitUnknownError,
    ConflictError,
    NotFoundError,
    SquashError,
    ThrottledError,
    UnavailableError,
)
from squash.maintain import BuildOptions

INDEX: Final = "killed"
DIMENSION: Final = 4
OWN_KEYS: Final = 60
GROUP_KEYS: Final = 6
SHARED_KEYS: Final = 10
OPTIONS: Final = BuildOptions(
    partition_rows_target=40,
    partition_rows_max=80,
    cluster_rows_target=10,
    calibration_queries=20,
    exact_rows_max=16,
)
_LIMITS: Final = {
    "squash.index.log.SNAPSHOT_EVERY_COMMITS": 12,
    "squash.index.opening.SNAPSHOT_EVERY_COMMITS": 12,
    "squash.index.writer.INLINE_COMMIT_ROWS_MAX": 32,
    "squash.index.writer.FLAT_SEGMENT_ROWS_MAX": 24,
    "squash.index.fresh.FLATTEN_COMMITS": 11,
    "squash.index.fresh.FLATTEN_AGAIN_COMMITS": 8,
    # Collection relies on these being far apart: hours there, seconds here.
    "squash.index.opening.STALE_AFTER_MS": 5_000,
    "squash.index.writer.COMMIT_WITHIN_MS": 10_000,
    "squash.maintain.gc.GC_RETENTION_S_MIN": 1,
    "squash.maintain.gc.GC_GRACE_MS": 40_000,
}
RETENTION_S: Final = 40
_BACK_MIN: Final = 20


@dataclass(frozen=True)
class Place:
    """Where the index and the journals are."""

    location: str
    folder: Path
    writers: int
    endpoint_url: str | None = None

    def open(self) -> Index:
        return squash.connect(self.location, endpoint_url=self.endpoint_url).index(INDEX)

    def journal(self, name: str) -> Path:
        return self.folder / f"{name}.jsonl"


def shrink_limits() -> None:
    """Let snapshots and segments be small, so that there are many to be killed in."""
    import importlib

    for name, value in _LIMITS.items():
        module, _, attribute = name.rpartition(".")
        vars(importlib.import_module(module))[attribute] = value


class Journal:
    """One process's, over all its lives."""

    def __init__(self, path: Path) -> None:
        path.touch()
        whole = path.read_bytes()
        # What was cut off is taken away, or the next line would be part of it.
        kept = whole[: whole.rfind(b"\n") + 1]
        self._file = os.open(path, os.O_WRONLY)
        os.ftruncate(self._file, len(kept))
        os.lseek(self._file, 0, os.SEEK_END)

    def write(self, **line: Any) -> None:
        os.write(self._file, json.dumps(line).encode() + b"\n")
        os.fsync(self._file)


def read_journal(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines that were written whole."""
    if path.exists():
        for line in path.read_bytes().split(b"\n")[:-1]:
            yield json.loads(line)


def own_keys(writer: int) -> list[str]:
    return [f"w{writer}.own{i}" for i in range(OWN_KEYS)]


def group_keys(writer: int) -> list[str]:
    """Keys that are always put together and deleted together."""
    return [f"w{writer}.group{i}" for i in range(GROUP_KEYS)]


SHARED: Final = [f"shared{i}" for i in range(SHARED_KEYS)]


def vectors_of(keys: Sequence[str], writer: int, op: int) -> np.ndarray:
    """Return vectors that tell who wrote them and when."""
    return np.array([[writer + 1, op, i, 1] for i in range(len(keys))], dtype=np.float32)


def metadata_of(keys: Sequence[str], writer: int, op: int) -> list[dict[str, Any]]:
    kinds = [key.split(".")[-1].rstrip("0123456789") for key in keys]
    return [{"writer": writer, "op": op, "place": i, "kind": kind} for i, kind in enumerate(kinds)]


def check_record(vector: Any, metadata: dict[str, Any]) -> str | None:
    """Say what is wrong with a record whose two halves do not fit each other."""
    expected = [metadata["writer"] + 1, metadata["op"], metadata["place"], 1]
    if np.asarray(vector).tolist() == expected:
        return None
    return f"vector {np.asarray(vector).tolist()} beside {metadata}"


# Writers


def write(place: Place, writer: int, seed: int) -> None:
    """Write until killed."""
    rng = np.random.default_rng(seed)
    path = place.journal(f"writer{writer}")
    lines = list(read_journal(path))
    journal = Journal(path)
    index, ids = place.open(), SystemIds()
    begun = [line for line in lines if "do" in line]
    op = begun[-1]["op"] if begun else 0
    if begun and begun[-1]["do"] != "put shared" and rng.random() < 0.5 and not _answered(lines):
        # To repeat what was begun, by its commit id, is harmless, whether it happened or not.
        _carry_out(index, journal, writer, begun[-1], again=True)
    while True:
        op += 1
        intent = _choose(rng, writer, op) | {"op": op, "commit": ids.new_id()}
        journal.write(**intent)
        _carry_out(index, journal, writer, intent)
        if rng.random() < 0.2:
            _read_own(index, journal, intent)


def _answered(lines: Sequence[dict[str, Any]]) -> bool:
    return "do" not in lines[-1]


def _choose(rng: np.random.Generator, writer: int, op: int) -> dict[str, Any]:
    chance = rng.random()
    own = own_keys(writer)
    some = [own[i] for i in rng.choice(OWN_KEYS, size=rng.integers(1, 9), replace=False)]
    if chance < 0.45:
        return {"do": "put", "keys": some}
    if chance < 0.60:
        return {"do": "put", "keys": group_keys(writer)}
    if chance < 0.70:
        shared = rng.choice(SHARED_KEYS, size=rng.integers(1, 4), replace=False)
        return {"do": "put shared", "keys": [SHARED[i] for i in shared]}
    if chance < 0.75:
        return {"do": "put", "keys": own}
    if chance < 0.80:
        return {"do": "put if absent", "keys": some[:2]}
    if chance < 0.85:
        return {"do": "patch", "keys": some[:1]}
    if chance < 0.93:
        return {"do": "delete", "keys": some}
    if chance < 0.96:
        return {"do": "delete", "keys": group_keys(writer)}
    return {"do": "delete where", "below": op - _BACK_MIN - int(rng.integers(_BACK_MIN))}


def _carry_out(
    index: Index, journal: Journal, writer: int, intent: dict[str, Any], *, again: bool = False
) -> None:
    """Do it until it is answered; then write that down. A refusal is an answer too.

    One that comes to a repeated call may be of a call that was done: its id is remembered for some
    hundred commits.
    """
    waited = 0
    while True:
        try:
            snapshot = _call(index, writer, intent)
        except (ConflictError, NotFoundError) as error:
            sure = not again and not waited
            journal.write(op=intent["op"], refused=type(error).__name__, sure=sure)
            return
        except (CommitUnknownError, ThrottledError, UnavailableError):
            waited += 1
            time.sleep(min(0.05 * waited, 1.0))
        else:
            journal.write(op=intent["op"], ok=snapshot, repeated=waited)
            return


def _call(index: Index, writer: int, intent: dict[str, Any]) -> int:
    op = intent["op"]
    match intent["do"]:
        case "put" | "put shared":
            keys = intent["keys"]
            return index.put(
                keys=keys,
                vectors=vectors_of(keys, writer, op),
                metadata=metadata_of(keys, writer, op),
                commit_id=intent["commit"],
            ).snapshot
        case "put if absent":
            keys = intent["keys"]
            return index.put(
                keys=keys,
                vectors=vectors_of(keys, writer, op),
                metadata=metadata_of(keys, writer, op),
                if_absent=True,
                commit_id=intent["commit"],
            ).snapshot
        case "patch":
            patches = [{"patched": op}] * len(intent["keys"])
            return index.patch(
                keys=intent["keys"], metadata=patches, commit_id=intent["commit"]
            ).snapshot
        case "delete":
            return index.delete(keys=intent["keys"], commit_id=intent["commit"]).snapshot
        case "delete where":
            kinds = {"$in": ["own", "group"]}
            filter_ = {"writer": writer, "op": {"$lt": intent["below"]}, "kind": kinds}
            return index.delete(filter=filter_, commit_id=intent["commit"]).snapshot
        case other:
            raise ValueError(other)


def _read_own(index: Index, journal: Journal, intent: dict[str, Any]) -> None:
    """Who was answered sees what it wrote."""
    if intent["do"] not in {"put", "delete"}:
        return
    found = index.get(keys=intent["keys"])
    ops = {record.metadata["op"] for record in found}
    if intent["do"] == "put":
        right = ops == {intent["op"]} and len(found) == len(intent["keys"])
    else:
        right = not found
    if not right:
        journal.write(wrong=f"after {intent} was answered, {ops} were read")


# Folders and readers


def fold(place: Place, seed: int) -> None:
    """Fold until killed."""
    rng = np.random.default_rng(seed)
    journal = Journal(place.journal("folder"))
    index = place.open()
    while True:
        try:
            if rng.random() < 0.2:
                journal.write(collected=index.gc(RETENTION_S).total.objects)
            else:
                folded = index.optimize(options=OPTIONS, full=bool(rng.random() < 0.2))
                journal.write(folded=folded.snapshot)
        except (ConflictError, CommitUnknownError, ThrottledError, UnavailableError) as error:
            journal.write(refused=type(error).__name__)
        time.sleep(rng.exponential(0.1))


def read(place: Place, number: int, seed: int) -> None:
    """Read until killed: what is put together is seen together, and time does not go back."""
    rng = np.random.default_rng(seed)
    journal = Journal(place.journal(f"reader{number}"))
    index = place.open()
    newest, reads = 0, 0
    while True:
        writer = int(rng.integers(place.writers))
        try:
            newest = _look(index, journal, rng, writer, newest)
        except (ThrottledError, UnavailableError) as error:
            journal.write(refused=type(error).__name__)
        except SquashError as error:
            journal.write(wrong=f"{type(error).__name__}: {error}")
        reads += 1
        if reads % 10 == 0:
            journal.write(reads=10)


def _look(
    index: Index, journal: Journal, rng: np.random.Generator, writer: int, newest: int
) -> int:
    if rng.random() < 0.5:
        found = index.get(keys=group_keys(writer))
        rows = [(record.vector, record.metadata) for record in found]
    else:
        answer = index.query(
            rng.normal(size=DIMENSION),
            top_k=100,
            filter={"writer": writer, "kind": "group"},
            exact=bool(rng.random() < 0.5),
            consistency="eventual" if rng.random() < 0.5 else "strong",
            include=("metadata", "vector"),
        )
        rows = [(match.vector, match.metadata) for match in answer.matches]
        if answer.snapshot < newest:
            journal.write(wrong=f"snapshot {answer.snapshot} was read after {newest}")
        newest = answer.snapshot
    ops = {metadata["op"] for _, metadata in rows}
    if len(rows) not in {0, GROUP_KEYS} or len(ops) > 1:
        journal.write(wrong=f"half of a write was seen: {len(rows)} rows of {ops}")
    for vector, metadata in rows:
        problem = check_record(vector, metadata)
        if problem:
            journal.write(wrong=problem)
    return newest
