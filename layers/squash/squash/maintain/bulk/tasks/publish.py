"""Making all of it the index's content, by one commit."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

import numpy as np

from squash.container import Container
from squash.errors import ConflictError, NotFoundError, SquashError
from squash.index.commits import Operation, Replace
from squash.index.live import Opened, dead_rows, fresh_dead
from squash.index.log import IndexLog
from squash.index.references import read_object
from squash.index.state import State, committed_at
from squash.maintain.bulk import keys
from squash.maintain.bulk.context import SNAPSHOT, BuildContext, TaskReport
from squash.maintain.bulk.outcome import Outcome, read_outcome
from squash.maintain.bulk.replaced_part import SinceBase, fresh_replaced
from squash.maintain.bulk.request import BuildRequest
from squash.maintain.bulk.resting import check_rested
from squash.model import SegmentRef
from squash.segment import ROWS, KeyTable
from squash.segment.layout import VERSION
from squash.storage import ObjectStore
from squash.values import dataclass

_LOG = logging.getLogger("squash")
# What of a build is wanted after it is published: what was asked, done and left out.
_KEPT: Final = (
    "request", "plan", "attempts/", "stops/", "items/", "done/", "sums/", "bad/", "outcome",
)  # fmt: skip


def run(context: BuildContext, request: BuildRequest, batch: int) -> TaskReport:
    """Make what was built the content of the index; once, however often it runs.

    Raises
    ------
    ConflictError
        If the index is another one by now than the build was begun for; it is as it was, and a
        build begun anew can be published.
    BuildStoppedError
        If the build rested so long that its objects may be gone.
    CommitUnknownError
        If the store did not say whether it happened; repeating tells.

    """
    del batch  # there is one
    store = context.store
    _check_there(store, request)
    outcome = read_outcome(store, request.build)
    log = IndexLog(
        store,
        context.clock,
        context.ids,
        load_keys=lambda segment: _load_keys(store, segment),
    )
    publishing = _Publishing(log, request, outcome)
    sequence = publishing.publish()
    _write_snapshot(log)
    _clean(store, request.build)
    return TaskReport(rows=outcome.rows, detail={SNAPSHOT: sequence})


@dataclass(slots=True)
class _Publishing:
    """The commit of one build."""

    log: IndexLog
    request: BuildRequest
    outcome: Outcome

    def publish(self) -> int:
        """Commit, and return the commit's number; it may have been there before."""
        request = self.request
        commit_id = keys.commit_id(request.build)
        since = SinceBase(request.build, request.base, commit_id, commit_at=self.log.commit_at)
        newest = self.log.refresh(None)
        found = committed_at(newest.state, commit_id)
        if found is not None:
            return found
        self._check_there(newest.state)
        if self._lives_in(newest.state):
            # So long ago that the commit is not remembered, and perhaps collected.
            return newest.state.content
        since.follow(newest.sequence)
        if since.published is not None:
            return since.published
        check_rested(self.log.store, self.log.ids, request.build)

        def decide(opened: Opened) -> Operation | None:
            self._check_there(opened.state)
            since.follow(opened.sequence)
            if since.published is not None:
                return None
            return self._operation(opened, since)

        opened = self.log.append(newest, decide, commit_id=commit_id)
        found = committed_at(opened.state, commit_id) or since.published
        if found is None:
            raise ConflictError(f"build {request.build} was not published: repeat the call")
        return found

    def _lives_in(self, state: State) -> bool:
        """Tell if a commit has named the build's segments: then it was the build's."""
        mine = {segment.id for segment in self.outcome.segments}
        return any(segment.id in mine for segment in state.segments)

    def _check_there(self, state: State) -> None:
        """Refuse if the index was dropped: its log and the build's request go with it."""
        if state.sequence < self.request.base:
            raise _gone(self.request)
        _check_there(self.log.store, self.request)

    def _operation(self, opened: Opened, since: SinceBase) -> Replace:
        inputs = since.inputs(opened.state)
        fresh = fresh_replaced(opened.state, self.request.base)
        if not self.request.replaces and self._has_records(opened, inputs, fresh):
            raise ConflictError(
                f"index {self.request.index!r} had records when build {self.request.build} began, "
                "and it was not asked to replace them: nothing was changed. Start a build that "
                "replaces them, or build into an empty index",
                index=self.request.index,
            )
        return Replace(
            inputs=tuple(inputs),
            fresh=tuple(fresh),
            outputs=self.outcome.segments,
            trained=self.outcome.trained,
            base=self.request.base,
            content="build",
            build=self.request.build,
        )

    def _has_records(self, opened: Opened, inputs: Sequence[str], fresh: Sequence[int]) -> bool:
        """Tell if anything lives in what would be replaced."""
        load_keys, wanted = self._load_keys, set(inputs)
        for segment in opened.state.segments:
            if segment.id in wanted:
                dead = dead_rows(
                    opened, segment, load_keys=load_keys, load_bitmap=self.log.load_bitmap
                )
                if segment.rows and (dead is None or not dead.all()):
                    return True
        if not fresh:
            return False
        masks = fresh_dead(opened, load_keys=load_keys)
        return any(not np.all(masks[one]) for one in fresh)

    def _load_keys(self, segment: SegmentRef) -> KeyTable:
        return _load_keys(self.log.store, segment)


def _check_there(store: ObjectStore, request: BuildRequest) -> None:
    if store.get(keys.request_key(request.build)) is None:
        raise _gone(request)


def _gone(request: BuildRequest) -> NotFoundError:
    return NotFoundError(
        f"build {request.build} is not there any more: index {request.index!r} was dropped after "
        "it began, or it rested so long that it was collected. Start it anew; nothing was changed",
        index=request.index,
    )


def _load_keys(store: ObjectStore, segment: SegmentRef) -> KeyTable:
    ref = segment.objects[ROWS]
    data = read_object(store, ref)
    kind = f"segment-{ROWS}"
    return KeyTable.from_container(Container(data, kind=kind, versions=(VERSION,), where=ref.key))


def _write_snapshot(log: IndexLog) -> None:
    """Write a snapshot, so that no reader has to ask what later commits did to what was built."""
    try:
        opened = log.refresh(None)
    except SquashError as error:
        _LOG.warning("the index could not be read for a snapshot; the next writer will: %s", error)
        return
    if opened.state.snapshot_sequence != opened.sequence:
        log.try_snapshot(opened)


def _clean(store: ObjectStore, build: str) -> None:
    """Remove what only the tasks needed, as far as may be; garbage collection takes the rest."""
    folder = keys.folder(build)
    try:
        store.delete(
            [
                info.key
                for info in store.list(folder)
                if not info.key.removeprefix(folder).startswith(_KEPT)
            ]
        )
    except SquashError as error:
        _LOG.warning("objects of build %s could not be removed; gc will: %s", build, error)
