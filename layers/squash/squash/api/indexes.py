"""`/v1/indexes`: create, list, describe, drop, stats, snapshots, optimize, gc; and health."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

from squash.api.bodies import (
    GcBody,
    OptimizeBody,
    create_body,
    gc_body,
    optimize_body,
    snapshots_query,
)
from squash.api.documents import (
    config_document,
    gc_document,
    snapshot_document,
    stats_document,
    write_document,
)
from squash.api.problems import title_of, type_of
from squash.api.requests import Reply
from squash.api.routes import Scope
from squash.api.services import Call, Endpoint, Services
from squash.database import Index
from squash.errors import DataError, InvalidArgumentError, NotFoundError
from squash.index.names import bucket_of, check_index_name


def create(services: Services, call: Call) -> Reply:
    """Make an empty index."""
    body = create_body(call.document)
    check_index_name(body.name)
    if bucket_of(body.name) is not None:
        raise InvalidArgumentError(
            f"{body.name!r} is of an index in a vector bucket, which this interface does not "
            "answer for: make it by the S3 Vectors API, from Python or by the command line",
            field="name",
        )
    call.caller.check(Scope.ADMIN, body.name)
    index = services.database.create_index(**asdict(body))
    return Reply(
        config_document(index.config),
        status=201,
        headers={"location": f"/v1/indexes/{body.name}"},
    )


def list_all(services: Services, call: Call) -> Reply:
    """List the indexes that the caller may know of; those in vector buckets are not asked here."""
    failed: dict[str, DataError] = {}
    configs = services.database.list_indexes(in_buckets=False, unreadable=failed)
    seen = [config_document(config) for config in configs if call.caller.sees(config.name)]
    hidden = [
        {"name": name, "type": type_of(title_of(type(error)))}
        for name, error in failed.items()
        if call.caller.sees(name)
    ]
    return Reply({"indexes": seen, **({"unreadable": hidden} if hidden else {})})


def describe(services: Services, call: Call) -> Reply:
    """Say how an index was made."""
    config = services.opened.write(call.index, lambda index: index.config)
    return Reply(config_document(config))


def drop(services: Services, call: Call) -> Reply:
    """Delete an index and all its records."""
    services.opened.forget(call.index)
    try:
        services.database.drop_index(call.index)
    except NotFoundError as error:
        if error.object_key is not None:
            raise
        raise NotFoundError(
            f"there is no index {call.index!r}: it may be dropped already", index=call.index
        ) from error
    return Reply({"dropped": call.index})


def stats(services: Services, call: Call) -> Reply:
    """Describe an index in numbers."""
    call.caller.check_unrestricted("stats")
    return Reply(stats_document(services.opened.read(call.index, Index.stats)))


def snapshots(services: Services, call: Call) -> Reply:
    """List what the last commits did, the newest first."""
    asked = snapshots_query(call.request.parameters())
    call.caller.check_unrestricted("a list of snapshots")
    found = services.opened.read(
        call.index, lambda index: index.snapshots(limit=asked.limit, before=asked.before)
    )
    return Reply({"snapshots": [snapshot_document(one) for one in found]})


def optimize(services: Services, call: Call) -> Reply:
    """Fold what is new: by the compactor, which is only asked to, or here if there is none."""
    body = OptimizeBody() if call.document is None else optimize_body(call.document)
    if services.compact_later is None:
        result = services.opened.write(call.index, lambda index: index.optimize(full=body.full))
        return Reply(write_document(result))
    return _later(services, call.index, {"full": True} if body.full else {})


def gc(services: Services, call: Call) -> Reply:
    """Remove what nothing needs any more: by the compactor, as `optimize`."""
    body = GcBody() if call.document is None else gc_body(call.document)
    # What is not given is for the compactor to say, or for the library.
    given: dict[str, Any] = {} if body.retention_s is None else {"retention_s": body.retention_s}
    if services.compact_later is None:
        report = services.opened.write(call.index, lambda index: index.gc(**given))
        return Reply(gc_document(report))
    return _later(services, call.index, {"gc": True, **given})


def _later(services: Services, index: str, event: Mapping[str, Any]) -> Reply:
    """Have the compactor do something with an index that is there."""
    snapshot = services.opened.write(index, Index.backlog).snapshot
    if services.compact_later is not None:
        services.compact_later({"index": index, **event})
    return Reply({"snapshot": snapshot}, status=202)


def health(services: Services, call: Call) -> Reply:
    """Say that this answers; nothing else, since anybody may ask."""
    del services, call
    return Reply({"status": "ok"})


ENDPOINTS: Final[Mapping[str, Endpoint]] = {
    "create": create,
    "indexes": list_all,
    "describe": describe,
    "drop": drop,
    "stats": stats,
    "snapshots": snapshots,
    "optimize": optimize,
    "gc": gc,
    "health": health,
}
