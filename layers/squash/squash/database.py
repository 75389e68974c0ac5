"""The Python face: `connect`, `Database`, `Index`. It checks arguments and delegates."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import numpy as np

from squash.clock import Clock, IdSource, SystemClock, SystemIds
from squash.errors import InvalidArgumentError
from squash.index import catalogue
from squash.limits import GC_RETENTION_S_DEFAULT, MIB
from squash.model import (
    Answer,
    AsOf,
    AttributeType,
    Backlog,
    Consistency,
    DatabaseGcReport,
    Filter,
    GcReport,
    IndexConfig,
    IndexStats,
    Metadata,
    Metric,
    Progress,
    Record,
    RecordPage,
    RepairReport,
    RowBatch,
    SnapshotInfo,
    VerifyReport,
    WriteResult,
)
from squash.quantize import PRESETS
from squash.runtime import RetainedMemory, Settings, choose_kernels, read_costs
from squash.runtime.prices import architecture_of
from squash.runtime.session import IndexSession, check_include, check_limits
from squash.search import Query, Searcher
from squash.storage import ObjectStore, PrefixStore, open_store
from squash.storage.tmp import TmpFiles

if TYPE_CHECKING:
    from squash.maintain import BuildOptions
    from squash.runtime.exporting import RowExport

_LOCAL_WHOLE_BYTES_MAX = 512 * MIB
_COMMIT_ID = re.compile("[0-9a-f]{32}")

# `Index.list` hides the type's name from what follows it in the class.
_Answers: TypeAlias = list[Answer]
_Snapshots: TypeAlias = list[SnapshotInfo]


def connect(
    location: str,
    *,
    endpoint_url: str | None = None,
    region: str | None = None,
    retained_bytes_max: int = 2_048 * MIB,
) -> Database:
    """Open a database.

    Parameters
    ----------
    location:
        ``s3://bucket/prefix``, ``file:///path`` or a plain path, or ``memory://name``.
    endpoint_url, region:
        Of S3, where they differ from what the AWS configuration says.
    retained_bytes_max:
        How much of what was read is kept in memory, of all indexes together.

    Raises
    ------
    InvalidArgumentError
        If the location is none of these, or the environment's SQUASH_KERNELS names kernels that
        this machine cannot run, or its SQUASH_COSTS a file that holds no costs.

    """
    choose_kernels(os.environ)
    store = open_store(location, endpoint_url=endpoint_url, region=region)
    remote = location.startswith("s3://")
    settings = Settings(
        retained_bytes_max=retained_bytes_max,
        whole_bytes_max=0 if remote else _LOCAL_WHOLE_BYTES_MAX,
        billed=remote,
        costs=read_costs(os.environ),
        architecture=architecture_of(os.uname().machine),
    )
    return Database(store, settings=settings, clock=SystemClock(), ids=SystemIds())


class Database:
    """Indexes under one location; made by `connect`.

    Parameters
    ----------
    store, settings, clock, ids:
        Its components.
    searcher:
        Answers queries; without one, this process does.
    tmp:
        Files behind the memory, for a store that is remote.
    fold_soon:
        Told of an index, by its name, after every write with which much of it is in no partition;
        without it, that is logged.

    """

    def __init__(
        self,
        store: ObjectStore,
        *,
        settings: Settings,
        clock: Clock,
        ids: IdSource,
        searcher: Searcher | None = None,
        tmp: TmpFiles | None = None,
        fold_soon: Callable[[str], None] | None = None,
    ) -> None:
        self._store = store
        self._fold_soon = fold_soon
        self._memory = RetainedMemory(settings.retained_bytes_max)
        self._tmp = tmp
        self._settings = settings
        self._clock = clock
        self._ids = ids
        self._searcher = searcher

    @property
    def store(self) -> ObjectStore:
        """Where the indexes lie."""
        return self._store

    @property
    def settings(self) -> Settings:
        """How this process uses its machine."""
        return self._settings

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing is held open: every write was durable when its call returned."""

    def create_index(
        self,
        name: str,
        *,
        dimension: int,
        metric: str | Metric = Metric.COSINE,
        attributes: Mapping[str, str | AttributeType] | None = None,
        non_filterable: Sequence[str] = (),
        expires: str | None = None,
        codec: str = "residual",
        seed: int = 0,
    ) -> Index:
        """Create an index.

        Parameters
        ----------
        name:
            1 to 63 of a-z, 0-9, "-" and "_".
        dimension:
            Of all its vectors; 1 to 4,096.
        metric:
            "cosine", "euclidean" or "dot".
        attributes:
            Types that metadata must have: "number", "string", "boolean", or one of these with
            "[]" for lists. Names not given here may hold anything.
        non_filterable:
            Metadata keys that are stored and returned but never filtered by.
        expires:
            A metadata attribute that says when a record expires: a number, in seconds since 1970
            UTC. From then on the record is gone for whoever reads; folding removes it. A record
            without the attribute never expires.
        codec:
            How vectors are quantised: "residual", or "osq", "osq-factors", "osq-residual".
        seed:
            Decides what training leaves to chance.

        Raises
        ------
        ConflictError
            If there is an index of this name.
        InvalidArgumentError
            If an argument is out of its range.

        """
        declared = {
            key: _one_of(AttributeType, kind, f"attributes.{key}")
            for key, kind in (attributes or {}).items()
        }
        if expires is not None:
            declared.setdefault(expires, AttributeType.NUMBER)
        config = IndexConfig(
            name=name,
            dimension=_whole(dimension, "dimension"),
            metric=_one_of(Metric, metric, "metric"),
            attributes=declared,
            non_filterable=tuple(non_filterable),
            codec=codec,
            seed=_whole(seed, "seed"),
            created_ms=self._clock.now_ms(),
            expires=expires,
        )
        if codec not in PRESETS:
            raise InvalidArgumentError(
                f"there is no codec {codec!r}; take one of {', '.join(PRESETS)}", field="codec"
            )
        return self._open(catalogue.create(self._store, config, self._ids))

    def index(self, name: str) -> Index:
        """Open an index.

        Raises
        ------
        NotFoundError
            If there is none of this name.

        """
        return self._open(catalogue.load(self._store, name))

    def list_indexes(self) -> list[IndexConfig]:
        """Return the configuration of every index, by name."""
        return catalogue.list_configs(self._store)

    def drop_index(self, name: str) -> None:
        """Remove an index and all of its data.

        Raises
        ------
        NotFoundError
            If there is none of this name.

        """
        catalogue.drop(self._store, name)

    def gc(
        self,
        retention_s: float = GC_RETENTION_S_DEFAULT,
        *,
        dry_run: bool = False,
        progress: Callable[[Progress], None] | None = None,
    ) -> DatabaseGcReport:
        """Collect the garbage of every index, as `Index.gc`, and what is left of dropped ones.

        An index that cannot be collected is left as it was, and named; the others are collected.

        Parameters
        ----------
        retention_s, dry_run, progress:
            As `Index.gc`.

        Raises
        ------
        InvalidArgumentError
            If the retention is shorter than an hour.

        """
        from squash.runtime.keeping import gc_all  # noqa: PLC0415 - see there

        return gc_all(
            self._store,
            self.index,
            ids=self._ids,
            clock=self._clock,
            retention_s=retention_s,
            dry_run=bool(dry_run),
            report=progress or _silent,
        )

    def _open(self, entry: catalogue.Entry) -> Index:
        session = IndexSession(
            PrefixStore(self._store, entry.prefix),
            entry,
            settings=self._settings,
            clock=self._clock,
            ids=self._ids,
            searcher=self._searcher,
            check_catalogue=lambda: _discard(catalogue.load(self._store, entry.config.name)),
            memory=self._memory,
            tmp=self._tmp,
            fold_soon=self._fold_soon,
        )
        return Index(session)


class Index:
    """A named set of records; opened by `Database.index`. Threads may share it.

    Every method may raise `UnavailableError`, `ThrottledError` or `PermissionDeniedError` from
    the store, and `DataError` where stored bytes are damaged.
    """

    def __init__(self, session: IndexSession) -> None:
        self._session = session

    @property
    def config(self) -> IndexConfig:
        """What was decided when the index was created."""
        return self._session.config

    def put(
        self,
        *,
        keys: Sequence[str],
        vectors: Any,
        metadata: Sequence[Metadata | None] | None = None,
        if_absent: bool = False,
        if_snapshot: int | None = None,
        commit_id: str | None = None,
    ) -> WriteResult:
        """Put records: new keys are added, known ones replaced whole. All or nothing, durable.

        Conditions are decided about the very state that the write follows: whoever loses a race
        against another writer is decided about anew.

        Parameters
        ----------
        keys:
            Strings of 1 to 1,024 bytes, each once.
        vectors:
            Numbers, [n, d]; stored as float32.
        metadata:
            A JSON object for each key, or None.
        if_absent:
            Write only if there is a record of none of the keys.
        if_snapshot:
            Write only if no record of the index was put or deleted after the snapshot of this
            number; folding does not count. `Answer`, `WriteResult` and `backlog` give numbers.
        commit_id:
            32 hexadecimal digits, the same in every repetition of a call: what happened already
            is not done again, and asks no condition. A `CommitUnknownError` carries the one to
            repeat its call with. The last 256 commits are remembered.

        Returns
        -------
        The snapshot that the write made, and how many rows.

        Raises
        ------
        InvalidArgumentError, TooLargeError
            If a record cannot be kept, or there is no such snapshot yet; nothing was written.
        ConflictError
            If a condition does not hold; nothing was written.
        ThrottledError
            If too much of the index is in no partition: its `limit` names what. Call `optimize`,
            or wait for the compactor.
        CommitUnknownError
            If the store did not say whether the write happened.

        """
        writing = self._session.writing
        return writing.put(
            writing.check_rows(keys, vectors, metadata),
            if_absent=_flag(if_absent, "if_absent"),
            if_snapshot=_snapshot(if_snapshot),
            commit_id=_commit_id(commit_id),
        )

    def patch(
        self,
        *,
        keys: Sequence[str],
        metadata: Sequence[Metadata],
        if_snapshot: int | None = None,
        commit_id: str | None = None,
    ) -> WriteResult:
        """Change the metadata of records and keep their vectors. All or nothing, durable.

        Each patch is merged into what the record holds when the write happens, as RFC 7396 says:
        a name with None is removed, any other gets the new value, and names not given stay.
        Writers that patch other names of the same record at the same time lose nothing.

        Parameters
        ----------
        keys:
            Of records that are there, each once.
        metadata:
            A JSON object for each key: what changes.
        if_snapshot, commit_id:
            As in `put`. To change a value by what it was, read it, and patch with the number of
            the snapshot that was read; on a `ConflictError` do both again.

        Raises
        ------
        NotFoundError
            If there is no record of a key; nothing was written.
        InvalidArgumentError, TooLargeError
            If what comes of it cannot be kept; nothing was written.
        ConflictError
            If records changed after `if_snapshot`; nothing was written.
        ThrottledError
            If too much of the index is in no partition: its `limit` names what. Call `optimize`,
            or wait for the compactor.
        CommitUnknownError
            If the store did not say whether the write happened.

        """
        return self._session.writing.patch(
            keys, metadata, if_snapshot=_snapshot(if_snapshot), commit_id=_commit_id(commit_id)
        )

    def import_batches(
        self,
        batches: Iterable[RowBatch],
        *,
        progress: Callable[[Progress], None] | None = None,
    ) -> WriteResult:
        """Put many records, batch by batch; each batch is durable before the next is read.

        Where much has come to be in no partition, the index is folded on the way, as by `optimize`.

        Raises
        ------
        SquashError
            As `put`; batches before the one that failed stay.

        """
        return self._session.writing.import_batches(batches, progress or _silent)

    def delete(
        self,
        *,
        keys: Sequence[str] | None = None,
        filter: Filter | None = None,  # noqa: A002
        if_snapshot: int | None = None,
        commit_id: str | None = None,
    ) -> WriteResult:
        """Delete records by key, or all that pass a filter; in one commit.

        Parameters
        ----------
        keys:
            Keys; those that are not there do no harm.
        filter:
            Decided about the very state that the deletion follows: a record that another writer
            replaced meanwhile by one that does not pass stays. If none passes, nothing is written.
        if_snapshot, commit_id:
            As in `put`.

        Raises
        ------
        InvalidArgumentError
            Unless exactly one of the two is given; an empty filter is not taken for "all".
        ConflictError
            If records changed after `if_snapshot`; nothing was deleted.
        CommitUnknownError
            If the store did not say whether the deletion happened.

        """
        if (keys is None) == (filter is None):
            raise InvalidArgumentError("give either keys or a filter to delete by", field="keys")
        node = self._session.parse(filter)
        if keys is None and node is None:
            raise InvalidArgumentError(
                "an empty filter would delete every record; drop the index if that is meant",
                field="filter",
            )
        return self._session.writing.delete(
            keys, node, if_snapshot=_snapshot(if_snapshot), commit_id=_commit_id(commit_id)
        )

    def get(
        self,
        *,
        keys: Sequence[str],
        include: Iterable[str] = ("metadata", "vector"),
        as_of: AsOf | None = None,
    ) -> list[Record]:
        """Get records in the order of `keys`; keys that are not there are left out.

        `as_of` gets them as they were; see `query`.
        """
        return self._session.get(keys, check_include(include), as_of)

    def list(
        self,
        *,
        cursor: str | None = None,
        limit: int = 500,
        include: Iterable[str] = ("metadata",),
        as_of: AsOf | None = None,
    ) -> RecordPage:
        """List records, a page at a time, in no order that means anything.

        A record that is there throughout is listed exactly once, whatever is written meanwhile.
        Pass each page's cursor on to get the next; the last page has none. With the same `as_of`
        for every page (see `query`) they are exactly that snapshot.
        """
        return self._session.list(cursor, _whole(limit, "limit"), check_include(include), as_of)

    def snapshots(self, *, limit: int = 100, before: int | None = None) -> _Snapshots:
        """Say what the last commits did, the newest first; each made a snapshot.

        They go back to where the log was collected: of what is here, all can be read with `as_of`
        but what a collection takes meanwhile.

        Parameters
        ----------
        limit:
            How many; 1 to 1,000.
        before:
            Only snapshots before this one: the last of a page, to get the next.

        """
        last = None if before is None else _whole(before, "before")
        return self._session.snapshots(_whole(limit, "limit"), last)

    def export_batches(
        self,
        *,
        as_of: AsOf | None = None,
        filter: Filter | None = None,  # noqa: A002
        include: Iterable[str] = ("metadata", "vector"),
        progress: Callable[[Progress], None] | None = None,
    ) -> RowExport:
        """Read out all records of one snapshot, batch by batch, in no order that means anything.

        The snapshot is taken by this call, and is that of every batch, whatever is written and
        folded meanwhile. Memory holds a batch, and what is stored of one segment.

        Parameters
        ----------
        as_of:
            The index as it was, see `query`; else the newest snapshot is read.
        filter:
            As in `query`: records that do not pass are left out.
        include:
            "metadata" and "vector"; without them a batch's metadata is {}, its vectors float32
            [n, 0].
        progress:
            Told how many of the snapshot's records were looked at.

        Returns
        -------
        An iterator of `RowBatch`; its `snapshot` is the snapshot's number. `import_batches` of
        another index takes it.

        Raises
        ------
        InvalidArgumentError, FilterError
            If an argument is out of its range.
        NotFoundError
            If there was no snapshot at `as_of`, or it was collected; from a batch, if it is
            collected meanwhile, which it is not before the retention of `gc` has passed.

        """
        session = self._session
        wanted = check_include(include)
        node = session.parse(filter)
        return session.export(node, wanted, as_of=as_of, report=progress or _silent)

    def query(
        self,
        vector: Any,
        *,
        top_k: int = 10,
        filter: Filter | None = None,  # noqa: A002
        recall_target: float = 0.95,
        exact: bool = False,
        consistency: Consistency = "strong",
        as_of: AsOf | None = None,
        include: Iterable[str] = ("metadata",),
        explain: bool = False,
        allow_partial: bool = False,
        timeout_ms: int | None = None,
    ) -> Answer:
        """Find the records nearest to a vector, among those that pass a filter.

        The answer holds exactly min(top_k, records that pass) matches, each of which passes.

        Parameters
        ----------
        vector:
            Numbers, [d].
        top_k:
            How many; 1 to 10,000.
        filter:
            See `squash.attributes.matches`; None for all records.
        recall_target:
            The share of the true nearest that answers shall hold on average, above 0; 1 is exact.
        exact:
            Compare with every record that passes.
        consistency:
            "strong" sees every write answered before; "eventual" may be some seconds behind.
        as_of:
            The index as it was: a snapshot's number, as writes and answers give it, or a datetime
            with a time zone, for the state after the last commit not later. What expired is gone
            as it was then. Whatever the consistency, this is one snapshot for good.
        include:
            "metadata" and "vector", as wanted in every match.
        explain:
            Say how the answer was found.
        allow_partial:
            Where several functions search, and one of them does not answer, take what the others
            found; the answer's `missing` names the rest. One process searches all or nothing.
        timeout_ms:
            How long it may take, 1 to 900,000. A search in this process that has begun ends in its
            own time; one by functions is given up.

        Raises
        ------
        InvalidArgumentError, FilterError
            If an argument is out of its range.
        NotFoundError
            If there was no snapshot at `as_of`, or it was collected.
        PartialAnswerError, UnavailableError
            If part of the index could not be searched, or not in time.

        """
        session = self._session
        check_limits(top_k=top_k, recall_target=recall_target, timeout_ms=timeout_ms)
        deadline_ms = session.deadline_ms(timeout_ms)
        wanted = check_include(include)
        query = Query(
            vector=session.check_query(vector),
            k=int(top_k),
            node=session.parse(filter),
            recall_target=recall_target,
            exact=exact or recall_target >= 1.0,
            include_metadata="metadata" in wanted,
            include_vector="vector" in wanted,
            explain=explain,
            allow_partial=bool(allow_partial),
            deadline_ms=deadline_ms,
        )
        return session.query(query, consistency, as_of)

    def query_many(
        self,
        vectors: Any,
        *,
        top_k: int = 10,
        filters: Filter | Sequence[Filter | None] | None = None,
        recall_target: float = 0.95,
        exact: bool = False,
        consistency: Consistency = "strong",
        as_of: AsOf | None = None,
        include: Iterable[str] = ("metadata",),
        explain: bool = False,
        allow_partial: bool = False,
        timeout_ms: int | None = None,
    ) -> _Answers:
        """Answer several queries on one snapshot; see `query`.

        The answers are those of single queries. Together they take a quarter less time, or, with
        one filter for all, half: it is prepared once, and queries near one another read the same
        codes. What was asked of the store is counted in the first answer's usage.

        Parameters
        ----------
        vectors:
            Numbers, [q, d].
        filters:
            One filter for all, or a list with one (or None) for each.
        top_k, recall_target, exact, consistency, as_of:
            For all of them together, as in `query`.
        include, explain, allow_partial, timeout_ms:
            Likewise.

        Raises
        ------
        InvalidArgumentError, FilterError
            If an argument is out of its range.
        NotFoundError
            If there was no snapshot at `as_of`, or it was collected.
        PartialAnswerError, UnavailableError
            If part of the index could not be searched, or not in time.

        """
        session = self._session
        if isinstance(vectors, str) or not hasattr(vectors, "__len__"):
            raise InvalidArgumentError("vectors is a list of vectors, [q, d]", field="vectors")
        check_limits(
            top_k=top_k, recall_target=recall_target, timeout_ms=timeout_ms, queries=len(vectors)
        )
        deadline_ms = session.deadline_ms(timeout_ms)
        wanted = check_include(include)
        if filters is None or isinstance(filters, Mapping):
            nodes = [session.parse(filters)] * len(vectors)
        else:
            nodes = [session.parse(filter_) for filter_ in filters]
        if len(nodes) != len(vectors):
            raise InvalidArgumentError(
                f"there are {len(vectors)} vectors and {len(nodes)} filters: give one filter for "
                "all, or one for each",
                field="filters",
            )
        first = Query(
            vector=np.empty(0, np.float32),
            k=int(top_k),
            recall_target=recall_target,
            exact=exact or recall_target >= 1.0,
            include_metadata="metadata" in wanted,
            include_vector="vector" in wanted,
            explain=explain,
            allow_partial=bool(allow_partial),
            deadline_ms=deadline_ms,
        )
        queries = [
            replace(first, vector=session.check_query(vector), node=node)
            for vector, node in zip(vectors, nodes, strict=True)
        ]
        return session.query_many(queries, consistency, as_of)

    def optimize(
        self,
        *,
        progress: Callable[[Progress], None] | None = None,
        scratch: str | Path | None = None,
        options: BuildOptions | None = None,
        full: bool = False,
    ) -> WriteResult:
        """Fold what was written into partitions.

        The first time, and when the records have become too many others, all are built and trained
        anew. Else only those partitions are written that have new records or many deleted ones;
        those that grew are split, those that shrank are joined. Writers and readers go on
        meanwhile. Where nothing is new, nothing is done.

        Parameters
        ----------
        progress:
            Told of every step.
        scratch:
            A local folder with room for the data; the system's temporary one if None.
        options:
            Sizes of partitions, clusters and samples.
        full:
            Build and train all anew in any case. No deleted or replaced record is left in any
            object of the new snapshot then; else some are, in partitions of which less than a
            tenth was deleted.

        Raises
        ------
        ConflictError
            If another call was first; its result stands, this one left nothing.

        """
        return self._session.optimize(
            options=options,
            scratch=Path(scratch) if scratch is not None else None,
            report=progress or _silent,
            full=full,
        )

    def backlog(self) -> Backlog:
        """Say how much `optimize` would take in; one request to the store if nothing is new."""
        return self._session.backlog()

    def stats(self) -> IndexStats:
        """Describe the index in numbers; rows that expired count until they are folded out."""
        return self._session.stats()

    def gc(
        self,
        retention_s: float = GC_RETENTION_S_DEFAULT,
        *,
        dry_run: bool = False,
        progress: Callable[[Progress], None] | None = None,
    ) -> GcReport:
        """Remove what no state within the retention needs; readers and writers go on meanwhile.

        Every state that was the newest at any moment of the retention stays readable by `as_of`.
        What nothing names is removed once it is a day old. A call that was broken off leaves the
        index whole.

        Parameters
        ----------
        retention_s:
            Seconds, at least an hour; a day if not given.
        dry_run:
            Only say what would be removed.
        progress:
            Told of every step.

        Raises
        ------
        InvalidArgumentError
            If the retention is shorter.
        DataError
            If what it goes by is damaged; nothing was removed then.

        """
        return self._session.gc(
            retention_s=retention_s, dry_run=bool(dry_run), report=progress or _silent
        )

    def verify(self, *, progress: Callable[[Progress], None] | None = None) -> VerifyReport:
        """Read every stored object back and say what is damaged.

        Lengths and checksums are checked of all that a state from the oldest stored snapshot on
        names; of the newest state, that the parts of every segment fit each other, and a sample of
        its codes is derived again; of stored snapshots, that the log leads to them. What nothing
        names is counted, and no damage.
        """
        return self._session.verify(progress or _silent)

    def repair(
        self,
        *,
        dry_run: bool = False,
        drop_lost: bool = False,
        progress: Callable[[Progress], None] | None = None,
    ) -> RepairReport:
        """Mend what `verify` finds damaged, as far as the remaining objects allow.

        Snapshots and deletion bitmaps are computed from the log; key tables, attributes, codes and
        heads from vectors and documents. Rows whose own vector or document is damaged are lost: of
        the others in their segment none is. Damage that it cannot mend is left as it is and named.

        Parameters
        ----------
        dry_run:
            Only say what would be done.
        drop_lost:
            Go on without the rows that are lost, so that the others can be read. They are named.
        progress:
            Told of every step.

        Raises
        ------
        ConflictError
            If a fold came between: repeat the call.

        """
        return self._session.repair(
            dry_run=bool(dry_run), drop_lost=bool(drop_lost), report=progress or _silent
        )


def _discard(entry: catalogue.Entry) -> None:
    del entry


def _silent(progress: Progress) -> None:
    del progress


def _whole(value: Any, field: str) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise InvalidArgumentError(f"{field} is a whole number, not {value!r}", field=field)
    return int(value)


def _flag(value: Any, field: str) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise InvalidArgumentError(f"{field} is true or false, not {value!r}", field=field)
    return bool(value)


def _snapshot(value: Any) -> int | None:
    if value is None:
        return None
    number = _whole(value, "if_snapshot")
    if number < 0:
        raise InvalidArgumentError(
            f"if_snapshot is the number of a snapshot, not {number}", field="if_snapshot"
        )
    return number


def _one_of(kind: type[Any], value: Any, field: str) -> Any:
    try:
        return kind(value)
    except ValueError as error:
        known = ", ".join(member.value for member in kind)
        message = f"{field} is one of {known}, not {value!r}"
        raise InvalidArgumentError(message, field=field) from error


def _commit_id(value: Any) -> str | None:
    if value is not None and (not isinstance(value, str) or not _COMMIT_ID.fullmatch(value)):
        raise InvalidArgumentError(
            f"commit_id is 32 of 0-9 and a-f, not {value!r:.80}", field="commit_id"
        )
    return value
