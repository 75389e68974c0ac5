"""Files that commands are given."""

from __future__ import annotations

import json


def lines(path, *records):
    """Write records as lines of JSON; return the file."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path
