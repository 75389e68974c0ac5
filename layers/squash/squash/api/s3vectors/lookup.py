"""The vector bucket or index that a request is about, as the store has it."""

from __future__ import annotations

from squash.api.s3vectors.calls import Asked
from squash.api.s3vectors.problems import no_bucket, no_index
from squash.api.services import Services
from squash.errors import NotFoundError
from squash.index import catalogue
from squash.index.buckets import VectorBucket


def found_bucket(services: Services, asked: Asked) -> VectorBucket:
    """Return the vector bucket that a request is about.

    Raises
    ------
    ServiceError
        If there is none.

    """
    try:
        return services.database.vector_buckets.get(asked.target.bucket)
    except NotFoundError as error:
        raise no_bucket() from error


def found_index(services: Services, asked: Asked) -> catalogue.Entry:
    """Return the index that a request is about.

    Raises
    ------
    ServiceError
        If there is none. Where even its vector bucket is not there, the service says the same.

    """
    try:
        return catalogue.load(services.catalogue_store, asked.target.name)
    except NotFoundError as error:
        raise no_index() from error
