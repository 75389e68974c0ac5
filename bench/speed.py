"""A contest at every selectivity: the frontier of each contestant, and its figures at the targets.

First everybody's efforts are explored (`contest.py`). Then the chosen ones are asked again in
rounds, everybody in each round, so that all share the machine's good and bad minutes; the least
of a contestant's rounds counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from contest import Contestant, Effort, Point, Setting, explored, try_batch, try_calls
from ours import TITLE
from report import told
from workload import SHARES, Asked, Workload

TARGETS: Final = (0.95, 0.99)
MODES: Final = {"call": try_calls, "batch": try_batch}
ROUNDS: Final = 3
QUESTION_SHARES: Final = {10: 1.0, 100: 0.4}


@dataclass(frozen=True, slots=True)
class Line:
    """A contestant's figures in one setting: its frontier, and what it took for each target.

    `as_asked` holds Squash at the targets as its own calibration meets them; `filters` says
    whether the contestant evaluates filters itself.
    """

    title: str
    filters: bool
    curve: Sequence[Point]
    chosen: Mapping[float, Point | None]
    as_asked: Mapping[float, Point]
    efforts: Mapping[float, str]


def contest(
    workload: Workload, contestants: Sequence[Contestant], *, ks: Sequence[int]
) -> dict[str, Any]:
    """Return the lines of every k, selectivity and mode, as plain JSON."""
    found = []
    for k in ks:
        for share in SHARES:
            tuning = _part(workload.independent(share, tuning=True), k)
            measured = _part(workload.independent(share), k)
            for mode, trial in MODES.items():
                setting = Setting(workload.points, tuning, measured, k, trial)
                able = [one for one in contestants if _able(one, mode, share, k)]
                lines = _lines(setting, able)
                found.append(
                    {
                        "k": k,
                        "share": share,
                        "mode": mode,
                        "questions": len(measured.questions),
                        "lines": [asdict(line) for line in lines],
                    }
                )
    return {"rows": workload.rows, "settings": found}


def _part(asked: Asked, k: int) -> Asked:
    return asked.first(max(1, round(QUESTION_SHARES[k] * len(asked.questions))))


def _able(one: Contestant, mode: str, share: float, k: int) -> bool:
    if one.questions_max is not None and (k > 10 or mode == "batch"):
        return False
    if mode == "batch":
        return one.batches_filtered or (one.batches and share == 1.0)
    return True


def _lines(setting: Setting, contestants: Sequence[Contestant]) -> list[Line]:
    curves, efforts = {}, {}
    for one in contestants:
        curves[one.title], best = explored(one, setting, TARGETS)
        efforts[one.title] = {target: point and point.effort for target, point in best.items()}
        told(f"k {setting.k} {setting.trial.__name__} {one.title}: {_summary(best)}")
    asked: dict[tuple[str, Effort], Point] = {}
    for _ in range(ROUNDS):
        for one in contestants:
            wanted = {effort for effort in efforts[one.title].values() if effort}
            if one.title == TITLE:
                wanted |= {(target,) for target in TARGETS}
            for effort in sorted(wanted):
                point = setting.limited(one.questions_max).try_measured(one, effort)
                before = asked.get((one.title, effort))
                if before is None or point.cpu_us < before.cpu_us:
                    asked[one.title, effort] = point
    lines = []
    for one in contestants:
        chosen = {
            target: asked[one.title, effort] if effort else None
            for target, effort in efforts[one.title].items()
        }
        ours = {t: asked[one.title, (t,)] for t in TARGETS} if one.title == TITLE else {}
        words = {t: one.described(effort) for t, effort in efforts[one.title].items() if effort}
        lines.append(Line(one.title, one.filters, curves[one.title], chosen, ours, words))
    return lines


def _summary(best: Mapping[float, Point | None]) -> str:
    return "; ".join(
        f"{target}: not reached" if point is None
        else f"{target}: {point.recall:.3f} in {point.cpu_us:,.0f} us"
        for target, point in best.items()
    )  # fmt: skip
