"""Mending what the remaining objects allow to be mended.

What is derived is made anew: a segment's `rows`, `attributes`, `codes` and `head` of its vectors
and documents, bitmaps and snapshots of the log. Where that gives the bytes that were written first,
they are put in the place of the damaged ones, for every state that names them; nobody can have read
what lay there. Where it does not (another machine rounds otherwise), or where rows are lost, the
newest state gets a segment in the place of the damaged one, by a commit as of a fold.

A stored snapshot that is damaged is removed, and then written anew: between the two readers replay
a little more of the log, and before it they could read nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field, replace
from typing import TypeAlias

import numpy as np

from squash.arrays import I64
from squash.errors import CommitUnknownError, DataError, NotFoundError, SquashError
from squash.index import snapshots, writer
from squash.index.live import Opened, dead_rows, dead_since, pack_mask
from squash.index.log import IndexLog
from squash.index.object_keys import TRAINED, is_bitmap, parted, segment_key, trained_key
from squash.index.reader import SegmentReader
from squash.index.references import read_object
from squash.index.state import State
from squash.index.trained import Trained
from squash.maintain.history import History, open_without_own
from squash.maintain.live_rows import drop
from squash.maintain.salvage import (
    Clusters,
    Salvaged,
    find_clusters,
    matches,
    rebuild,
    salvage,
)
from squash.model import IndexConfig, ObjectRef, SegmentRef
from squash.reports import Damage, Repaired
from squash.segment import ATTRIBUTES, ROWS, KeyTable, Sections, describe_attributes
from squash.storage import ObjectStore
from squash.values import dataclass

Reader: TypeAlias = Callable[[SegmentRef], SegmentReader]


@dataclass(slots=True)
class Findings:
    """What was mended and what is lost."""

    repaired: list[Repaired] = field(default_factory=list)
    lost_rows: int = 0
    lost_keys: list[str] = field(default_factory=list)

    def mended(self, object_key: str, how: str) -> None:
        """Note what was done."""
        self.repaired.append(Repaired(object_key, how))


class Repairer:
    """Mends one index.

    Parameters
    ----------
    log, config:
        The index.
    history, damages:
        What `verify` found.
    read:
        Gives a segment's reader.
    dry_run:
        Only say what would be done.
    drop_lost:
        Go on without the rows that cannot be read back; else their segments are left as they are.

    """

    def __init__(
        self,
        log: IndexLog,
        config: IndexConfig,
        history: History,
        damages: Sequence[Damage],
        *,
        read: Reader,
        dry_run: bool,
        drop_lost: bool,
    ) -> None:
        self._log = log
        self._config = config
        self._damaged = {damage.object_key for damage in damages}
        self._history = replace(
            history,
            snapshots=[
                one for one in history.snapshots if snapshots.snapshot_key(one) not in self._damaged
            ],
        )
        self._read = read
        self._dry_run = dry_run
        self._drop_lost = drop_lost
        self._tables: dict[str, KeyTable] = {}
        self._trained: dict[str, Trained | None] = {}
        self.found = Findings()
        self.names: dict[str, set[str]] = defaultdict(set)
        for key in self._damaged:
            of = parted(key)
            if of is not None and not is_bitmap(key):
                self.names[of[0]].add(of[1])

    @property
    def _store(self) -> ObjectStore:
        return self._log.store

    def restore_objects(self) -> None:
        """Put objects of segments back as they were written, where they can be made so."""
        for segment_id in sorted(self.names):
            ref = self._history.segments.get(segment_id)
            if ref is None:
                continue
            names = self.names[segment_id]
            found = salvage(self._store, ref, names, dimension=self._config.dimension)
            if ROWS in names:
                self._tables[segment_id] = found.keys()
            if not found.sound.all():
                continue
            trained = self._trained_of(ref)
            clusters = self._clusters_of(ref, trained)
            made = rebuild(
                found.rows(np.arange(ref.rows)), self._config, trained=trained, clusters=clusters
            )
            for name in sorted(names & ref.objects.keys()):
                if matches(made, name, ref.objects[name]):
                    self._put(ref.objects[name].key, made[name], "written anew, as it was")
                    names.discard(name)

    def restore_bitmaps(self) -> None:
        """Compute damaged bitmaps from the log."""
        for key in sorted(self._damaged & self._history.named.keys()):
            of = parted(key)
            if of is None or not is_bitmap(key):
                continue
            segment_id, _ = of
            ref = self._history.named[key]
            # Of the snapshots that name it the first is the easiest to come by without it.
            for sequence in self._naming(ref):
                data = self._bitmap(segment_id, sequence)
                if data is not None and matches({key: data}, key, ref):
                    self._put(key, data, "computed from the log")
                    break

    def restore_snapshots(self) -> None:
        """Write damaged snapshots anew, or remove those that the newest state does without."""
        for one in self._history.listed:
            key = one.info.key
            if one.kind != "snapshots" or key not in self._damaged:
                continue
            opened = open_without_own(self._log, self._history, one.number)
            made = None if opened is None else self._materialised(opened)
            later = [sound for sound in self._history.snapshots if sound > one.number]
            if made is not None:
                state, bitmaps = made
                how = "written anew from the log"
                if not self._dry_run:
                    self._store.delete([key])
                    for bitmap, data in bitmaps.items():
                        self._store.put_if_absent(bitmap, data)
                    self._store.put_if_absent(key, snapshots.to_bytes(state))
                self.found.mended(key, how)
            elif later:
                if not self._dry_run:
                    self._store.delete([key])
                self.found.mended(
                    key,
                    f"removed: states {one.number} to {later[0] - 1} cannot all be read any more",
                )

    def restore_settings(self) -> None:
        """Remove damaged versions that newer ones hold instead of; the newest only if told to."""
        stored = [one for one in self._history.listed if one.kind == "settings"]
        newest = max((one.number for one in stored), default=0)
        for one in stored:
            key = one.info.key
            if key not in self._damaged or (one.number == newest and not self._drop_lost):
                continue
            if not self._dry_run:
                self._store.delete([key])
            how = "newer settings hold" if one.number < newest else "what was set before holds"
            self.found.mended(key, f"removed: {how}")

    def replace_segments(self) -> Opened | None:
        """Put others in the place of the newest state's segments that are damaged still.

        Returns
        -------
        The index; None if it cannot be opened.

        """
        try:
            opened = self._log.refresh(None)
        except (DataError, NotFoundError):
            return None
        damaged = [ref for ref in opened.state.segments if self.names.get(ref.id)]
        written: list[SegmentRef] = []
        others: list[str] = []
        moved: dict[str, _Moved] = {}
        inputs: list[str] = []
        try:
            for ref in damaged:
                place = self._rewritten(opened, ref, written)
                if place is not None:
                    inputs.append(ref.id)
                    if place.clusters is not None:
                        moved[ref.id] = place
            if not inputs or self._dry_run:
                return opened
            current = opened.state.trained
            trained = self._moved_trained(current, moved, others)
            return writer.replace(
                self._log,
                opened,
                inputs=inputs,
                fresh=[],
                outputs=written,
                base=opened.sequence,
                trained=trained,
                trained_base=current.key if trained and current else None,
            )
        except CommitUnknownError:
            # What may have been committed is not dropped.
            raise
        except SquashError:
            drop(self._store, written, others)
            raise

    def _rewritten(
        self, opened: Opened, ref: SegmentRef, written: list[SegmentRef]
    ) -> _Moved | None:
        """Write a segment's living rows to another; None if it is left."""
        names = self.names[ref.id]
        found = salvage(self._store, ref, names, dimension=self._config.dimension)
        self._tables.setdefault(ref.id, found.keys())
        try:
            dead = dead_rows(
                opened, ref, load_keys=self._keys_of, load_bitmap=self._log.load_bitmap
            )
        except DataError:
            return None  # Which of its rows live cannot be told; what is damaged is named.
        live = np.ones(ref.rows, dtype=np.bool_) if dead is None else ~dead
        self._note_lost(found, np.flatnonzero(live & ~found.sound))
        if not self._drop_lost and (live & ~found.sound).any():
            return None
        kept = np.flatnonzero(live & found.sound)
        for name in sorted(names):
            self.found.mended(segment_key(ref.id, name), "its segment was written anew")
        trained = self._trained_of(ref) if self._codes_current(opened, ref) else None
        clusters = self._clusters_of(ref, trained)
        if clusters is not None:
            begins = np.searchsorted(kept, clusters.begins).astype(np.int64)
            clusters = Clusters(begins, clusters.centers)
        if self._dry_run or not len(kept):
            return _Moved(None, clusters)
        made = rebuild(found.rows(kept), self._config, trained=trained, clusters=clusters)
        written.append(
            writer.write_segment(
                self._store,
                self._log.ids.new_id(),
                "flat" if clusters is None else "partition",
                rows=len(kept),
                objects=made,
            )
        )
        sections = None if clusters is None else describe_attributes(made[ATTRIBUTES])
        return _Moved(written[-1].id, clusters, sections)

    def _note_lost(self, found: Salvaged, rows: I64) -> None:
        self.found.lost_rows += len(rows)
        documents = [found.documents[row] for row in rows.tolist()]
        self.found.lost_keys.extend(one[0] for one in documents if one is not None)

    def _codes_current(self, opened: Opened, ref: SegmentRef) -> bool:
        """Tell whether a partition is routed to, by a codec whose codes are still written."""
        trained = self._trained_of(ref)
        current = opened.state.trained
        if trained is None or current is None or current.key not in self._trained:
            return False
        same = self._trained[current.key] is trained
        return same and trained.codec.specs == trained.codec.stored_specs

    def _moved_trained(
        self, current: ObjectRef | None, moved: Mapping[str, _Moved], others: list[str]
    ) -> ObjectRef | None:
        """Store what the partitions share with others in the place of those that moved."""
        trained = None if current is None else self._trained.get(current.key)
        if trained is None or not moved:
            return None
        key = trained_key(self._log.ids.new_id())
        others.append(key)
        return writer.write_object(self._store, key, _with_moved(trained, moved).to_bytes())

    def _trained_of(self, ref: SegmentRef) -> Trained | None:
        """Find what a partition was built with among all that is named."""
        if ref.kind != "partition":
            return None
        for key, one in self._history.named.items():
            if not key.startswith(TRAINED) or key in self._damaged:
                continue
            if key not in self._trained:
                self._trained[key] = Trained.from_bytes(
                    read_object(self._store, one), key, dimension=self._config.dimension
                )
            found = self._trained[key]
            if found is not None and ref.id in found.partition_ids:
                return found
        return None

    def _clusters_of(self, ref: SegmentRef, trained: Trained | None) -> Clusters | None:
        if trained is None:
            return None
        return find_clusters(self._store, ref, self.names[ref.id], trained)

    def _naming(self, ref: ObjectRef) -> Iterator[int]:
        """Yield the commits after which rows were dead as a bitmap says.

        First the stored snapshots that name it, the oldest first, then what was restored.
        """
        for sequence in self._history.snapshots:
            key = snapshots.snapshot_key(sequence)
            data = self._store.get(key)
            if data is None:
                continue
            state = snapshots.from_bytes(data, sequence=sequence, where=key)
            if any(segment.deleted == ref for segment in state.segments):
                yield sequence
        yield from sorted(self._history.restored.get(ref.key, ()))

    def _bitmap(self, segment_id: str, sequence: int) -> bytes | None:
        opened = open_without_own(self._log, self._history, sequence)
        if opened is None:
            return None
        for segment in opened.state.segments:
            if segment.id == segment_id:
                try:
                    _, dead = dead_since(
                        opened,
                        segment,
                        load_keys=self._keys_of,
                        load_bitmap=self._log.load_bitmap,
                    )
                except DataError:
                    return None
                return None if dead is None else pack_mask(dead)
        return None

    def _materialised(self, opened: Opened) -> tuple[State, dict[str, bytes]] | None:
        try:
            return snapshots.materialise(
                opened, load_keys=self._keys_of, load_bitmap=self._log.load_bitmap
            )
        except DataError:
            return None

    def _keys_of(self, ref: SegmentRef) -> KeyTable:
        known = self._tables.get(ref.id)
        return self._read(ref).keys() if known is None else known

    def _put(self, key: str, data: bytes, how: str) -> None:
        if not self._dry_run:
            self._store.put(key, data)
        self.found.mended(key, how)


@dataclass(frozen=True, slots=True)
class _Moved:
    """What is in the place of a segment: another (None if no row of it lives)."""

    segment_id: str | None
    clusters: Clusters | None
    sections: Sections | None = None


def _with_moved(trained: Trained, moved: Mapping[str, _Moved]) -> Trained:
    """Route to other partitions in the place of some; those that are gone take theirs along."""
    ids: list[str] = []
    energies: list[float | None] = []
    sizes: list[I64] = []
    counts: list[int] = []
    kept: list[I64] = []
    sections: list[Sections | None] = []
    for number, name in enumerate(trained.partition_ids):
        first, last = trained.partition_begins[number : number + 2].tolist()
        place = moved.get(name)
        if place is not None and place.segment_id is None:
            continue
        if place is None or place.segment_id is None or place.clusters is None:
            ids.append(name)
            sizes.append(trained.cluster_rows[first:last])
            sections.append(trained.sections_of(number))
        else:
            ids.append(place.segment_id)
            sizes.append(np.diff(place.clusters.begins))
            sections.append(place.sections)
        energies += trained.partition_energy[number : number + 1]
        counts.append(last - first)
        kept.append(np.arange(first, last, dtype=np.int64))
    nothing = np.empty(0, np.int64)
    cluster_rows = np.concatenate([nothing, *sizes])
    gone = int(trained.cluster_rows.sum() - cluster_rows.sum())
    history = trained.history
    return replace(
        trained,
        partition_energy=tuple(energies),
        history=history and replace(history, rows_since=history.rows_since + gone),
        partition_ids=tuple(ids),
        partition_begins=np.concatenate(([0], np.cumsum(counts))).astype(np.int64),
        centers=trained.centers[np.concatenate([nothing, *kept])],
        cluster_rows=cluster_rows,
        sections=tuple(sections),
    )
