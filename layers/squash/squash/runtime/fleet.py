"""Whom a function calls, as the environment's variables say."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

from squash.errors import InvalidArgumentError
from squash.limits import SLOTS_MAX
from squash.planning.shape import Shape, read_shape
from squash.planning.slots import slot_names
from squash.runtime.invokers import AFFINITIES, Affinity
from squash.runtime.settings import MB_PER_VCPU, memory_mb
from squash.values import dataclass

ALLOCATOR_VARIABLE: Final = "SQUASH_ALLOCATOR"
PROCESSOR_VARIABLE: Final = "SQUASH_PROCESSOR"
ENCODER_VARIABLE: Final = "SQUASH_ENCODER"
AFFINITY_VARIABLE: Final = "SQUASH_AFFINITY"
SLOTS_VARIABLE: Final = "SQUASH_SLOTS"
SHAPE_VARIABLE: Final = "SQUASH_SHAPE"

_SLOTS: Final = "8"


@dataclass(frozen=True, slots=True)
class FleetSettings:
    """Whom a function calls, and how.

    Parameters
    ----------
    allocator, processor, encoder:
        The functions' names; None if there is nobody to call.
    affinity, slots:
        How partitions find the containers that hold them.
    shape:
        Who answers, whatever it costs; None for what pays.
    memory_mb:
        Of this function.

    """

    allocator: str | None
    processor: str | None
    encoder: str | None
    affinity: Affinity
    slots: tuple[str, ...]
    shape: Shape | None
    memory_mb: int

    @property
    def vcpus(self) -> float:
        """How many cores this function has; the others are taken to have as many."""
        return self.memory_mb / MB_PER_VCPU if self.memory_mb else float(os.cpu_count() or 1)


def read_fleet(environment: Mapping[str, str]) -> FleetSettings:
    """Read whom a function calls.

    Raises
    ------
    InvalidArgumentError
        With the variable that is wrong.

    """
    affinity = environment.get(AFFINITY_VARIABLE) or "tenant"
    if affinity not in AFFINITIES:
        raise InvalidArgumentError(
            f"{AFFINITY_VARIABLE} is one of {', '.join(AFFINITIES)}, not {affinity!r:.80}"
        )
    slots = environment.get(SLOTS_VARIABLE) or _SLOTS
    if not slots.isdecimal() or not 1 <= int(slots) <= SLOTS_MAX:
        raise InvalidArgumentError(
            f"{SLOTS_VARIABLE} is a whole number from 1 to {SLOTS_MAX}, not {slots!r:.80}"
        )
    return FleetSettings(
        allocator=environment.get(ALLOCATOR_VARIABLE) or None,
        processor=environment.get(PROCESSOR_VARIABLE) or None,
        encoder=environment.get(ENCODER_VARIABLE) or None,
        affinity=affinity,
        slots=slot_names(int(slots)),
        shape=_shape(environment.get(SHAPE_VARIABLE)),
        memory_mb=memory_mb(environment),
    )


def _shape(text: str | None) -> Shape | None:
    try:
        return read_shape(text) if text else None
    except ValueError as error:
        raise InvalidArgumentError(f"{SHAPE_VARIABLE}: {error}") from error
