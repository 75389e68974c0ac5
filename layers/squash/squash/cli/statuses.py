"""What a command exits with."""

from __future__ import annotations

from typing import Final

SUCCEEDED: Final = 0
FAILED: Final = 1
MISUSED: Final = 2
"""The command itself is not well formed."""
