"""One query on one snapshot: the levels of the query plan, in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from squash.arrays import F32, F64, I64
from squash.attributes import FilterNode
from squash.limits import SCAN_ALL_MATCHES_MAX
from squash.model import Answer, Explanation, Level, Match, Metadata, Metric, Usage
from squash.planning import Keep, choose_clusters, keep_for, scan_mode
from squash.quantize import Prepared
from squash.search.filtering import Admission, admit, exactly, resolve
from squash.search.view import IndexView, PartitionView, Rows
from squash.segment.exact import exact_distances, nearest, unit_rows
from squash.segment.partition import Candidates


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked: the `k` rows nearest to `vector` (float32 [d]) that pass `node`."""

    vector: F32
    k: int
    node: FilterNode | None = None
    recall_target: float = 0.95
    exact: bool = False
    include_metadata: bool = True
    include_vector: bool = False
    explain: bool = False


@dataclass(slots=True)
class _Found:
    """Rows with their exact distances, by where they lie."""

    source: Rows
    rows: I64
    distances: F64


@dataclass(slots=True)
class _Trace:
    """What happened on the way, for `explain` and `usage`."""

    plan: str = "exact"
    levels: list[Level] = field(default_factory=list)
    partitions_visited: int = 0
    clusters_visited: int = 0
    predicted: float = 1.0
    examined: int = 0
    passed: int = 0
    scanned: int = 0
    vectors_read: int = 0
    certified: bool = True

    def level(self, name: str, candidates: int, survivors: int) -> None:
        self.levels.append(Level(name, candidates, survivors))


def answer(view: IndexView, query: Query, *, admissions: list[Admission] | None = None) -> Answer:
    """Answer one query.

    Parameters
    ----------
    view:
        The snapshot.
    query:
        What is asked; its vector must have the index's dimension and be finite.
    admissions:
        The filter's evaluation, where several queries share one filter.

    Returns
    -------
    Answer
        Exactly min(k, rows that pass) matches, ascending by distance, ties by key. `usage` lacks
        what only the store can count.

    """
    trace = _Trace()
    found = [_scan(view.metric, query, rows, trace) for rows in view.exact_rows if rows.count]
    if query.exact:
        found += [_scan(view.metric, query, rows, trace) for rows in view.partitions]
        trace.partitions_visited = len(view.partitions)
        trace.clusters_visited = sum(len(p.cluster_begins) - 1 for p in view.partitions)
    elif view.partitions:
        found += _search_partitions(view, query, trace, admissions)
    matches = _merge(found, query)
    trace.level("merge", sum(len(f.rows) for f in found), len(matches))
    return Answer(
        matches=tuple(matches),
        usage=Usage(
            rows_scanned=trace.scanned,
            vectors_read=trace.vectors_read,
            levels=tuple(trace.levels),
        ),
        snapshot=view.snapshot,
        explain=_explain(view, query, trace) if query.explain else None,
    )


def _scan(metric: Metric, query: Query, rows: Rows, trace: _Trace) -> _Found:
    """Search rows exactly, one by one."""
    admitted = exactly(rows, query.node)
    count = rows.count if admitted is None else len(admitted)
    trace.examined += rows.count
    trace.passed += count
    trace.scanned += count
    trace.vectors_read += count
    trace.level("exact scan", rows.count, count)
    if not count:
        return _Found(rows, np.empty(0, np.int64), np.empty(0, np.float64))
    return _Found(
        rows,
        *nearest(metric, query.vector, rows.all_vectors(), rows=admitted, k=query.k),
    )


def _search_partitions(
    view: IndexView, query: Query, trace: _Trace, admissions: list[Admission] | None
) -> list[_Found]:
    if admissions is None:
        admissions = admit(view, query.node)
    total = sum(partition.count for partition in view.partitions)
    sure = sum(int(a.sure_counts.sum()) for a in admissions)
    possible = sum(int(a.possible_counts.sum()) for a in admissions)
    trace.predicted = (sure + possible) / (2.0 * max(total, 1))
    trace.level("filter", total, possible)
    if possible <= SCAN_ALL_MATCHES_MAX:
        return _scan_matches(view, query, admissions, trace)
    return _search_clusters(view, query, admissions, trace)


def _scan_matches(
    view: IndexView, query: Query, admissions: list[Admission], trace: _Trace
) -> list[_Found]:
    """Few rows may pass: give each its exact distance."""
    trace.plan = "scan all matches"
    found = []
    for partition, admission in zip(view.partitions, admissions, strict=True):
        trace.examined += partition.count
        if not admission.possible_counts.any():
            continue
        resolve(partition, admission, query.node, clusters=None)
        rows = (
            np.arange(partition.count)
            if admission.sure is None
            else np.flatnonzero(admission.sure).astype(np.int64)
        )
        if not len(rows):
            continue
        trace.partitions_visited += 1
        trace.clusters_visited += int((admission.sure_counts > 0).sum())
        trace.passed += len(rows)
        trace.vectors_read += len(rows)
        found.append(_Found(partition, rows, _distances(view, query, partition, rows)))
    trace.level("exact scan", sum(len(f.rows) for f in found), min(query.k, trace.passed))
    return found


def _search_clusters(
    view: IndexView, query: Query, admissions: list[Admission], trace: _Trace
) -> list[_Found]:
    trained = view.partitions[0].trained
    vector = unit_rows(query.vector[None, :])[0] if view.metric is Metric.COSINE else query.vector
    prepared = trained.codec.prepare(vector)
    chosen = choose_clusters(
        prepared.distances_to(trained.centers),
        rows=trained.cluster_rows,
        sure=np.concatenate([a.sure_counts for a in admissions]),
        possible=np.concatenate([a.possible_counts for a in admissions]),
        k=query.k,
        calibration=trained.calibration,
        recall_target=query.recall_target,
    )
    keep = keep_for(query.k, query.recall_target)
    trace.clusters_visited = len(chosen)
    ranked: list[tuple[PartitionView, Candidates]] = []
    modes = set()
    for partition, admission in zip(view.partitions, admissions, strict=True):
        inside = (chosen >= partition.first_cluster) & (chosen < partition.end_cluster)
        if not inside.any():
            continue
        clusters = chosen[inside] - partition.first_cluster
        # Unsure rows are checked before they can displace sure ones: later levels may then cut.
        resolve(partition, admission, query.node, clusters=clusters)
        candidates, mode = _rank(
            partition, admission, clusters, prepared=prepared, keep=keep, trace=trace
        )
        ranked.append((partition, candidates))
        modes.add(mode)
    trace.plan = " and ".join(f"{mode} codes" for mode in sorted(modes))
    trace.partitions_visited = len(ranked)
    admitted = sum(c.admitted for _, c in ranked)
    trace.level("clusters", trace.examined, admitted)
    trace.level("low-bit codes", admitted, sum(c.ranked for _, c in ranked))
    return _refine(view, query, ranked, keep, trace)


def _rank(
    partition: PartitionView,
    admission: Admission,
    clusters: I64,
    *,
    prepared: Prepared,
    keep: Keep,
    trace: _Trace,
) -> tuple[Candidates, str]:
    begins = partition.cluster_begins
    rows = int((begins[clusters + 1] - begins[clusters]).sum())
    expected = int(admission.possible_counts[clusters].sum())
    mode = scan_mode(rows=rows, admitted=expected, low_keep=keep.low)
    candidates = partition.partition().search(
        prepared, clusters=clusters, admitted=admission.sure, mode=mode, low_keep=keep.low
    )
    trace.examined += rows
    trace.passed += candidates.admitted
    trace.scanned += rows if mode == "low" else candidates.admitted
    return candidates, mode


def _refine(
    view: IndexView,
    query: Query,
    ranked: list[tuple[PartitionView, Candidates]],
    keep: Keep,
    trace: _Trace,
) -> list[_Found]:
    """Give the best of the ranked rows their exact distances, in the order of the estimates.

    It is done in two steps: what the first leaves out is read only where its lower bound says
    that it could still enter.
    """
    estimates = np.concatenate([c.estimates for _, c in ranked])
    bounds = np.concatenate([c.lower_bounds for _, c in ranked])
    owner = np.repeat(np.arange(len(ranked)), [len(c.rows) for _, c in ranked])
    rows = np.concatenate([c.rows for _, c in ranked])
    order = np.argsort(estimates, kind="stable")
    finalists = order[: keep.refined]
    distances = np.full(len(rows), np.inf)
    first = finalists[: query.k + query.k // 2]
    _measure(view, query, ranked, (owner, rows, distances), first)
    worst = np.inf
    if len(first) >= query.k:
        worst = _as_code_distance(view.metric, float(np.sort(distances[first])[query.k - 1]))
    rest = finalists[len(first) :]
    rest = rest[bounds[rest] <= worst]
    _measure(view, query, ranked, (owner, rows, distances), rest)
    read = np.concatenate((first, rest))
    trace.vectors_read += len(read)
    trace.level("full codes", len(rows), len(finalists))
    trace.level("refine", len(finalists), len(read))
    unread = np.setdiff1d(order, read, assume_unique=True)
    if len(read) >= query.k:
        worst = _as_code_distance(view.metric, float(np.sort(distances[read])[query.k - 1]))
    trace.certified = all(c.bounded for _, c in ranked) and not bool(np.any(bounds[unread] < worst))
    return [
        _Found(partition, rows[mine], distances[mine])
        for i, (partition, _) in enumerate(ranked)
        for mine in [read[owner[read] == i]]
        if len(mine)
    ]


def _measure(
    view: IndexView,
    query: Query,
    ranked: list[tuple[PartitionView, Candidates]],
    table: tuple[I64, I64, F64],
    wanted: I64,
) -> None:
    owner, rows, distances = table
    for i in np.unique(owner[wanted]):
        mine = wanted[owner[wanted] == i]
        distances[mine] = _distances(view, query, ranked[i][0], rows[mine])


def _distances(view: IndexView, query: Query, source: Rows, rows: I64) -> F64:
    return exact_distances(view.metric, query.vector, source.vectors(rows))


def _as_code_distance(metric: Metric, distance: float) -> float:
    """Turn a reported distance into the codecs' measure: squared L2, or the negated product."""
    if metric is Metric.COSINE:
        return 2.0 * distance
    return distance * distance if metric is Metric.EUCLIDEAN else distance


def _merge(found: Sequence[_Found], query: Query) -> list[Match]:
    """Keep the k nearest of all, ties by key (level 7)."""
    found = [f for f in found if len(f.rows)]
    if not found:
        return []
    distances = np.concatenate([f.distances for f in found])
    owner = np.repeat(np.arange(len(found)), [len(f.rows) for f in found])
    rows = np.concatenate([f.rows for f in found])
    order = np.argsort(distances, kind="stable")
    if len(order) > query.k:
        last = distances[order[query.k - 1]]
        order = order[: int(np.searchsorted(distances[order], last, side="right"))]
    named: list[tuple[float, str, int, Metadata]] = []
    for i in np.unique(owner[order]):
        mine = order[owner[order] == i]
        for position, (key, metadata) in zip(
            mine.tolist(), found[i].source.documents(rows[mine]), strict=True
        ):
            named.append((float(distances[position]), key, position, metadata))
    named.sort(key=lambda entry: entry[:2])
    named = named[: query.k]
    vectors = _vectors(found, owner, rows, named) if query.include_vector else {}
    return [
        Match(key, distance, metadata if query.include_metadata else None, vectors.get(position))
        for distance, key, position, metadata in named
    ]


def _vectors(
    found: Sequence[_Found],
    owner: I64,
    rows: I64,
    named: Sequence[tuple[float, str, int, Metadata]],
) -> dict[int, F32]:
    wanted = np.array([position for _, _, position, _ in named], dtype=np.int64)
    vectors: dict[int, F32] = {}
    for i in np.unique(owner[wanted]):
        mine = wanted[owner[wanted] == i]
        read = found[i].source.vectors(rows[mine])
        vectors.update(zip(mine.tolist(), read, strict=True))
    return vectors


def _explain(view: IndexView, query: Query, trace: _Trace) -> Explanation:
    return Explanation(
        plan=trace.plan,
        levels=tuple(trace.levels),
        partitions_visited=trace.partitions_visited,
        partitions_total=len(view.partitions),
        clusters_visited=trace.clusters_visited,
        clusters_total=len(view.trained.centers) if view.trained else 0,
        selectivity_predicted=trace.predicted,
        selectivity_actual=trace.passed / trace.examined if trace.examined else 0.0,
        recall_target=1.0 if query.exact else query.recall_target,
        certified=trace.certified,
    )
