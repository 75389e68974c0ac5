"""Queries and writes from several clients at once, by HTTP, and a record of what they saw.

The load knows nothing of the deployment but its URL. What was right is decided afterwards, by
`soak_verdict`.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

import numpy as np
import urllib3

from squash.clock import SystemIds

GROUPS: Final = 8
NUMBERS: Final = 1000
_REPEATABLE: Final = frozenset({429, 503})
_GATEWAY_REPEATABLE: Final = frozenset({500, 503})
_PROBLEM: Final = "application/problem+json"
_ATTEMPTS: Final = 40
_WAIT_S: Final = 0.05
_DELETE_SHARE: Final = 0.2


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
    at_least: int
    """The latest snapshot that any client knew of when it asked."""
    snapshot: int
    matches: Sequence[Mapping[str, Any]]
    seconds: float


@dataclass(frozen=True)
class Written:
    """One put that was acknowledged."""

    operation: int
    snapshot: int


@dataclass(frozen=True)
class Deleted:
    """One deletion that was acknowledged."""

    keys: Sequence[str]
    snapshot: int


@dataclass
class Record:
    """What the clients saw."""

    asked: list[Asked] = field(default_factory=list)
    written: list[Written] = field(default_factory=list)
    deleted: list[Deleted] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    """What said to try again, and was tried again: by the problem's type, or who else said it."""
    latest: int = 0
    given_up: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    seconds: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def known(self, snapshot: int) -> int:
        """Note that a write was answered with a snapshot: who asks from now on sees it."""
        with self._lock:
            self.latest = max(self.latest, snapshot)
        return snapshot


class Client:
    """Speaks to one index by HTTP, and repeats what may be repeated."""

    def __init__(self, url: str, load: Load, record: Record, headers: Mapping[str, str]) -> None:
        self._http = urllib3.PoolManager(retries=False, timeout=60.0, maxsize=1)
        self._url = f"{url}/v1/indexes/{load.index}"
        self._record = record
        self._headers = {"content-type": "application/json", **headers}

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the answer; None if it was refused to the last."""
        said, sent = "", dict(body)
        for attempt in range(_ATTEMPTS):
            try:
                answer = self._http.request(
                    "POST", self._url + path, body=json.dumps(sent).encode(), headers=self._headers
                )
            except urllib3.exceptions.HTTPError as error:
                said = repr(error)
                self._record.refused["connection"] += 1
            else:
                if answer.status == HTTPStatus.OK:
                    return dict(answer.json())
                said = f"{answer.status} {answer.data[:300]!r}"
                if not self._may_repeat(answer, sent, path):
                    self._record.unexpected.append(f"{path}: {said}")
                    return None
            time.sleep(_WAIT_S * min(attempt + 1, 20))
        self._record.given_up.append(f"{path}: {said}")
        return None

    def _may_repeat(
        self, answer: urllib3.BaseHTTPResponse, sent: dict[str, Any], path: str
    ) -> bool:
        """Tell whether an answer says to try again; what it wants said then, is said."""
        if answer.headers.get("content-type") != _PROBLEM:
            # The gateway's own words: the function's container died, or is refused.
            self._record.refused[f"gateway {answer.status}"] += 1
            return answer.status in _GATEWAY_REPEATABLE
        problem = answer.json()
        self._record.refused[problem["type"]] += 1
        if path == "/vectors" and "commit_id" in problem:
            sent["commit_id"] = problem["commit_id"]
        return answer.status in _REPEATABLE


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
    at_least = record.latest
    start = time.perf_counter()
    answer = client.post("/query", body)
    if answer is not None:
        seconds = time.perf_counter() - start
        snapshot, matches = answer["snapshot"], answer["matches"]
        record.asked.append(Asked(vector, filter_, k, exact, at_least, snapshot, matches, seconds))


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
    if rng.random() < _DELETE_SHARE:
        doomed = keys[1:] or keys
        answer = client.post("/vectors/delete", {"keys": doomed})
        if answer is not None:
            record.deleted.append(Deleted(doomed, record.known(answer["snapshot"])))
        keys = keys[:1]
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
        record.written.append(Written(operation, record.known(answer["snapshot"])))


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
