"""What the Makefile's targets say of themselves is so."""

from __future__ import annotations

import shutil
import subprocess

from templates import ROOT

# Python makes these everywhere, and the bench keeps logs beside its results.
SCATTERED = {"__pycache__", "*.pyc", "bench/results/*.log"}


def test_clean_removes_all_that_git_passes_over():
    """What was made is no part of the project: it is told once, and removed here."""
    done = subprocess.run(  # noqa: S603 - it only shows what it would do
        [shutil.which("make"), "--no-print-directory", "--dry-run", "clean"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    removed = set(done.stdout.replace("\\\n", " ").split()[2:])
    ignored = {line.strip("/") for line in (ROOT / ".gitignore").read_text("utf-8").splitlines()}
    assert "*.egg-info" in ignored
    made = ignored - SCATTERED - {"*.egg-info"} | {"layers/squash/squash_search.egg-info"}
    assert removed == made
