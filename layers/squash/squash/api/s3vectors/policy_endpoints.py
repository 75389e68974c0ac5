"""The policies of vector buckets: put, get, delete."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from squash.api.s3vectors.calls import Answer, Asked, Endpoint
from squash.api.s3vectors.policies import PolicyError, parse_policy
from squash.api.s3vectors.problems import ServiceError, invalid
from squash.api.services import Services


def put(services: Services, asked: Asked) -> Answer:
    """Give a vector bucket a policy, in place of the one it has."""
    text = asked.members["policy"]
    try:
        parse_policy(text, asked.place)
    except PolicyError as error:
        raise invalid(
            f"Invalid policy document: {error}", fields=[("/policy", str(error))]
        ) from error
    _set(services, asked, text)
    return {}


def get(services: Services, asked: Asked) -> Answer:
    """Return a vector bucket's policy, as it was put."""
    text = services.database.vector_buckets.get(asked.target.bucket).settings.policy
    if text is None:
        raise ServiceError(
            "NotFoundException", "The specified vector bucket policy could not be found"
        )
    return {"policy": text}


def delete(services: Services, asked: Asked) -> Answer:
    """Remove a vector bucket's policy; that there is none is no error."""
    _set(services, asked, None)
    return {}


def _set(services: Services, asked: Asked, text: str | None) -> None:
    buckets = services.database.vector_buckets
    buckets.change(
        buckets.get(asked.target.bucket), lambda settings: replace(settings, policy=text)
    )


ENDPOINTS: Final[Mapping[str, Endpoint]] = {
    "PutVectorBucketPolicy": put,
    "GetVectorBucketPolicy": get,
    "DeleteVectorBucketPolicy": delete,
}
