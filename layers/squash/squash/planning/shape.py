"""How many functions answer: one, one that calls processors, or a tree of allocators.

The choice weighs what one waits against what it costs (docs/decisions/0012). Time is told in
milliseconds from the moment at which the coordinator has its queries; cost in dollars, of all
functions, their waiting included, since Lambda bills that too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Final, Literal

from squash.limits import TREE_BRANCHES_MAX, TREE_DEPTH_MAX
from squash.planning.costs import CostModel, Matches, plan_matches
from squash.planning.slots import slots_used
from squash.planning.tree import Tree
from squash.values import dataclass

_NS_PER_MS: Final = 1e6
_MS_PER_S: Final = 1e3
# With fewer queries than this a tree is not even considered: its nodes would have none.
_TREE_QUERIES_MIN: Final = 8
_BRANCHES: Final = (2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64)


@dataclass(frozen=True, slots=True)
class ShapeCosts:
    """What calls and their work cost; where each number is from stands in decision 0012.

    Parameters
    ----------
    hop_ms:
        h: from a call to its first line of code, and back; of a warm function.
    call_ms, called_ms:
        CPU of one core for a call, whatever is in it: of who makes it, its answer taken in (the
        paper's a), and of who is called.
    answer_ms:
        CPU for a query's results from an allocator: to write them there, to take them in here.
    plan_ms:
        CPU to plan a query, beside what `CostModel` counts.
    task_ms, process_ms, merge_ms:
        CPU for a query and a slot that it needs: to write its share of a task, to read and answer
        that, beside what `CostModel` counts, and to take that in.
    search_ms:
        CPU for a query that is searched in one process, beside what `CostModel` counts.
    slots_needed:
        How many slots a query needs: its clusters lie side by side, in few partitions.
    round_ms, rounds, requests, read_mb, read_mb_per_s:
        Of a query whose data is not retained: how long a round to the store takes, how many there
        are, how many requests and megabytes it reads, and how fast.
    cold_share, cold_ms:
        How many calls start a container, and how long that takes; hedged ones included.
    memory_gb:
        Of each function.
    gb_second_usd, invocation_usd, request_usd:
        List prices.
    ms_usd:
        What a millisecond of waiting is worth: the rate at which time is traded for money.
    calls_max:
        How many functions may run at once.

    """

    hop_ms: float = 20.0
    call_ms: float = 1.5
    called_ms: float = 0.9
    answer_ms: float = 0.08
    plan_ms: float = 0.06
    task_ms: float = 0.025
    process_ms: float = 0.26
    merge_ms: float = 0.09
    search_ms: float = 0.06
    slots_needed: float = 2.8
    round_ms: float = 30.0
    rounds: int = 3
    requests: int = 8
    read_mb: float = 4.0
    read_mb_per_s: float = 70.0
    cold_share: float = 0.002
    cold_ms: float = 200.0
    memory_gb: float = 1.73
    gb_second_usd: float = 13.3334e-6
    invocation_usd: float = 0.20e-6
    request_usd: float = 0.40e-6
    ms_usd: float = 1e-6
    calls_max: int = 500


DEFAULT_SHAPE_COSTS: Final = ShapeCosts()


@dataclass(frozen=True, slots=True)
class Load:
    """What is to be answered, on what.

    Parameters
    ----------
    queries:
        How many.
    plan_ms, scan_ms:
        What a query takes of one core, by `CostModel`: to be planned, and to be searched.
    index_bytes:
        What a search may read: codes, attributes and vectors.
    retained_bytes:
        What the process that chooses can retain.
    partitions, slots:
        Of the index; that there are.
    vcpus:
        Cores of each function.

    """

    queries: int
    plan_ms: float
    scan_ms: float
    index_bytes: int
    retained_bytes: int
    partitions: int
    slots: int
    vcpus: float


@dataclass(frozen=True, slots=True)
class Shape:
    """Who answers: "none" calls nobody, "fan-out" calls processors, "tree" allocators."""

    kind: Literal["none", "fan-out", "tree"]
    tree: Tree | None = None

    def __str__(self) -> str:
        if self.tree is None:
            return self.kind
        return f"{self.tree.branching_factor},{self.tree.depth}"


NONE: Final = Shape("none")
FAN_OUT: Final = Shape("fan-out")


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a shape is expected to take."""

    ms: float
    usd: float

    def worth_usd(self, costs: ShapeCosts) -> float:
        """Return what it comes to, with waiting at its price."""
        return self.usd + self.ms * costs.ms_usd


def work_of(costs: CostModel, expected: Matches) -> tuple[float, float]:
    """Return what a query takes of one core in milliseconds: to be planned, and to be searched."""
    plan = plan_matches(costs, expected, always_max=0)
    total = min(plan.walk_ns, plan.scan_all_ns)
    planning = min(costs.preparation(expected.dimension, expected.clusters), total)
    return planning / _NS_PER_MS, (total - planning) / _NS_PER_MS


@lru_cache(maxsize=256)
def choose_shape(load: Load, costs: ShapeCosts = DEFAULT_SHAPE_COSTS) -> Shape:
    """Choose who answers.

    Parameters
    ----------
    load:
        What is to be answered.
    costs:
        What calls cost.

    """
    return min(
        _shapes(load, costs), key=lambda shape: estimate(shape, load, costs).worth_usd(costs)
    )


def read_shape(text: str) -> Shape:
    """Read what `str` of a shape gives: ``none``, ``fan-out`` or ``F,L``.

    Raises
    ------
    ValueError
        If it is none of these.

    """
    if text in {NONE.kind, FAN_OUT.kind}:
        return NONE if text == NONE.kind else FAN_OUT
    factor, comma, depth = text.partition(",")
    if not (comma and factor.isdecimal() and depth.isdecimal()):
        raise ValueError(f"a shape is none, fan-out, or F,L as in 10,2; not {text!r}")
    return Shape("tree", Tree(int(factor), int(depth)))


def branching_factor(costs: ShapeCosts) -> int:
    """Return the F at which the last node of a large tree starts earliest: F(ln F - 1) = h/a.

    A level takes h + a·F, and ln N / ln F levels hold N nodes.
    """
    ratio = costs.hop_ms / costs.call_ms
    low, high = math.e, float(TREE_BRANCHES_MAX)
    for _ in range(40):
        middle = (low + high) / 2
        if middle * (math.log(middle) - 1.0) < ratio:
            low = middle
        else:
            high = middle
    return round(low)


def estimate(shape: Shape, load: Load, costs: ShapeCosts = DEFAULT_SHAPE_COSTS) -> Estimate:
    """Return what a shape is expected to take."""
    if shape.kind == "none":
        return _alone(load, costs)
    if shape.tree is None:
        return _fanned_out(load, costs)
    return _through(shape.tree, load, costs)


def _shapes(load: Load, costs: ShapeCosts) -> Iterator[Shape]:
    yield NONE
    if not load.partitions or not load.slots or not load.queries:
        return
    yield FAN_OUT
    if load.queries < _TREE_QUERIES_MIN:
        return
    calls = 1 + _slots(load)
    for depth in range(1, TREE_DEPTH_MAX):
        for factor in sorted({*_BRANCHES, branching_factor(costs)}):
            nodes = sum(factor**level for level in range(1, depth + 1))
            if nodes > load.queries or nodes * calls > costs.calls_max:
                break
            yield Shape("tree", Tree(factor, depth))


def _slots(load: Load) -> int:
    return slots_used(load.partitions, load.index_bytes, load.slots)


def _alone(load: Load, costs: ShapeCosts) -> Estimate:
    """Estimate one process: what it cannot retain it reads anew."""
    cores = min(load.vcpus, load.queries) if load.queries > 1 else min(load.vcpus, 1.0)
    ms = load.queries * (load.plan_ms + load.scan_ms + costs.search_ms) / max(cores, 0.1)
    missed = 1.0 - min(load.retained_bytes / max(load.index_bytes, 1), 1.0)
    usd = 0.0
    if missed:
        most_mb = min(load.queries * costs.read_mb, load.index_bytes / 1e6)
        ms += costs.rounds * costs.round_ms + missed * most_mb / costs.read_mb_per_s * _MS_PER_S
        usd = missed * load.queries * costs.requests * costs.request_usd
    return Estimate(ms, usd + _billed_usd(ms, costs))


@dataclass(frozen=True, slots=True)
class _Node:
    """What a node does for its own queries: time until they are answered, its calls, theirs."""

    ms: float
    calls: float
    process_ms: float

    def processors_usd(self, costs: ShapeCosts) -> float:
        """Return what its processors cost."""
        return self.calls * (costs.invocation_usd + _billed_usd(self.process_ms, costs))


def _node(queries: float, load: Load, costs: ShapeCosts) -> _Node:
    slots = _slots(load)
    needed = min(costs.slots_needed, slots)
    calls = slots * (1.0 - (1.0 - needed / slots) ** queries)
    shares = queries * needed
    cores = max(min(load.vcpus, queries), 0.1)
    process = queries * load.scan_ms / calls + shares / calls * costs.process_ms
    process_ms = costs.called_ms + process / cores
    # What is Python holds one core, however many there are.
    own = queries * (load.plan_ms / cores + costs.plan_ms) + calls * costs.call_ms
    own += shares * (costs.task_ms + costs.merge_ms)
    return _Node(own + costs.hop_ms + process_ms, calls, process_ms)


def _fanned_out(load: Load, costs: ShapeCosts) -> Estimate:
    node = _node(load.queries, load, costs)
    ms = node.ms + _cold_ms(node.calls, costs)
    return Estimate(ms, _billed_usd(ms, costs) + node.processors_usd(costs))


def _through(tree: Tree, load: Load, costs: ShapeCosts) -> Estimate:
    """Estimate a tree: until its last node has begun, what that does, and the way back."""
    nodes = tree.nodes
    node = _node(load.queries / nodes, load, costs)
    begun = tree.depth * (costs.hop_ms + costs.call_ms * tree.branching_factor)
    own_ms = costs.called_ms + node.ms + load.queries / nodes * costs.answer_ms
    calls = nodes * (1.0 + node.calls)
    ms = begun + own_ms + load.queries * costs.answer_ms + _cold_ms(calls, costs)
    usd: float = _billed_usd(ms, costs)
    usd += nodes * (costs.invocation_usd + node.processors_usd(costs))
    for level in range(1, tree.depth + 1):
        nodes_here = tree.branching_factor**level
        usd += int(nodes_here) * _billed_usd(own_ms + (tree.depth - level) * costs.hop_ms, costs)
    return Estimate(ms, usd)


def _cold_ms(calls: float, costs: ShapeCosts) -> float:
    """Return what a cold start among so many calls adds to the slowest of them, on average."""
    return (1.0 - math.pow(1.0 - costs.cold_share, calls)) * costs.cold_ms


def _billed_usd(ms: float, costs: ShapeCosts) -> float:
    return ms / _MS_PER_S * costs.memory_gb * costs.gb_second_usd
