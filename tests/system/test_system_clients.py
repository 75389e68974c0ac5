"""The suites of S3 Vectors' clients, as `make clients` runs them, where it has been made."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[2]
_PYTHON = _ROOT / ".venv-clients" / "bin" / "python"

pytestmark = pytest.mark.slow


@pytest.mark.skipif(not _PYTHON.exists(), reason="`make clients` makes what this runs")
def test_every_suite_of_a_client_passes():
    squash = str(Path(sys.executable).with_name("squash"))
    done = subprocess.run(  # noqa: S603 - our own program
        [_PYTHON, _ROOT / "tests" / "clients" / "run.py"],
        env=dict(os.environ) | {"SQUASH_COMMAND": squash},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
