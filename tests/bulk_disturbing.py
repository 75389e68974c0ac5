"""A bulk build run by the state machine of a local cloud, its functions killed in every stage."""

from __future__ import annotations

import hashlib
import json
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final, Self

import numpy as np

from squash.database import Index
from squash.local import Fault, FaultKind, LocalCloud
from squash.storage import ObjectStore

BUILDER: Final = "squash-builder"
ENDED: Final = frozenset({"published", "failed", "stopped", "cancelled"})
KEPT: Final = ("segments/", "trained/")
"""What a build leaves for good, below an index's prefix."""
_LOOK_S: Final = 0.02
_ARMED_MAX: Final = 4
_MAPPED_KILLS: Final = 2


def ask(url: str, method: str, path: str, body: Any = None, *, seconds: float = 60) -> Any:
    """Send JSON to the HTTP API; returns its answer."""
    request = urllib.request.Request(  # noqa: S310 - loopback
        url + path,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=seconds) as answer:  # noqa: S310
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise AssertionError(f"{method} {path}: {error.code} {error.read()!r}") from error


def wait_for_build(
    url: str,
    index: str,
    build: str,
    *,
    seconds: float,
    every_s: float = 0.5,
    told: Callable[[Mapping[str, Any]], None] = lambda status: None,
) -> dict[str, Any]:
    """Poll a build's status until it has ended; returns the last one."""
    deadline = time.monotonic() + seconds
    while True:
        status: dict[str, Any] = ask(url, "GET", f"/v1/indexes/{index}/builds/{build}")
        told(status)
        if status["state"] in ENDED:
            return status
        assert time.monotonic() < deadline, f"still running after {seconds} s: {status}"
        time.sleep(every_s)


class StageKiller:
    """Kills containers of the builder in each stage of a build, as long as a `with` block lasts.

    A stage is known to run once its items are listed. The first call after that is killed, and of
    a stage of many tasks another one, each after a delay drawn at random. Where a call was quicker
    than that the next one is killed sooner.

    Parameters
    ----------
    cloud:
        Where the builder runs.
    store:
        The objects below the index's prefix.
    build:
        Its id.
    seed:
        Of the delays.
    delay_ms_max:
        The longest of them.

    """

    def __init__(
        self, cloud: LocalCloud, store: ObjectStore, build: str, *, seed: int, delay_ms_max: float
    ) -> None:
        self.kills: Counter[str] = Counter()
        """How many containers were killed in each stage."""
        self.problem: Exception | None = None
        self._cloud = cloud
        self._store = store
        self._items = f"builds/{build}/items/"
        self._rng = np.random.default_rng(seed)
        self._delay_ms_max = delay_ms_max
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="killer")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()
        self._cloud.set_faults([])

    def _run(self) -> None:
        try:
            self._watch()
        except Exception as error:  # noqa: BLE001 - it is raised where the killer is asked
            self.problem = error

    def _watch(self) -> None:
        seen: set[str] = set()
        stage, armed, delay_ms, counted = "", 0, 0.0, self._killed()
        while not self._ended.is_set():
            opened = {info.key.removeprefix(self._items) for info in self._store.list(self._items)}
            killed = self._killed()
            if stage:
                self.kills[stage] += killed - counted
            counted = killed
            for fresh in sorted(opened - seen):
                stage, armed = fresh, 0
                delay_ms = self._rng.uniform(0, self._delay_ms_max)
            seen |= opened
            idle = not self._cloud.faults()
            if stage and idle and not self.kills[stage] and armed < _ARMED_MAX:
                count = 1 if armed else _MAPPED_KILLS
                self._cloud.set_faults(
                    [Fault(FaultKind.KILL, target="*builder*", count=count, delay_ms=delay_ms)]
                )
                armed, delay_ms = armed + 1, delay_ms / 4
            self._ended.wait(_LOOK_S)

    def _killed(self) -> int:
        return int(self._cloud.stats()["functions"][BUILDER]["killed"])


def kept_objects(store: ObjectStore, prefixes: tuple[str, ...] = KEPT) -> dict[str, str]:
    """Return a digest of every object that a build leaves, by its key."""
    return {
        info.key: hashlib.sha256(bytes(store.get(info.key) or b"")).hexdigest()
        for prefix in prefixes
        for info in store.list(prefix)
    }


def reports(store: ObjectStore, build: str) -> dict[str, list[dict[str, Any]]]:
    """Return what the tasks of a build reported, by stage."""
    found: dict[str, list[dict[str, Any]]] = {}
    prefix = f"builds/{build}/done/"
    for info in store.list(prefix):
        stage = info.key.removeprefix(prefix).rpartition("-")[0]
        found.setdefault(stage, []).append(json.loads(bytes(store.get(info.key) or b"{}")))
    return found


def store_of(index: Index) -> ObjectStore:
    """Return the objects below an index's own prefix."""
    return index.bulk_builds()._store
