"""How all pictures look, and how one is saved: the same figures give the same bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import matplotlib as mpl

mpl.use("svg")

from matplotlib import pyplot as plt

STYLE: Final = {"svg.hashsalt": "squash", "svg.fonttype": "none", "font.size": 8}


def saved(figure: Any, path: Path) -> None:
    """Save a figure and close it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
