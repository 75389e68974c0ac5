"""Vector buckets: create, get, list, delete, and the mode of their new indexes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from squash.api.s3vectors.calls import Answer, Asked, Endpoint
from squash.api.s3vectors.encryption import check_encryption, encryption_of
from squash.api.s3vectors.pages import begins_after, page_of
from squash.api.s3vectors.problems import ServiceError
from squash.api.s3vectors.resources import Place, Resource
from squash.api.s3vectors.tags import tags_of
from squash.api.services import Services
from squash.errors import ConflictError
from squash.index.buckets import BucketSettings, VectorBucket

# Filters apply before the search, always: what the service calls so.
MODE: Final = "ENHANCED"


def create(services: Services, asked: Asked) -> Answer:
    """Make a vector bucket."""
    check_encryption(asked.members, asked.place)
    settings = BucketSettings(tags=tags_of(asked.members))
    try:
        services.database.vector_buckets.create(asked.target.bucket, settings)
    except ConflictError as error:
        raise ServiceError(
            "ConflictException", "A vector bucket with the specified name already exists"
        ) from error
    return {"vectorBucketArn": asked.place.arn(asked.target)}


def get(services: Services, asked: Asked) -> Answer:
    """Describe a vector bucket."""
    bucket = services.database.vector_buckets.get(asked.target.bucket)
    return {
        "vectorBucket": {
            **_summary(bucket, asked.place),
            "encryptionConfiguration": encryption_of(asked.place),
            "defaultIndexMode": MODE,
        }
    }


def list_page(services: Services, asked: Asked) -> Answer:
    """List vector buckets, a page at a time."""
    listed = services.database.vector_buckets.list(
        asked.members.get("prefix", ""), after=begins_after(asked), sees=asked.caller.sees_bucket
    )
    page = page_of(asked, listed, lambda bucket: bucket.name)
    answer: dict[str, Any] = {
        "vectorBuckets": [_summary(bucket, asked.place) for bucket in page.found]
    }
    return answer | ({"nextToken": page.token} if page.token else {})


def delete(services: Services, asked: Asked) -> Answer:
    """Delete a vector bucket that is empty."""
    try:
        services.database.vector_buckets.delete(asked.target.bucket)
    except ConflictError as error:
        raise ServiceError(
            "ConflictException", "The specified vector bucket is not empty"
        ) from error
    return {}


def put_mode(services: Services, asked: Asked) -> Answer:
    """Set the mode of new indexes, of which only the one that they have is taken."""
    services.database.vector_buckets.get(asked.target.bucket)
    return {}


def _summary(bucket: VectorBucket, place: Place) -> dict[str, Any]:
    return {
        "vectorBucketName": bucket.name,
        "vectorBucketArn": place.arn(Resource(bucket.name)),
        "creationTime": bucket.created_ms / 1000,
    }


ENDPOINTS: Final[Mapping[str, Endpoint]] = {
    "CreateVectorBucket": create,
    "GetVectorBucket": get,
    "ListVectorBuckets": list_page,
    "DeleteVectorBucket": delete,
    "PutVectorBucketDefaultIndexMode": put_mode,
}
