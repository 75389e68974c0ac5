"""Pictures of what was measured, drawn afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib import pyplot as plt

from contest import frontier
from drawing import STYLE, saved
from growth import LABELS, exponent
from ours import TITLE
from tables import curve_of

K: Final = 10
RECALL_MIN: Final = 0.7


def recall_against_speed(figures: Mapping[str, Any], path: Path) -> str:
    """Draw recall@10 against queries a second, a panel a selectivity; return Markdown for it."""
    settings = [
        setting
        for setting in figures["speed"]["settings"]
        if setting["k"] == K and setting["mode"] == "call"
    ]
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(2, 2, figsize=(9, 7), layout="constrained")
        colours = plt.get_cmap("tab10")
        for panel, setting in zip(axes.flat, settings, strict=False):
            for place, line in enumerate(setting["lines"]):
                points = [p for p in frontier(curve_of(line)) if p.recall >= RECALL_MIN]
                panel.plot(
                    [point.recall for point in points],
                    [1e6 / point.cpu_us for point in points],
                    marker="o",
                    markersize=3,
                    linewidth=2.5 if line["title"] == TITLE else 1,
                    color=colours(place),
                    label=line["title"],
                )
            panel.set(
                title=f"{100 * setting['share']:g} % of the rows pass",
                xlabel="recall@10",
                ylabel="queries a second of CPU",
                yscale="log",
                xlim=(RECALL_MIN, 1.005),
            )
            panel.grid(visible=True, which="both", alpha=0.3)
        axes.flat[0].legend(fontsize=6, loc="lower left")
        saved(figure, path)
    return f"![recall against queries a second]({path.parent.name}/{path.name})"


def growth(figures: Mapping[str, Any], path: Path) -> str:
    """Draw what grows with the rows, on log-log axes; return Markdown for it."""
    every = figures["sizes"]
    rows = [one["rows"] for one in every]
    drawn = {"build, CPU s": {"": [one["build_cpu_s"] for one in every]}}
    drawn |= {
        label: {
            f"{share} pass": [one["shares"][share][series] for one in every]
            for share in every[0]["shares"]
        }
        for series, label in LABELS.items()
    }
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(2, 2, figsize=(9, 7), layout="constrained")
        for panel, (title, lines) in zip(axes.flat, drawn.items(), strict=True):
            for label, values in lines.items():
                slope = f"{label} n^{exponent(rows, values):.2f}".strip()
                panel.plot(rows, values, marker="o", markersize=3, label=slope)
            panel.set(title=title, xlabel="rows", xscale="log", yscale="log")
            panel.grid(visible=True, which="both", alpha=0.3)
            panel.legend(fontsize=7)
        saved(figure, path)
    return f"![growth with the number of rows]({path.parent.name}/{path.name})"
