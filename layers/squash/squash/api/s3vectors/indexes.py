"""Indexes in vector buckets: create, get, list, delete, and their modes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from squash.api.s3vectors.calls import Answer, Asked, Endpoint
from squash.api.s3vectors.problems import ServiceError, no_bucket, no_index
from squash.api.s3vectors.resources import Place, Resource
from squash.api.services import Services
from squash.errors import ConflictError, NotFoundError
from squash.index import catalogue
from squash.model import IndexConfig


def create(services: Services, asked: Asked) -> Answer:
    """Make an empty index."""
    members = asked.members
    metadata = members.get("metadataConfiguration", {})
    try:
        services.database.create_index(
            asked.target.name,
            dimension=members["dimension"],
            metric=members["distanceMetric"],
            non_filterable=metadata.get("nonFilterableMetadataKeys", ()),
        )
    except NotFoundError as error:
        raise no_bucket() from error
    except ConflictError as error:
        raise ServiceError(
            "ConflictException", "An index with the specified name already exists"
        ) from error
    return {"indexArn": asked.place.arn(asked.target)}


def get(services: Services, asked: Asked) -> Answer:
    """Describe an index."""
    try:
        entry = catalogue.load(services.catalogue_store, asked.target.name)
    except NotFoundError as error:
        raise no_index() from error
    return {"index": _document(entry.config, asked.place)}


def list_all(services: Services, asked: Asked) -> Answer:
    """List the indexes of a vector bucket."""
    bucket = asked.target.bucket
    names = services.database.vector_buckets.index_names(bucket, asked.members.get("prefix", ""))
    entries = [catalogue.load(services.catalogue_store, f"{bucket}/{name}") for name in names]
    return {"indexes": [_document(entry.config, asked.place) for entry in entries]}


def delete(services: Services, asked: Asked) -> Answer:
    """Delete an index and all its vectors."""
    services.opened.forget(asked.target.name)
    try:
        services.database.drop_index(asked.target.name)
    except NotFoundError as error:
        raise no_index() from error
    return {}


def _document(config: IndexConfig, place: Place) -> dict[str, Any]:
    bucket, _, index = config.name.partition("/")
    document: dict[str, Any] = {
        "vectorBucketName": bucket,
        "indexName": index,
        "indexArn": place.arn(Resource(bucket, index)),
        "creationTime": config.created_ms / 1000,
        "dataType": "float32",
        "dimension": config.dimension,
        "distanceMetric": str(config.metric),
    }
    if config.non_filterable:
        document["metadataConfiguration"] = {
            "nonFilterableMetadataKeys": list(config.non_filterable)
        }
    return document


ENDPOINTS: Final[Mapping[str, Endpoint]] = {
    "CreateIndex": create,
    "GetIndex": get,
    "ListIndexes": list_all,
    "DeleteIndex": delete,
}
