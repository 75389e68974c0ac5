"""The words and tables of `docs/scale.md`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from cost_fit import Fitted
from cost_model import Bill, idle_usd, index_bytes, price
from cost_steps import Asked, Deployed
from report import command_line, number, table
from scale_build import OBJECTS_PER_PARTITION, BuildCost, build_cost, ratios
from scale_cut import cut, partitions, routing_bytes
from scale_inputs import Inputs, Run, fit
from scale_limits import Limit, all_limits, beyond, cold_coordinator_s, met
from scale_platform import ACCOUNT, AWS, FILE_BYTES, GRANTED, LOCAL, SOURCES, Platform
from scale_queries import Waits, possible, sized, waits
from squash.limits import MIB, TIMEOUT_MS_MAX

SIZES: Final = (10**6, 10**7, 10**8, 10**9, 10**10)
DIMENSIONS: Final = (128, 384, 768, 1_024)
COLD: Final = (0.0, 0.02, 0.2)
WIDTHS: Final = (AWS, ACCOUNT, GRANTED)
PEERS: Final[Mapping[str, Mapping[int, float]]] = {
    "S3 Vectors": {10**6: 9.05, 10**7: 63.0},
    "turbopuffer": {10**6: 3.27, 10**7: 32.0},
    "Pinecone": {10**6: 52.0, 10**7: 524.0},
}
"""List prices at 768 dimensions, November 2026."""
HEAD: Final = """# How far it goes

What a bulk build and queries would take on AWS, from a million vectors to ten thousand million. \
**This is a model, and none of it was run on AWS.** It is arithmetic (`bench/scale.py`) over what \
was measured here, what AWS publishes, and what is assumed where neither says anything; each of \
these is named below, and where the model can be held against something that ran, it is, with the \
error told.
"""


def size_of(rows: int) -> str:
    """Return how an index is called."""
    if rows >= 10**9:
        return f"{rows // 10**9} billion"
    return f"{rows // 10**6} million" if rows >= 10**6 else f"{rows:,}"


def duration(seconds: float) -> str:
    """Return a time with its unit."""
    for unit, size in (("d", 86_400.0), ("h", 3_600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{number(seconds / size)} {unit}"
    return f"{number(seconds)} s"


def weight(size_bytes: float) -> str:
    """Return bytes with their unit."""
    for unit, size in (("TB", 1e12), ("GB", 1e9)):
        if size_bytes >= size:
            return f"{number(size_bytes / size)} {unit}"
    return f"{number(size_bytes / 1e6)} MB"


def dollars(value: float) -> str:
    """Return an amount."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


class Model:
    """All that the document tells, worked out once."""

    def __init__(self, inputs: Inputs, fitted: Fitted) -> None:
        self.inputs = inputs
        self.fitted = fitted
        self.assumed = fitted.assumptions
        self.fit = fit(inputs.runs)
        self.limits = all_limits(self.fit, self.assumed, ACCOUNT)

    def build(self, rows: int, dimension: int, platform: Platform = AWS) -> BuildCost:
        """Return what a build takes."""
        return build_cost(cut(rows, dimension), self.fit, platform)

    def stops(self, rows: int, dimension: int) -> list[Limit]:
        """Return what makes it impossible."""
        found = beyond(self.limits, rows, dimension, "stops")
        return [one for one in found if not one.keyed]

    def needs(self, rows: int, dimension: int) -> list[Limit]:
        """Return what it asks of whoever deploys."""
        return beyond(self.limits, rows, dimension, "setting")

    def silent(self, rows: int, dimension: int) -> bool:
        """Tell whether nobody answers: no coordinator holds the centers, or begins in time."""
        frozen = cold_coordinator_s(rows, dimension, self.assumed, AWS)
        return not possible(sized(self.assumed, rows, dimension)) or frozen > TIMEOUT_MS_MAX / 1e3

    def deployed(self, rows: int, dimension: int, *, usual: bool = False) -> Deployed:
        """Return slots that hold the index, or what there is by default."""
        return Deployed() if usual else sized(self.assumed, rows, dimension)

    def waits(self, rows: int, dimension: int, cold: float, *, usual: bool = False) -> Waits:
        """Return what queries wait for."""
        asked = Asked(rows, warm=1.0 - cold, dimension=dimension)
        return waits(self.assumed, self.deployed(rows, dimension, usual=usual), asked, AWS)

    def bill(self, rows: int, dimension: int, cold: float, *, usual: bool = False) -> Bill:
        """Return what a million of them cost, as `bench/cost.py` has it."""
        asked = Asked(rows, warm=1.0 - cold, dimension=dimension)
        return price(self.assumed, self.deployed(rows, dimension, usual=usual), asked)


def modelled(model: Model, plots: Path | None) -> str:
    """Return the section of what is modelled."""
    parts = [
        f"`{command_line()}`, from what `bench/bulk.py` and others measured on "
        f"{model.inputs.day}, {model.inputs.processor}. {model.inputs.note}".rstrip(),
        "## In short",
        _short(model),
        "## Which limit is met first",
        LIMITS,
        _limits(model),
        "## Builds",
        BUILDS,
    ]
    if plots is not None:
        import scaleplot

        parts.append(scaleplot.builds(model, plots / "scale-build.svg"))
    parts += [_builds(model), STAGES_NOTE, *_stages(model), "## What is stored", STORED]
    parts += [_stored(model)]
    parts += ["## Queries", QUERIES]
    if plots is not None:
        import scaleplot

        parts.append(scaleplot.latencies(model, plots / "scale-latency.svg"))
    usual, fitted = Deployed(), model.fitted
    told = USUAL.format(
        slots=usual.slots, processor=usual.processor_mb, coordinator=usual.coordinator_mb
    )
    parts += [_waits(model), told, _usual(model), "## Dollars a million queries"]
    parts += [PRICES.format(measured=fitted.measured, processor=fitted.processor)]
    if plots is not None:
        import scaleplot

        parts.append(scaleplot.prices(model, plots / "scale-price.svg"))
    parts += [_prices(model), "## What is assumed", _sources(), "## What was measured"]
    parts += [MEASURED, _fit(model)]
    return "\n\n".join(parts)


SHORT: Final = """A hundred million vectors are built in minutes and cost dollars; **a billion \
and ten billion are not what this index does as it is**. The build's own stages would come far: \
what ends first is what one process must hold or read whole, all centers and a snapshot that names \
every object, in `calibrate` and in each coordinator that starts. What would have to change: \
routing in parts (partitions first, clusters inside, by allocators that hold a part each), and a \
snapshot in parts. For the build beyond a billion, runs merged before they are \
read: each task of `assemble` asks every run, so that requests grow with the square of the rows \
until there are as many tasks as there may be."""
LIMITS: Final = """Up to how many rows each limit holds, the first one met first, with 1,000 \
functions at once. What *stops* makes a build fail or an index not answer; a *setting* makes it \
worse or fail until whoever deploys raises it; what *slows* is got around. A figure beyond what \
stops, here and below, says what it would be if nothing stopped it; it stands in brackets."""
BUILDS: Final = f"""Files of {FILE_BYTES // MIB:,} MiB, float32, rows without keys of their own, \
1,769 MB a function. As many functions at once as a deployment lets a build take by default, as an \
account has, and as it may be granted; the last columns are of 1,000."""
STAGES_NOTE: Final = """By stage, at 768 dimensions, 1,000 functions at once. *Waves*: how often \
each function that may run is used. *S3*: the least that S3 allows the stage's requests, prefixes \
split meanwhile. The rest is the slowest task's way through the waves."""
QUERIES: Final = """One query a call, k = 10 at recall 0.95, no filter, vectors as they come, \
strongly consistent. *Cold* is the share of calls, to the coordinator and to processors, that find \
a container which knows nothing: it is started and reads what it needs. Milliseconds within AWS, \
the call of the coordinator included; as many slots as hold the index, and a coordinator that \
holds all centers and an attribute to filter by. The steps are those of `bench/cost.py` \
([benchmarks.md](benchmarks.md#what-queries-cost)), each drawn about what is told there; with \
nothing drawn a warm query takes what it says, and the call besides."""
USUAL: Final = """As deployed by default ({slots} slots of {processor:,.0f} MB, a coordinator of \
{coordinator:,.0f} MB): what slots cannot hold each query reads from S3."""
PRICES: Final = """As `bench/cost.py` has them, of what that measured ({measured}, {processor}), \
without a filter, with the functions of the table above (slots that hold the index), HTTP API and \
logs included. The peers' are list prices at 768 dimensions (November 2026)."""
STORED: Final = """Of rows with an attribute of numbers and short keys, as in `bench/cost.py`."""
MEASURED: Final = """Seconds of one core by kind of work, as fitted (nothing below zero, least \
squares of relative errors); a stage that takes nothing of a kind has a dash. *Work* is \
multiplications of the stage's algorithm."""


def _short(model: Model) -> str:
    lines = []
    for dimension in DIMENSIONS:
        found = met(model.limits, dimension)
        first = [
            next(pair for pair in found if pair[0].kind == kind and not pair[0].keyed)
            for kind in ("setting", "stops")
        ]
        lines.append(
            f"- **{dimension:,} dimensions**: as deployed by default, {_rows(first[0][1])} vectors "
            f"({first[0][0].name}); with settings raised, {_rows(first[1][1])} "
            f"({first[1][0].name})."
        )
    return "\n".join([*lines, "", SHORT])


def _limits(model: Model) -> str:
    every = model.limits
    at = {dimension: dict(met(every, dimension)) for dimension in DIMENSIONS}
    listed = sorted(
        every, key=lambda one: min((at[d].get(one, 10**13) for d in DIMENSIONS), default=10**13)
    )
    rows = [
        [
            one.name,
            one.kind,
            *(_rows(at[dimension].get(one)) for dimension in DIMENSIONS),
            one.then,
        ]
        for one in listed
    ]
    return table(("limit", "then it", *(f"d = {d:,}" for d in DIMENSIONS), "beyond it"), rows)


def _rows(rows: int | None) -> str:
    if rows is None:
        return "–"
    for unit, size in (("billion", 1e9), ("million", 1e6)):
        if rows >= size:
            return f"{number(rows / size)} {unit}"
    return f"{rows:,}"


def _each() -> Iterable[tuple[int, int]]:
    for rows in SIZES:
        for dimension in DIMENSIONS:
            yield rows, dimension


def _told(text: str, *, impossible: bool) -> str:
    return f"({text})" if impossible else text


def _builds(model: Model) -> str:
    lines = []
    for rows, dimension in _each():
        usual, wide, widest = (model.build(rows, dimension, one) for one in WIDTHS)
        stops = model.stops(rows, dimension)
        tasks = sum(stage.tasks for stage in usual.stages)
        slowest = max(wide.stages, key=lambda stage: stage.seconds)
        cells = (
            f"{tasks:,}",
            duration(usual.seconds),
            dollars(usual.usd),
            duration(wide.seconds),
            dollars(wide.usd),
            duration(widest.seconds),
            dollars(widest.usd),
            dollars(wide.usd / rows * 1e6),
            slowest.stage.value,
        )
        lines.append(
            [
                f"{size_of(rows)} x {dimension:,}",
                *(_told(cell, impossible=bool(stops)) for cell in cells),
                _conditions(model, rows, dimension),
            ]
        )
    head = (
        "vectors", "tasks", *(word for one in WIDTHS for word in (_wide(one), "$")),
        "$ a million rows", "slowest", "what it needs, or what stops it",
    )  # fmt: skip
    return table(head, lines)


def _conditions(model: Model, rows: int, dimension: int) -> str:
    stops, needs = model.stops(rows, dimension), model.needs(rows, dimension)
    if stops:
        more = f", and {len(stops) - 1} more" if len(stops) > 1 else ""
        return f"stopped: {stops[0].name}{more}"
    return ", ".join(dict.fromkeys(one.then for one in needs))


def _wide(platform: Platform) -> str:
    return f"{platform.concurrency:,} at once"


def _stages(model: Model) -> list[str]:
    parts = []
    for rows in (10**7, 10**9):
        built = model.build(rows, 768, ACCOUNT)
        lines = [
            [
                one.stage.value,
                f"{one.tasks:,}",
                number(one.task_s),
                number(one.waves),
                duration(one.store_s),
                duration(one.seconds),
                number(one.requests.reads),
                number(one.requests.writes),
                dollars(one.function_usd),
                dollars(one.request_usd),
                dollars(one.transition_usd),
            ]
            for one in built.stages
        ]
        lines.append(
            ["all", "", "", "", "", duration(built.seconds), "", "", dollars(built.usd), "", ""]
        )
        head = (
            f"{size_of(rows)} x 768", "tasks", "s a task", "waves", "S3", "time", "reads",
            "writes", "functions $", "requests $", "transitions $",
        )  # fmt: skip
        parts.append(table(head, lines))
    return parts


def _stored(model: Model) -> str:
    lines = []
    for rows, dimension in _each():
        lines.append(
            [
                f"{size_of(rows)} x {dimension:,}",
                f"{partitions(rows):,}",
                f"{OBJECTS_PER_PARTITION * partitions(rows) + 1:,}",
                weight(index_bytes(model.assumed, rows, dimension)),
                dollars(idle_usd(model.assumed, rows, dimension)),
                weight(cut(rows, dimension).run_bytes),
                weight(routing_bytes(rows, dimension)),
            ]
        )
    head = (
        "vectors", "partitions", "objects", "stored", "$ a month", "runs, while it is built",
        "centers",
    )  # fmt: skip
    return table(head, lines)


def _waits(model: Model) -> str:
    lines = []
    for rows, dimension in _each():
        served = model.deployed(rows, dimension)
        impossible = model.silent(rows, dimension)
        cells = []
        for cold in COLD:
            found = model.waits(rows, dimension, cold)
            cells.append(f"{found.p50:,.0f} / {found.p95:,.0f} / {found.p99:,.0f}")
        warm = model.waits(rows, dimension, 0.0)
        frozen = cold_coordinator_s(rows, dimension, model.assumed, AWS)
        shape = model.bill(rows, dimension, 0.0).shape
        told = [shape, f"{served.slots:,} x {served.coordinator_mb:,.0f}", number(warm.rounds)]
        told += [*cells, duration(frozen)]
        lines.append(
            [
                f"{size_of(rows)} x {dimension:,}",
                *(_told(cell, impossible=impossible) for cell in told),
            ]
        )
    head = (
        "vectors", "who answers", "slots x coordinator's MB", "rounds, warm",
        *(f"{100 * cold:g} % cold: p50 / p95 / p99" for cold in COLD), "a cold coordinator",
    )  # fmt: skip
    return table(head, lines)


def _usual(model: Model) -> str:
    lines = []
    for rows in SIZES[:3]:
        for dimension in DIMENSIONS:
            found = [model.waits(rows, dimension, cold, usual=True) for cold in COLD]
            bills = [model.bill(rows, dimension, cold, usual=True) for cold in COLD]
            lines.append(
                [
                    f"{size_of(rows)} x {dimension:,}",
                    number(found[0].rounds),
                    number(found[0].requests),
                    *(f"{one.p50:,.0f} / {one.p95:,.0f} / {one.p99:,.0f}" for one in found),
                    *(dollars(one.total) for one in bills),
                ]
            )
    head = (
        "vectors", "rounds, warm", "requests, warm",
        *(f"{100 * cold:g} % cold: p50 / p95 / p99" for cold in COLD),
        *(f"$ a million, {100 * cold:g} %" for cold in COLD),
    )  # fmt: skip
    return table(head, lines)


def _prices(model: Model) -> str:
    lines = []
    for rows, dimension in _each():
        impossible = model.silent(rows, dimension)
        found = [dollars(model.bill(rows, dimension, cold).total) for cold in COLD]
        peers = [
            dollars(prices[rows]) if dimension == 768 and rows in prices else ""
            for prices in PEERS.values()
        ]
        lines.append(
            [
                f"{size_of(rows)} x {dimension:,}",
                *(_told(one, impossible=impossible) for one in found),
                *peers,
            ]
        )
    return table(("vectors", *(f"{100 * cold:g} % cold" for cold in COLD), *PEERS), lines)


def _sources() -> str:
    return table(("what", "value", "from"), [[one.what, one.value, one.origin] for one in SOURCES])


def _fit(model: Model) -> str:
    units = (("tasks", 1e3, "ms a task"), ("rows", 1e6, "µs a row"), ("values", 1e9, "ns a value"),
             ("work", 1e9, "s a thousand million of work"))  # fmt: skip
    lines = []
    for stage, each in model.fit.seconds.items():
        told = [number(each[kind] * scale) if each.get(kind) else "–" for kind, scale, _ in units]
        peak = model.fit.peak_mb.get(stage)
        lines.append([stage.value, *told, f"{peak:,.0f}" if peak else "–"])
    return table(("stage", *(unit for *_, unit in units), "peak MB"), lines)


def checked(inputs: Inputs, runs: Sequence[Run]) -> str:
    """Return the section that holds the model against what ran: predicted over measured."""
    lines = []
    worst: dict[str, list[float]] = {}
    for run in runs:
        others = tuple(one for one in inputs.runs if not _same(one, run)) or inputs.runs
        built = build_cost(run.cut, fit(others), replace(LOCAL, concurrency=run.functions))
        for cost in built.stages:
            found = run.stages.get(cost.stage.value)
            if found is None:
                continue
            counts = found.requests
            measured = {
                "tasks": float(found.tasks),
                "cpu_s": found.cpu_s,
                "reads": float(counts.get("get", 0) + counts.get("range", 0)),
                "puts": float(counts.get("put", 0)),
                "bytes_in": float(found.bytes_in),
                "bytes_out": float(found.bytes_out),
            }
            told = ratios(cost, measured)
            for name, ratio in told.items():
                worst.setdefault(name, []).append(ratio)
            lines.append(
                [
                    f"{run.name}, {run.rows:,} x {run.dimension}: {cost.stage.value}",
                    number(found.cpu_s),
                    *(f"{told[name]:.2f}" if name in told else "–" for name in CHECKED),
                ]
            )
        if run.index_bytes:
            stored = fit(others).stored_bytes(run.rows, run.dimension)
            ratio = stored / sum(run.index_bytes.values())
            worst.setdefault("stored", []).append(ratio)
            share = partitions(run.rows) / run.partitions
            lines.append(
                [
                    f"{run.name}, {run.rows:,} x {run.dimension}: the index",
                    "–",
                    *("–" for _ in CHECKED),
                ]
            )
            lines[-1][1] = f"stored {ratio:.2f}, partitions {share:.2f}"
    summary = "; ".join(
        f"{name} from {min(found):.2f} to {max(found):.2f}" for name, found in worst.items()
    )
    parts = ["## How far the model is off", CHECKS, table(("run", "CPU s", *CHECKED), lines)]
    parts.append(f"Predicted over measured, over all: {summary}.")
    return "\n\n".join(parts)


def queried(asked: Iterable[Mapping[str, float]]) -> str:
    """Return the section that holds it against queries that were asked."""
    rows = [[one["name"], *(_over(one, key) for key in ASKED)] for one in asked]
    return f"{ASKED_NOTE}\n\n{table(('queries', *ASKED), rows)}"


CHECKED: Final = ("tasks", "cpu_s", "reads", "puts", "bytes_in", "bytes_out")
ASKED: Final = ("warm p50 ms", "warm p99 ms", "cold p50 ms", "requests, cold", "rounds, cold")
CHECKS: Final = """Predicted over measured: 1 is right, 2 is twice too much. Each run is predicted \
by a fit to the *other* runs, so that no figure predicts itself. Requests and bytes come from the \
plan's arithmetic alone; CPU seconds from the fit; where machines are shared with others the same \
work took up to twice as long from one run to the next. A run *with small tasks* cut them smaller \
than by default, so that there were more of them to kill: tasks, and requests with them, are off."""
ASKED_NOTE: Final = """Queries of `bench/deployment.py` behind the local cloud, the platform set \
to what the local cloud is (no distance, two cores): measured, and predicted over measured."""


def _over(one: Mapping[str, float], key: str) -> str:
    measured, predicted = one[f"measured {key}"], one[f"predicted {key}"]
    return f"{number(measured)} ({predicted / measured:.2f})" if measured else "–"


def _same(one: Run, other: Run) -> bool:
    return (one.name, one.rows, one.dimension) == (other.name, other.rows, other.dimension)
