"""A picture of what queries cost beside the peers."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import matplotlib as mpl
from matplotlib import pyplot as plt

from cost import PEERS, WARM
from cost_model import MILLION, price, sized
from cost_steps import Asked, Assumptions
from drawing import STYLE, saved

SIZES: Final = tuple(round(MILLION * 10 ** (place / 4)) for place in range(9))


def draw(one: Assumptions, path: Path) -> str:
    """Draw dollars a million queries against rows; return Markdown for it."""
    with mpl.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
        for warm in WARM:
            bills = [price(one, sized(one, rows), Asked(rows, 0.1, warm)) for rows in SIZES]
            label = f"Squash, {100 * warm:g} % warm"
            axis.plot(SIZES, [bill.total for bill in bills], marker="o", markersize=3, label=label)
        bills = [price(one, sized(one, rows, door="url"), Asked(rows, 0.1)) for rows in SIZES]
        label = "the same at QueryUrl, 100 % warm"
        axis.plot(SIZES, [bill.total for bill in bills], marker="o", markersize=3, label=label)
        for name, prices in PEERS.items():
            axis.plot(list(prices), list(prices.values()), "s--", markersize=5, label=name)
        axis.set(
            xscale="log",
            yscale="log",
            xlabel="rows of 768 dimensions",
            ylabel="dollars a million queries",
            title="one query a call, 10 % of the rows pass, containers that hold the index",
        )
        axis.grid(visible=True, which="both", alpha=0.3)
        axis.legend(fontsize=7)
        saved(figure, path)
    return f"![dollars a million queries against rows]({path.parent.name}/{path.name})"
