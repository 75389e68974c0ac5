"""What `docs/deploy.md` says of dollars: bills of warm containers, and what it saves to keep these.

python bench/cost.py --deploy docs/deploy.md
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from cost_model import (
    MILLION,
    Away,
    away_usd,
    idle_usd,
    ping_usd,
    price,
    sized,
    slots_that_hold,
)
from cost_steps import DIMENSION, Asked, Assumptions, Deployed, load_of, steps
from report import dollars, number, table
from squash.planning.slots import slots_used

SHARE: Final = 0.1
BATCH: Final = 100
WARM: Final = (0.98, 0.8)
ASKED: Final[tuple[tuple[int, bool, Mapping[str, Any]], ...]] = (
    (MILLION, True, {}),
    (MILLION, True, {"door": "url"}),
    (MILLION, True, {"coordinator_mb": 1769.0}),
    (10 * MILLION, False, {}),
    (10 * MILLION, True, {}),
    (10 * MILLION, True, {"door": "url"}),
    (100 * MILLION, True, {}),
)
BATCHES: Final = """In batches of {batch} the queries of those at the API, the third apart, cost \
{batches}. With one call in fifty cold they are {cool}, with one in five {cold}: a container that \
starts costs what some queries do, a coordinator the more the larger the index is."""
MINUTES: Final = 5
IDLE_MINUTES: Final = 10.0
"""How long Lambda is taken to leave an idle container: read, of what others measured."""
MONTH_MINUTES: Final = 30 * 24 * 60
MONTHLY: Final = (100, 1_000, 10_000, 100_000, MILLION)
KEPT: Final = """Of 1 million × {dimension} without a filter, by default and at the API, one query \
at a time at random moments, if Lambda takes a container away after {idle:.0f} idle minutes (it \
promises no time; others measured from 5 minutes to an hour): queries a month, the share of them \
that wait for some start, what they take on average, and what they cost a month without and with \
`KeepWarm`, which itself is {pings} a month ({slots} slots, each {minutes} minutes)."""
PAYS: Final = """It pays between {low} and {high} queries a month for that index; with {slots10} \
slots for 10 million rows it costs {pings10} a month and pays between {low10} and {high10}, with \
{slots100} slots for 100 million {pings100}, between {low100} and {high100}. Below and above, it \
buys time alone."""
FEWER_MONTHLY: Final = 100_000
FEWER: Final = """Fewer slots of more memory are warmer, for each is asked more often. 10 million \
rows, {monthly:,} queries a month, otherwise the same:"""


def bills(one: Assumptions) -> str:
    """Return the table of what a million queries cost, and what becomes of it."""
    rows, at_api = [], []
    for size, whole, settings in ASKED:
        usual = Deployed(**settings)
        deployed = sized(one, size, **settings) if whole else usual
        asked = Asked(size, SHARE)
        took, bill = steps(one, deployed, asked), price(one, deployed, asked)
        if deployed.door == "api" and "coordinator_mb" not in settings:
            at_api.append((deployed, asked))
        each_s = (took.process_ms + took.missed_ms) / 1e3
        rows.append(
            [
                f"{size // MILLION} million × {DIMENSION}",
                ", ".join(_settings(deployed)) or "by default",
                "0",
                f"{took.calls:.2g}",
                f"{took.ms / 1e3:.3g}, 0, {each_s:.2g}",
                f"{one.warm_requests + took.asks:.3g}",
                dollars(bill.total),
                dollars(idle_usd(one, size)),
            ]
        )
    told = BATCHES.format(
        batch=BATCH,
        batches=_listed(
            price(one, deployed, replace(asked, queries=BATCH)).total for deployed, asked in at_api
        ),
        **{
            name: _listed(
                price(one, deployed, replace(asked, warm=share)).total for deployed, asked in at_api
            )
            for name, share in zip(("cool", "cold"), WARM, strict=True)
        },
    )
    head = (
        "index", "setting", "a", "p", "seconds (c, a, p)", "g warm", "dollars", "S3, a month",
    )  # fmt: skip
    return f"{table(head, rows)}\n\n{told}"


def _listed(values: Iterator[float]) -> str:
    words = [dollars(value) for value in values]
    return f"{', '.join(words[:-1])} and {words[-1]}"


def _settings(deployed: Deployed) -> Iterator[str]:
    """Yield what is set otherwise than by default."""
    usual = Deployed()
    if deployed.door == "url":
        yield "at `QueryUrl`"
    if deployed.slots != usual.slots:
        yield f"`Slots={deployed.slots}`"
    if deployed.coordinator_mb != usual.coordinator_mb:
        yield f"`CoordinatorMemory={deployed.coordinator_mb:.0f}`"


def kept(one: Assumptions) -> str:
    """Return what it costs to keep containers warm, and when it pays."""
    places = [(size, sized(one, size)) for size in (MILLION, 10 * MILLION, 100 * MILLION)]
    (size, deployed), *_ = places
    pings = [_pings_usd(one, usual) for _, usual in places]
    warm = price(one, deployed, Asked(size))
    rows = []
    for monthly in MONTHLY:
        away, each_usd, each_ms = starts_of(one, deployed, Asked(size), monthly)
        bill = monthly * warm.total / MILLION
        rows.append(
            [
                f"{monthly:,}",
                f"{100 * away.some:.0f} %",
                f"{number(warm.ms + each_ms)} ms",
                _cents(bill + monthly * each_usd),
                f"{number(warm.ms)} ms",
                _cents(bill + pings[0]),
            ]
        )
    head = (
        "queries a month", "wait for a start", "take", "dollars a month", "take, kept warm",
        "dollars a month",
    )  # fmt: skip
    ends = [_pays(one, usual, size) for size, usual in places]
    lines = []
    for memory in (1769.0, 3538.0, 7076.0, 10_240.0):
        held = Deployed(slots=1, processor_mb=memory)
        slots = slots_that_hold(one, 10 * MILLION, DIMENSION, held)
        fewer = sized(one, 10 * MILLION, slots=slots, processor_mb=memory)
        away, each_usd, each_ms = starts_of(one, fewer, Asked(10 * MILLION), FEWER_MONTHLY)
        bill = price(one, fewer, Asked(10 * MILLION))
        lines.append(
            [
                f"{slots} of {memory:.0f} MB",
                f"{100 * away.some:.0f} %",
                f"{number(bill.ms + each_ms)} ms",
                _cents(FEWER_MONTHLY * (bill.total / MILLION + each_usd)),
                dollars(bill.total),
            ]
        )
    columns = ("slots", "wait for a start", "take", "dollars a month", "a million, warm")
    return "\n\n".join(
        [
            KEPT.format(
                dimension=DIMENSION,
                idle=IDLE_MINUTES,
                pings=_cents(pings[0]),
                slots=deployed.slots,
                minutes=MINUTES,
            ),
            table(head, rows),
            PAYS.format(
                low=ends[0][0],
                high=ends[0][1],
                **{
                    f"{name}{count}": value
                    for place, count in ((1, 10), (2, 100))
                    for name, value in (
                        ("slots", places[place][1].slots),
                        ("pings", _cents(pings[place])),
                        ("low", ends[place][0]),
                        ("high", ends[place][1]),
                    )
                },
            ),
            FEWER.format(monthly=FEWER_MONTHLY),
            table(columns, lines),
        ]
    )


def _pings_usd(one: Assumptions, deployed: Deployed) -> float:
    return MONTH_MINUTES / MINUTES * ping_usd(one, deployed)


def starts_of(
    one: Assumptions, deployed: Deployed, asked: Asked, monthly: float
) -> tuple[Away, float, float]:
    """Return what containers that were taken away add to a query: dollars, and milliseconds.

    So many queries a month come at random moments, one at a time.
    """
    calls = steps(one, deployed, asked).calls
    idle = monthly / MONTH_MINUTES * IDLE_MINUTES
    load = load_of(one, deployed, asked, 1.0, function_mb=deployed.coordinator_mb)
    used = slots_used(load.partitions, load.index_bytes, load.slots)
    away = Away(math.exp(-idle), math.exp(-idle * calls / used), calls)
    return away, *away_usd(one, deployed, asked, away)


def _pays(one: Assumptions, deployed: Deployed, rows: int) -> tuple[str, str]:
    """Return between how many queries a month it costs less than the starts it saves."""
    pings = _pings_usd(one, deployed)
    paying = [
        monthly
        for monthly in (round(10 ** (place / 100)) for place in range(801))
        if monthly * starts_of(one, deployed, Asked(rows), monthly)[1] > pings
    ]
    return f"{_round(paying[0]):,}", f"{_round(paying[-1]):,}"


def _round(value: int) -> int:
    """Return a count with two digits."""
    step = 10 ** max(len(str(value)) - 2, 0)
    return round(value / step) * step


def _cents(value: float) -> str:
    return f"{value:.3f}" if value < 1 else dollars(value)
