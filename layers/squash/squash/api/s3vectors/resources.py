"""Which vector bucket or index a request is about: by name or by ARN, never by both."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from squash.api.s3vectors.problems import ServiceError, invalid, no_bucket, no_index, no_resource
from squash.index.names import is_bucket_name
from squash.limits import BUCKET_NAME_PATTERN
from squash.values import dataclass

_ARN: Final = re.compile(
    r"arn:(?P<partition>aws[-a-z0-9]*):s3vectors:(?P<region>[a-z0-9-]+):(?P<account>\d{12}):"
    rf"bucket/(?P<bucket>{BUCKET_NAME_PATTERN})(?:/index/(?P<index>{BUCKET_NAME_PATTERN}))?"
)

# By how the names of their regions begin; all others are of "aws".
_PARTITIONS: Final[Mapping[str, str]] = {
    "cn-": "aws-cn",
    "us-gov-": "aws-us-gov",
    "eusc-": "aws-eusc",
    "us-iso-": "aws-iso",
    "us-isob-": "aws-iso-b",
    "eu-isoe-": "aws-iso-e",
    "us-isof-": "aws-iso-f",
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where this deployment is, as its ARNs say, and the KMS key that it stores all with, if any.

    `kms_key` is that key's ARN; empty where S3's own keys (AES256) do it.
    """

    region: str = "us-east-1"
    account: str = "000000000000"
    kms_key: str = ""

    @property
    def partition(self) -> str:
        """The part of AWS that the region is of, as its ARNs begin."""
        found = (name for first, name in _PARTITIONS.items() if self.region.startswith(first))
        return next(found, "aws")

    def arn(self, resource: Resource) -> str:
        """Return a resource's ARN."""
        rest = f"bucket/{resource.bucket}"
        if resource.index:
            rest += f"/index/{resource.index}"
        return f"arn:{self.partition}:s3vectors:{self.region}:{self.account}:{rest}"


@dataclass(frozen=True, slots=True)
class Resource:
    """A vector bucket, or an index in it if `index` is not empty."""

    bucket: str
    index: str = ""

    @property
    def name(self) -> str:
        """What the index is called among all indexes."""
        return f"{self.bucket}/{self.index}"


def bucket_resource(members: Mapping[str, Any], place: Place) -> Resource:
    """Return the vector bucket that a request names.

    Raises
    ------
    ServiceError
        If it names none, or two; or one of another place, which is not found.

    """
    name, arn = members.get("vectorBucketName"), members.get("vectorBucketArn")
    if name is not None and arn is None:
        return Resource(_bucket_name(name))
    if name is None and arn is not None:
        return _here(arn, place, no_bucket())
    raise invalid("Must specify either vectorBucketName or vectorBucketArn but not both")


def index_resource(members: Mapping[str, Any], place: Place) -> Resource:
    """Return the index that a request names.

    Raises
    ------
    ServiceError
        If it names none, or two; or one of another place, which is not found.

    """
    bucket, index = members.get("vectorBucketName"), members.get("indexName")
    arn = members.get("indexArn")
    if arn is not None and bucket is None and index is None:
        return _here(arn, place, no_index())
    if arn is not None or bucket is None or index is None:
        raise invalid("Must specify either indexArn or both vectorBucketName and indexName")
    return Resource(_bucket_name(bucket), _index_name(index))


def new_index_resource(members: Mapping[str, Any], place: Place) -> Resource:
    """Return the index that a request to create one names.

    Raises
    ------
    ServiceError
        If it names no vector bucket, or two; or one of another place, which is not found.

    """
    bucket = bucket_resource(members, place).bucket
    return Resource(bucket, _index_name(members["indexName"]))


def tagged_resource(members: Mapping[str, Any], place: Place) -> Resource:
    """Return the vector bucket or index that a request about tags names.

    Raises
    ------
    ServiceError
        If its ARN is of neither; or of another place, which is not found.

    """
    return _here(members["resourceArn"], place, no_resource())


def _here(arn: str, place: Place, absent: ServiceError) -> Resource:
    found = _ARN.fullmatch(arn)
    if found is None:
        raise invalid(
            "Invalid ARN: give that of a vector bucket or an index, such as "
            f"{place.arn(Resource('my-bucket', 'my-index'))}"
        )
    where = (found["partition"], found["region"], found["account"])
    if where != (place.partition, place.region, place.account):
        raise absent
    return Resource(found["bucket"], found["index"] or "")


def _bucket_name(name: str) -> str:
    if not is_bucket_name(name):
        raise invalid("Invalid vector bucket name")
    return name


def _index_name(name: str) -> str:
    if not is_bucket_name(name):
        raise invalid("Invalid vector index name")
    return name
