"""Coordinator, allocators and processors over one store, calling one another as functions do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from simulated import START_MS, Clock, Cloud, Fate, World
from squash.clock import SystemIds
from squash.database import Database
from squash.planning import DEFAULT_COSTS
from squash.planning.shape import Shape
from squash.planning.slots import slot_names
from squash.runtime import Settings
from squash.runtime.warm_slots import WarmSlots
from squash.runtime.warm_views import WarmViews
from squash.search.allocator import Allocator
from squash.search.distributed import DistributedSearcher, Fleet
from squash.search.processor import Processor
from squash.storage import MemoryStore, ObjectStore


@dataclass
class Roles:
    """The functions of one deployment; what their containers keep stays warm between calls."""

    store: ObjectStore = field(default_factory=MemoryStore)
    slots: int = 3
    retained_bytes: int = 1 << 28
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        settings = Settings(retained_bytes_max=self.retained_bytes)
        self.views = WarmViews(self.store, settings=settings, clock=self.clock, ids=SystemIds())
        self.warm_slots = WarmSlots(self.store, settings=settings)

    def database(self, **more) -> Database:
        return Database(self.store, settings=Settings(), clock=self.clock, ids=SystemIds(), **more)

    def allocator(self, calling) -> Allocator:
        return Allocator(
            calling,
            self.views.view_at,
            slots=slot_names(self.slots),
            costs=DEFAULT_COSTS,
            meter=self.views.meter,
        )

    def processor(self, clock) -> Processor:
        return Processor(self.warm_slots.slot_of, self.warm_slots.meter, clock)

    def cloud(self, fates: Iterator[Fate]) -> Cloud:
        return Cloud(
            {
                "allocator": lambda world, event: self.allocator(world.calling).handle(event),
                "processor": lambda world, event: self.processor(world.clock).handle(event),
            },
            fates,
        )

    def searcher(self, calling, shape: Shape | None) -> DistributedSearcher:
        return DistributedSearcher(calling, Fleet(slot_names(self.slots), 1.0, 1 << 30, shape))

    def simulated(self, fates: Iterator[Fate], shape: Shape) -> tuple[DistributedSearcher, World]:
        """Return a searcher whose calls pass in simulated time."""
        world = self.cloud(fates).world(START_MS)
        return self.searcher(world.calling, shape), world
