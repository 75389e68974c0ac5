"""The section of a data set, from its figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from contest import Point, cheapest, cost_at
from ours import TITLE
from peers import BruteForce
from report import machine, number, table
from speed import TARGETS

GOALS: Final = {1.0: (1.5, 2.0), 0.1: (3.0, 3.0), 0.01: (4.0, 4.0), 0.001: (5.0, 5.0)}
MIB: Final = 1 << 20
# Brute force is handed the very rows, and does none of the filtering: it is no peer.
HANDED: Final = BruteForce.title
DASH: Final = "–"


def section(figures: Mapping[str, Any], plots: Path) -> str:
    """Return a data set's section; `plots` is where its pictures go."""
    name = f"{figures['name']}-{figures['rows']}"
    parts = [
        f"## {figures['name']}: {figures['rows']:,} x {figures['dimension']}, {figures['metric']}",
        machine(figures["command"], figures["versions"]),
    ]
    if figures["missing"]:
        reasons = "; ".join(f"{name}: {why}" for name, why in figures["missing"].items())
        parts.append(f"Not measured: {reasons}.")
    if "speed" in figures:
        import plotting

        settings = figures["speed"]["settings"]
        parts.append(_summary(settings, "best peer", goals=True))
        filtered = [_with_filters(setting) for setting in settings if setting["share"] < 1.0]
        parts.append(_summary(filtered, "best that evaluates filters, too", goals=False))
        parts.append(plotting.recall_against_speed(figures, plots / f"{name}.svg"))
        parts += list(_speed(figures["speed"]))
    if "cold" in figures:
        parts.append(_cold(figures["cold"]))
    if "calibration" in figures:
        parts.append(_calibration(figures["calibration"]))
    parts.append(_costs(figures["costs"], figures["dimension"]))
    return "\n\n".join(part for part in parts if part)


def point_of(known: Mapping[str, Any] | None) -> Point | None:
    """Return a point as it was before it was JSON."""
    if known is None:
        return None
    return Point(**{**known, "effort": tuple(known["effort"])})


def curve_of(line: Mapping[str, Any]) -> list[Point]:
    """Return a line's frontier; the points asked again in the rounds replace what they were."""
    points = {tuple(known["effort"]): point_of(known) for known in line["curve"]}
    for known in [*line["chosen"].values(), *line["as_asked"].values()]:
        if known is not None:
            points[tuple(known["effort"])] = point_of(known)
    return [point for point in points.values() if point is not None]


def _ours(lines: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    return next((line for line in lines if line["title"] == TITLE), None)


def _speed(figures: Mapping[str, Any]) -> Iterator[str]:
    settings = figures["settings"]
    for setting in settings:
        if setting["mode"] != "call":
            continue
        batch = next(
            other
            for other in settings
            if other["mode"] == "batch"
            and (other["k"], other["share"]) == (setting["k"], setting["share"])
        )
        head = (
            f"k = {setting['k']}, {100 * setting['share']:g} % pass",
            "for", "recall", "effort", "CPU µs, call", "x Squash", "p50 µs", "p99 µs",
            "CPU µs, batch", "x Squash",
        )  # fmt: skip
        yield table(head, _rows(setting["lines"], batch["lines"]))


def _rows(
    calls: Sequence[Mapping[str, Any]], batches: Sequence[Mapping[str, Any]]
) -> Iterator[list[str]]:
    ours, ours_batch = _ours(calls), _ours(batches)
    for line in calls:
        batch = next((other for other in batches if other["title"] == line["title"]), None)
        for target in TARGETS:
            got = point_of(line["chosen"][str(target)])
            many = batch and point_of(batch["chosen"][str(target)])
            if line is ours:
                asked = point_of(line["as_asked"][str(target)])
                asked_many = ours_batch and point_of(ours_batch["as_asked"][str(target)])
                yield _row(
                    (f"{TITLE}, as asked", target, f"recall_target {target}"),
                    asked,
                    many=asked_many,
                )
            title = f"{TITLE}, least that does" if line is ours else line["title"]
            yield _row(
                (title, target, line["efforts"].get(str(target), "")),
                got,
                many=many,
                ratios=(_ratio(got, ours, target), _ratio(many, ours_batch, target)),
            )


def _row(
    labels: tuple[str, float, str],
    got: Point | None,
    *,
    many: Point | None,
    ratios: tuple[str, str] = ("", ""),
) -> list[str]:
    title, target, effort = labels
    if got is None:
        return [title, str(target), "not reached", *[DASH] * 7]
    return [
        title,
        str(target),
        f"{got.recall:.3f}",
        effort,
        number(got.cpu_us),
        ratios[0],
        number(got.wall_p50_us),
        number(got.wall_p99_us),
        DASH if many is None else number(many.cpu_us),
        ratios[1],
    ]


def _ratio(got: Point | None, ours: Mapping[str, Any] | None, target: float) -> str:
    """Return a peer's cost at a target by Squash's: each the cheapest that meets it."""
    best = ours and cheapest(_in_rounds(ours), target)
    return DASH if got is None or not best else number(got.cpu_us / best.cpu_us)


def _in_rounds(line: Mapping[str, Any]) -> list[Point]:
    """Return what was asked in the rounds: only these figures are of the same minutes."""
    known = [*line["chosen"].values(), *line["as_asked"].values()]
    return [point for one in known if (point := point_of(one)) is not None]


def _with_filters(setting: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a setting without whom the rows that pass are handed to."""
    return {**setting, "lines": [line for line in setting["lines"] if line["filters"]]}


def _summary(settings: Sequence[Mapping[str, Any]], among: str, *, goals: bool) -> str:
    """Return how Squash stands against the best of its peers: tuned on the questions, as asked."""
    rows = []
    for setting in settings:
        ours = _ours(setting["lines"])
        others = [line for line in setting["lines"] if line["title"] not in {TITLE, HANDED}]
        if ours is None or not others:
            continue
        for place, target in enumerate(TARGETS):
            costs = {
                line["title"]: point.cpu_us
                for line in others
                if (point := point_of(line["chosen"][str(target)])) is not None
            }
            own, asked = cheapest(_in_rounds(ours), target), ours["as_asked"][str(target)]
            if not costs:
                continue
            best = min(costs, key=costs.__getitem__)
            at_same = min(
                (cost_at(curve_of(line), asked["recall"]) for line in others),
                key=lambda cost: float("inf") if cost != cost else cost,  # noqa: PLR0124 - nan
            )
            goal = GOALS[setting["share"]][place] if setting["k"] == 10 else None
            rows.append(
                (
                    f"k {setting['k']}, {100 * setting['share']:g} %, {setting['mode']}",
                    target,
                    best,
                    number(costs[best]),
                    DASH if own is None else number(own.cpu_us),
                    DASH if own is None else number(costs[best] / own.cpu_us),
                    f"{asked['recall']:.3f}",
                    number(asked["cpu_us"]),
                    DASH if at_same != at_same else number(at_same / asked["cpu_us"]),  # noqa: PLR0124
                    DASH if goal is None else f"{goal:g}",
                )
            )
    head = (
        "setting", "recall", among, "its CPU µs", "Squash's", "ratio",
        "recall as asked", "CPU µs as asked", "ratio at that recall", "goal",
    )  # fmt: skip
    columns = len(head) - (not goals)
    return table(head[:columns], [row[:columns] for row in rows]) if rows else ""


def _cold(figures: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (
            f"{100 * line['share']:g} %",
            number(line["warm_us"]),
            number(line["cold_us"]),
            number(line["cold_us"] / line["warm_us"]),
            "not counted" if line["native_us"] is None else number(line["native_us"]),
            DASH if line["python_us"] is None else number(line["python_us"]),
            f"{line['vectors_read']:,.0f}",
            f"{line['vectors_read_max']:,.0f}",
            f"{line['rows_scanned']:,.0f}",
        )
        for line in figures
    ]
    head = (
        "Squash, target 0.95, k = 10", "warm µs", "cold µs", "cold / warm", "in kernels µs",
        "Python µs", "vectors read", "at most", "rows scanned",
    )  # fmt: skip
    return table(head, rows)


def _calibration(figures: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (
            line["filter"],
            f"{line['admitted']:,.0f}",
            line["target"],
            f"{line['recall']:.3f}",
            number(line["cpu_us"]),
            f"{line['least_target']:.3f}",
            f"{line['least_recall']:.3f}",
            number(line["least_cpu_us"]),
            number(line["cpu_us"] / line["least_cpu_us"]),
        )
        for line in figures
    ]
    head = (
        "calibration: filter", "rows that pass", "target", "recall", "CPU µs",
        "least target that does", "its recall", "its CPU µs", "cost / least cost",
    )  # fmt: skip
    return table(head, rows)


def _costs(costs: Mapping[str, Mapping[str, float]], dimension: int) -> str:
    rows = [
        (
            title,
            number(cost["build_cpu_s"]),
            number(cost["build_anonymous_bytes"] / MIB),
            number(cost["bytes_per_row"]),
            number(cost["bytes_per_row"] / (4 * dimension)),
        )
        for title, cost in costs.items()
        if cost["build_cpu_s"] > 0
    ]
    head = ("index", "build, CPU s", "build, MiB more", "bytes a row", "x the vectors")
    return table(head, rows)
