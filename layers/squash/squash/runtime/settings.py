"""Settings, read once at the edge into a frozen value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from squash.errors import InvalidArgumentError
from squash.kernels import native
from squash.limits import MIB

KERNELS_VARIABLE: Final = "SQUASH_KERNELS"


@dataclass(frozen=True, slots=True)
class Settings:
    """How one process uses its machine.

    Parameters
    ----------
    retained_bytes_max:
        How much of what was loaded is kept.
    whole_bytes_max:
        Vectors of a segment up to this size are loaded whole rather than page by page.
    billed:
        Whether requests to the store cost money, as S3's do.
    staleness_ms_max:
        For how long an eventual read may answer from the snapshot it knows.

    """

    retained_bytes_max: int = 2_048 * MIB
    whole_bytes_max: int = 0
    billed: bool = False
    staleness_ms_max: int = 5_000


def choose_kernels(environment: Mapping[str, str]) -> None:
    """Let the kernels that SQUASH_KERNELS names serve this process; without it, the best.

    Raises
    ------
    InvalidArgumentError
        If this machine cannot run them.

    """
    name = environment.get(KERNELS_VARIABLE)
    if not name:
        return
    try:
        native.choose(name)
    except ValueError as error:
        raise InvalidArgumentError(f"{KERNELS_VARIABLE}: {error}") from error
