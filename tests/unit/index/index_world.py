"""What the tests of the index share: small segments, a counting clock, a reading of everything."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fakes import CountedIds, FakeClock
from squash.container import Container, pack
from squash.errors import SquashError
from squash.index import writer
from squash.index.live import Opened, dead_rows, fresh_rows
from squash.index.log import IndexLog
from squash.index.references import read_object
from squash.model import RowBatch, SegmentRef
from squash.segment.keys import KeyTable
from squash.storage import ObjectStore

__all__ = ["CountedIds", "FakeClock", "World", "build_flat", "load_keys", "rows_of"]

DIMENSION = 3


def rows_of(records: Mapping[str, int]) -> RowBatch:
    """Make rows whose vector and metadata tell their value."""
    vectors = np.array([[v, 1, -v] for v in records.values()], dtype=np.float32)
    return RowBatch(
        list(records), vectors.reshape(-1, DIMENSION), [{"v": v} for v in records.values()]
    )


def build_flat(rows: RowBatch) -> dict[str, bytes]:
    """Make a segment's objects: its key table and its rows as JSON."""
    table = pack("segment-rows", 1, header={}, arrays=KeyTable.build(rows.keys).arrays())
    lines = [[key, one["v"]] for key, one in zip(rows.keys, rows.metadata, strict=True)]
    return {"rows": table, "documents": json.dumps(lines).encode()}


@dataclass
class World:
    """One handle on an index's log."""

    log: IndexLog
    store: ObjectStore
    reports: list[SquashError]

    @classmethod
    def on(cls, store: ObjectStore, number: int = 0, clock: FakeClock | None = None) -> World:
        reports: list[SquashError] = []
        log = IndexLog(
            store,
            clock or FakeClock(),
            CountedIds(number),
            load_keys=lambda segment: load_keys(store, segment),
            report=reports.append,
        )
        return cls(log, store, reports)

    def dead(self, opened: Opened, segment: SegmentRef) -> np.ndarray:
        mask = dead_rows(
            opened,
            segment,
            load_keys=lambda one: load_keys(self.store, one),
            load_bitmap=self.log.load_bitmap,
        )
        return np.zeros(segment.rows, dtype=bool) if mask is None else mask

    def segment_records(self, opened: Opened, segment: SegmentRef) -> dict[str, int]:
        lines = json.loads(bytes(read_object(self.store, segment.objects["documents"])))
        dead = self.dead(opened, segment)
        assert len(lines) == len(dead) == segment.rows
        return {key: v for (key, v), gone in zip(lines, dead, strict=True) if not gone}

    def fresh_records(self, opened: Opened) -> dict[str, int]:
        rows = fresh_rows(opened, DIMENSION, load_keys=lambda one: load_keys(self.store, one))
        assert rows.vectors.shape == (len(rows), DIMENSION)
        found = {key: one["v"] for key, one in zip(rows.keys, rows.metadata, strict=True)}
        assert len(found) == len(rows), "a key lives twice among the fresh rows"
        assert [int(v) for v in rows.vectors[:, 0]] == list(found.values())
        return found

    def everything(self, opened: Opened) -> dict[str, int]:
        """Every live record; each key must live once."""
        parts = [self.segment_records(opened, segment) for segment in opened.state.segments]
        parts.append(self.fresh_records(opened))
        found = {key: v for part in parts for key, v in part.items()}
        assert len(found) == sum(map(len, parts)), "a key lives in two places"
        return found

    def put(self, opened: Opened, records: Mapping[str, int], **more) -> Opened:
        return writer.put(self.log, opened, rows_of(records), build_flat=build_flat, **more)

    def put_segments(self, opened: Opened, *parts: Mapping[str, int]) -> Opened:
        """Put as flat segments, however few the rows."""
        from squash.index.commits import PutSegments

        segments = tuple(self.write(part) for part in parts)
        return self.log.append(opened, PutSegments(segments), commit_id=self.log.ids.new_id())

    def write(self, records: Mapping[str, int]) -> SegmentRef:
        return writer.write_segment(
            self.store,
            self.log.ids.new_id(),
            "flat",
            rows=len(records),
            objects=build_flat(rows_of(records)),
        )

    def fold(
        self, based_on: Opened, inputs: list[SegmentRef], fresh: list[int], pieces: int = 1
    ) -> dict:
        """Do a fold's work as of `based_on`; the arguments of `writer.replace` come back."""
        records: dict[str, int] = {}
        for segment in inputs:
            records |= self.segment_records(based_on, segment)
        live = self.fresh_records(based_on)
        for sequence in fresh:
            keys = based_on.commits[sequence].operation.rows.keys
            latest = [s for s in based_on.state.fresh if s > sequence]
            newer = {k for s in latest for k in based_on.commits[s].operation.rows.keys}
            records |= {k: live[k] for k in keys if k in live and k not in newer}
        keys = sorted(records)
        parts = [{k: records[k] for k in keys[i::pieces]} for i in range(pieces)]
        return {
            "inputs": [segment.id for segment in inputs],
            "fresh": fresh,
            "outputs": [self.write(part) for part in parts if part],
            "base": based_on.sequence,
        }


def load_keys(store: ObjectStore, segment: SegmentRef) -> KeyTable:
    ref = segment.objects["rows"]
    data = read_object(store, ref)
    assert zlib.crc32(data) == ref.crc32
    return KeyTable.from_container(
        Container(data, kind="segment-rows", versions=(1,), where=ref.key)
    )
