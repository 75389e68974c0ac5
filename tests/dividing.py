"""Answers queries as a coordinator, an allocator and processors do, messages and all."""

from dataclasses import dataclass, field

import numpy as np

from squash.index.entries import Entry
from squash.runtime.retained import RetainedObjects
from squash.search import Trace
from squash.search.allocating import allocate, tasks_of
from squash.search.found import complete
from squash.search.gathering import gather
from squash.search.messages import (
    read_task,
    read_task_answer,
    split_task,
    task_answer_bytes_max,
    task_bytes_max,
    write_task,
    write_task_answer,
)
from squash.search.processing import process
from squash.search.query import scan_rest
from squash.search.requests import (
    Request,
    answer_request,
    found_answered,
    read_request,
    read_request_answer,
    request_answer_bytes_max,
    request_bytes_max,
    write_request,
    write_request_answer,
)
from squash.search.slot import Slot

PREFIX = f"x/{'0' * 32}/"
PLENTY = 1 << 40


@dataclass
class Division:
    """How a search is divided."""

    slots: int = 3
    allocators: int = 1
    task_bytes: int = PLENTY
    answer_bytes: int = PLENTY
    documents_bytes_max: int = PLENTY >> 1
    retained_bytes: int = 1 << 28
    whole_bytes_max: int = 1 << 28
    seed: int = 0
    containers: dict = field(default_factory=dict)

    def slot(self, store, home):
        """Return a slot's warm container."""
        if home not in self.containers:
            loader = RetainedObjects(
                store, bytes_max=self.retained_bytes, whole_bytes_max=self.whole_bytes_max
            )
            self.containers[home] = Slot(loader)
        return self.containers[home]


def session_of(index):
    """Return what an index delegates to."""
    return index._session


def answer_apart(index, queries, division, costs=None):
    """Return matches and trace of each query, found by several roles."""
    rng = np.random.default_rng(division.seed)
    session = session_of(index)
    view = session.view("strong")
    entry = Entry(session.config, PREFIX)
    places = np.array_split(np.arange(len(queries)), division.allocators)
    request = Request(entry, view.snapshot, tuple(queries), division.documents_bytes_max)
    answers = [
        _allocated(session, request.of_queries(part), view, division, rng, costs)
        for part in places
        if len(part)
    ]
    found = [one for answer in answers for one in found_answered(view, answer)]
    results = []
    for query, (near, trace) in zip(queries, found, strict=True):
        rest = Trace()
        scanned = scan_rest(view, query, rest)
        trace.follow(rest)
        results.append((complete([*scanned, near], query, trace), trace))
    return results


def _allocated(session, request, view, division, rng, costs):
    sent = write_request(request)
    assert len(sent) <= request_bytes_max(request)
    request = read_request(sent)
    options = {} if costs is None else {"costs": costs}
    allocation = allocate(view, request.queries, **options)
    homes = [f"slot-{n}" for n in rng.integers(division.slots, size=len(view.partitions))]
    tasks = tasks_of(
        allocation, homes, prefix=PREFIX, documents_bytes_max=division.documents_bytes_max
    )
    answers = []
    for home, whole in tasks.items():
        parts = split_task(
            whole, task_bytes=division.task_bytes, answer_bytes=division.answer_bytes
        )
        for task in parts:
            alone = len(task.queries) == 1 and len(task.parts) == 1
            assert alone or task_bytes_max(task) <= division.task_bytes
            sent = write_task(task)
            assert len(sent) <= task_bytes_max(task)
            slot = division.slot(session._store, home)
            found = write_task_answer(process(read_task(sent), slot), view.dimension)
            assert len(found) <= task_answer_bytes_max(task)
            answers.append(read_task_answer(found))
    rng.shuffle(answers)
    answer = answer_request(request, view, gather(allocation, answers))
    written = write_request_answer(answer, view.dimension)
    assert len(written) <= request_answer_bytes_max(request, partitions=len(view.partitions))
    return read_request_answer(written)
