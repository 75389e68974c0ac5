"""Settings, read once at the edge into a frozen value."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from squash.errors import InvalidArgumentError
from squash.kernels import native
from squash.limits import MIB
from squash.planning import DEFAULT_COSTS, CostModel
from squash.planning.prices import Architecture
from squash.values import dataclass

KERNELS_VARIABLE: Final = "SQUASH_KERNELS"
COSTS_VARIABLE: Final = "SQUASH_COSTS"
SHARE_VARIABLE: Final = "SQUASH_RETAINED_SHARE"
TMP_VARIABLE: Final = "SQUASH_TMP_BYTES"
FUNCTION_VARIABLE: Final = "AWS_LAMBDA_FUNCTION_NAME"
MEMORY_VARIABLE: Final = "AWS_LAMBDA_FUNCTION_MEMORY_SIZE"
MB_PER_VCPU: Final = 1769.0  # so much memory comes with one processor core
_RETAINED_SHARE: Final = 0.5


@dataclass(frozen=True, slots=True)
class StorePlace:
    """Where a database's store is, for other processes to open it too.

    Parameters
    ----------
    location:
        As `squash.connect` takes it.
    endpoint_url, region:
        Of S3, where they differ from what the AWS configuration says.

    """

    location: str
    endpoint_url: str | None = None
    region: str | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """How one process uses its machine.

    Parameters
    ----------
    retained_bytes_max:
        How much of what was loaded is kept.
    whole_bytes_max:
        Vectors, or documents, of a segment up to this size are loaded whole rather than by pages.
    billed:
        Whether requests to the store cost money, as S3's do.
    staleness_ms_max:
        For how long an eventual read may answer from the snapshot it knows.
    costs:
        What the steps of a search cost on this machine; plans are chosen by it.
    architecture:
        Of the functions that are called, for what they cost.
    place:
        Where the store is; None where only this process can open it.
    memory_mb:
        This function's memory setting; 0 outside of Lambda.

    """

    retained_bytes_max: int = 2_048 * MIB
    whole_bytes_max: int = 0
    billed: bool = False
    staleness_ms_max: int = 5_000
    costs: CostModel = DEFAULT_COSTS
    architecture: Architecture = "x86_64"
    place: StorePlace | None = None
    memory_mb: int = 0


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


def read_costs(environment: Mapping[str, str]) -> CostModel:
    """Return the costs in the file that SQUASH_COSTS names; without it, the defaults.

    Such a file is what `bench/costs.py` writes: an object whose `costs` are the parameters of
    `squash.planning.CostModel`, all of them.

    Raises
    ------
    InvalidArgumentError
        If the file cannot be read, or says something else.

    """
    name = environment.get(COSTS_VARIABLE)
    if not name:
        return DEFAULT_COSTS
    try:
        document = json.loads(Path(name).read_text(encoding="utf-8"))
        found = document.get("costs") if isinstance(document, dict) else None
        if not isinstance(found, dict):
            raise ValueError("it has no object 'costs'")  # noqa: TRY301, TRY004 - told below
        return CostModel.from_json(found)
    except (OSError, ValueError) as error:
        raise InvalidArgumentError(
            f"{COSTS_VARIABLE}={name}: {error}; `make costs` writes such a file"
        ) from error


def retained_bytes(environment: Mapping[str, str]) -> int:
    """Return how much a function may retain: a share of its memory setting.

    The share is SQUASH_RETAINED_SHARE, above 0 and below 1, 0.5 without it. Outside of Lambda,
    where nothing tells a memory setting, it is what `Settings` says.

    Raises
    ------
    InvalidArgumentError
        If a variable is no number of its range.

    """
    memory = memory_mb(environment)
    share = environment.get(SHARE_VARIABLE) or str(_RETAINED_SHARE)
    try:
        if not 0.0 < float(share) < 1.0:
            raise ValueError  # noqa: TRY301 - told below
    except ValueError as error:
        raise InvalidArgumentError(
            f"{SHARE_VARIABLE} is a number above 0 and below 1, not {share!r:.80}"
        ) from error
    if not memory:
        return Settings().retained_bytes_max
    return int(memory * MIB * float(share))


def memory_mb(environment: Mapping[str, str]) -> int:
    """Return a function's memory setting; 0 outside of Lambda, where nothing tells it.

    Raises
    ------
    InvalidArgumentError
        If it is no number.

    """
    memory = environment.get(MEMORY_VARIABLE) or "0"
    if not memory.isdecimal():
        raise InvalidArgumentError(f"{MEMORY_VARIABLE} is a number of MB, not {memory!r:.80}")
    return int(memory)


def tmp_bytes(environment: Mapping[str, str]) -> int | None:
    """Return how many bytes of files may stand behind memory, as SQUASH_TMP_BYTES says.

    0 for none; None, without the variable, for most of what is free.

    Raises
    ------
    InvalidArgumentError
        If it is no whole number.

    """
    value = environment.get(TMP_VARIABLE)
    if not value:
        return None
    if not value.isdecimal():
        raise InvalidArgumentError(f"{TMP_VARIABLE} is a whole number of bytes, not {value!r:.80}")
    return int(value)
