"""Pictures of `docs/scale.md`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import matplotlib as mpl
from matplotlib import pyplot as plt

from drawing import STYLE, saved
from scale_platform import ACCOUNT, AWS, GRANTED

if TYPE_CHECKING:
    from scale_text import Model

ROWS: Final = tuple(round(10 ** (6 + place / 2)) for place in range(9))
DIMENSIONS: Final = (128, 384, 768, 1_024)
COLD: Final = (0.0, 0.02, 0.2)
_DASHED: Final = "dashed: beyond a limit that stops it"


def builds(model: Model, path: Path) -> str:
    """Draw hours and dollars of builds against rows."""
    with mpl.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
        colours = plt.get_cmap("tab10")
        for place, dimension in enumerate(DIMENSIONS):
            stopped = [bool(model.stops(rows, dimension)) for rows in ROWS]
            for platform, marker in ((AWS, "s"), (ACCOUNT, "o"), (GRANTED, "^")):
                built = [model.build(rows, dimension, platform) for rows in ROWS]
                label = f"d = {dimension:,}, {platform.concurrency:,} wide"
                colour = colours(place)
                hours = [one.seconds / 3_600 for one in built]
                _broken(left, hours, stopped, label=label, color=colour, marker=marker)
                if platform is ACCOUNT:
                    dollars = [one.usd for one in built]
                    _broken(right, dollars, stopped, label=label, color=colour, marker=marker)
        left.axhline(20.0, color="grey", linewidth=0.8)
        _axes(left, "hours", f"a build's time ({_DASHED})")
        _axes(right, "dollars", "a build's cost")
        saved(figure, path)
    return f"![a build's time and cost against rows]({path.parent.name}/{path.name})"


def latencies(model: Model, path: Path) -> str:
    """Draw quantiles of what queries wait for, a panel a cold share."""
    with mpl.rc_context(STYLE):
        figure, panels = plt.subplots(1, 3, figsize=(10, 4), layout="constrained", sharey=True)
        colours = plt.get_cmap("tab10")
        for panel, cold in zip(panels, COLD, strict=True):
            for place, dimension in enumerate((128, 768)):
                stopped = [model.silent(rows, dimension) for rows in ROWS]
                found = [model.waits(rows, dimension, cold) for rows in ROWS]
                for name, marker in (("p50", "o"), ("p95", "s"), ("p99", "^")):
                    values = [getattr(one, name) for one in found]
                    label = f"d = {dimension}, {name}"
                    colour = colours(place)
                    _broken(panel, values, stopped, label=label, color=colour, marker=marker)
            _axes(panel, "milliseconds", f"{100 * cold:g} % cold")
        saved(figure, path)
    return f"![latency against rows by cold share]({path.parent.name}/{path.name})"


def prices(model: Model, path: Path) -> str:
    """Draw dollars a million queries, beside the peers."""
    from scale_text import PEERS

    with mpl.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
        colours = plt.get_cmap("tab10")
        stopped = [model.silent(rows, 768) for rows in ROWS]
        for place, cold in enumerate(COLD):
            values = [model.bill(rows, 768, cold).total for rows in ROWS]
            label = f"Squash, {100 * cold:g} % cold"
            _broken(axis, values, stopped, label=label, color=colours(place), marker="o")
        for name, known in PEERS.items():
            axis.plot(list(known), list(known.values()), "s--", markersize=5, label=name)
        _axes(axis, "dollars a million queries", f"768 dimensions ({_DASHED})")
        saved(figure, path)
    return f"![dollars a million queries against rows]({path.parent.name}/{path.name})"


def _broken(axis: Any, values: list[float], stopped: list[bool], **style: Any) -> None:
    """Draw a line that is dashed from where something stops it on."""
    first = stopped.index(True) if True in stopped else len(stopped)
    axis.plot(ROWS[:first], values[:first], markersize=3, **style)
    style.pop("label")
    begin = max(first - 1, 0)
    axis.plot(ROWS[begin:], values[begin:], "--", markersize=3, alpha=0.6, **style)


def _axes(axis: Any, label: str, title: str) -> None:
    axis.set(xscale="log", yscale="log", xlabel="rows", ylabel=label, title=title)
    axis.grid(visible=True, which="both", alpha=0.3)
    axis.legend(fontsize=5)
