"""Writing to one opened index: put, patch, delete, import.

Conditions are decided about the state that the commit would follow, see `IndexLog.append`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from squash.arrays import I64
from squash.attributes import FilterNode, check_metadata, matches, merge_patch, only_live
from squash.errors import ConflictError, DataError, NotFoundError
from squash.index import writer
from squash.index.checking import KEY_CHARACTERS_SHOWN_MAX, check_keys, check_patches
from squash.index.commits import DeleteKeys, Operation
from squash.index.live import Opened
from squash.index.prefetch import prefetch_rows
from squash.index.state import committed_at
from squash.index.writer import Putting, check_unchanged
from squash.model import AsOf, IndexConfig, InputBatch, Metadata, RowBatch, WriteResult
from squash.reports import Progress
from squash.runtime.content import Content, ReportSum
from squash.runtime.pressure import FreshGuard
from squash.runtime.repeating import Same, check_repeated, deletes, deletes_passing, puts
from squash.runtime.views import IndexViews
from squash.search import FreshView, IndexView, Rows, SegmentView, keys_passing
from squash.segment import KeyTable, build_flat, hash_keys
from squash.values import dataclass, remembered

Report = Callable[[Progress], None]
Live = Callable[[], FilterNode | None]


@dataclass(frozen=True, slots=True)
class LivePlace:
    """Where some keys' live records lie: `rows[i]` of `source` is that of key `positions[i]`."""

    source: Rows
    positions: I64
    rows: I64


def live_places(view: IndexView, keys: Sequence[str], live: FilterNode | None) -> list[LivePlace]:
    """Find the live records of keys, each given once: those that pass `live`, if that is given.

    This decides which records are there, for `if_absent` and for `patch`.
    """
    sources = view.everything()
    hashed = any(not isinstance(source, FreshView) for source in sources)
    hashes = hash_keys(keys if hashed else ())
    places: list[LivePlace] = []
    for source in sources:
        found = source.find(keys) if isinstance(source, FreshView) else source.keys().lookup(hashes)
        positions = np.flatnonzero(found >= 0)
        if len(positions) and source.alive is not None:
            positions = positions[source.alive[found[positions]]]
        if len(positions):
            places.append(LivePlace(source, positions, found[positions]))
    return places if live is None else _passing(places, live)


def _passing(places: Sequence[LivePlace], live: FilterNode) -> list[LivePlace]:
    _prefetch(places, vectors=False)
    passing: list[LivePlace] = []
    for place in places:
        documents = place.source.documents(place.rows)
        kept = np.array([matches(live, metadata) for _, metadata in documents], dtype=np.bool_)
        if kept.any():
            passing.append(LivePlace(place.source, place.positions[kept], place.rows[kept]))
    return passing


class IndexWriter:
    """Writes to an index.

    Parameters
    ----------
    views:
        The index.
    config:
        What was decided when it was created.
    content:
        Checks what comes in, and has it encoded.
    guard:
        Keeps what is in no partition small.
    fold:
        Folds the index, for an import that brings much.
    live:
        Gives the filter that records pass which have not expired by now; None if all do.

    """

    def __init__(
        self,
        views: IndexViews,
        config: IndexConfig,
        *,
        content: Content,
        guard: FreshGuard,
        fold: Callable[[Report], None],
        live: Live,
    ) -> None:
        self._views = views
        self._config = config
        self._content = content
        self._guard = guard
        self._fold = fold
        self._live = live
        self._build_flat = partial(build_flat, non_filterable=config.non_filterable)

    def put(
        self,
        records: RowBatch | InputBatch,
        *,
        if_absent: bool = False,
        if_snapshot: int | None = None,
        commit_id: str | None = None,
    ) -> WriteResult:
        """Put checked records in one commit; what is to be encoded is, once, before that."""
        self._guard.admit(commit_id)
        rows, report = self._content.encoded(records)
        result = self._put(rows, if_absent=if_absent, if_snapshot=if_snapshot, commit_id=commit_id)
        return replace(result, encoding=report)

    def _put(
        self,
        rows: RowBatch,
        *,
        if_absent: bool = False,
        if_snapshot: int | None = None,
        commit_id: str | None = None,
        importing: bool = False,
    ) -> WriteResult:
        mine = commit_id or self._views.log.ids.new_id()
        absent = _Absent(self._views, rows.keys, self._live) if if_absent else None

        def condition(opened: Opened) -> None:
            check_unchanged(opened.state, if_snapshot)
            if absent is not None:
                absent.check(opened)

        opened = writer.put(
            self._views.log,
            self._views.known(),
            rows,
            build_flat=self._build_flat,
            condition=condition if if_absent or if_snapshot is not None else None,
            commit_id=mine,
        )
        self._check_repeated(opened, commit_id, puts(rows.keys))
        return self._result(opened, mine, len(rows), importing=importing)

    def import_batches(
        self,
        batches: Iterable[RowBatch | InputBatch],
        report: Report,
        encoder: str | None = None,
    ) -> WriteResult:
        """Put batches, each in a commit of its own; fold on the way where much is fresh."""
        done = folded = 0
        snapshot = self._views.known().sequence
        encoding = ReportSum()
        for batch in batches:
            checked = self._content.batch(batch, encoder)
            if self._guard.fold_due(brought=folded):
                self._fold_on_the_way(report)
                folded = done
            rows, encoded = self._content.encoded(checked, _telling(report, done, len(batch)))
            snapshot = self._put(rows, importing=True).snapshot
            encoding.add(encoded, done)
            done += len(batch)
            report(Progress("import", done, done, "rows"))
        return WriteResult(snapshot, done, encoding.report())

    def _fold_on_the_way(self, report: Report) -> None:
        try:
            self._fold(report)
        except ConflictError:
            self._views.refresh()  # Another fold was first, and its result stands.

    def patch(
        self,
        keys: Any,
        patches: Any,
        *,
        if_snapshot: int | None = None,
        commit_id: str | None = None,
    ) -> WriteResult:
        """Merge patches into the metadata of records, in one commit."""
        names, patches = check_patches(keys, patches)
        self._content.check_patches(names, patches)
        self._guard.admit(commit_id)
        mine = commit_id or self._views.log.ids.new_id()
        patching = _Patching(
            self._views, self._config, names, patches, build=self._build_flat, live=self._live
        )

        def decide(opened: Opened) -> Operation | None:
            check_unchanged(opened.state, if_snapshot)
            return patching.operation(opened) if names else None

        opened = self._views.log.append(self._views.known(), decide, commit_id=mine)
        self._check_repeated(opened, commit_id, puts(names))
        return self._result(opened, mine, len(names))

    def delete(
        self,
        keys: Sequence[str] | None,
        node: FilterNode | None,
        *,
        if_snapshot: int | None = None,
        commit_id: str | None = None,
    ) -> WriteResult:
        """Delete by key, or what passes a filter in the newest snapshot; one commit."""
        if keys is None:
            return self._delete_passing(node, if_snapshot, commit_id)
        mine = commit_id or self._views.log.ids.new_id()
        given = check_keys(keys)

        def condition(opened: Opened) -> None:
            check_unchanged(opened.state, if_snapshot)

        opened = writer.delete(
            self._views.log,
            self._views.known(),
            given,
            condition=condition if if_snapshot is not None else None,
            commit_id=mine,
        )
        self._check_repeated(opened, commit_id, deletes(given))
        return self._result(opened, mine, len(given))

    def restore(
        self, as_of: AsOf, *, if_snapshot: int | None, commit_id: str | None
    ) -> WriteResult:
        """Make the content again what it was after a snapshot."""
        from squash.runtime.restoring import restore_content  # noqa: PLC0415 - most never do

        return restore_content(
            self._views, self._config, as_of, if_snapshot=if_snapshot, commit_id=commit_id
        )

    def _delete_passing(
        self, node: FilterNode | None, if_snapshot: int | None, commit_id: str | None
    ) -> WriteResult:
        """Delete what passes a filter in the very state that the commit follows."""
        mine = commit_id or self._views.log.ids.new_id()
        passing: dict[int, list[str]] = {}

        def decide(opened: Opened) -> Operation | None:
            check_unchanged(opened.state, if_snapshot)
            live = only_live(node, self._live())
            found = keys_passing(self._views.view_of(opened), live)
            passing[opened.sequence] = found
            return DeleteKeys(found) if found else None

        # Not what is known: most often others have written, and all would be filtered twice.
        opened = self._views.log.append(self._views.refresh(), decide, commit_id=mine)
        self._check_repeated(opened, commit_id, deletes_passing)
        sequence = committed_at(opened.state, mine)
        if sequence is None:
            return self._result(opened, mine, 0)
        # An earlier call by this id may have done it, by another decision.
        commit = opened.commits.get(sequence)
        if commit is None and sequence - 1 not in passing:
            commit = self._views.log.commit_at(sequence)
        if commit is not None and isinstance(commit.operation, DeleteKeys):
            return self._result(opened, mine, len(commit.operation.keys))
        return self._result(opened, mine, len(passing.get(sequence - 1, ())))

    def _check_repeated(self, opened: Opened, commit_id: str | None, same: Same) -> None:
        """Refuse the id of another write, where the caller gave one."""
        if commit_id is not None:
            check_repeated(self._views.log, opened, commit_id, same)

    def _result(
        self, opened: Opened, commit_id: str, rows: int, *, importing: bool = False
    ) -> WriteResult:
        self._views.install(opened)
        self._guard.written(opened, importing=importing)
        # Not the newest that is known: a write conditional on that would miss what others wrote.
        sequence = committed_at(opened.state, commit_id)
        return WriteResult(opened.sequence if sequence is None else sequence, rows)


def _telling(report: Report, before: int, inputs: int) -> Callable[[int], None]:
    """Return what tells how many inputs of an import are encoded, with a batch after others."""
    return lambda done: report(Progress("encode", before + done, before + inputs, "inputs"))


class _Touched:
    """Whether something found out about keys still holds after later commits."""

    def __init__(self, views: IndexViews, keys: Sequence[str]) -> None:
        self._views = views
        self._keys = keys
        self._held_after: int | None = None

    @remembered
    def _table(self) -> KeyTable:
        return KeyTable.build(self._keys)

    def holds(self, opened: Opened) -> bool:
        """Tell whether no commit after what `held` was told put or deleted one of the keys."""
        after = self._held_after
        if after is None or after > opened.sequence:
            return False
        return not self._views.touched_since(opened, after, self._table)

    def held(self, opened: Opened) -> None:
        """Be told of a state in which it holds."""
        self._held_after = opened.sequence


class _Absent:
    """The condition that keys have no live record."""

    def __init__(self, views: IndexViews, keys: Sequence[str], live: Live) -> None:
        self._views = views
        self._keys = keys
        self._live = live
        self._touched = _Touched(views, keys)

    def check(self, opened: Opened) -> None:
        """Raise if one has; after a lost race only later commits are looked at, mostly."""
        if not self._touched.holds(opened):
            places = live_places(self._views.view_of(opened), self._keys, self._live())
            first = min((int(place.positions[0]) for place in places), default=None)
            if first is not None:
                key = self._keys[first]
                raise ConflictError(
                    f"there is a record {key[:KEY_CHARACTERS_SHOWN_MAX]!r} already, and if_absent "
                    f"was asked for; nothing was written. Its snapshot is {opened.sequence}: read "
                    "it, then decide",
                    key=key,
                    field="keys",
                )
        self._touched.held(opened)


class _Patching:
    """The rows that patches make of what is there, made anew when that was written meanwhile."""

    def __init__(
        self,
        views: IndexViews,
        config: IndexConfig,
        keys: Sequence[str],
        patches: Sequence[Metadata],
        *,
        build: writer.BuildFlat,
        live: Live,
    ) -> None:
        self._views = views
        self._config = config
        self._keys = keys
        self._patches = patches
        self._build = build
        self._live = live
        self._touched = _Touched(views, keys)
        self._putting: Putting | None = None

    def operation(self, opened: Opened) -> Operation:
        """Return what is right after a state."""
        if self._putting is None or not self._touched.holds(opened):
            rows = self._patched(self._views.view_of(opened))
            self._putting = Putting(self._views.log, rows, build_flat=self._build)
        self._touched.held(opened)
        return self._putting.operation()

    def _patched(self, view: IndexView) -> RowBatch:
        places = live_places(view, self._keys, self._live())
        found = np.zeros(len(self._keys), dtype=np.bool_)
        for place in places:
            found[place.positions] = True
        if not found.all():
            raise self._absent(self._keys[int(np.argmin(found))])
        _prefetch(places, vectors=True)
        vectors = np.empty((len(self._keys), view.dimension), dtype=np.float32)
        metadata: list[Metadata] = [{}] * len(self._keys)
        for place in places:
            vectors[place.positions] = place.source.vectors(place.rows)
            documents = place.source.documents(place.rows)
            for position, (key, before) in zip(place.positions.tolist(), documents, strict=True):
                if key != self._keys[position]:
                    raise DataError(
                        f"the record {key[:KEY_CHARACTERS_SHOWN_MAX]!r} is found by another key: "
                        "run `squash verify` to see what is damaged",
                        index=self._config.name,
                        key=self._keys[position],
                    )
                metadata[position] = self._merged(position, before)
        return RowBatch(list(self._keys), vectors, metadata)

    def _merged(self, position: int, before: Metadata) -> Metadata:
        return check_metadata(
            merge_patch(before, self._patches[position]),
            key=self._keys[position],
            non_filterable=self._config.non_filterable,
            declared=self._config.attributes,
        )

    def _absent(self, key: str) -> NotFoundError:
        return NotFoundError(
            f"there is no record {key[:KEY_CHARACTERS_SHOWN_MAX]!r} to patch; nothing was "
            "written. Put it, with its vector",
            index=self._config.name,
            key=key,
            field="keys",
        )


def _prefetch(places: Sequence[LivePlace], *, vectors: bool) -> None:
    """Get documents of all segments in one round, and vectors, where they come by pages."""
    paged = [
        (place.source.reader, place.rows)
        for place in places
        if isinstance(place.source, SegmentView) and not place.source.reader.reads_whole()
    ]
    if paged:
        prefetch_rows(vectors=paged if vectors else (), documents=paged)
