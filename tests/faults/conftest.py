"""The faults' tests look at indexes as those of the index room do."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from living import shrink

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "index"))


@pytest.fixture
def small_limits():
    """Let snapshots and flattenings come after a few commits, so that faults meet them."""
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch)
        yield
