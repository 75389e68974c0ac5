"""Building a Squash index in a process of its own, so that its CPU time and memory are its own."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np

import squash
from data import Dataset, load
from report import told
from resident import AnonymousPeak, resident_peak_bytes
from squash.model import RowBatch
from workload import uniforms

_BATCH_ROWS: Final = 16_384
# Other checkouts may share the cache, and be at work on an index of their own.
_KEPT_MAX: Final = 2


@dataclass(frozen=True, slots=True)
class BuildCost:
    """What a build took; resident pages of the mapped data count in `resident_bytes` alone."""

    import_cpu_s: float
    optimize_cpu_s: float
    anonymous_bytes: int
    resident_bytes: int


def kept(
    name: str, limit: int | None, folder: Path, *, any_source: bool = False
) -> tuple[Path, BuildCost]:
    """Return the index that this very library builds, from the cache where it is there.

    With `any_source` the newest index there will do, whatever source built it.
    """
    places = sorted(
        (about.parent for about in folder.glob("squash-*/about.json")),
        key=lambda place: place.stat().st_mtime,
    )
    place = places[-1] if any_source and places else folder / f"squash-{_source()}"
    about = place / "about.json"
    if not about.exists():
        for old in places[:-_KEPT_MAX]:
            shutil.rmtree(old)
        told("building Squash's index")
        shutil.rmtree(place, ignore_errors=True)
        (place / "store").mkdir(parents=True)
        about.write_text(json.dumps(asdict(build(name, limit, place / "store"))))
    return place / "store", BuildCost(**json.loads(about.read_text()))


def _source() -> str:
    """Name the library's source by its bytes."""
    source = hashlib.sha256()
    for path in sorted(Path(squash.__file__).parent.rglob("*")):
        if path.suffix in {".py", ".c", ".cpp", ".h", ".hpp"}:
            source.update(path.read_bytes())
    return source.hexdigest()[:16]


def build(name: str, limit: int | None, folder: Path) -> BuildCost:
    """Build the index `name` in a folder, in a child process."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_build, name, limit, folder).result()


def _build(name: str, limit: int | None, folder: Path) -> BuildCost:
    data = load(name, limit=limit)
    with AnonymousPeak() as memory:
        start = time.process_time()
        index = squash.connect(str(folder)).create_index(
            name, dimension=data.vectors.shape[1], metric=data.metric
        )
        index.import_batches(_batches(data))
        imported = time.process_time()
        index.optimize()
        end = time.process_time()
    return BuildCost(imported - start, end - imported, memory.peak_bytes, resident_peak_bytes())


def _batches(data: Dataset) -> Iterator[RowBatch]:
    """Yield the rows with row numbers for keys, so that answers name rows."""
    columns = uniforms(len(data.vectors))
    for start in range(0, len(data.vectors), _BATCH_ROWS):
        stop = min(start + _BATCH_ROWS, len(data.vectors))
        uniform = zip(*(values[start:stop].tolist() for values in columns.values()), strict=True)
        metadata = [
            {**known, **dict(zip(columns, values, strict=True))}
            for known, values in zip(data.metadata(start, stop), uniform, strict=True)
        ]
        yield RowBatch(
            [str(row) for row in range(start, stop)],
            np.array(data.vectors[start:stop], dtype=np.float32),
            metadata,
        )
