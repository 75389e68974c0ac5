"""Vector buckets: create, get, list, delete, and what of them can be changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from squash.api.s3vectors.calls import Answer, Asked, Endpoint
from squash.api.s3vectors.problems import ServiceError, no_bucket
from squash.api.s3vectors.resources import Place, Resource
from squash.api.services import Services
from squash.errors import ConflictError, NotFoundError
from squash.index.buckets import BucketSettings, VectorBucket

ENCRYPTION: Final = {"sseType": "AES256"}


def create(services: Services, asked: Asked) -> Answer:
    """Make a vector bucket."""
    settings = BucketSettings(tags=asked.members.get("tags", {}))
    try:
        services.database.vector_buckets.create(asked.target.bucket, settings)
    except ConflictError as error:
        raise ServiceError(
            "ConflictException", "A vector bucket with the specified name already exists"
        ) from error
    return {"vectorBucketArn": asked.place.arn(asked.target)}


def get(services: Services, asked: Asked) -> Answer:
    """Describe a vector bucket."""
    return {"vectorBucket": _document(_found(services, asked), asked.place)}


def list_all(services: Services, asked: Asked) -> Answer:
    """List vector buckets."""
    buckets = services.database.vector_buckets
    names = buckets.names(asked.members.get("prefix", ""))
    return {"vectorBuckets": [_document(buckets.get(name), asked.place) for name in names]}


def delete(services: Services, asked: Asked) -> Answer:
    """Delete a vector bucket that is empty."""
    try:
        services.database.vector_buckets.delete(asked.target.bucket)
    except NotFoundError as error:
        raise no_bucket() from error
    except ConflictError as error:
        raise ServiceError(
            "ConflictException", "The specified vector bucket is not empty"
        ) from error
    return {}


def _found(services: Services, asked: Asked) -> VectorBucket:
    try:
        return services.database.vector_buckets.get(asked.target.bucket)
    except NotFoundError as error:
        raise no_bucket() from error


def _document(bucket: VectorBucket, place: Place) -> dict[str, Any]:
    return {
        "vectorBucketName": bucket.name,
        "vectorBucketArn": place.arn(Resource(bucket.name)),
        "creationTime": bucket.created_ms / 1000,
        "encryptionConfiguration": ENCRYPTION,
    }


ENDPOINTS: Final[Mapping[str, Endpoint]] = {
    "CreateVectorBucket": create,
    "GetVectorBucket": get,
    "ListVectorBuckets": list_all,
    "DeleteVectorBucket": delete,
}
