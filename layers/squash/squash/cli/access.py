"""The verbs around the HTTP interface: its keys, and serving it on this machine."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from squash import limits
from squash.api import credentials
from squash.api.credentials import KeyRecord, NewKey
from squash.api.environment import (
    SIGNING_KEY,
    KeyPlace,
    PlaceKind,
    read_s3vectors,
    read_signing_keys,
)
from squash.cli.output import Output, Table, minute, summary
from squash.cli.statuses import SUCCEEDED
from squash.clock import SystemClock, SystemIds

if TYPE_CHECKING:
    # The commands are handed an open database: which one is the caller's affair.
    from squash.database import Database


def keys(arguments: Namespace, database: Database, output: Output) -> int:
    """Make, list or revoke API keys."""
    return _ACTIONS[arguments.action](arguments, database, output)


def _create(arguments: Namespace, database: Database, output: Output) -> int:
    place, signing_key = None, None
    if arguments.access_key:
        # Only here: other verbs need none of it.
        from squash.api.signing_keys import ensure_signing_key  # noqa: PLC0415

        place = read_signing_keys(os.environ, region=arguments.region)[0]
        signing_key = ensure_signing_key(place, database.store)
    made = credentials.create_key(
        database.store,
        scopes=arguments.scopes,
        indexes=arguments.indexes,
        row_filter=arguments.row_filter,
        description=arguments.description,
        lifetime_ms=arguments.expires,
        signing_key=signing_key,
        clock=SystemClock(),
    )
    output.result(
        key_document(made.record) | _shown_once(made),
        made.token + _access_key(made),
        "It is shown this once, and only its hash is stored. Whoever has it may "
        f"{', '.join(sorted(made.record.scopes))} {', '.join(made.record.indexes)}"
        f"{_until(made.record)}.{_lies(place)}",
    )
    return SUCCEEDED


def _list(arguments: Namespace, database: Database, output: Output) -> int:
    del arguments
    found = credentials.list_keys(database.store)
    rows = [
        (
            record.id,
            record.access_key_id or "",
            ",".join(sorted(record.scopes)),
            ",".join(record.indexes),
            _day(record.expires_ms),
            "" if record.row_filter is None else summary(record.row_filter),
            record.description,
        )
        for record in found
    ]
    columns = ("key", "access key", "scopes", "indexes", "expires", "row filter", "description")
    output.result(
        {"keys": [key_document(record) for record in found]},
        Table(columns, rows) if rows else "There is no key yet.",
    )
    return SUCCEEDED


def _revoke(arguments: Namespace, database: Database, output: Output) -> int:
    credentials.revoke_key(database.store, arguments.key)
    seconds = limits.KEY_KEPT_MS_MAX // 1000
    output.result(
        {"revoked": arguments.key},
        f"Revoked {arguments.key}: functions that know it forget it within {seconds} seconds.",
    )
    return SUCCEEDED


def serve(arguments: Namespace, database: Database, output: Output) -> int:
    """Answer HTTP until it is interrupted."""
    # Only here: no other verb waits for a server to be loaded.
    from squash.api.environment import Auth  # noqa: PLC0415
    from squash.api.functions import make_gate  # noqa: PLC0415
    from squash.api.serving import HOST, make_faces, make_server  # noqa: PLC0415

    clock, ids = SystemClock(), SystemIds()
    gate = make_gate(Auth(arguments.auth), database.store)
    faces = make_faces(
        database,
        gate=gate,
        clock=clock,
        ids=ids,
        s3vectors=read_s3vectors(os.environ, parameters_region=arguments.region),
    )
    server = make_server(faces, port=arguments.port, ids=ids, clock=clock)
    url = f"http://{HOST}:{server.server_port}"
    keyless = ", without asking for a key" if arguments.auth == "none" else ""
    output.result(
        {"url": url, "auth": arguments.auth},
        f"Answering at {url}/v1 for this machine alone{keyless}, and clients of Amazon S3 Vectors "
        f"with AWS_ENDPOINT_URL_S3VECTORS={url}. This is for development; Ctrl-C stops it.",
    )
    sys.stdout.flush()
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()
    return SUCCEEDED


def key_document(record: KeyRecord) -> dict[str, Any]:
    """Describe a key, without what is stored of its secret."""
    return {
        "id": record.id,
        "scopes": sorted(record.scopes),
        "indexes": list(record.indexes),
        "row_filter": record.row_filter,
        "description": record.description,
        "created_ms": record.created_ms,
        "expires_ms": record.expires_ms,
        "access_key_id": record.access_key_id,
    }


def _shown_once(made: NewKey) -> dict[str, str]:
    if made.record.access_key_id is None:
        return {"token": made.token}
    return {"token": made.token, "secret_access_key": made.secret}


def _access_key(made: NewKey) -> str:
    """Return the lines that an AWS client's credentials file takes."""
    if made.record.access_key_id is None:
        return ""
    return (
        f"\naws_access_key_id = {made.record.access_key_id}\naws_secret_access_key = {made.secret}"
    )


def _lies(place: KeyPlace | None) -> str:
    if place is None:
        return ""
    said = f" Its secret is derived from the signing key at {place}"
    if place.kind is PlaceKind.STORE:
        said += ", so that whoever can read the store can sign"
    elif place.region is not None:
        said += f" in {place.region}"
    return f"{said}. What serves must be given this place in {SIGNING_KEY}."


def _until(record: KeyRecord) -> str:
    return "" if record.expires_ms is None else f", until {_day(record.expires_ms)}"


def _day(time_ms: int | None) -> str:
    return "never" if time_ms is None else minute(time_ms)


_ACTIONS: Final[Mapping[str, Callable[[Namespace, Database, Output], int]]] = {
    "create": _create,
    "list": _list,
    "revoke": _revoke,
}
