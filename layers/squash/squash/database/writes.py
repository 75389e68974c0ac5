"""The part of `Index` that writes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from squash.database.arguments import (
    commit_id_of,
    flag,
    silent,
    snapshot_number,
)
from squash.errors import InvalidArgumentError
from squash.model import (
    Filter,
    Metadata,
    Progress,
    RowBatch,
    WriteResult,
)
from squash.runtime.session import IndexSession


class IndexWrites:
    """What changes an index; see `Index`."""

    _session: IndexSession

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
            if_absent=flag(if_absent, "if_absent"),
            if_snapshot=snapshot_number(if_snapshot),
            commit_id=commit_id_of(commit_id),
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
            keys,
            metadata,
            if_snapshot=snapshot_number(if_snapshot),
            commit_id=commit_id_of(commit_id),
        )

    def import_batches(
        self,
        batches: Iterable[RowBatch],
        *,
        progress: Callable[[Progress], None] | None = None,
    ) -> WriteResult:
        """Put many records, batch by batch; each batch is durable before the next is read.

        Where very much has come to be in no partition, the index is folded on the way, as by
        `optimize`; call that at the end.

        Raises
        ------
        SquashError
            As `put`; batches before the one that failed stay.

        """
        return self._session.writing.import_batches(batches, progress or silent)

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
            keys, node, if_snapshot=snapshot_number(if_snapshot), commit_id=commit_id_of(commit_id)
        )
