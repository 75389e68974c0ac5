"""A stock client of Amazon S3 Vectors that is pointed at a deployment, and nothing else."""

from __future__ import annotations

import boto3
from botocore.config import Config


def client(url, *, key="local", secret="local", **config):  # noqa: S107 - of no account
    """Return boto3's own client; as it comes but for the address.

    Parameters
    ----------
    url:
        What AWS_ENDPOINT_URL_S3VECTORS would be.
    key, secret:
        An API key's two halves.
    config:
        For `botocore.config.Config`.

    """
    return boto3.client(
        "s3vectors",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        config=Config(**config),
    )


def records(keys, vectors, metadata=None):
    """Return what `put_vectors` takes."""
    rows = zip(keys, vectors, metadata or [None] * len(keys), strict=True)
    return [
        {"key": key, "data": {"float32": [float(x) for x in vector]}}
        | ({} if more is None else {"metadata": more})
        for key, vector, more in rows
    ]
