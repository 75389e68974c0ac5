"""Queries and writes from several clients at once, recorded, and judged against the log replayed.

The load knows nothing of the deployment but its URL. What was right is decided afterwards: the
index's log is read commit by commit into a plain table, and every answer is held against the
table as it was at the snapshot that the answer names.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import urllib3

from squash.clock import SystemIds
from squash.index import catalogue
from squash.index.commits import Commit, DeleteKeys, PutRows, log_key
from squash.storage import ObjectStore, PrefixStore

GROUPS: Final = 8
NUMBERS: Final = 1000
REPEATABLE: Final = frozenset({429, 500, 502, 503, 504})
_ATTEMPTS: Final = 40
_WAIT_S: Final = 0.05
_TOLERANCE: Final = 2e-4


@dataclass(frozen=True)
class Load:
    """What is asked for: so many queries in all, by so many clients, while writers write."""

    index: str
    dimension: int
    queries: int
    readers: int = 3
    writers: int = 2
    writes: int = 100
    exact_share: float = 0.3
    seed: int = 0


@dataclass(frozen=True)
class Asked:
    """One query that was answered."""

    vector: np.ndarray
    filter: Mapping[str, Any] | None
    k: int
    exact: bool
    snapshot: int
    matches: Sequence[Mapping[str, Any]]
    seconds: float


@dataclass(frozen=True)
class Written:
    """One write that was acknowledged."""

    operation: int
    snapshot: int


@dataclass
class Record:
    """What the clients saw."""

    asked: list[Asked] = field(default_factory=list)
    written: list[Written] = field(default_factory=list)
    refused: Counter[int] = field(default_factory=Counter)
    """Answers that said to try again, by status; they were tried again."""
    given_up: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    seconds: float = 0.0


class Client:
    """Speaks to one index by HTTP, and repeats what may be repeated."""

    def __init__(self, url: str, load: Load, record: Record, headers: Mapping[str, str]) -> None:
        self._http = urllib3.PoolManager(retries=False, timeout=60.0, maxsize=1)
        self._url = f"{url}/v1/indexes/{load.index}"
        self._record = record
        self._headers = {"content-type": "application/json", **headers}

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the answer; None if it was refused to the last."""
        said = ""
        for attempt in range(_ATTEMPTS):
            try:
                answer = self._http.request(
                    "POST", self._url + path, body=json.dumps(body).encode(), headers=self._headers
                )
            except urllib3.exceptions.HTTPError as error:
                said = repr(error)
                self._record.refused[0] += 1
            else:
                if answer.status in {200, 202}:
                    return dict(answer.json())
                said = f"{answer.status} {answer.data[:300]!r}"
                if answer.status not in REPEATABLE:
                    self._record.unexpected.append(f"{path}: {said}")
                    return None
                self._record.refused[answer.status] += 1
            time.sleep(_WAIT_S * min(attempt + 1, 20))
        self._record.given_up.append(f"{path}: {said}")
        return None


def metadata_of(number: int, group: int, operation: int) -> dict[str, Any]:
    """Return a row's metadata."""
    return {"number": number, "group": f"g{group}", "operation": operation}


def run(url: str, load: Load, *, headers: Mapping[str, str], stop: threading.Event) -> Record:
    """Put the load on; the answer tells what the clients saw.

    Parameters
    ----------
    url:
        Of the API.
    load:
        What to ask.
    headers:
        With the credential.
    stop:
        Ends it before its time when set.

    """
    record = Record()
    operations = iter(range(1, 1 << 31))
    lock = threading.Lock()
    left = iter(range(load.queries))

    def next_of(numbers: Any) -> int | None:
        with lock:
            return next(numbers, None)

    def read(number: int) -> None:
        rng = np.random.default_rng((load.seed, 1, number))
        client = Client(url, load, record, headers)
        while not stop.is_set() and next_of(left) is not None:
            _ask(client, load, record, rng)

    def write(number: int) -> None:
        rng = np.random.default_rng((load.seed, 2, number))
        client = Client(url, load, record, headers)
        for _ in range(load.writes):
            operation = next_of(operations)
            if stop.is_set() or operation is None:
                return
            _write(client, load, record, rng, writer=number, operation=operation)

    threads = [threading.Thread(target=read, args=(i,)) for i in range(load.readers)]
    threads += [threading.Thread(target=write, args=(i,)) for i in range(load.writers)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    record.seconds = time.perf_counter() - start
    return record


def _ask(client: Client, load: Load, record: Record, rng: np.random.Generator) -> None:
    vector = rng.standard_normal(load.dimension).astype(np.float32)
    kind = rng.integers(3)
    filter_: dict[str, Any] | None = None
    if kind == 1:
        filter_ = {"number": {"$lt": int(rng.integers(1, NUMBERS))}}
    elif kind == 2:
        group = f"g{rng.integers(GROUPS)}"
        filter_ = {"group": group, "number": {"$gte": int(rng.integers(NUMBERS))}}
    k = int(rng.choice([1, 5, 10, 30]))
    exact = bool(rng.random() < load.exact_share)
    body = {"vector": vector.tolist(), "top_k": k, "exact": exact}
    if filter_ is not None:
        body["filter"] = filter_
    start = time.perf_counter()
    answer = client.post("/query", body)
    if answer is not None:
        seconds = time.perf_counter() - start
        record.asked.append(
            Asked(vector, filter_, k, exact, answer["snapshot"], answer["matches"], seconds)
        )


def _write(
    client: Client,
    load: Load,
    record: Record,
    rng: np.random.Generator,
    *,
    writer: int,
    operation: int,
) -> None:
    keys = [f"w{writer}-{rng.integers(200)}" for _ in range(int(rng.integers(1, 6)))]
    keys = list(dict.fromkeys(keys))
    if rng.random() < 0.2:
        # A deletion is named by a record that it puts beside it: there is no other trace of it.
        client.post("/vectors/delete", {"keys": keys[1:] or keys})
    vectors = [
        {
            "key": key,
            "vector": rng.standard_normal(load.dimension).astype(np.float32).tolist(),
            "metadata": metadata_of(
                int(rng.integers(NUMBERS)), int(rng.integers(GROUPS)), operation
            ),
        }
        for key in keys
    ]
    answer = client.post("/vectors", {"vectors": vectors})
    if answer is not None:
        record.written.append(Written(operation, answer["snapshot"]))


@dataclass
class Verdict:
    """What the log says of what the clients saw."""

    answers: int = 0
    wrong: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    recalls: list[float] = field(default_factory=list)
    commits: int = 0


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
    sequence = base_snapshot
    while True:
        while at < len(asked) and asked[at].snapshot == sequence:
            table.judge(asked[at], verdict)
            at += 1
        sequence += 1
        data = log.get(log_key(sequence))
        if data is None:
            break
        verdict.commits += 1
        commit = Commit.from_bytes(data, sequence=sequence, where=log_key(sequence))
        for operation in table.apply(commit):
            put_at.setdefault(operation, sequence)
    verdict.wrong += [f"snapshot {one.snapshot} is not in the log" for one in asked[at:]]
    for one in record.written:
        if put_at.get(one.operation, one.snapshot + 1) > one.snapshot:
            verdict.lost.append(f"operation {one.operation}, answered with {one.snapshot}")
    return verdict


def base(load: Load, rows: int) -> tuple[list[str], np.ndarray, list[dict[str, Any]]]:
    """Return rows to begin with, in some clusters."""
    rng = np.random.default_rng((load.seed, 0))
    centers = 2 * rng.standard_normal((64, load.dimension))
    vectors = centers[rng.integers(64, size=rows)] + rng.standard_normal((rows, load.dimension))
    metadata = [
        metadata_of(int(rng.integers(NUMBERS)), int(rng.integers(GROUPS)), 0) for _ in range(rows)
    ]
    return [f"b{row}" for row in range(rows)], vectors.astype(np.float32), metadata


def every(seconds: float, act: Callable[[], object], stop: threading.Event) -> threading.Thread:
    """Do something again and again until told to stop."""

    def go() -> None:
        while not stop.wait(seconds):
            act()

    thread = threading.Thread(target=go, name=f"every-{SystemIds().new_id()[:4]}", daemon=True)
    thread.start()
    return thread
