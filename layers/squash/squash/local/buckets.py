"""Makes the buckets of a template."""

from __future__ import annotations

from collections.abc import Iterable

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from squash.errors import UnavailableError
from squash.local.template.values import REGION


def make_buckets(names: Iterable[str], *, url: str, credentials: tuple[str, str]) -> None:
    """Make those that are not there.

    Raises
    ------
    UnavailableError
        If S3 does not make one.

    """
    key, secret = credentials
    client = boto3.client(
        "s3",
        endpoint_url=url,
        region_name=REGION,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
    )
    for name in names:
        try:
            client.create_bucket(Bucket=name)
        except client.exceptions.BucketAlreadyOwnedByYou:
            continue
        except (ClientError, BotoCoreError) as error:
            raise UnavailableError(
                f"the bucket {name} could not be made at {url}: {error}"
            ) from error
