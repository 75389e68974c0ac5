"""The S3 store."""

import boto3
import botocore

__all__ = ["boto3", "botocore"]
