"""What AWS allows and asks, as `bench/scale.py` assumes it; each with where it is from.

Nothing here was measured on AWS. What Squash itself decides stands in `squash.limits`, what AWS
asks for requests and functions in `squash.planning.prices`: those are read, not copied.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Final

from squash.limits import LAMBDA_CONCURRENCY_MAX, LAMBDA_MEMORY_MB_MAX, MIB
from squash.planning.build_costs import TRANSITIONS_PER_STAGE, TRANSITIONS_PER_TASK, VCPU_MB
from squash.planning.prices import Architecture
from squash.planning.shape import DEFAULT_SHAPE_COSTS

MB_PER_VCPU: Final = float(VCPU_MB)
VCPUS_MAX: Final = 6.0


@cache
def parameter(name: str) -> int:
    """Return the default of a number that `template.yaml` lets whoever deploys choose."""
    template = Path(__file__).resolve().parents[1] / "template.yaml"
    found = re.search(
        rf"^  {name}:\n    Type: Number\n    Default: (\d+)$",
        template.read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    if found is None:
        raise LookupError(f"template.yaml has no number {name}")
    return int(found[1])


@dataclass(frozen=True, slots=True)
class Spread:
    """A lognormal distribution by two of its quantiles, in milliseconds."""

    p50: float
    p99: float


@dataclass(frozen=True, slots=True)
class Platform:
    """Lambda, Step Functions and S3.

    Parameters
    ----------
    concurrency:
        Functions at once: what the deployment lets a build take, or the account has.
    ramp, ramp_s:
        A function gets so many more containers each so many seconds, and as many at once.
    child_starts_per_s, children_max:
        Of a distributed map.
    transitions_per_task, transitions_per_stage:
        Of Step Functions: what a child execution and a stage's own states take.
    gates_per_stage, map_s:
        How often the gate is asked, and how long a map takes to read its list and to end.
    memory_mb, tmp_mb, architecture:
        Of the function `builder`.
    processor_share:
        How fast its core is beside the one that measured.
    bandwidth_mb_per_s:
        Of one function to and from S3.
    get, put:
        Until the first byte of a request to S3; until one is stored.
    requests_at_once:
        That a task has under way.
    gets_per_s, puts_per_s:
        That S3 allows a prefix.
    split_s, splits_max:
        After so long at its limit S3 is assumed to split a prefix in two; so often at most.
    invoke:
        From a call to its first line and back, of a warm function.
    start:
        What a container takes before the program's own import begins.
    import_ms:
        CPU to import a function and read what it needs to begin, all of it billed.

    """

    concurrency: int = field(default_factory=lambda: parameter("BuildConcurrency"))
    ramp: int = 1_000
    ramp_s: float = 10.0
    child_starts_per_s: float = 300.0
    children_max: int = 10_000
    transitions_per_task: float = float(TRANSITIONS_PER_TASK)
    transitions_per_stage: float = float(TRANSITIONS_PER_STAGE)
    gates_per_stage: int = 2
    map_s: float = 2.0
    memory_mb: float = field(default_factory=lambda: float(parameter("BuilderMemory")))
    tmp_mb: float = field(default_factory=lambda: float(parameter("BuilderTmp")))
    architecture: Architecture = "arm64"
    processor_share: float = 1.0
    bandwidth_mb_per_s: float = DEFAULT_SHAPE_COSTS.read_mb_per_s
    get: Spread = Spread(DEFAULT_SHAPE_COSTS.round_ms, 150.0)
    put: Spread = Spread(45.0, 250.0)
    requests_at_once: int = 16
    gets_per_s: float = 5_500.0
    puts_per_s: float = 3_500.0
    split_s: float = 900.0
    splits_max: int = 4
    invoke: Spread = Spread(DEFAULT_SHAPE_COSTS.hop_ms, 60.0)
    start: Spread = Spread(150.0, 400.0)
    import_ms: float = 450.0

    @property
    def vcpus(self) -> float:
        """The share of cores that a function has."""
        return min(self.memory_mb / MB_PER_VCPU, VCPUS_MAX)


@dataclass(frozen=True, slots=True)
class Source:
    """Where an assumption is from."""

    what: str
    value: str
    origin: str


AWS: Final = Platform()
# The same with all that an account has by default, and with what it may be granted.
ACCOUNT: Final = replace(AWS, concurrency=LAMBDA_CONCURRENCY_MAX)
GRANTED: Final = replace(AWS, concurrency=10 * LAMBDA_CONCURRENCY_MAX)
# As the local cloud has it: two cores, no distance, S3 by moto.
LOCAL: Final = Platform(
    concurrency=2,
    bandwidth_mb_per_s=400.0,
    get=Spread(3.0, 12.0),
    put=Spread(4.0, 15.0),
    invoke=Spread(2.0, 8.0),
    start=Spread(20.0, 60.0),
)

SOURCES: Final = (
    Source("functions at once", f"{AWS.concurrency:,} as deployed by default, 1,000 an account, "
           "10,000 if asked for", "`template.yaml`; Lambda's quotas (read)"),
    Source("more containers", "1,000 each 10 s a function", "Lambda's quotas (read)"),
    Source("memory, cores", f"{MB_PER_VCPU:,.0f} MB is one core, {LAMBDA_MEMORY_MB_MAX:,} MB the "
           "most", "Lambda's quotas (read)"),
    Source("a task", f"900 s, {AWS.tmp_mb:,.0f} MB of /tmp by default, 10,240 the most",
           "`template.yaml`; Lambda's quotas (read)"),
    Source("children of a map", "10,000 at once", "Step Functions' quotas (read)"),
    Source("starts of children", "300 a second", "assumed: the refill rate of StartExecution; "
           "that of maps is not published"),
    Source("transitions", f"{TRANSITIONS_PER_TASK} a task, {TRANSITIONS_PER_STAGE} a stage; their "
           "price", "`squash.planning`, after `infra/bulk_build.asl.yaml`; not confirmed"),
    Source("a stage's own time", "two calls of the gate, 2 s of the map", "the state machine; "
           "the second assumed"),
    Source("requests a prefix", "5,500 GET, 3,500 PUT a second", "S3's guide (read)"),
    Source("splits of prefixes", "twice the rate after 15 min, 16 times at most", "assumed: S3 "
           "says that it scales gradually, not how fast"),
    Source("bandwidth", f"{AWS.bandwidth_mb_per_s:g} MB/s a function", "read: 70 to 113 MB/s "
           "measured by others"),
    Source("first byte of S3", "30 ms, p99 150 ms", "assumed; S3's guide says 100 to 200 ms for "
           "small objects, others measured 20 to 50"),
    Source("a warm call", "20 ms, p99 60 ms", "assumed: decision 0012"),
    Source("a cold container", "150 ms (p99 400), and its import and first answer", "the first "
           "assumed, the others measured: the section *Cold starts* of the benchmarks"),
    Source("cores", "as fast as the one that measured", "assumed"),
)  # fmt: skip
FILE_BYTES: Final = 1_024 * MIB
"""Of an input file: what the model takes a person's files to be."""
