"""How a Parquet file that `squash export` wrote tells that it is one."""

from __future__ import annotations

from typing import Final

EXPORT_KEY: Final = b"squash.export"
"""Among the file's metadata; the value is a JSON object with the export's `version` and the rest
that is known of the rows. Its column `metadata` holds a JSON object a row, as text."""
EXPORT_VERSION: Final = 1
EXPORT_ENCODER: Final = "encoder"
"""The member that says which encoder made the vectors, as ``name@digest``; it may be missing."""
