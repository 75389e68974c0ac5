"""Rows from files, in batches of bounded size: one module a format, all with `open_rows`' shape."""

from __future__ import annotations

from squash.cli.importers.choose import ImportOptions, open_rows
from squash.cli.importers.rows import RowSource

__all__ = ["ImportOptions", "RowSource", "open_rows"]
