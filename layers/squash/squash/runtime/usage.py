"""What an answer cost: what was spent here and elsewhere, as one `Usage`."""

from __future__ import annotations

from typing import NamedTuple

from squash.drafts import make_usage_here
from squash.model import Usage
from squash.planning.prices import invocation_cost_usd, request_cost_usd
from squash.runtime.retained import LoadCounts
from squash.runtime.settings import Settings
from squash.search import Trace
from squash.search.spending import Spent
from squash.storage import StoreCounts


class SpentHere(NamedTuple):
    """What was asked of the store, of memory and of files until now."""

    store: StoreCounts
    loads: LoadCounts


def spent_together(one: Spent | None, other: Spent | None) -> Spent | None:
    """Return what two have spent; None if neither has."""
    if one is None or other is None:
        return one or other
    both = Spent()
    both.add(one)
    both.add(other)
    return both


def usage_of(trace: Trace, before: SpentHere, after: SpentHere, settings: Settings) -> Usage:
    """Return what an answer cost, by what its search noted and what was spent here meanwhile."""
    (store, loads), (store_before, loads_before) = after, before
    requests = store.requests - store_before.requests
    rounds = store.rounds - store_before.rounds
    bytes_in = store.bytes_in - store_before.bytes_in
    memory = loads.memory - loads_before.memory
    tmp = loads.tmp - loads_before.tmp
    read = loads.store - loads_before.store
    cost_usd = request_cost_usd((store - store_before).by_kind) if settings.billed else 0.0
    elsewhere = trace.spent
    if elsewhere is None:
        return make_usage_here(
            (trace.scanned, trace.vectors_read),
            (requests, rounds, bytes_in),
            (memory, tmp, read),
            cost_usd,
            tuple(trace.levels),
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
        store_requests=requests + sum(elsewhere.store_kinds.values()),
        store_rounds=rounds + elsewhere.store_rounds,
        store_bytes=bytes_in + elsewhere.store_bytes,
        parts_from_memory=memory + elsewhere.parts_from_memory,
        parts_from_tmp=tmp + elsewhere.parts_from_tmp,
        parts_from_store=read + elsewhere.parts_from_store,
        invocations=elsewhere.invocations,
        invocations_cold=elsewhere.invocations_cold,
        gb_seconds=elsewhere.gb_seconds,
        cost_usd=cost_usd,
        levels=tuple(trace.levels),
    )
