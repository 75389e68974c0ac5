"""The part of `Index` that writes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from squash.arrays import is_iterable
from squash.database.arguments import (
    commit_id_of,
    flag,
    snapshot_number,
    told,
)
from squash.errors import InvalidArgumentError, shown
from squash.model import AsOf, Filter, InputBatch, Metadata, RowBatch, WriteResult
from squash.reports import Progress
from squash.runtime.session import IndexSession


class IndexWrites:
    """What changes an index; see `Index`."""

    _session: IndexSession

    def put(
        self,
        *,
        keys: Sequence[str],
        vectors: Any = None,
        texts: Sequence[str] | None = None,
        images: Sequence[bytes] | None = None,
        encoder: str | None = None,
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
            Numbers, [n, d]; stored as float32; or else
        texts, images:
            What the index's encoder shall make vectors of, images as the bytes of their files; the
            result's `encoding` says what it did. Exactly one of the three is given. Texts are kept
            in the metadata, under the index's `text_key`, if it has one.
        encoder:
            Which encoder made the vectors: ``name``, ``name@<digits of its digest>`` or its digest.
            An index with an encoder takes only vectors that are said to be its own.
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
            repeat its call with. The last 256 commits are remembered; what comes with the id of
            another kind of write, or of other keys, is refused.

        Returns
        -------
        The snapshot that the write made, and how many rows.

        Raises
        ------
        InvalidArgumentError, TooLargeError
            If a record cannot be kept or encoded, its vector is another encoder's, or there is no
            such snapshot yet; nothing was written.
        NotFoundError
            If the index's encoder was removed; nothing was written.
        UnavailableError
            If who encodes does not answer; nothing was written.
        ConflictError
            If a condition does not hold; nothing was written.
        ThrottledError
            If too much of the index is in no partition: its `limit` names what. Call `optimize`,
            or wait for the compactor.
        CommitUnknownError
            If the store did not say whether the write happened.

        """
        records = self._session.content.records(
            keys, vectors=vectors, texts=texts, images=images, metadata=metadata, encoder=encoder
        )
        return self._session.writing.put(
            records,
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
        Writers that patch other names of the same record at the same time lose nothing. The text
        that a vector was made of is not patched: put the record with its new text.

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
        batches: Iterable[RowBatch | InputBatch],
        *,
        encoder: str | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> WriteResult:
        """Put many records, batch by batch; each batch is durable before the next is read.

        Where very much has come to be in no partition, the index is folded on the way, as by
        `optimize`; call that at the end.

        Parameters
        ----------
        batches:
            Records with vectors, or, as `InputBatch`, with texts or images to be encoded.
        encoder:
            Which encoder made the vectors, as in `put`.
        progress:
            Told how many inputs are encoded and how many rows are durable.

        Returns
        -------
        The last snapshot, and how many rows; the places in its `encoding` are those of the whole
        import.

        Raises
        ------
        SquashError
            As `put`; batches before the one that failed stay.

        """
        if not is_iterable(batches):
            raise InvalidArgumentError(
                f"batches is {shown(batches)}: give an iterable of RowBatch or InputBatch",
                field="batches",
            )
        return self._session.writing.import_batches(batches, told(progress), encoder)

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

    def restore(
        self, as_of: AsOf, *, if_snapshot: int | None = None, commit_id: str | None = None
    ) -> WriteResult:
        """Make the content of the index again what it was after a snapshot, in one commit.

        Records that were there then are there again, as they were; all others are gone. So the
        content that a build replaced comes back, too. Nothing is lost by it: the snapshot before is
        there until it is collected, and can itself be restored. Where no record changed since,
        nothing is done. A build that is running is refused when it would be published.

        Parameters
        ----------
        as_of:
            The snapshot's number, or a moment with a time zone, as reads take it.
        if_snapshot, commit_id:
            As in `put`.

        Returns
        -------
        The snapshot that this made, and how many records it has; 0 if nothing was done.

        Raises
        ------
        NotFoundError
            If the snapshot was collected; nothing was changed.
        InvalidArgumentError
            If there is no such snapshot yet.
        ConflictError
            If records changed after `if_snapshot`; nothing was changed.
        CommitUnknownError
            If the store did not say whether it happened.

        """
        return self._session.writing.restore(
            as_of, if_snapshot=snapshot_number(if_snapshot), commit_id=commit_id_of(commit_id)
        )
