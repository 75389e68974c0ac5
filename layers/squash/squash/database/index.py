"""One index."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from squash.database.arguments import (
    flag,
    scratch_of,
    told,
)
from squash.database.builds import IndexBulk
from squash.database.reads import IndexReads
from squash.database.writes import IndexWrites
from squash.limits import GC_RETENTION_S_DEFAULT
from squash.model import Backlog, IndexConfig, IndexStats, WriteResult
from squash.reports import GcReport, Progress, RepairReport, VerifyReport
from squash.runtime.session import IndexSession

if TYPE_CHECKING:
    from squash.maintain import BuildOptions


class Index(IndexReads, IndexWrites, IndexBulk):
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
            scratch=scratch_of(scratch),
            report=told(progress),
            full=flag(full, "full"),
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
            retention_s=retention_s, dry_run=flag(dry_run, "dry_run"), report=told(progress)
        )

    def verify(self, *, progress: Callable[[Progress], None] | None = None) -> VerifyReport:
        """Read every stored object back and say what is damaged.

        Lengths and checksums are checked of all that a state from the oldest stored snapshot on
        names; of the newest state, that the parts of every segment fit each other, and a sample of
        its codes is derived again; of stored snapshots, that the log leads to them. What nothing
        names is counted, and no damage.
        """
        return self._session.verify(told(progress))

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
        UnsupportedFormatError
            If a newer release wrote any of it; nothing was changed.

        """
        return self._session.repair(
            dry_run=flag(dry_run, "dry_run"),
            drop_lost=flag(drop_lost, "drop_lost"),
            report=told(progress),
        )
