"""Several processes write to one index at once; `bench/commits.py` does it for longer."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "bench" / "commits.py"


@pytest.mark.parametrize("store", [pytest.param("folder", marks=pytest.mark.slow), "s3"])
def test_every_commit_of_many_writers_is_there_once(store):
    """The log has no gap, each put is in it once under its number, and every record is there."""
    given = ["--stores", store, "--processes", "4", "--commits", "200", "--alone", "10"]
    done = subprocess.run(  # noqa: S603 - our own script
        [sys.executable, str(SCRIPT), *given],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    alone, together = json.loads(done.stdout)
    assert alone["problems"] == together["problems"] == []
    assert (alone["commits"], together["commits"]) == (10, 200)
    assert together["tries_per_commit"] >= 1.0
