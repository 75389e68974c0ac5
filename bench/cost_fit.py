"""What the model of costs is told: what `bench/cost_inputs.py` measured, fitted; and varied.

What was fitted last lies in `bench/cost_fitted.json`, so that a bill can be had without measuring.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from cost_model import price
from cost_steps import Asked, Assumptions, Deployed

FITTED_PATH: Final = Path(__file__).with_name("cost_fitted.json")
SHARES: Final = (1.0, 0.1, 0.01)
FITTED: Final = (
    "handler_ms", "search_ms", "needed", "growth", "code_bytes", "row_bytes", "attribute_bytes",
    "stored_bytes", "refined",
)  # fmt: skip
# Made data has few centers, near which no more clusters are needed however many rows there are;
# real data, and prudence, want some.
GROWTH_MIN: Final = 0.25


@dataclass(frozen=True, slots=True)
class Fitted:
    """Assumptions, and how what they are from was measured.

    Parameters
    ----------
    assumptions:
        For the model.
    measured, processor:
        The day, and where.
    rows:
        Of the smallest and the largest index.
    recall:
        Of the largest, by the share of rows that pass.

    """

    assumptions: Assumptions
    measured: str
    processor: str
    rows: tuple[int, int]
    recall: Mapping[float, float]


def load(path: Path) -> Fitted:
    """Read what was fitted."""
    found = json.loads(path.read_text(encoding="utf-8"))
    told = dict(found["assumptions"])
    for name in ("needed", "growth"):
        told[name] = {float(share): value for share, value in told[name].items()}
    return Fitted(
        assumptions=Assumptions(**told),
        measured=found["measured"],
        processor=found["processor"],
        rows=(found["rows"][0], found["rows"][1]),
        recall={float(share): value for share, value in found["recall"].items()},
    )


def save(path: Path, found: Mapping[str, Any], *, measured: str) -> None:
    """Write what follows from a measurement."""
    one, sizes = assumptions(found), found["sizes"]
    values: dict[str, Any] = {name: getattr(one, name) for name in FITTED}
    for name in ("needed", "growth"):
        values[name] = {f"{share:g}": value for share, value in values[name].items()}
    document = {
        "measured": measured,
        "processor": found["processor"],
        "rows": [sizes[0]["rows"], sizes[-1]["rows"]],
        "recall": {name: one["recall"] for name, one in sizes[-1]["shares"].items()},
        "assumptions": values,
    }
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def assumptions(found: Mapping[str, Any]) -> Assumptions:
    """Return what `bench/cost_inputs.py` measured, fitted."""
    sizes = found["sizes"]
    last = sizes[-1]
    needed, growth = {}, {}
    for share in SHARES:
        clusters = [one["clusters"] for one in sizes]
        values = [one["shares"][f"{share:g}"]["needed"] for one in sizes]
        growth[share] = max(slope(clusters, values), GROWTH_MIN)
        needed[share] = values[-1] * (1_000 / clusters[-1]) ** growth[share]
    above = [one["call_ms"] - sum(one["modelled_ms"]) for one in map(last["shares"].get, _names())]
    rows, sizes_of = last["rows"], last["bytes"]
    return Assumptions(
        handler_ms=min(one["handler_ms"] for one in sizes),
        search_ms=max(sum(above) / len(above), 0.0),
        needed=needed,
        growth=growth,
        code_bytes=sizes_of["codes"] / rows,
        row_bytes=sizes_of["vectors"] / rows,
        attribute_bytes=sizes_of["attributes"] / rows,
        stored_bytes=sum(sizes_of.values()) / rows,
        refined=last["refined"],
    )


def _names() -> list[str]:
    return [f"{share:g}" for share in SHARES]


def slope(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Return the slope of a straight line through logarithms."""
    x, y = [math.log(value) for value in xs], [math.log(value) for value in ys]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    over = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    return over / sum((a - mean_x) ** 2 for a in x)


VARIED: Final = (
    "handler_ms", "search_ms", "work", "needed", "request_ms", "hop_ms", "round_ms",
    "read_mb_per_s", "slots_needed", "begin_ms", "start_ms", "coordinator_start_ms", "first_ms",
    "coordinator_first_ms", "connect_ms", "client_ms", "cold_requests", "cold_mb",
    "coordinator_lists", "warm_requests", "line_bytes", "access_bytes",
)  # fmt: skip


def varied(one: Assumptions, name: str, factor: float) -> Assumptions:
    """Return the assumptions with one of them multiplied."""
    value = getattr(one, name)
    if isinstance(value, Mapping):
        return replace(one, **{name: {key: factor * part for key, part in value.items()}})
    return replace(one, **{name: factor * value})


def sensitivity(
    one: Assumptions, deployed: Deployed, asked: Asked
) -> list[tuple[str, float, float]]:
    """Return the bill with each assumption halved and doubled, the most telling first."""
    found = [
        (
            name,
            price(varied(one, name, 0.5), deployed, asked).total,
            price(varied(one, name, 2.0), deployed, asked).total,
        )
        for name in VARIED
    ]
    return sorted(found, key=lambda line: -abs(line[2] - line[1]))
