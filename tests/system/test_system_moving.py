"""A copy whose process is killed again and again ends with everything in its place."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import squash
from moving_server import contents, serving
from squash.index.buckets import BucketSettings

SCRIPT = Path(__file__).parents[1] / "moving_process.py"
ROWS = 500
KILLS_MAX = 5


def filled(database, name):
    index = database.create_index(name, dimension=5, metric="cosine")
    rng = np.random.default_rng(1)
    index.put(
        keys=[f"k{row}" for row in range(ROWS)],
        vectors=rng.normal(size=(ROWS, 5)).astype(np.float32),
        metadata=[{"n": row} for row in range(ROWS)],
    )
    return index


@pytest.mark.parametrize("direction", ["import", pytest.param("export", marks=pytest.mark.slow)])
def test_a_copy_that_is_killed_goes_on(tmp_path, direction):
    """Killed without warning after some requests, at moments that a seed draws."""
    rng = np.random.default_rng(7)
    ours = squash.connect(str(tmp_path / "store"))
    with serving() as service:
        service.database.vector_buckets.create("media", BucketSettings())
        side = (service.database, "media/papers") if direction == "import" else (ours, "papers")
        source = filled(*side)
        words = [
            sys.executable, str(SCRIPT), "--store", str(tmp_path / "store"), direction, "papers",
            "s3vectors://media/papers", "--create", "--service-url", service.url, "--json",
            "--parallel", "2",
        ]  # fmt: skip
        environment = os.environ | {
            "PYTHONPATH": str(Path(squash.__file__).parents[1]),
            "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        moving = "/ListVectors" if direction == "import" else "/PutVectors"
        kills, after = 0, 0
        running: list[subprocess.Popen[str]] = []

        def rule(path, members, number):
            nonlocal kills, after
            after -= path == moving
            if after == 0 and kills < KILLS_MAX:
                kills += 1
                running[-1].kill()

        service.rule = rule
        for _ in range(KILLS_MAX + 1):
            after = int(rng.integers(1, 12))
            with subprocess.Popen(  # noqa: S603 - our own script
                words, cwd=tmp_path, env=environment, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            ) as process:  # fmt: skip
                running.append(process)
                out, err = process.communicate(timeout=120)
            if process.returncode >= 0:
                break
        assert process.returncode == 0, err
        told = json.loads(out)
        assert kills >= 3
        assert (told["rows"], told["check"]["same"]) == (ROWS, True)
        target = ours if direction == "import" else service.database
        name = "papers" if direction == "import" else "media/papers"
        assert contents(target.index(name)) == contents(source)
        assert target.index(name).verify().damages == ()
    assert [one.name for one in tmp_path.iterdir() if one.suffix in {".json", ".partial"}] == []
