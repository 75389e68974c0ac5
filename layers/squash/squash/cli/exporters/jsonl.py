"""JSON lines: `{"key": ..., "vector": [...], "metadata": {...}}`, one record a line."""

from __future__ import annotations

import json
from typing import BinaryIO, Final

from squash.cli.exporters.sinks import ExportSource
from squash.model import RowBatch

_ENCODER: Final = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False)


class JsonLinesSink:
    """Records as `squash put` and `squash import` read them.

    Numbers of vectors are written as doubles, of which each float32 is one: none is changed.
    """

    def __init__(self, file: BinaryIO, source: ExportSource) -> None:
        self._file = file
        self._vectors = source.vectors

    def write(self, batch: RowBatch) -> None:
        """Write the rows of a batch."""
        for place, (key, metadata) in enumerate(zip(batch.keys, batch.metadata, strict=True)):
            record: dict[str, object] = {"key": key}
            if self._vectors:
                record["vector"] = batch.vectors[place].tolist()
            record["metadata"] = dict(metadata)
            self._file.write(_ENCODER.encode(record).encode() + b"\n")

    def finish(self) -> None:
        """Do nothing: a line is whole when it is written."""

    def abandon(self) -> None:
        """Do nothing: nothing is kept."""
