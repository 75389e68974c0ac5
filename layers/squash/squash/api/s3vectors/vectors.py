"""Vectors: put, get, list, delete."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from squash.api import rows
from squash.api.s3vectors.calls import Answer, Asked, Endpoint
from squash.api.s3vectors.problems import no_index
from squash.api.services import Services
from squash.errors import NotFoundError
from squash.model import Record


def put(services: Services, asked: Asked) -> Answer:
    """Put vectors, all in one commit; of a key that is given twice, the last counts."""
    last = {one["key"]: one for one in asked.members["vectors"]}
    vectors = [one["data"]["float32"] for one in last.values()]
    metadata = [one.get("metadata") for one in last.values()]
    try:
        services.opened.write(
            asked.target.name,
            lambda index: index.put(keys=list(last), vectors=vectors, metadata=metadata),
        )
    except NotFoundError as error:
        raise no_index() from error
    return {}


def get(services: Services, asked: Asked) -> Answer:
    """Get vectors by key."""
    keys = list(dict.fromkeys(asked.members["keys"]))
    try:
        found = services.opened.read(
            asked.target.name,
            lambda index: rows.get_records(index, asked.caller, keys, include=_include(asked)),
        )
    except NotFoundError as error:
        raise no_index() from error
    return {"vectors": [_document(record) for record in found]}


def list_page(services: Services, asked: Asked) -> Answer:
    """List vectors, a page at a time."""
    members = asked.members
    try:
        page = services.opened.read(
            asked.target.name,
            lambda index: rows.list_records(
                index,
                asked.caller,
                cursor=members.get("nextToken"),
                limit=members.get("maxResults", 500),
                include=_include(asked),
            ),
        )
    except NotFoundError as error:
        raise no_index() from error
    answer: dict[str, Any] = {"vectors": [_document(record) for record in page.records]}
    if page.cursor is not None:
        answer["nextToken"] = page.cursor
    return answer


def delete(services: Services, asked: Asked) -> Answer:
    """Delete vectors by key; a key that is not there is no error."""
    keys = list(dict.fromkeys(asked.members["keys"]))
    try:
        services.opened.write(asked.target.name, lambda index: index.delete(keys=keys))
    except NotFoundError as error:
        raise no_index() from error
    return {}


def _include(asked: Asked) -> list[str]:
    wanted = {"metadata": "returnMetadata", "vector": "returnData"}
    return [name for name, member in wanted.items() if asked.members.get(member)]


def _document(record: Record) -> dict[str, Any]:
    document: dict[str, Any] = {"key": record.key}
    if record.vector is not None:
        document["data"] = {"float32": record.vector.tolist()}
    if record.metadata is not None:
        document["metadata"] = dict(record.metadata)
    return document


ENDPOINTS: Final[Mapping[str, Endpoint]] = {
    "PutVectors": put,
    "GetVectors": get,
    "ListVectors": list_page,
    "DeleteVectors": delete,
}
