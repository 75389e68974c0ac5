"""Tags of vector buckets and of indexes in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from squash.api.s3vectors.calls import Answer, Asked, Endpoint
from squash.api.s3vectors.problems import ServiceError, invalid
from squash.api.services import Services
from squash.index import catalogue
from squash.limits import TAGS_MAX

Tags = Mapping[str, str]

_RESERVED: Final = "aws:"


def tags_of(members: Mapping[str, Any]) -> Tags:
    """Return the tags of a request that may have some.

    Raises
    ------
    ServiceError
        If they are too many, or one has a name that is the service's own.

    """
    tags: Tags = members.get("tags", {})
    for key in tags:
        if key.lower().startswith(_RESERVED):
            raise _refused(f"Tag keys that begin with {_RESERVED} are reserved: choose another")
    return _counted(tags)


def list_all(services: Services, asked: Asked) -> Answer:
    """Return the tags of a resource."""
    return {"tags": dict(_change(services, asked, None))}


def add(services: Services, asked: Asked) -> Answer:
    """Give a resource tags; of one that is there, the value is replaced."""
    new = tags_of(asked.members)
    _change(services, asked, lambda tags: _counted({**tags, **new}))
    return {}


def remove(services: Services, asked: Asked) -> Answer:
    """Take tags from a resource; those that it does not have are no error."""
    gone = frozenset(asked.members["tagKeys"])
    _change(
        services,
        asked,
        lambda tags: {key: value for key, value in tags.items() if key not in gone},
    )
    return {}


def _change(services: Services, asked: Asked, change: Callable[[Tags], Tags] | None) -> Tags:
    """Change the tags of the resource that a request is about, and return them."""
    buckets, target = services.database.vector_buckets, asked.target
    if target.index:
        entry = catalogue.load(services.catalogue_store, target.name)
        if change is None:
            return buckets.index_settings(entry).tags
        return buckets.change_index(
            entry, lambda settings: replace(settings, tags=change(settings.tags))
        ).tags
    bucket = buckets.get(target.bucket)
    if change is None:
        return bucket.settings.tags
    return buckets.change(
        bucket, lambda settings: replace(settings, tags=change(settings.tags))
    ).tags


def _counted(tags: Tags) -> Tags:
    if len(tags) > TAGS_MAX:
        raise _refused(f"A resource has at most {TAGS_MAX} tags, and these would be {len(tags)}")
    return tags


def _refused(message: str) -> ServiceError:
    return invalid(message, fields=[("/tags", message)])


ENDPOINTS: Final[Mapping[str, Endpoint]] = {
    "ListTagsForResource": list_all,
    "TagResource": add,
    "UntagResource": remove,
}
