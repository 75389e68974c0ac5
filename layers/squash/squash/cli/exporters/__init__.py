"""Rows into files that `squash import` reads back: one module a format, all with a `RowSink`."""

from __future__ import annotations

from squash.cli.exporters.choose import open_sink
from squash.cli.exporters.sinks import ExportSource, RowSink

__all__ = ["ExportSource", "RowSink", "open_sink"]
