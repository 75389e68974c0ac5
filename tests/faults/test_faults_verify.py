"""Verifying beside a garbage collection: it tells of all that is damaged, and of nothing else."""

from __future__ import annotations

from contextlib import suppress
from functools import partial

import numpy as np
import pytest
from fault_cases import DAY_S, NAME, RETENTION_S, World, state_of
from fault_store import StepStore

from amounts import WHOLE
from living import SMALL, everything
from squash import Index
from squash.errors import ConflictError, DataError

# So many calls read the history, in any order after the listing; the others read what is there now.
STEPS = 32

pytestmark = pytest.mark.usefixtures("small_limits")


def harm(store, key: str, how: str) -> None:
    data = bytearray(store.get(key))
    store.delete([key])
    if how == "flipped":
        data[len(data) // 2] ^= 1
        store.put(key, bytes(data))


def verified(world: World, store) -> set[str]:
    report = world.database(3, store).index(NAME).verify()
    return {damage.object_key for damage in report.damages}


def stored() -> list[str]:
    """Return the keys of what an old index has, garbage and not, but for its settings."""
    keys = (info.key for info in World.of("old").store.list(f"{NAME}/"))
    kinds = ("/log/", "/segments/", "/snapshots/", "/trained/")
    return [key for key in keys if any(kind in key for kind in kinds)]


@pytest.mark.parametrize("how", ["removed", "flipped"])
def test_damage_is_told_beside_a_collection(how):
    """Whatever is damaged and whenever it runs: the same is told as when it is over."""
    rng = np.random.default_rng(7)
    keys, told = stored(), 0
    for key in keys if WHOLE else rng.choice(keys, 6, replace=False).tolist():
        world = World.of("old")
        harm(world.store, key, how)

        def collect(world: World = world) -> None:
            with suppress(DataError):  # it removes nothing then
                world.database(50).index(NAME).gc(RETENTION_S)

        step = int(rng.integers(STEPS))
        faulty = StepStore(world.store, step=step, fault="overtaken", rival=collect)
        found = verified(world, faulty)
        assert faulty.happened
        assert found == verified(world, world.store), f"{key} {how}, {faulty.happened}"
        told += bool(found)
    assert told


def rebuilt_later(world: World) -> None:
    """All is folded, and collected days later: whoever stood still finds another index."""
    index = world.database(50).index(NAME)
    index.optimize(options=SMALL, full=True)
    world.clock.sleep(2 * DAY_S)
    index.gc(RETENTION_S)


@pytest.mark.parametrize("step", [2, 20, 28, *(range(3, 120, 7) if WHOLE else ())])
def test_what_was_folded_and_collected_is_no_damage(step):
    world = World.of("old")
    rival = partial(rebuilt_later, world)
    faulty = StepStore(world.store, step=step, fault="overtaken", rival=rival)
    assert verified(world, faulty) == set()
    assert faulty.happened


def standing_still(step: int) -> tuple[World, StepStore, Index]:
    """Open an index that another handle rebuilds and collects before a later call of the store."""
    world = World.of("aged")
    rival = partial(rebuilt_later, world)
    faulty = StepStore(world.store, fault="overtaken", rival=rival)
    index = world.database(3, faulty).index(NAME)
    faulty.log.clear()
    faulty.step = step
    return world, faulty, index


@pytest.mark.parametrize("step", [1, 2])
def test_who_stood_still_while_opening_opens_what_is_there_then(step):
    """Not the snapshot that was listed, which is gone."""
    _, faulty, index = standing_still(step)
    assert everything(index) == state_of("aged")
    assert faulty.happened


@pytest.mark.parametrize("step", [9, 27])
def test_a_fold_whose_inputs_were_folded_and_collected_is_a_conflict(step):
    """It took longer than the retention, and what it would read is gone: nothing is damaged."""
    world, _, index = standing_still(step)
    with pytest.raises(ConflictError, match="another fold"):
        index.optimize(options=SMALL, full=True)
    assert world.found() == state_of("aged")


def test_what_is_lost_meanwhile_is_told():
    """Also of objects that were whole when verify listed them, and are removed unlawfully."""
    for part in ("/codes", "/trained/", "/log/"):
        world = World.of("old")

        def collect_and_harm(world: World = world, part: str = part) -> None:
            world.database(50).index(NAME).gc(RETENTION_S)
            there = [info.key for info in world.store.list(f"{NAME}/") if part in info.key]
            harm(world.store, min(there), "removed")

        faulty = StepStore(world.store, step=6, fault="overtaken", rival=collect_and_harm)
        assert verified(world, faulty) == verified(world, world.store) != set(), part
