"""What an answer cost: what was spent here and elsewhere, as one `Usage`."""

from __future__ import annotations

from typing import Final, NamedTuple

from squash.model import Usage, make_usage_here
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

    def since(self, earlier: SpentHere) -> SpentHere:
        """Return what was asked after `earlier`."""
        return SpentHere(self.store - earlier.store, self.loads.since(earlier.loads))


NOTHING_HERE: Final = SpentHere(StoreCounts(), LoadCounts(0, 0, 0))


def spent_together(one: Spent | None, other: Spent | None) -> Spent | None:
    """Return what two have spent; None if neither has."""
    if one is None or other is None:
        return one or other
    both = Spent()
    both.add(one)
    both.add(other)
    return both


def usage_of(trace: Trace, here: SpentHere, settings: Settings) -> Usage:
    """Return what an answer cost, by what its search noted and what was spent here for it."""
    store, loads, elsewhere = here.store, here.loads, trace.spent
    cost_usd = request_cost_usd(store.by_kind) if settings.billed else 0.0
    if elsewhere is None:
        return make_usage_here(
            (trace.scanned, trace.vectors_read),
            (store.requests, store.rounds, store.bytes_in),
            (loads.memory, loads.tmp, loads.store),
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
        store_requests=store.requests + sum(elsewhere.store_kinds.values()),
        store_rounds=store.rounds + elsewhere.store_rounds,
        store_bytes=store.bytes_in + elsewhere.store_bytes,
        parts_from_memory=loads.memory + elsewhere.parts_from_memory,
        parts_from_tmp=loads.tmp + elsewhere.parts_from_tmp,
        parts_from_store=loads.store + elsewhere.parts_from_store,
        invocations=elsewhere.invocations,
        invocations_cold=elsewhere.invocations_cold,
        gb_seconds=elsewhere.gb_seconds,
        cost_usd=cost_usd,
        levels=tuple(trace.levels),
    )
