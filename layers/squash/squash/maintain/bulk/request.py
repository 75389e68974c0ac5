"""What a build is asked to do, and every attempt at it; both as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, field
from typing import Any, Literal, Self, TypeAlias

from squash.values import dataclass

Executor: TypeAlias = Literal["local", "states"]


@dataclass(frozen=True, slots=True)
class InputColumns:
    """Which columns of Parquet files hold what; None takes the default, as `squash import`."""

    vector: str | None = None
    text: str | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class BuildSizes:
    """The sizes of what a build makes and works on; the defaults are those of a fold."""

    partition_rows_target: int
    partition_rows_max: int
    cluster_rows_target: int
    sample_rows_max: int
    sample_bytes_max: int
    calibration_queries: int
    exact_rows_max: int
    piece_rows_max: int
    """Rows that one run holds, at most."""
    piece_bytes_max: int
    """And bytes of their vectors."""
    group_bytes_max: int
    """Bytes of the rows that one task of `assemble` brings together, about."""
    batch_bytes: int
    """Bytes of input vectors of a task of `sample` or `assign`, about."""


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """What a build is asked to do: written once, before anything is read.

    Parameters
    ----------
    build, index:
        The build's id, and the index's name.
    inputs:
        Where the files are: ``s3://bucket/key`` or ``s3://bucket/prefix/``, ``file:///path`` of a
        file or a folder, in the order of the rows; a folder's files come by their names.
    columns:
        Of Parquet files.
    encoder:
        Which encoder made the vectors, as ``name@digest``, if the index has one.
    replaces:
        Whether records that are in the index give way; else it must be empty.
    base:
        The snapshot after which the build was begun: what is written later stays.
    sizes:
        Of partitions, samples and batches.
    created_ms:
        When, by the clock of who asked.

    """

    build: str
    index: str
    inputs: tuple[str, ...]
    columns: InputColumns
    encoder: str | None
    replaces: bool
    base: int
    sizes: BuildSizes
    created_ms: int

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {"version": 1, **asdict(self), "inputs": list(self.inputs)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read what `to_json` gave; what `MALFORMED` lists if it did not."""
        known = {name: item for name, item in value.items() if name != "version"}
        return cls(
            **{
                **known,
                "inputs": tuple(known["inputs"]),
                "columns": InputColumns(**known["columns"]),
                "sizes": BuildSizes(**known["sizes"]),
            }
        )


@dataclass(frozen=True, slots=True)
class Limits:
    """What stops a build; each resumption may set others."""

    bad_rows_max: int = 0
    """So many rows may be left out, and are listed; beyond, nothing is published."""
    dollars_max: float | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """A start or a resumption."""

    number: int
    executor: Executor
    started_ms: int
    limits: Limits = field(default_factory=Limits)
    memory_mb: int = 0
    """Of the function that runs tasks; 0 where they cost nothing."""
    architecture: str = "arm64"
    execution: str | None = None
    """The ARN of the state machine's execution."""
