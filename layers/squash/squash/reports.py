"""What long jobs tell: how far they are, and what they found, removed, mended or built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Literal, TypeAlias

from squash.values import dataclass

BuildState: TypeAlias = Literal["running", "published", "failed", "stopped", "cancelled"]


@dataclass(frozen=True, slots=True)
class ObjectCount:
    """So many stored objects, and their bytes."""

    objects: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Damage:
    """One thing that `verify` found wrong."""

    object_key: str
    problem: str
    newer: bool = False
    """Whether a newer release wrote it, which may find nothing wrong: `repair` leaves all alone."""


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What `verify` looked at and found."""

    objects: int
    bytes: int
    rows: int
    """Rows that lie in segments and fresh commits, dead ones too."""
    damages: tuple[Damage, ...]
    unreferenced: ObjectCount = field(default_factory=ObjectCount)
    """What nothing names, which is no damage: `gc` removes it once it is old."""


@dataclass(frozen=True, slots=True)
class GcReport:
    """What garbage collection removed, or, of a dry run, would remove."""

    horizon: int
    """The snapshot from which on every state stays readable; 0 if all do."""
    horizon_ms: int | None
    """When that snapshot was stored, by the store's clock."""
    removed: Mapping[str, ObjectCount]
    """By kind: "snapshots", "commits", "segments", "bitmaps", "trained", "builds", "probes"."""
    spared: ObjectCount
    """What nothing needs, but is so young that a writer may be about to name it."""
    unknown: ObjectCount
    """What has a name that the format does not know; it is left."""
    dry_run: bool = False

    @property
    def total(self) -> ObjectCount:
        """All that was removed."""
        counts = self.removed.values()
        return ObjectCount(sum(one.objects for one in counts), sum(one.bytes for one in counts))


@dataclass(frozen=True, slots=True)
class DatabaseGcReport:
    """What garbage collection removed from all indexes of a database."""

    indexes: Mapping[str, GcReport]
    """By the index's name."""
    failed: Mapping[str, str]
    """Why an index was left as it was, by its name."""
    remains: ObjectCount
    """Removed of indexes that were dropped, and their names taken by others."""
    left: tuple[str, ...] = ()
    """Names below which there is data and no index: `drop_index` removes it."""
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Repaired:
    """One thing that `repair` mended, or, of a dry run, would mend."""

    object_key: str
    how: str


@dataclass(frozen=True, slots=True)
class RepairReport:
    """What `repair` mended, what is lost, and what is left damaged."""

    repaired: tuple[Repaired, ...]
    lost_rows: int
    """Rows of the newest state that cannot be read back."""
    lost_keys: tuple[str, ...]
    """Their keys, where these can be read."""
    left: tuple[Damage, ...]
    """What is damaged still."""
    harmless: tuple[Damage, ...]
    """What is damaged still, and not needed by the newest state: `gc` removes it in time."""
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    """One step of a long job: `done` of `total` `unit`s of `stage`."""

    stage: str
    done: int
    total: int
    unit: str
    note: str = ""
    """What else there is to say, for people."""


@dataclass(frozen=True, slots=True)
class StageProgress:
    """How far a stage of a build is."""

    stage: str
    tasks_done: int
    tasks: int
    rows: int
    """That its tasks passed."""
    cpu_s: float
    cost_usd: float


@dataclass(frozen=True, slots=True)
class BuildEstimate:
    """What a build is thought to take, before anything is spent."""

    rows: int
    input_bytes: int
    partitions: int
    clusters: int
    objects: int
    """Of the index that is published."""
    seconds: float
    """From start to end, as wide as it goes."""
    cpu_s: float
    cost_usd: float


@dataclass(frozen=True, slots=True)
class BuildProblem:
    """What went wrong in a build, and where, as far as that is known."""

    stage: str
    message: str
    input: str | None = None
    """The URL of the file."""
    row: int | None = None
    """Of that file, from 0."""


@dataclass(frozen=True, slots=True)
class BuildStatus:
    """A build, as its objects tell."""

    build: str
    index: str
    state: BuildState
    executor: str
    """"local" or "states"."""
    attempt: int
    started_ms: int
    updated_ms: int
    """When a task last ended."""
    inputs: tuple[str, ...]
    rows: int
    """Of all files; 0 until they are counted."""
    bad: int
    """Rows that were left out, as far as tasks are done; of a build that they stopped, those that
    it had found by then."""
    bad_key: str | None
    """What the keys of the lists of bad rows begin with, below the index's own; None if there are
    none. A build that too many of them have stopped has it as well."""
    replaced: int
    """Rows that a later one of the same key replaced."""
    cost_usd: float
    """Spent so far, at list prices."""
    estimate: BuildEstimate | None
    remaining_s: float | None
    """Until it is published; None while that is not known."""
    stages: tuple[StageProgress, ...]
    problems: tuple[BuildProblem, ...]
    before: int
    """The snapshot after which it was begun."""
    snapshot: int | None
    """The one that it made, once it is published."""
