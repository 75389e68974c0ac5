"""A build's memory is bounded by the sample and the partition, not by the data."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

MEMORY = Path(__file__).resolve().parents[2] / "bench" / "memory.py"
ROWS = 600_000
FILE_BYTES = ROWS * 128 * 4
BOUND_MIB = 240


@pytest.mark.slow
def test_system_memory_below_data():
    """With small samples and partitions, a build takes much less memory than its file is long."""
    assert BOUND_MIB << 20 < 0.85 * FILE_BYTES
    command = [sys.executable, str(MEMORY)]
    for name, value in {
        "--rows": ROWS,
        "--bound-mib": BOUND_MIB,
        "--sample-rows": 16_384,
        "--partition-rows": 8_192,
        "--retained-mib": 16,
    }.items():
        command += [name, str(value)]
    done = subprocess.run(  # noqa: S603 - our own program
        command, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert 0 < json.loads(done.stdout)["anonymous_peak_bytes"] <= BOUND_MIB << 20
