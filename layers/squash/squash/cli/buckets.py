"""The verb of vector buckets, in which indexes are called ``bucket/index``."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from squash.cli.output import Output, Table, minute
from squash.cli.statuses import SUCCEEDED
from squash.cli.values import by_name
from squash.index.bucket_content import BucketSettings, VectorBucket

if TYPE_CHECKING:
    # The commands are handed an open database: which one is the caller's affair.
    from squash.database import Database


def buckets(arguments: Namespace, database: Database, output: Output) -> int:
    """Make, list or delete vector buckets."""
    return _ACTIONS[arguments.action](arguments, database, output)


def _create(arguments: Namespace, database: Database, output: Output) -> int:
    settings = BucketSettings(tags=by_name(arguments.tag, "--tag"))
    made = database.vector_buckets.create(arguments.bucket, settings)
    output.result(
        bucket_document(made),
        f"Made the vector bucket {made.name}: squash create {made.name}/INDEX makes an index in "
        "it.",
    )
    return SUCCEEDED


def _list(arguments: Namespace, database: Database, output: Output) -> int:
    del arguments
    found = list(database.vector_buckets.list())
    rows = [
        (
            one.name,
            minute(one.created_ms),
            ", ".join(f"{name}={value}" for name, value in one.settings.tags.items()),
            "" if one.settings.policy is None else "yes",
        )
        for one in found
    ]
    output.result(
        {"buckets": [bucket_document(one) for one in found]},
        Table(("bucket", "made", "tags", "policy"), rows)
        if rows
        else "There is no vector bucket yet.",
    )
    return SUCCEEDED


def _delete(arguments: Namespace, database: Database, output: Output) -> int:
    database.vector_buckets.delete(arguments.bucket)
    output.result({"deleted": arguments.bucket}, f"Deleted the vector bucket {arguments.bucket}.")
    return SUCCEEDED


def bucket_document(bucket: VectorBucket) -> dict[str, Any]:
    """Describe a vector bucket."""
    return {
        "name": bucket.name,
        "created_ms": bucket.created_ms,
        "tags": dict(bucket.settings.tags),
        "policy": bucket.settings.policy,
    }


_ACTIONS: Final[Mapping[str, Callable[[Namespace, Database, Output], int]]] = {
    "create": _create,
    "list": _list,
    "delete": _delete,
}
