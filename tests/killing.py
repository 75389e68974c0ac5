"""Real writers, a folder and readers on one index, killed at random and started again.

    python tests/killing.py --seconds 300 --store folder
    python tests/killing.py --seconds 300 --store s3

Each writer keeps a journal of what it is about to write and of what was acknowledged. In the end
every acknowledged row is held to account, and everything stored is read back. The verdict is
printed as JSON; the exit status is 1 if a row is lost, half of a write was seen, something is
damaged, or a process died of itself.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

import kill_processes
import squash
from endpoint import make_bucket, s3_endpoint
from kill_account import Verdict, judge
from kill_processes import DIMENSION, INDEX, Place, shrink_limits

# Long enough for some writes: a process takes a while to begin, and longer with S3.
_LIFE_S: Final = {"folder": 1.0, "s3": 3.0}
# A machine that has much else to do gets to few kills and writes in the time.
_LONGER: Final = 10


@dataclass
class Role:
    """A process that is killed and started again, and how long it lives on average."""

    name: str
    run: Callable[[int], None]
    life_s: float
    pid: int = 0
    dies_at: float = 0.0


class Killer:
    """Starts processes and ends them without a word."""

    def __init__(self, place: Place, roles: list[Role], seed: int) -> None:
        self.place = place
        self.roles = roles
        self.kills: Counter[str] = Counter()
        self.died: list[str] = []
        self._rng = np.random.default_rng(seed)

    def run(self, seconds: float, enough: Callable[[int], bool]) -> None:
        """Kill for so long, and on until it is enough, with so many kills; and in the end all."""
        end = time.monotonic() + seconds
        try:
            for role in self.roles:
                self._start(role)
            self._run_until(end)
            while not enough(self.kills.total()) and time.monotonic() < end + _LONGER * seconds:
                self._run_until(time.monotonic() + 1.0)
        finally:
            for role in self.roles:
                self._kill(role)

    def _run_until(self, end: float) -> None:
        while time.monotonic() < end:
            role = min(self.roles, key=lambda one: one.dies_at)
            time.sleep(max(0.0, min(role.dies_at, end) - time.monotonic()))
            if role.dies_at < end:
                self._kill(role)
                self._start(role)

    def _start(self, role: Role) -> None:
        seed = int(self._rng.integers(1 << 31))
        role.dies_at = time.monotonic() + float(self._rng.exponential(role.life_s))
        role.pid = os.fork()
        if role.pid == 0:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            _live(role, seed, self.place.folder)

    def _kill(self, role: Role) -> None:
        if not role.pid:
            return
        pid, role.pid = role.pid, 0
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
            self.kills[role.name.rstrip("0123456789")] += 1
        else:
            said = self.place.folder / f"{pid}.died"
            self.died.append(f"{role.name}: {said.read_text() if said.exists() else status}")


def _live(role: Role, seed: int, folder: Path) -> None:
    """Be a process until killed; what else ends it is written down."""
    try:
        role.run(seed)
    except BaseException:  # noqa: BLE001 - all that ends it is of interest
        (folder / f"{os.getpid()}.died").write_text(traceback.format_exc())
    finally:
        os._exit(3)


def kill_for(
    seconds: float,
    place: Place,
    *,
    store: str,
    readers: int,
    life_s: float,
    seed: int,
    kills: int = 0,
    writes: int = 0,
) -> Verdict:
    """Make an index, let it be written, folded and read by processes that die, and judge it."""
    shrink_limits()
    squash.connect(place.location, endpoint_url=place.endpoint_url).create_index(
        INDEX, dimension=DIMENSION, metric="euclidean"
    )
    roles = [
        Role(f"writer{n}", lambda seed, n=n: kill_processes.write(place, n, seed), life_s)
        for n in range(place.writers)
    ]
    roles.append(Role("folder", lambda seed: kill_processes.fold(place, seed), 1.5 * life_s))
    roles += [
        Role(f"reader{n}", lambda seed, n=n: kill_processes.read(place, n, seed), 5.0 * life_s)
        for n in range(readers)
    ]
    killer = Killer(place, roles, seed)
    start = time.monotonic()
    killer.run(seconds, lambda killed: killed >= kills and _acknowledged(place) >= writes)
    verdict = Verdict(
        store=store,
        seconds=round(time.monotonic() - start, 1),
        kills=dict(killer.kills),
        died=killer.died,
    )
    return judge(place, verdict)


def _acknowledged(place: Place) -> int:
    """Return how many writes were answered by now."""
    journals = [place.journal(f"writer{number}") for number in range(place.writers)]
    lines = [line for one in journals if one.exists() for line in one.read_bytes().splitlines()]
    return sum(b'"ok"' in line for line in lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--store", choices=("folder", "s3"), default="folder")
    parser.add_argument("--ministack", action="store_true", help="instead of moto")
    parser.add_argument("--writers", type=int, default=3)
    parser.add_argument("--readers", type=int, default=1)
    parser.add_argument("--life", type=float, help="of a writer, in seconds on average")
    parser.add_argument("--kills", type=int, default=0, help="go on until there are so many")
    parser.add_argument("--writes", type=int, default=0, help="that were acknowledged, likewise")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    given = parser.parse_args()
    # So that what is started here ends with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    sys.stderr.write(f"seed {given.seed}\n")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="squash-kill-")))
        location, url = str(folder / "store"), None
        if given.store == "s3":
            url = stack.enter_context(s3_endpoint(ministack=given.ministack))
            make_bucket(url, "killing")
            location = "s3://killing/some/prefix"
        place = Place(location, folder, given.writers, url)
        verdict = kill_for(
            given.seconds,
            place,
            store=given.store,
            readers=given.readers,
            life_s=given.life or _LIFE_S[given.store],
            seed=given.seed,
            kills=given.kills,
            writes=given.writes,
        )
    sys.stdout.write(json.dumps(verdict.as_json(), indent=2) + "\n")
    return 0 if verdict.good() else 1


if __name__ == "__main__":
    sys.exit(main())
