"""Faults on demand: what is to go wrong, how often, and a seed that says when."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

import numpy as np

from squash.errors import InvalidArgumentError, NotFoundError
from squash.limits import INTEGER_MAGNITUDE_MAX
from squash.values import dataclass


class FaultKind(StrEnum):
    """What can go wrong."""

    KILL = "kill"
    THROTTLE = "throttle"
    DELAY = "delay"
    DROP = "drop"
    S3_FAIL = "s3-fail"
    S3_DELAY = "s3-delay"
    S3_DROP = "s3-drop"


_DELAYS: Final = (FaultKind.KILL, FaultKind.DELAY, FaultKind.S3_DELAY)
_MEMBERS: Final = {"kind", "target", "share", "seed", "count", "delay_ms"}


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is to go wrong.

    Attributes
    ----------
    kind:
        ``kill`` ends the container `delay_ms` after it got the call; ``throttle`` refuses the call;
        ``delay`` holds the answer back; ``drop`` loses it; ``s3-fail`` answers 503 in S3's place,
        ``s3-delay`` holds a request back, ``s3-drop`` carries it out and loses the answer.
    target:
        A pattern such as ``*Processor*``: of functions' names, or of ``METHOD /bucket/key``.
    share:
        Of the calls that match, how many it befalls, in [0, 1].
    seed:
        Which ones.
    count:
        After how many it is over; None if never.
    delay_ms:
        How long.

    """

    kind: FaultKind
    target: str = "*"
    share: float = 1.0
    seed: int = 0
    count: int | None = None
    delay_ms: float = 0.0

    @property
    def of_s3(self) -> bool:
        """Whether it befalls S3 and not a function."""
        return self.kind.startswith("s3-")


class Faults:
    """The faults in force; asked at each call, in the order of the calls."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self._faults: list[_Drawn] = []
        self.replace(faults)

    @property
    def in_force(self) -> list[Fault]:
        """What was asked for, without what is over."""
        return [drawn.fault for drawn in self._faults if drawn.left != 0]

    def replace(self, faults: Iterable[Fault]) -> None:
        """Have these faults and no others; their draws begin anew."""
        self._faults = [_Drawn(fault) for fault in faults]

    def befall(self, name: str, *, s3: bool = False) -> dict[FaultKind, Fault]:
        """Draw what goes wrong with one call, at most one fault of a kind."""
        drawn = [one for one in self._faults if one.fault.of_s3 == s3 and one.draw(name)]
        return {one.fault.kind: one.fault for one in drawn}


class _Drawn:
    """A fault with its own generator: faults do not disturb one another's draws."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.left = -1 if fault.count is None else fault.count
        self._generator = np.random.default_rng(fault.seed)

    def draw(self, name: str) -> bool:
        if self.left == 0 or not fnmatchcase(name, self.fault.target):
            return False
        if self._generator.random() >= self.fault.share:
            return False
        self.left -= self.left > 0
        return True


def parse_faults(document: Any, *, place: str = "faults") -> tuple[Fault, ...]:
    """Read faults from JSON: a list of objects with the attributes of `Fault`.

    Raises
    ------
    InvalidArgumentError
        If it is not such a list; `field` names the place.

    """
    if not isinstance(document, list):
        raise InvalidArgumentError(f"{place} are to be a JSON list of objects", field=place)
    return tuple(_fault(item, f"{place}[{position}]") for position, item in enumerate(document))


def _fault(item: Any, place: str) -> Fault:
    if not isinstance(item, Mapping) or not set(item) <= _MEMBERS:
        raise InvalidArgumentError(
            f"{place} is to be an object with {', '.join(sorted(_MEMBERS))}", field=place
        )
    kinds: Sequence[str] = list(FaultKind)
    if item.get("kind") not in kinds:
        raise InvalidArgumentError(f"{place}.kind is to be one of {', '.join(kinds)}", field=place)
    fault = Fault(**{**item, "kind": FaultKind(item["kind"])})
    numbers = {"share": fault.share, "delay_ms": fault.delay_ms}
    for name, value in numbers.items():
        known = isinstance(value, int | float) and not isinstance(value, bool)
        # The other way about, what is no number at all would pass.
        if not (known and 0 <= value <= INTEGER_MAGNITUDE_MAX):
            raise InvalidArgumentError(f"{place}.{name} is to be a number from 0", field=place)
    if fault.share > 1:
        raise InvalidArgumentError(f"{place}.share is to be at most 1", field=place)
    if fault.delay_ms and fault.kind not in _DELAYS:
        raise InvalidArgumentError(f"{place}: {fault.kind} knows no delay_ms", field=place)
    wholes = [("seed", fault.seed), ("count", 0 if fault.count is None else fault.count)]
    for name, whole in wholes:
        if isinstance(whole, bool) or not isinstance(whole, int) or whole < 0:
            raise InvalidArgumentError(
                f"{place}.{name} is to be a whole number from 0", field=place
            )
    if not isinstance(fault.target, str):
        raise InvalidArgumentError(f"{place}.target is to be a pattern", field=place)
    return fault


def read_faults(path: Path) -> tuple[Fault, ...]:
    """Read a file of faults.

    Raises
    ------
    NotFoundError, InvalidArgumentError
        If there is no such file, or it holds no faults.

    """
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise NotFoundError(f"there is no file {path} of faults") from error
    except ValueError as error:
        raise InvalidArgumentError(f"{path} is not JSON: {error}") from error
    return parse_faults(document)
