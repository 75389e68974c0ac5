"""Which vector bucket or index a request is about: by name or by ARN, never by both."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from squash.api.s3vectors.problems import invalid
from squash.limits import BUCKET_NAME_PATTERN

_ARN: Final = re.compile(
    r"arn:(?P<partition>aws[-a-z0-9]*):s3vectors:(?P<region>[a-z0-9-]+):(?P<account>\d{12}):"
    rf"bucket/(?P<bucket>{BUCKET_NAME_PATTERN})(?:/index/(?P<index>{BUCKET_NAME_PATTERN}))?"
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where this deployment is, as its ARNs say."""

    partition: str = "aws"
    region: str = "us-east-1"
    account: str = "000000000000"

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
    """Return the vector bucket that a request names."""
    name, arn = members.get("vectorBucketName"), members.get("vectorBucketArn")
    if (name is None) == (arn is None):
        raise invalid("Must specify either vectorBucketName or vectorBucketArn but not both")
    return Resource(name) if name is not None else parse_arn(arn, place, index=False)


def index_resource(members: Mapping[str, Any], place: Place) -> Resource:
    """Return the index that a request names."""
    bucket, index = members.get("vectorBucketName"), members.get("indexName")
    arn = members.get("indexArn")
    if arn is not None and bucket is None and index is None:
        return parse_arn(arn, place, index=True)
    if arn is not None or bucket is None or index is None:
        raise invalid("Must specify either indexArn or both vectorBucketName and indexName")
    return Resource(bucket, index)


def parse_arn(arn: Any, place: Place, *, index: bool | None) -> Resource:
    """Read an ARN: of an index, of a vector bucket, or, with None, of either."""
    found = _ARN.fullmatch(arn) if isinstance(arn, str) else None
    if found is None or (index is not None and bool(found["index"]) != index):
        raise invalid("Invalid ARN")
    del place
    return Resource(found["bucket"], found["index"] or "")
