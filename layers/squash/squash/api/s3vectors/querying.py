"""`QueryVectors`.

What has more matches than one answer holds is given page by page, all of the snapshot that the
first page was taken from: each asks the same query anew, as of that snapshot. Nothing is kept
between two pages but the token.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from squash.api import rows
from squash.api.s3vectors import tokens
from squash.api.s3vectors.answers import RECORD_BYTES, written_bytes
from squash.api.s3vectors.calls import Answer, Asked, Endpoint
from squash.api.s3vectors.problems import ServiceError, invalid
from squash.api.s3vectors.records import read_query, refused_query
from squash.api.services import Services
from squash.arrays import AnyArray
from squash.attributes import parse_filter
from squash.database import Index
from squash.errors import FilterError, InvalidArgumentError, NotFoundError
from squash.limits import ANSWER_MS, MATCHES_PAGE_BYTES, MATCHES_PAGE_MAX, QUERY_TIMEOUT_MS
from squash.model import Answer as Found
from squash.model import Filter, IndexConfig, Match
from squash.values import dataclass

_OPERATION: Final = "QueryVectors"
# Metadata of a page that is read by key comes in parts: as much as one may be 40 KiB.
_METADATA_KEYS: Final = 250
_NOT_WELL_FORMED: Final = "the filter is not well formed "


@dataclass(frozen=True, slots=True)
class _Query:
    """A request, read."""

    vector: AnyArray
    top_k: int
    filter: Filter | None
    metadata: bool
    timeout_ms: int
    bound: Sequence[bytes]
    """What its pages have in common."""

    @property
    def whole(self) -> bool:
        """Whether metadata comes with the matches: mostly they are one page, or else the first."""
        return self.metadata and self.top_k <= MATCHES_PAGE_MAX


@dataclass(frozen=True, slots=True)
class _Page:
    matches: Sequence[Match]
    token: str | None


def query(services: Services, asked: Asked) -> Answer:
    """Find the vectors nearest to one."""

    def search(index: Index) -> tuple[_Page, str]:
        return _page(index, asked), str(index.config.metric)

    page, metric = services.opened.read(asked.target.name, search)
    vectors: list[dict[str, Any]] = []
    for match in page.matches:
        document: dict[str, Any] = {"key": match.key}
        if asked.members.get("returnDistance"):
            document["distance"] = float(match.distance)
        if match.metadata is not None:
            document["metadata"] = dict(match.metadata)
        vectors.append(document)
    answer: dict[str, Any] = {"vectors": vectors, "distanceMetric": metric}
    if page.token is not None:
        answer["nextToken"] = page.token
    return answer


def _page(index: Index, asked: Asked) -> _Page:
    try:
        asking = _read(index.config, asked)
        token = asked.members.get("nextToken")
        if token is None:
            start, found = 0, _found(index, asking, None)
        else:
            snapshot, start = _decoded(token, asking)
            found = _found(index, asking, snapshot)
    except FilterError as error:
        raise invalid(
            f"Invalid query filter: {str(error).removeprefix(_NOT_WELL_FORMED)}"
        ) from error
    matches: Sequence[Match] = found.matches[start : start + MATCHES_PAGE_MAX]
    if asking.metadata:
        matches = _with_metadata(index, matches, found.snapshot, come=asking.whole)
    end = start + len(matches)
    if end == len(found.matches):
        return _Page(matches, None)
    if index.config.expires is not None:
        # What expires between two pages would shift those that follow.
        raise invalid(
            "Records of the specified index expire, so that its answers have one page: lower topK "
            f"to {end}"
        )
    following = tokens.encode(_OPERATION, [str(found.snapshot), str(end)], bound=asking.bound)
    return _Page(matches, following)


def _read(config: IndexConfig, asked: Asked) -> _Query:
    members = asked.members
    if "queryVector" not in members:
        raise invalid("A request must include queryVector")
    vector = read_query(members["queryVector"]["float32"], config)
    # Read before it is written below: what nests too deeply is refused.
    parse_filter(members.get("filter"), non_filterable=config.non_filterable)
    filter_ = rows.query_filter(asked.caller, members.get("filter"), config)
    top_k = members["topK"]
    bound = [
        f"{config.name} {config.created_ms} {top_k}".encode(),
        vector.tobytes(),
        json.dumps(filter_, sort_keys=True).encode(),
    ]
    metadata = bool(members.get("returnMetadata"))
    return _Query(vector, top_k, filter_, metadata, _timeout_ms(asked), bound)


def _timeout_ms(asked: Asked) -> int:
    """Return how long the search may take, so that there is time to answer before Lambda ends it.

    Opening the index may have taken some of it already, where the container is cold.
    """
    if asked.left_ms is None:
        return QUERY_TIMEOUT_MS
    return min(QUERY_TIMEOUT_MS, max(asked.left_ms() - ANSWER_MS, 1))


def _decoded(token: str, asking: _Query) -> tuple[int, int]:
    """Return the snapshot and the place at which a token goes on."""
    said = tokens.decode(_OPERATION, token, fields=2, bound=asking.bound)
    try:
        snapshot, start = map(int, said)
    except ValueError as error:
        raise tokens.refused() from error
    if snapshot < 0 or not 0 < start < asking.top_k:
        raise tokens.refused()
    return snapshot, start


def _found(index: Index, asking: _Query, snapshot: int | None) -> Found:
    try:
        return index.query(
            asking.vector,
            top_k=asking.top_k,
            filter=asking.filter,
            as_of=snapshot,
            include=("metadata",) if asking.whole else (),
            timeout_ms=asking.timeout_ms,
        )
    except NotFoundError as error:
        if snapshot is None:
            raise
        raise _gone() from error
    except InvalidArgumentError as error:
        if error.field == "as_of":
            raise _gone() from error
        if error.field == "vector":
            raise refused_query(asking.vector) from error
        raise


def _with_metadata(
    index: Index, matches: Sequence[Match], snapshot: int, *, come: bool
) -> list[Match]:
    """Return as many matches as one answer holds, with their metadata.

    Parameters
    ----------
    index, snapshot:
        Where it is read from.
    matches:
        Those of one page.
    come:
        Whether they have their metadata already.

    """
    fit: list[Match] = []
    room = MATCHES_PAGE_BYTES
    step = len(matches) if come else _METADATA_KEYS
    for begin in range(0, len(matches), max(step, 1)):
        part = matches[begin : begin + step]
        if not come:
            keys = [match.key for match in part]
            records = index.get(keys=keys, include=("metadata",), as_of=snapshot)
            notes = {record.key: record.metadata for record in records}
            part = [replace(match, metadata=notes[match.key]) for match in part]
        for match in part:
            room -= RECORD_BYTES + written_bytes([match.key, match.metadata])
            if room < 0 and fit:
                return fit
            fit.append(match)
    return fit


def _gone() -> ServiceError:
    return invalid(
        "The state of the index that nextToken goes on with is no longer kept: begin again "
        "without nextToken",
        fields=[("/nextToken", "is too old")],
    )


ENDPOINTS: Final[Mapping[str, Endpoint]] = {"QueryVectors": query}
