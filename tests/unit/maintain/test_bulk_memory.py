"""Reading a piece takes as much memory of a huge row group as of a small one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

import squash

DIMENSION = 256
MIB = 1 << 20
TESTS = Path(__file__).parents[2]
CHILD = """
import sys
from dataclasses import replace
from bulk_inputs import World, config_of
from squash.maintain.bulk.files.choose import probe
from squash.maintain.bulk.pieces import Pieces
from squash.maintain.bulk.plan import Piece, Plan
from squash.storage.inputs import open_inputs

def peak_mb():
    # Not getrusage: what it tells of a child begins with what its parent had.
    with open("/proc/self/status") as file:
        (line,) = (line for line in file if line.startswith("VmHWM"))
    return int(line.split()[1]) >> 10

url, config = sys.argv[1], config_of(256)
world, inputs = World(config), open_inputs(url)
world.context = replace(world.context, open_inputs=lambda _: inputs)
(info,) = inputs.files(url)
file = probe(inputs, info, world.request, config)
begins = range(0, file.rows, 30_000)
pieces = tuple(Piece(0, begin, min(30_000, file.rows - begin)) for begin in begins)
plan = Plan((file,), pieces, file.rows, False, True, (0,), ((0,),), (0,), 1, 1, True)
before, rows, reader = peak_mb(), 0, Pieces(world.context, world.request, plan)
for number in range(len(pieces)):
    for some in reader.chunks(number):
        rows += len(some.rows)
assert rows == file.rows
print(peak_mb() - before)
"""


def write_group(path, rows):
    """A file of one row group."""
    vectors = np.random.default_rng(3).normal(size=(rows, DIMENSION)).astype(np.float32)
    begins = pa.array(np.arange(rows + 1, dtype=np.int32) * DIMENSION)
    table = {
        "key": [f"key {number}" for number in range(rows)],
        "vector": pa.ListArray.from_arrays(begins, pa.array(vectors.ravel())),
        "name": [f"the name of number {number}" for number in range(rows)],
    }
    parquet.write_table(pa.table(table), path, row_group_size=rows)
    return path.stat().st_size


def reading_mb(path):
    places = [str(TESTS), str(Path(squash.__file__).parents[1])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places)}
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", CHILD, path.as_uri()],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peaks are read from /proc")
def test_memory_does_not_grow_with_the_row_group(tmp_path):
    small, large = tmp_path / "small.parquet", tmp_path / "large.parquet"
    assert write_group(small, 70_000) > 64 * MIB
    assert write_group(large, 280_000) > 256 * MIB
    of_small, of_large = reading_mb(small), reading_mb(large)
    assert 16 < of_large < of_small + 48
    assert of_large < 256
