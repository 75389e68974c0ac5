"""What an answer cost: what was spent here and elsewhere, as one `Usage`."""

from __future__ import annotations

from operator import sub
from typing import TypeAlias

from squash.drafts import make_usage_here
from squash.model import Usage
from squash.planning.prices import invocation_cost_usd, request_cost_usd
from squash.runtime.settings import Settings
from squash.search import Told, Trace
from squash.search.spending import Spent
from squash.storage import Noted, StoreCounts

SpentHere: TypeAlias = tuple[Noted, tuple[int, ...]]
"""What was asked of the store until now; and of memory, of files, and past both."""


def spent_together(one: Spent | None, other: Spent | None) -> Spent | None:
    """Return what two have spent; None if neither has."""
    if one is None or other is None:
        return one or other
    both = Spent()
    both.add(one)
    both.add(other)
    return both


def usage_of(told: Told, before: SpentHere, after: SpentHere, settings: Settings) -> Usage:
    """Return what an answer cost, by what its search noted and what was spent here meanwhile."""
    trace = told if isinstance(told, Trace) else told()
    store = StoreCounts.of(tuple(map(sub, after[0], before[0])))
    memory, tmp, read = map(sub, after[1], before[1])
    cost_usd = request_cost_usd(store.by_kind) if settings.billed else 0.0
    elsewhere = trace.spent
    if elsewhere is None:
        return make_usage_here(
            (trace.scanned, trace.vectors_read),
            (store.requests, store.rounds, store.bytes_in),
            (memory, tmp, read),
            cost_usd,
            trace.levels,
        )
    if elsewhere.invocations:
        cost_usd += request_cost_usd(elsewhere.store_kinds) + invocation_cost_usd(
            elsewhere.invocations,
            elsewhere.gb_seconds,
            architecture=settings.architecture,
        )
    return Usage(
        rows_scanned=trace.scanned,
        vectors_read=trace.vectors_read,
        store_requests=store.requests + sum(elsewhere.store_kinds.values()),
        store_rounds=store.rounds + elsewhere.store_rounds,
        store_bytes=store.bytes_in + elsewhere.store_bytes,
        parts_from_memory=memory + elsewhere.parts_from_memory,
        parts_from_tmp=tmp + elsewhere.parts_from_tmp,
        parts_from_store=read + elsewhere.parts_from_store,
        invocations=elsewhere.invocations,
        invocations_cold=elsewhere.invocations_cold,
        gb_seconds=elsewhere.gb_seconds,
        cost_usd=cost_usd,
        levels=trace.levels,
    )
