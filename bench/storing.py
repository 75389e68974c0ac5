"""Peers' indexes on disk: built once in a child process, with what the building took."""

from __future__ import annotations

import one_thread  # noqa: F401  # isort: skip - a child imports this first, before NumPy

import json
import multiprocessing
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

from contest import Contestant, Cost
from data import load
from judging import Points
from report import told
from resident import AnonymousPeak, anonymous_bytes

_ABOUT: Final = "about.json"


@dataclass(frozen=True, slots=True)
class Built:
    """An index in a folder, and what it took to build."""

    folder: Path
    build_cpu_s: float
    build_anonymous_bytes: float
    stored_bytes: int

    def cost(self, bytes_per_row: float) -> Cost:
        """Return the same, with what a query may read."""
        return Cost(self.build_cpu_s, self.build_anonymous_bytes, bytes_per_row)


@dataclass(frozen=True, slots=True)
class Maker:
    """How a peer is built and opened; both functions stand in a module, so that a child finds them.

    `fill` writes an index of points into a folder, on one thread; `open` makes a contestant of it.
    """

    name: str
    package: str
    fill: Callable[[Points, Path], None]
    open: Callable[[Points, Built], Contestant]


def build(maker: Maker, data: str, limit: int | None, folder: Path) -> Built:
    """Return a peer's index in a folder, building it where it is not there or of another version.

    It is built in a process of its own, so that its CPU time and memory are its own, and takes its
    name only when it is whole.
    """
    wanted = version(maker.package)
    about = folder / _ABOUT
    if not about.exists() or json.loads(about.read_text())["version"] != wanted:
        told(f"building {maker.name}")
        context = multiprocessing.get_context("spawn")
        scratch = folder.with_name(f"{folder.name}.part")
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        child = context.Process(target=_fill, args=(maker, data, limit, scratch, wanted))
        child.start()
        child.join()
        if child.exitcode:
            raise RuntimeError(f"building {maker.name} ended with {child.exitcode}")
        shutil.rmtree(folder, ignore_errors=True)
        scratch.rename(folder)
    known = json.loads(about.read_text())
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return Built(folder, known["cpu_s"], known["anonymous_bytes"], size - about.stat().st_size)


def _fill(maker: Maker, data: str, limit: int | None, scratch: Path, wanted: str) -> None:
    known = load(data, limit=limit)
    points = Points.of(known.vectors, known.metric)
    before = anonymous_bytes()
    with AnonymousPeak() as memory:
        start = time.process_time()
        maker.fill(points, scratch)
        spent = time.process_time() - start
    about = {
        "cpu_s": spent,
        "anonymous_bytes": memory.peak_bytes - before,
        "version": wanted,
    }
    (scratch / _ABOUT).write_text(json.dumps(about))
