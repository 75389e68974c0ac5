"""The wire API of Amazon S3 Vectors, as a second face of the same indexes (docs/s3vectors.md)."""
