"""`…/vectors`: put, patch, get, delete, list."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from squash.api import rows
from squash.api.bodies import (
    PatchBody,
    PutBody,
    delete_body,
    get_body,
    list_query,
    patch_body,
    put_body,
)
from squash.api.contents import check_dimensions, in_metadata
from squash.api.documents import least_bytes, record_document, write_document
from squash.api.requests import Reply, refuse_longer
from squash.api.services import Call, Endpoint, Services
from squash.database import Index
from squash.errors import FilterError, SquashError
from squash.model import WriteResult

_METADATA: Final = re.compile(r"metadata\[(\d+)\]")


def put(services: Services, call: Call) -> Reply:
    """Put records, all in one commit."""
    body = put_body(call.document)
    return Reply(write_document(services.opened.write(call.index, lambda index: _put(index, body))))


def patch(services: Services, call: Call) -> Reply:
    """Change metadata of records, all in one commit."""
    body = patch_body(call.document)
    result = services.opened.write(call.index, lambda index: _patch(index, body))
    return Reply(write_document(result))


def get(services: Services, call: Call) -> Reply:
    """Get records by key."""
    body = get_body(call.document)
    records = services.opened.read(
        call.index,
        lambda index: rows.get_records(
            index, call.caller, body.keys, include=body.include, as_of=body.as_of
        ),
    )
    refuse_longer(least_bytes(records))
    return Reply({"records": [record_document(record) for record in records]})


def delete(services: Services, call: Call) -> Reply:
    """Delete records by key, or by filter."""
    body = delete_body(call.document)
    try:
        result = services.opened.write(
            call.index,
            lambda index: index.delete(
                keys=body.keys,
                filter=body.filter,
                if_snapshot=body.if_snapshot,
                commit_id=body.commit_id,
            ),
        )
    except FilterError as error:
        error.field = f"filter.{error.field}" if error.field else "filter"
        raise
    return Reply(write_document(result))


def list_page(services: Services, call: Call) -> Reply:
    """List records, a page at a time."""
    asked = list_query(call.request.parameters())
    page = services.opened.read(
        call.index,
        lambda index: rows.list_records(
            index,
            call.caller,
            cursor=asked.cursor,
            limit=asked.limit,
            include=asked.include,
            as_of=asked.as_of,
        ),
    )
    refuse_longer(least_bytes(page.records))
    records = [record_document(record) for record in page.records]
    return Reply({"records": records, "cursor": page.cursor})


def _put(index: Index, body: PutBody) -> WriteResult:
    check_dimensions(body.contents, index.config)
    try:
        return index.put(
            keys=body.keys,
            **body.contents.arguments(),
            encoder=body.encoder,
            metadata=body.metadata,
            if_absent=body.if_absent,
            if_snapshot=body.if_snapshot,
            commit_id=body.commit_id,
        )
    except SquashError as error:
        if error.key is not None or not body.contents.locate(error):
            _locate(error, body.keys, "vectors", inside=body.contents.kind)
        raise


def _patch(index: Index, body: PatchBody) -> WriteResult:
    try:
        return index.patch(
            keys=body.keys,
            metadata=body.metadata,
            if_snapshot=body.if_snapshot,
            commit_id=body.commit_id,
        )
    except SquashError as error:
        _locate(error, body.keys, "patches", inside="metadata")
        raise


def _locate(error: SquashError, keys: Sequence[str], place: str, *, inside: str) -> None:
    """Let an error about a record name its place in the body; without more, that is `inside`."""
    if error.field is None:
        return
    listed = _METADATA.match(error.field)
    if error.key in keys:
        i = keys.index(error.key)
    elif listed:
        i = int(listed[1])
    else:
        return
    if error.field == "keys":
        inside = "key"
    elif error.field.startswith("metadata"):
        inside = in_metadata(error.field)
    error.field = f"{place}[{i}].{inside}"
    if listed:
        error.args = (str(error).replace(listed[0], f"{place}[{i}].metadata"), *error.args[1:])


ENDPOINTS: Final[Mapping[str, Endpoint]] = {
    "put": put,
    "patch": patch,
    "get": get,
    "delete": delete,
    "list": list_page,
}
