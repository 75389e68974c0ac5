"""What queries cost on AWS: dollars a million, from CPU time measured here and list prices.

    python bench/cost.py --out docs/benchmarks.md      # from bench/cost_fitted.json
    python bench/cost.py --deploy docs/deploy.md       # the same, what that says of dollars
    python bench/cost_inputs.py                        # measures and fits that anew

The model is `bench/cost_model.py`, what it is told `bench/cost_fit.py`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from cost_deploy import bills, kept, starts_of
from cost_fit import FITTED_PATH, GROWTH_MIN, SHARES, Fitted, load, sensitivity
from cost_model import (
    LABELS,
    MILLION,
    PARTS,
    idle_usd,
    logged_bytes,
    price,
    sized,
    tenant_gb,
)
from cost_steps import (
    DIMENSION,
    RETAINED_SHARE,
    Asked,
    Assumptions,
    Deployed,
    coordinator_start,
    row_bytes,
)
from report import command_line, dollars, number, replace_section, table, write_section
from squash.planning.prices import logging_cost_usd
from squash.planning.shape import Shape

SIZES: Final = (MILLION, 10 * MILLION, 100 * MILLION)
WARM: Final = (1.0, 0.98, 0.8)
BATCH: Final = 100
PEERS: Final[Mapping[str, Mapping[int, float]]] = {
    "S3 Vectors": {MILLION: 9.05, 10 * MILLION: 63.0},
    "turbopuffer": {MILLION: 3.27, 10 * MILLION: 32.0},
}


def rows_of(size: int) -> str:
    """Return how an index is called."""
    return f"{size // MILLION} million"


NOTE: Final = """\
Dollars for a million queries, k = 10 at recall 0.95, {dimension} dimensions, list prices of \
us-east-1 without free tiers and without what leaves AWS. The HTTP API ($1.00) and logs ({logs}: \
{line:.0f} bytes a call of the function's, {access:.0f} of the API's, of these 26 a line that \
CloudWatch is taken to add) are included, and the one S3 request of a warm call, by which the \
index's log tells of news and of a drop (one more, of the catalogue, every ten minutes a \
container, is left out; tests count both); the peers' prices hold all that they ask for \
queries. *Warm* is the share of calls, of the coordinator and of processors, that find a container \
which has loaded what they need; the others start one (all billed) and read from S3.

Measured by `bench/cost_inputs.py` ({measured}, {processor}, two cores shared with others, which \
makes CPU time up to twice as long): made vectors near a surface of 24 dimensions, {sizes} rows; \
recall {recall:.3f} without a filter, {recall_filtered:.3f} where 1 % pass. Clusters needed by \
share of rows that pass, of 1,000, and the power with which they grow ({growth_min} at least): \
{needed}. CPU of the coordinator's function for a query in JSON {handler} ms, of a search beside \
`CostModel` {search} ms, of an S3 request {request} ms (decision 0029); to start a processor \
{start:.0f} ms and the coordinator {coordinator_start:.0f}, for their first answers {first:.0f} \
and {coordinator_first:.0f} (the section *Cold starts*, where S3 is asked without TLS), for the \
first connection by TLS {connect:.0f} more, and for the coordinator's client of Lambda, if it \
calls others, {client:.0f}. Bytes a row: codes {codes:.0f}, vectors \
{vectors:.0f}, attributes {attributes:.0f}, in all {stored:.0f}. A query measures {refined} rows \
exactly. Work is `planning.costs`, calls \
`planning.shape`, with its numbers for hops and slots. **Assumed, not measured on AWS**: \
{hop:.0f} ms a hop, {round:.0f} ms a round to S3, {rate:.0f} MB a second, {begin:.0f} ms until a \
new container's import begins, which are waited for and not billed; all else of a start is. \
(Lambda is said to give a whole core for the import of functions with less memory; that is not \
counted on.) A cold processor is taken to ask S3 {cold_requests:.0f} times in {cold_rounds:.0f} \
rounds for {cold_mb:.0f} MB; a cold coordinator {gets:.0f} times and for {lists:.0f} listings in \
{rounds:.0f} rounds for the snapshot and all centers, and where queries have a filter for each \
partition's part of an attribute, in one more (decisions 0011 and 0023). **Left out**, for its \
price was not to be had: what Lambda asks for each container that it makes for a tenant \
(`Affinity=tenant`, the default), by the memory that this has. Each ten-thousandth of a dollar a \
GB would be {tenant} dollars a million queries with 98 % warm, and nothing with `Affinity=pool`."""

AS_IS: Final = """**As deployed by default** ({slots} slots of {processor:.0f} MB, half of it \
retained, {tmp:.0f} MB of /tmp; a coordinator of {coordinator:.0f} MB). Of 10 million rows and \
more this keeps the codes at best, and each query reads pages of vectors from S3:"""
SIZED: Final = """**With as many slots as hold the index** (`Slots`; and a coordinator that holds \
all centers and attributes, `CoordinatorMemory`):"""
SPREAD: Final = "What a query costs by part, one a call, 10 % passing, 98 % warm, sized:"
SWUNG: Final = (
    """What the assumptions do to {title} ({usual} as assumed), each halved and doubled:"""
)
BESIDE: Final = """**Beside the peers**: one query a call, 10 % passing, as many `Slots` as hold \
the index, consistent unless it says otherwise (docs/deploy.md has what `QueryUrl` lacks):"""
# What is said, and how it is deployed.
WAYS: Final[Sequence[tuple[str, Mapping[str, Any]]]] = (
    ("by default, at the HTTP API", {}),
    ("asked at `QueryUrl`", {"door": "url"}),
    ("the same, `consistency` eventual", {"door": "url", "eventual": True}),
    ("`CoordinatorMemory` 1769, at the HTTP API", {"coordinator_mb": 1769.0}),
)
MONTHLY: Final = "by default, a million a month at random moments, starts included"
MEMORIES: Final = (512, 768, 1024, 1280, 1536, 1769, 2048)
MEMORY: Final = """What `CoordinatorMemory` does, by index, 10 % passing: milliseconds warm, \
dollars all warm, dollars 98 % warm; of the last of these also milliseconds of a batch of {batch}, \
and seconds that a cold coordinator takes; and how many rows of {dimension} dimensions one \
function holds alone:"""
LOOKED_AT: Final = ((50_000, DIMENSION), (MILLION, 128), (MILLION, DIMENSION))
CHOICES: Final = "What settings do to a query of 1 million, 10 % passing, all else as by default:"


def section(fitted: Fitted, plots: Path | None) -> str:
    """Return the document's section."""
    one = fitted.assumptions
    middle = Asked(MILLION, 0.1, 0.98)
    usual = Deployed()
    first = replace(middle, warm=1.0)
    parts = ["## What queries cost", f"`{command_line()}`, computed.", note(fitted)]
    if plots is not None:
        import costplot

        parts.append(costplot.draw(one, plots / "cost.svg"))
    parts += [
        BESIDE,
        _beside(one),
        AS_IS.format(
            slots=usual.slots,
            processor=usual.processor_mb,
            tmp=usual.tmp_mb,
            coordinator=usual.coordinator_mb,
        ),
        _bills(one, lambda _: usual),
        SIZED,
        _bills(one, lambda rows: sized(one, rows)),
        SPREAD,
        _parts(one),
        CHOICES,
        _choices(one, middle),
        MEMORY.format(batch=BATCH, dimension=DIMENSION),
        _memories(one),
        SWUNG.format(title="1 million, all warm", usual=dollars(price(one, usual, first).total)),
        _swings(one, usual, first),
        SWUNG.format(title="1 million, 98 % warm", usual=dollars(price(one, usual, middle).total)),
        _swings(one, usual, middle),
        "Idle, a month, in S3: "
        + ", ".join(f"${dollars(idle_usd(one, rows))} for {rows_of(rows)}" for rows in SIZES)
        + " rows.",
    ]
    return "\n\n".join(parts)


def note(fitted: Fitted) -> str:
    """Return what the figures are from."""
    one = fitted.assumptions
    return NOTE.format(
        dimension=DIMENSION,
        logs=f"${dollars(MILLION * logging_cost_usd(logged_bytes(one, Deployed())))}",
        line=one.line_bytes,
        access=one.access_bytes,
        measured=fitted.measured,
        processor=fitted.processor,
        sizes=" to ".join(f"{rows:,}" for rows in fitted.rows),
        recall=fitted.recall[1.0],
        recall_filtered=fitted.recall[0.01],
        growth_min=GROWTH_MIN,
        needed=", ".join(
            f"{100 * share:g} %: {one.needed[share]:.0f} (power {one.growth[share]:.2f})"
            for share in SHARES
        ),
        handler=number(one.handler_ms),
        search=number(one.search_ms),
        request=number(one.request_ms),
        start=one.start_ms,
        coordinator_start=one.coordinator_start_ms,
        first=one.first_ms,
        coordinator_first=one.coordinator_first_ms,
        connect=one.connect_ms,
        client=one.client_ms,
        begin=one.begin_ms,
        gets=one.coordinator_requests,
        lists=one.coordinator_lists,
        rounds=one.coordinator_rounds,
        tenant=dollars(1e-4 * MILLION * tenant_gb(one, Deployed(), Asked(MILLION, 0.1, 0.98))),
        codes=one.code_bytes,
        vectors=one.row_bytes,
        attributes=one.attribute_bytes,
        stored=one.stored_bytes,
        refined=one.refined,
        hop=one.hop_ms,
        round=one.round_ms,
        rate=one.read_mb_per_s,
        cold_requests=one.cold_requests,
        cold_rounds=one.cold_rounds,
        cold_mb=one.cold_mb,
    )


def _beside(one: Assumptions) -> str:
    """Compare ways to ask with the peers, a query a call, of containers that hold the index."""
    rows = []
    for title, settings in WAYS:
        cells = []
        for size in SIZES:
            deployed = sized(one, size, **settings)
            bills = [price(one, deployed, Asked(size, 0.1, warm)) for warm in WARM[:2]]
            cells.append(", ".join(dollars(bill.total) for bill in bills))
        rows.append([title, *cells])
    cells = []
    for size in SIZES:
        deployed, asked = sized(one, size), Asked(size, 0.1)
        _, starts_usd, _ = starts_of(one, deployed, asked, MILLION)
        cells.append(dollars(price(one, deployed, asked).total + MILLION * starts_usd))
    rows.append([MONTHLY, *cells])
    for name, prices in PEERS.items():
        listed = [dollars(prices[size]) if size in prices else "–" for size in SIZES]
        rows.append([name, *listed])
    return table(("all warm, 98 % warm", *map(rows_of, SIZES)), rows)


def _bills(one: Assumptions, deployed_for: Callable[[int], Deployed]) -> str:
    rows = []
    for size in SIZES:
        deployed = deployed_for(size)
        for share in SHARES:
            warm = [price(one, deployed, Asked(size, share, w)) for w in WARM]
            batch = [price(one, deployed, Asked(size, share, w, BATCH)) for w in WARM]
            x86 = price(one, replace(deployed, architecture="x86_64"), Asked(size, share, 0.98))
            rows.append(
                [
                    f"{rows_of(size)}, {100 * share:g} %",
                    f"{deployed.slots} x {deployed.coordinator_mb:.0f}",
                    warm[0].shape,
                    number(warm[0].ms),
                    *(dollars(bill.total) for bill in warm),
                    dollars(x86.total),
                    f"{batch[0].shape}",
                    *(dollars(bill.total) for bill in batch),
                    *(
                        dollars(prices[size]) if size in prices else "–"
                        for prices in PEERS.values()
                    ),
                ]
            )
    head = (
        "rows, share that passes", "slots x coordinator's MB", "one query", "ms warm", "100 % warm",
        "98 %", "80 %", "x86, 98 %", f"batch of {BATCH}", "100 % warm", "98 %", "80 %", *PEERS,
    )  # fmt: skip
    return table(head, rows)


def _parts(one: Assumptions) -> str:
    bills = [price(one, sized(one, size), Asked(size, 0.1, 0.98)) for size in SIZES]
    rows = []
    for name, label in zip(PARTS, LABELS, strict=True):
        values = [getattr(bill, name) for bill in bills]
        shares = [
            f"{dollars(value)} ({100 * value / bill.total:.0f} %)"
            for value, bill in zip(values, bills, strict=True)
        ]
        rows.append([label, *shares])
    rows.append(["all", *(dollars(bill.total) for bill in bills)])
    return table(("part", *map(rows_of, SIZES)), rows)


def _choices(one: Assumptions, asked: Asked) -> str:
    usual, url = Deployed(), Deployed(door="url")
    variants = [
        ("by default", usual, None),
        ("asked at `QueryUrl`", url, None),
        ("the same, `LogLevel` WARN", replace(url, lines=False), None),
        ("`Metrics` on", replace(usual, metrics=True), None),
        ("`LogLevel` WARN", replace(usual, lines=False), None),
        ("`consistency` eventual", replace(usual, eventual=True), None),
        *(
            (f"`CoordinatorMemory` {memory}", replace(usual, coordinator_mb=float(memory)), None)
            for memory in (512, 1024, 1769, 3008)
        ),
        ("`ProcessorMemory` 1024", replace(usual, processor_mb=1024.0), None),
        ("`ProcessorMemory` 3008", replace(usual, processor_mb=3008.0), None),
        ("2 slots of 7076 MB", replace(usual, slots=2, processor_mb=7076.0), None),
        ("1 slot of 10240 MB", replace(usual, slots=1, processor_mb=10240.0), None),
        (
            "one function of 8192 MB, eventual",
            replace(usual, coordinator_mb=8192.0, processor_mb=8192.0, eventual=True),
            Shape("none"),
        ),
    ]
    rows = []
    for title, deployed, shape in variants:
        warm = price(one, deployed, replace(asked, warm=1.0), shape=shape)
        bill = price(one, deployed, asked, shape=shape)
        rows.append([title, number(warm.ms), dollars(warm.total), dollars(bill.total)])
    return table(("setting", "ms warm", "all warm", "98 % warm"), rows)


def _memories(one: Assumptions) -> str:
    """Compare what the coordinator may be given."""
    each = row_bytes(one, DIMENSION)
    rows = []
    for memory in MEMORIES:
        deployed = Deployed(coordinator_mb=float(memory))
        cells = []
        for size, dimension in LOOKED_AT:
            asked = Asked(size, 0.1, dimension=dimension)
            warm, cool = (price(one, deployed, replace(asked, warm=share)) for share in WARM[:2])
            told = f"{number(warm.ms)} ms, {dollars(warm.total)}, {dollars(cool.total)}"
            cells.append(f"{warm.shape}: {told}")
        batch = price(one, deployed, replace(asked, queries=BATCH))
        first = coordinator_start(one, deployed, asked)
        held = RETAINED_SHARE * memory * 1e6 / (each.codes + each.vector + one.attribute_bytes)
        seconds = (first.begin_ms + first.billed_ms(one)) / 1e3
        rows.append([memory, *cells, number(batch.ms), number(seconds), f"{held:,.0f}"])
    head = [f"{size:,} x {dimension}" for size, dimension in LOOKED_AT]
    return table(("MB", *head, f"batch of {BATCH}, ms", "cold, s", "rows alone"), rows)


def _swings(one: Assumptions, deployed: Deployed, asked: Asked) -> str:
    lines = sensitivity(one, deployed, asked)[:7]
    return table(
        ("assumption", "halved", "doubled"),
        [[f"`{name}`", dollars(low), dollars(high)] for name, low, high in lines],
    )


def main() -> None:
    """Print the section, and write it where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fitted", type=Path, default=FITTED_PATH)
    parser.add_argument("--out", type=Path, help="write a section of this document")
    parser.add_argument("--deploy", type=Path, help="write what this document says of dollars")
    arguments = parser.parse_args()
    fitted = load(arguments.fitted)
    if arguments.deploy is not None:
        for name, part in (("bills", bills), ("kept", kept)):
            replace_section(arguments.deploy, name, part(fitted.assumptions))
        return
    plots = arguments.out.parent / "plots" if arguments.out is not None else None
    text = section(fitted, plots)
    print(text)
    if arguments.out is not None:
        write_section(arguments.out, "cost", text)


if __name__ == "__main__":
    main()
