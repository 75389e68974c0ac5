"""Vectors: put, get, list, delete."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from squash.api import rows
from squash.api.s3vectors import tokens
from squash.api.s3vectors.answers import record_documents, written_bytes
from squash.api.s3vectors.calls import Answer, Asked, Endpoint
from squash.api.s3vectors.problems import invalid
from squash.api.s3vectors.records import read_records, refused_record
from squash.api.services import Services
from squash.database import Index
from squash.errors import InvalidArgumentError, TooLargeError
from squash.limits import KEY_BYTES_MAX, VECTORS_PAGE_BYTES, VECTORS_PAGE_DEFAULT
from squash.model import IndexConfig, Record, RecordPage
from squash.search.fetch import cursor_after

_FLOAT32_BYTES: Final = 4
_HASHES: Final = 1 << 128
# Of these a page is made before it is known how large their metadata is.
_FIRST_RECORDS: Final = 100

_ReadPage = Callable[[str | None, int], RecordPage]


def put(services: Services, asked: Asked) -> Answer:
    """Put vectors, all in one commit; of a key that is given twice, the last counts."""
    given = asked.members["vectors"]

    def write(index: Index) -> None:
        if index.config.encoder is not None:
            raise invalid(
                "The specified index has an encoder, and takes vectors that are said to be made "
                "by it, which this API has no member for: put texts or vectors by the HTTP "
                "interface of Squash"
            )
        records = read_records(given, index.config)
        try:
            index.put(keys=records.keys, vectors=records.vectors, metadata=records.metadata)
        except (InvalidArgumentError, TooLargeError) as error:
            if error.key is None:
                raise
            raise refused_record(error, records) from error

    services.opened.write(asked.target.name, write)
    return {}


def get(services: Services, asked: Asked) -> Answer:
    """Get vectors by key."""
    keys = _possible(asked.members["keys"])
    found = services.opened.read(
        asked.target.name,
        lambda index: rows.get_records(index, asked.caller, keys, include=_include(asked)),
    )
    return {"vectors": record_documents(found)}


def list_page(services: Services, asked: Asked) -> Answer:
    """List vectors, a page at a time."""
    members = asked.members
    segment = _segment(members)
    include = _include(asked)
    limit = members.get("maxResults", VECTORS_PAGE_DEFAULT)

    def read(index: Index) -> tuple[list[Record], str | None]:
        bound = _bound(index.config, segment)
        cursor, stop = _hashes(segment)
        token = members.get("nextToken")
        if token is not None:
            (cursor,) = tokens.decode("ListVectors", token, fields=1, bound=bound)

        def page_of(cursor: str | None, count: int) -> RecordPage:
            return rows.list_records(
                index, asked.caller, cursor=cursor, limit=count, include=include
            )

        vector_bytes = _FLOAT32_BYTES * index.config.dimension if "vector" in include else 0
        first = min(limit, _FIRST_RECORDS) if "metadata" in include else limit
        page, following = _page(
            page_of, cursor, stop, limit=limit, first=first, vector_bytes=vector_bytes
        )
        if following is not None:
            following = tokens.encode("ListVectors", [following], bound=bound)
        return page, following

    page, token = services.opened.read(asked.target.name, read)
    answer: dict[str, Any] = {"vectors": record_documents(page)}
    if token is not None:
        answer["nextToken"] = token
    return answer


def delete(services: Services, asked: Asked) -> Answer:
    """Delete vectors by key; a key that is not there is no error."""
    keys = _possible(asked.members["keys"])
    services.opened.write(asked.target.name, lambda index: index.delete(keys=keys))
    return {}


def _include(asked: Asked) -> list[str]:
    wanted = {"metadata": "returnMetadata", "vector": "returnData"}
    return [name for name, member in wanted.items() if asked.members.get(member)]


def _possible(keys: Sequence[str]) -> list[str]:
    """Return each key once, without those longer than any that could be put."""
    return [
        key for key in dict.fromkeys(keys) if len(key.encode(errors="replace")) <= KEY_BYTES_MAX
    ]


def _segment(members: Mapping[str, Any]) -> tuple[int, int]:
    """Return which segment of how many is asked for; the first of one is all."""
    index, count = members.get("segmentIndex"), members.get("segmentCount")
    if (index is None) != (count is None):
        raise invalid("Must specify both segmentCount and segmentIndex or neither")
    if index is None or count is None:
        return 0, 1
    if index >= count:
        raise invalid("segmentIndex must be less than segmentCount")
    return index, count


def _hashes(segment: tuple[int, int]) -> tuple[str | None, int]:
    """Return the cursor before a segment, and the first hash after it.

    Records are listed in the order of their keys' hashes, which nothing changes: so a segment is a
    range of hashes.
    """
    index, count = segment
    first, stop = (place * _HASHES // count for place in (index, index + 1))
    return (f"{first - 1:032x}" if first else None), stop


def _bound(config: IndexConfig, segment: tuple[int, int]) -> list[bytes]:
    """Return what a token is for: an index made anew under the same name is another."""
    return [config.name.encode(), f"{config.created_ms} {segment}".encode()]


def _page(
    read: _ReadPage,
    cursor: str | None,
    stop: int,
    *,
    limit: int,
    first: int,
    vector_bytes: int,
) -> tuple[list[Record], str | None]:
    """Read records until there are enough, or enough bytes of them, or no more of the segment.

    Parameters
    ----------
    read:
        Reads so many records after a cursor, in the order of their hashes.
    cursor, stop:
        After which hash to begin, and at which to end.
    limit, first:
        How many records at most, in all and of the first reading.
    vector_bytes:
        Of a record's vector; 0 if it is not read.

    Returns
    -------
    The records, at least one if there is one, and the cursor of the next page.

    """
    page: list[Record] = []
    room = VECTORS_PAGE_BYTES
    count = max(1, min(first, room // max(vector_bytes, 1)))
    while True:
        part = read(cursor, count)
        records = part.records[: bisect_left(part.records, stop, key=_hash)]
        for record in records:
            room -= vector_bytes + written_bytes([record.key, record.metadata])
            if room < 0 and page:
                return page, cursor_after(page[-1].key)
            page.append(record)
        if part.cursor is None or len(records) < len(part.records):
            return page, None
        if len(page) >= limit:
            return page, cursor_after(page[-1].key)
        cursor = part.cursor
        each = (VECTORS_PAGE_BYTES - room) // len(page)
        count = min(limit - len(page), room // each + 1)


def _hash(record: Record) -> int:
    return int(cursor_after(record.key), 16)


ENDPOINTS: Final[Mapping[str, Endpoint]] = {
    "PutVectors": put,
    "GetVectors": get,
    "ListVectors": list_page,
    "DeleteVectors": delete,
}
