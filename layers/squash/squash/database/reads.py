"""The part of `Index` that reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from squash.database.arguments import (
    check_consistency,
    check_count,
    check_include,
    listed,
    matches_limit,
    query_options,
    told,
    whole_number,
)
from squash.errors import FilterError, InvalidArgumentError
from squash.model import Answer, AsOf, Consistency, Filter, Record, RecordPage, SnapshotInfo
from squash.reports import Progress
from squash.runtime.session import IndexSession

if TYPE_CHECKING:
    from squash.attributes import FilterNode
    from squash.runtime.exporting import RowExport

_STRONG: Final = "strong"  # as literals have it, too: mostly that very object

# `IndexReads.list` hides the type's name from what follows it in the class.
_Answers: TypeAlias = list[Answer]
_Snapshots: TypeAlias = list[SnapshotInfo]


class IndexReads:
    """What reads an index; see `Index`."""

    _session: IndexSession

    def get(
        self,
        *,
        keys: Sequence[str],
        include: Iterable[str] = ("metadata", "vector"),
        as_of: AsOf | None = None,
    ) -> list[Record]:
        """Get records in the order of `keys`, each once; keys that are not there are left out.

        `as_of` gets them as they were; see `query`.
        """
        return self._session.get(keys, check_include(include), as_of)

    def list(
        self,
        *,
        cursor: str | None = None,
        limit: int = 500,
        filter: Filter | None = None,  # noqa: A002
        include: Iterable[str] = ("metadata",),
        as_of: AsOf | None = None,
    ) -> RecordPage:
        """List records, a page at a time, in no order that means anything.

        A record that is there throughout is listed exactly once, whatever is written meanwhile.
        Pass each page's cursor on to get the next; the last page has none. With the same `as_of`
        for every page (see `query`) they are exactly that snapshot. With a `filter`, the same for
        every page, those that pass are listed, on pages as full as without.
        """
        session = self._session
        node = session.parse(filter)
        wanted = check_include(include)
        return session.list(cursor, whole_number(limit, "limit"), wanted, as_of=as_of, node=node)

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
        last = None if before is None else whole_number(before, "before")
        return self._session.snapshots(whole_number(limit, "limit"), last)

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
        another index takes it, if that has an encoder, with the word that this made the vectors.

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
        return session.export(node, wanted, as_of=as_of, report=told(progress))

    def query(
        self,
        vector: Any = None,
        *,
        text: str | None = None,
        image: bytes | None = None,
        encoder: str | None = None,
        top_k: int = 10,
        filter: Filter | None = None,  # noqa: A002
        recall_target: float | None = None,
        exact: bool = False,
        consistency: Consistency = "strong",
        as_of: AsOf | None = None,
        include: Iterable[str] = ("metadata",),
        explain: bool = False,
        allow_partial: bool = False,
        timeout_ms: int | None = None,
        matches_max: int | None = None,
    ) -> Answer:
        """Find the records nearest to a vector, a text or an image, among those that pass a filter.

        The answer holds exactly min(top_k, records that pass) matches, each of which passes.

        Parameters
        ----------
        vector:
            Numbers, [d]; or else
        text, image:
            What the index's encoder shall make the vector of; an image as the bytes of its file.
            The answer's `encoding` says what it did; what was asked lately is remembered, and takes
            no tokens again. Exactly one of the three is given.
        encoder:
            Which encoder made the vector, as in `put`: it is refused unless it is the index's.
            Without it a vector is taken as it is.
        top_k:
            How many; 1 to 10,000.
        filter:
            See `squash.attributes.matches`; None for all records.
        recall_target:
            The share of the true nearest that answers shall hold on average, above 0; 1 is exact.
            Without it 0.95, or 0.99 of an index with an encoder.
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
        matches_max:
            Refuse what has more matches than so many, as soon as that is known: for who can pass on
            no more of them. Without it there may be `top_k`.

        Raises
        ------
        InvalidArgumentError, FilterError
            If an argument is out of its range, or cannot be encoded.
        TooLargeError
            If a text or image has more bytes than are encoded, or there are too many matches.
        NotFoundError
            If there was no snapshot at `as_of`, or it was collected; or the encoder was removed.
        PartialAnswerError, UnavailableError
            If part of the index could not be searched, or not in time.

        """
        session = self._session
        if consistency is not _STRONG:
            check_consistency(consistency)
        options = query_options(
            include, top_k, recall_target, exact, explain, allow_partial, timeout_ms,
            session.config.encoder is not None,
        )  # fmt: skip
        if timeout_ms is not None:
            options = options.until(session.deadline_ms(timeout_ms))
        if matches_max is not None:
            options = options.within(matches_limit(matches_max))
        bare = text is None and image is None and encoder is None
        if vector is not None and bare and as_of is None:
            node = None if filter is None else session.parse(filter)
            return session.query(vector, node, options, consistency)
        asked = session.content.query(vector=vector, text=text, image=image, encoder=encoder)
        nodes = [None if filter is None else session.parse(filter)]
        return session.query_many(asked, nodes, options, consistency, as_of)[0]

    def query_many(
        self,
        vectors: Any = None,
        *,
        texts: Sequence[str] | None = None,
        images: Sequence[bytes] | None = None,
        encoder: str | None = None,
        top_k: int = 10,
        filters: Filter | Sequence[Filter | None] | None = None,
        recall_target: float | None = None,
        exact: bool = False,
        consistency: Consistency = "strong",
        as_of: AsOf | None = None,
        include: Iterable[str] = ("metadata",),
        explain: bool = False,
        allow_partial: bool = False,
        timeout_ms: int | None = None,
        matches_max: int | None = None,
    ) -> _Answers:
        """Answer several queries on one snapshot; see `query`.

        The answers are those of single queries. With everything in memory they take about as long
        together, a seventh less to a quarter more, and with one filter for all, which is prepared
        once, mostly a tenth to a fifth less. What is read of a remote store is read once for all.
        What was asked of the store, and what encoding took, is counted in the first answer's usage
        and `encoding`; the places in that are those of this call.

        Parameters
        ----------
        vectors:
            Numbers, [q, d]; or else
        texts, images:
            Of each query one, as `text` and `image` in `query`.
        encoder:
            As in `query`.
        filters:
            One filter for all, or a list with one (or None) for each.
        top_k, recall_target, exact, consistency, as_of:
            For all of them together, as in `query`.
        include, explain, allow_partial, timeout_ms:
            Likewise.
        matches_max:
            Refuse all of them if together they have more matches than so many. Queries without a
            filter have `top_k` each, or as many as there are records: then nothing is searched.
            Others are searched some at a time, until they have too many. Without it there may be
            `top_k` each, all in memory at once.

        Raises
        ------
        InvalidArgumentError, FilterError
            If an argument is out of its range, or cannot be encoded.
        TooLargeError
            If a text or image has more bytes than are encoded, or there are too many matches.
        NotFoundError
            If there was no snapshot at `as_of`, or it was collected; or the encoder was removed.
        PartialAnswerError, UnavailableError
            If part of the index could not be searched, or not in time.

        """
        session = self._session
        asked = session.content.queries(
            vectors=vectors, texts=texts, images=images, encoder=encoder
        )
        check_consistency(consistency)
        options = query_options(
            include, top_k, recall_target, exact, explain, allow_partial, timeout_ms,
            session.config.encoder is not None,
        )  # fmt: skip
        check_count(len(asked))
        if timeout_ms is not None:
            options = options.until(session.deadline_ms(timeout_ms))
        if matches_max is not None:
            options = options.within(matches_limit(matches_max))
        if filters is None or isinstance(filters, Mapping):
            nodes = [session.parse(filters)] * len(asked)
        else:
            nodes = [_parsed(session, one, i) for i, one in enumerate(listed(filters, "filters"))]
        if len(nodes) != len(asked):
            raise InvalidArgumentError(
                f"there are {len(asked)} queries and {len(nodes)} filters: give one filter for "
                "all, or one for each",
                field="filters",
            )
        return session.query_many(asked, nodes, options, consistency, as_of)


def _parsed(session: IndexSession, filter_: Filter | None, place: int) -> FilterNode | None:
    """Read one of several filters; what is wrong with it says which it is."""
    try:
        return None if filter_ is None else session.parse(filter_)
    except FilterError as error:
        which = f"filters[{place}]"
        error.args = (f"{which}: {error}", *error.args[1:])
        error.field = f"{which}.{error.field}" if error.field else which
        raise
