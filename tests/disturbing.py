"""The local cloud under load and disturbed: containers die, S3 fails, answers are late or lost."""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import urllib3

from deployed import Deployed
from soak_verdict import Table, Verdict, judge
from soaking import Load, Record, base, every, run
from squash.local import Fault, FaultKind
from squash.maintain import BuildOptions
from squash.model import RowBatch

FAULTS: Final = (
    Fault(FaultKind.S3_FAIL, share=0.01, seed=1),
    Fault(FaultKind.S3_DELAY, share=0.03, seed=2, delay_ms=80),
    Fault(FaultKind.S3_DROP, share=0.005, seed=3),
    Fault(FaultKind.THROTTLE, share=0.01, seed=4),
    Fault(FaultKind.DELAY, share=0.02, seed=5, delay_ms=150),
    Fault(FaultKind.DROP, share=0.005, seed=6),
)
_LOOK_EVERY_S: Final = 1.0
# A fold takes many times as long as other calls: killed as often, none would come to its end.
_COMPACTOR_KILL_SHARE: Final = 0.1


@dataclass(frozen=True)
class Disturbance:
    """What goes wrong, and how often."""

    seconds: float
    faults: Sequence[Fault] = FAULTS
    kill_every_s: float = 2.0
    fold_every_s: float = 20.0
    seed: int = 0


@dataclass
class Soaked:
    """What came of it."""

    record: Record
    verdict: Verdict
    killed: Counter[str] = field(default_factory=Counter)
    folds: Counter[str] = field(default_factory=Counter)
    """Folds that were asked for, by what was answered."""
    memory: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    """By function: seconds since the start, and MB of one of its containers."""


def soak(place: Deployed, load: Load, disturbance: Disturbance, *, rows: int) -> Soaked:
    """Make an index, put the load on while it is disturbed, and judge every answer.

    Parameters
    ----------
    place:
        With S3 behind the proxy.
    load:
        What is asked for.
    disturbance:
        What goes wrong, and when the load ends at the latest.
    rows:
        How many there are to begin with, in some sixteen partitions.

    """
    keys, vectors, metadata = base(load, rows)
    index = place.database().create_index(load.index, dimension=load.dimension, metric="euclidean")
    index.import_batches([RowBatch(keys, vectors, metadata)])
    index.optimize(
        options=BuildOptions(
            partition_rows_target=max(rows // 16, 256), cluster_rows_target=128, exact_rows_max=512
        )
    )
    began = index.stats().snapshot
    soaked = _disturbed(place, load, disturbance)
    place.cloud.set_faults(())
    place.cloud.settle()
    table = Table(keys, vectors, metadata)
    soaked.verdict = judge(place.store(), load, soaked.record, table, base_snapshot=began)
    damages = place.database().index(load.index).verify().damages
    soaked.verdict.wrong += [str(damage) for damage in damages]
    return soaked


def _disturbed(place: Deployed, load: Load, disturbance: Disturbance) -> Soaked:
    cloud = place.cloud
    stop, quiet = threading.Event(), threading.Event()
    rng = np.random.default_rng(disturbance.seed)
    killed: Counter[str] = Counter()
    folds: Counter[str] = Counter()
    memory: dict[str, list[tuple[float, float]]] = defaultdict(list)
    start = time.perf_counter()

    def kill() -> None:
        living = cloud.containers()
        if rng.random() >= _COMPACTOR_KILL_SHARE:
            living = [one for one in living if not one["function"].endswith("-compactor")]
        if living:
            one = living[int(rng.integers(len(living)))]
            killed[one["function"]] += cloud.kill(one["function"], container=one["name"])

    def look() -> None:
        passed = time.perf_counter() - start
        for one in cloud.containers():
            memory[one["function"]].append((passed, one["memory_mb"]))
        if passed > disturbance.seconds:
            stop.set()

    cloud.set_faults(disturbance.faults)
    threads = [
        every(disturbance.kill_every_s, kill, quiet),
        every(_LOOK_EVERY_S, look, quiet),
        every(disturbance.fold_every_s, lambda: folds.update([_fold(place, load)]), quiet),
    ]
    record = run(place.url, load, headers={}, stop=stop)
    quiet.set()
    for thread in threads:
        thread.join()
    return Soaked(record, Verdict(), killed, folds, dict(memory))


def _fold(place: Deployed, load: Load) -> str:
    """Ask for a fold, as a person would; it may be refused."""
    headers: dict[str, Any] = {"content-type": "application/json"}
    url = f"{place.url}/v1/indexes/{load.index}/optimize"
    try:
        answer = urllib3.request("POST", url, headers=headers, retries=False, timeout=60.0)
    except urllib3.exceptions.HTTPError as error:
        return type(error).__name__
    return str(answer.status)
