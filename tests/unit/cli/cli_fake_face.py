# ruff: noqa: A002 - the names of the arguments are the interface's
"""A Python face in memory: the interface of `squash.database`, with brute force behind it.

It knows bare equality and `$gte` only; what filters mean is tested with the library.
"""

from __future__ import annotations

import numpy as np

from squash import errors, model, reports

LEVELS = (model.Level("filter", 3, 2), model.Level("refine", 2, 2))


class FakeIndex:
    def __init__(self, config):
        self.config = config
        self.records = {}
        self.snapshot = 0
        self.optimized = 0
        self.damages = ()
        self.fails_at_batch = None
        self.exported = {}
        self.asked = []
        self.full = None
        self.while_exporting = lambda: None

    def _commit(self, rows):
        self.snapshot += 1
        return model.WriteResult(snapshot=self.snapshot, rows=rows)

    def _check_snapshot(self, number):
        if number is not None and number < self.snapshot:
            raise errors.ConflictError(f"records changed in {self.snapshot}: read again")

    def put(self, *, keys, vectors, metadata=None, encoder=None, if_absent=False, if_snapshot=None):
        assert encoder is None
        self._check_snapshot(if_snapshot)
        for key in keys if if_absent else ():
            if key in self.records:
                raise errors.ConflictError(f"{key!r} is there already: read it", key=key)
        metadata = metadata if metadata is not None else [{}] * len(keys)
        assert vectors.shape == (len(keys), self.config.dimension)
        assert vectors.dtype == np.float32
        for key, vector, values in zip(keys, vectors, metadata, strict=True):
            if not key:
                raise errors.InvalidArgumentError("a key is empty: give it a name", key=key)
            if not np.isfinite(vector).all():
                raise errors.InvalidArgumentError(f"{key!r} is not finite: mend it", key=key)
            self.records[key] = model.Record(key, np.array(vector), dict(values))
        return self._commit(len(keys))

    def import_batches(self, batches, *, encoder=None, progress=None):
        assert encoder is None
        rows = 0
        for number, batch in enumerate(batches):
            if number == self.fails_at_batch:
                raise errors.UnavailableError("the store did not answer: try again")
            self.put(keys=batch.keys, vectors=batch.vectors, metadata=batch.metadata)
            rows += len(batch)
        return model.WriteResult(snapshot=self.snapshot, rows=rows)

    def export_batches(self, *, as_of=None, filter=None, include=(), progress=None):
        self.exported = {"as_of": as_of, "filter": filter, "include": include}
        records = [one for one in self.records.values() if passes(one, filter)]
        return FakeExport(self, records, "vector" in include)

    def patch(self, *, keys, metadata, if_snapshot=None):
        self._check_snapshot(if_snapshot)
        for key in keys:
            if key not in self.records:
                raise errors.NotFoundError(f"there is no record {key!r}: put it", key=key)
        for key, patch in zip(keys, metadata, strict=True):
            merged = {**self.records[key].metadata, **patch}
            kept = {name: value for name, value in merged.items() if value is not None}
            self.records[key] = model.Record(key, self.records[key].vector, kept)
        return self._commit(len(keys))

    def delete(self, *, keys=None, filter=None, if_snapshot=None):
        self._check_snapshot(if_snapshot)
        if keys is None:
            keys = [key for key, record in self.records.items() if passes(record, filter)]
        for key in keys:
            self.records.pop(key, None)
        return self._commit(len(keys))  # as the face does, which does not look which were there

    def get(self, *, keys, include=("metadata", "vector"), as_of=None):
        self.asked.append(("get", as_of))
        return [cut(self.records[key], include) for key in keys if key in self.records]

    def list(self, *, cursor=None, limit=500, include=("metadata",), as_of=None):
        self.asked.append(("list", as_of))
        keys = sorted(key for key in self.records if cursor is None or key > cursor)
        page = tuple(cut(self.records[key], include) for key in keys[:limit])
        return model.RecordPage(page, keys[limit - 1] if len(keys) > limit else None)

    def query(
        self,
        vector,
        *,
        top_k=10,
        filter=None,
        explain=False,
        include=("metadata",),
        as_of=None,
        **_,
    ):
        self.asked.append(("query", as_of))
        if not np.isfinite(vector).all():
            raise errors.InvalidArgumentError("the query vector is not finite: mend it")
        found = [
            (float(np.linalg.norm(record.vector - vector)), key)
            for key, record in self.records.items()
            if passes(record, filter)
        ]
        matches = []
        for distance, key in sorted(found)[:top_k]:
            record = cut(self.records[key], include)
            matches.append(model.Match(key, distance, record.metadata, record.vector))
        return model.Answer(
            matches=tuple(matches),
            usage=model.Usage(levels=LEVELS),
            snapshot=self.snapshot,
            explain=EXPLANATION if explain else None,
        )

    def query_many(self, vectors, *, top_k=10, filters=None, **same):
        return [self.query(vector, top_k=top_k, filter=filters, **same) for vector in vectors]

    def snapshots(self, *, limit=100, before=None):
        last = self.snapshot if before is None else before - 1
        return [
            model.SnapshotInfo(number, 1_700_000_000_000 + number, "put", number)
            for number in range(last, max(last - limit, 0), -1)
        ]

    def optimize(self, *, progress=None, full=False):
        self.optimized += 1
        self.full = full
        if progress is not None:
            progress(reports.Progress("train", 1, 1, "partitions"))
        return self._commit(len(self.records))

    def stats(self):
        return model.IndexStats(
            name=self.config.name,
            dimension=self.config.dimension,
            metric=self.config.metric,
            codec=self.config.codec,
            rows=len(self.records),
            rows_fresh=0,
            partitions=1,
            clusters=1,
            snapshot=self.snapshot,
            stored_bytes=12_345,
            code_bytes_per_row=38.5,
            attributes={"year": "number"},
        )

    def gc(self, retention_s=86_400, *, dry_run=False, progress=None):
        self.retention_s = retention_s
        kinds = {"commits": reports.ObjectCount(4, 400), "segments": reports.ObjectCount(1, 50)}
        none = reports.ObjectCount()
        return reports.GcReport(64, 1_000, kinds, reports.ObjectCount(2, 20), none, dry_run)

    def repair(self, *, dry_run=False, drop_lost=False, progress=None):
        mended = (reports.Repaired("segments/a/rows", "written anew, as it was"),)
        lost = (0, ()) if drop_lost else (2, ("k1",))
        left = () if drop_lost else self.damages
        return reports.RepairReport(mended, *lost, left, (), dry_run)

    def verify(self, *, progress=None):
        return reports.VerifyReport(3, 999, len(self.records), self.damages)


class FakeExport:
    def __init__(self, index, records, vectors):
        self.snapshot = index.snapshot
        self.index, self.records, self.vectors = index, records, vectors

    def __iter__(self):
        for record in self.records:
            vector = record.vector if self.vectors else np.zeros(0, np.float32)
            yield model.RowBatch([record.key], vector[np.newaxis], [record.metadata])
        self.index.while_exporting()


class FakeDatabase:
    def __init__(self):
        self.indexes = {}
        self.asked = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def connect(self, location, *, endpoint_url=None, region=None):
        self.asked = (location, endpoint_url, region)
        return self

    def create_index(
        self, name, *, dimension, metric, attributes, non_filterable, expires, codec, seed
    ):
        if name in self.indexes:
            raise errors.ConflictError(f"there is an index {name} already: drop it", index=name)
        config = model.IndexConfig(
            name=name,
            dimension=dimension,
            metric=model.Metric(metric),
            attributes={key: model.AttributeType(kind) for key, kind in attributes.items()},
            non_filterable=tuple(non_filterable),
            expires=expires,
            codec=codec,
            seed=seed,
        )
        self.indexes[name] = FakeIndex(config)
        return self.indexes[name]

    def index(self, name):
        if name not in self.indexes:
            raise errors.NotFoundError(f"there is no index {name}: create it", index=name)
        return self.indexes[name]

    def list_indexes(self, *, unreadable):
        return [index.config for index in self.indexes.values()]

    def gc(self, retention_s=86_400, *, dry_run=False, progress=None):
        found = {
            name: index.gc(retention_s, dry_run=dry_run) for name, index in self.indexes.items()
        }
        remains = reports.ObjectCount(3, 30)
        return reports.DatabaseGcReport(found, {"bad": "damaged"}, remains, ("old",), dry_run)

    def drop_index(self, name):
        del self.indexes[name]


EXPLANATION = model.Explanation(
    plan="scan all matches",
    levels=LEVELS,
    partitions_visited=1,
    partitions_total=1,
    clusters_visited=2,
    clusters_total=4,
    selectivity_predicted=0.5,
    selectivity_actual=0.25,
    recall_target=0.95,
    certified=True,
    costs_us={"walk clusters": 1234.4, "scan all matches": 56.0},
)


def cut(record, include):
    return model.Record(
        record.key,
        record.vector if "vector" in include else None,
        record.metadata if "metadata" in include else None,
    )


def passes(record, predicate):
    for name, wanted in (predicate or {}).items():
        if name.startswith("$"):
            raise errors.FilterError(f"{name} is no operator here: see the list", field=name)
        value = record.metadata.get(name)
        if isinstance(wanted, dict):
            if value is None or value < wanted["$gte"]:
                return False
        elif value != wanted:
            return False
    return True
