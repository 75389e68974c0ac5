"""Copying an index from Amazon S3 Vectors, or what speaks its API, and back.

Loaded when a command names such an index: botocore takes its time.
"""

from __future__ import annotations
