"""Indexes in vector buckets: create, get, list, delete, and their modes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from squash.api.s3vectors.buckets import MODE
from squash.api.s3vectors.calls import Answer, Asked, Endpoint
from squash.api.s3vectors.encryption import check_encryption, encryption_of
from squash.api.s3vectors.pages import begins_after, page_of
from squash.api.s3vectors.problems import ServiceError
from squash.api.s3vectors.resources import Place, Resource
from squash.api.s3vectors.tags import tags_of
from squash.api.services import Services
from squash.errors import ConflictError, NotFoundError
from squash.index import catalogue
from squash.model import IndexConfig


def create(services: Services, asked: Asked) -> Answer:
    """Make an empty index."""
    members = asked.members
    check_encryption(members, asked.place)
    metadata = members.get("metadataConfiguration", {})
    try:
        services.database.create_index(
            asked.target.name,
            dimension=members["dimension"],
            metric=members["distanceMetric"],
            non_filterable=list(dict.fromkeys(metadata.get("nonFilterableMetadataKeys", ()))),
            tags=tags_of(members),
        )
    except ConflictError as error:
        raise ServiceError(
            "ConflictException", "An index with the specified name already exists"
        ) from error
    return {"indexArn": asked.place.arn(asked.target)}


def get(services: Services, asked: Asked) -> Answer:
    """Describe an index."""
    config = catalogue.load(services.catalogue_store, asked.target.name).config
    document = {
        **_summary(config, asked.place),
        "dataType": "float32",
        "dimension": config.dimension,
        "distanceMetric": str(config.metric),
        "encryptionConfiguration": encryption_of(asked.place),
        "indexMode": MODE,
    }
    if config.non_filterable:
        document["metadataConfiguration"] = {
            "nonFilterableMetadataKeys": list(config.non_filterable)
        }
    return {"index": document}


def list_page(services: Services, asked: Asked) -> Answer:
    """List the indexes of a vector bucket, a page at a time."""
    bucket = services.database.vector_buckets.get(asked.target.bucket).name
    prefix, after = asked.members.get("prefix", ""), begins_after(asked)
    some = (
        f"{bucket}/{name}"
        for name in catalogue.in_bucket(services.catalogue_store, bucket)
        if name.startswith(prefix) and name > after
    )
    seen = (name for name in some if asked.by_policy or asked.caller.sees(name))

    def read(name: str) -> IndexConfig | None:
        try:
            return catalogue.load(services.catalogue_store, name).config
        except NotFoundError:
            return None  # something was left of one that is gone

    listed = (one for _, one in catalogue.side_by_side(read, seen) if one is not None)
    page = page_of(asked, listed, lambda config: config.name.partition("/")[2])
    answer: dict[str, Any] = {"indexes": [_summary(one, asked.place) for one in page.found]}
    return answer | ({"nextToken": page.token} if page.token else {})


def delete(services: Services, asked: Asked) -> Answer:
    """Delete an index and all its vectors."""
    services.opened.forget(asked.target.name)
    services.database.drop_index(asked.target.name)
    return {}


def update_mode(services: Services, asked: Asked) -> Answer:
    """Set an index's mode, of which only the one that it has is taken."""
    catalogue.load(services.catalogue_store, asked.target.name)
    return {}


def update_metadata(services: Services, asked: Asked) -> Answer:
    """Change nothing: what could be, full-text search, is refused before it comes here."""
    catalogue.load(services.catalogue_store, asked.target.name)
    return {"indexArn": asked.place.arn(asked.target)}


def _summary(config: IndexConfig, place: Place) -> dict[str, Any]:
    bucket, _, index = config.name.partition("/")
    return {
        "vectorBucketName": bucket,
        "indexName": index,
        "indexArn": place.arn(Resource(bucket, index)),
        "creationTime": config.created_ms / 1000,
    }


ENDPOINTS: Final[Mapping[str, Endpoint]] = {
    "CreateIndex": create,
    "GetIndex": get,
    "ListIndexes": list_page,
    "DeleteIndex": delete,
    "UpdateIndexMode": update_mode,
    "UpdateMetadataConfiguration": update_metadata,
}
