"""What the C library keeps of memory that was freed."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from typing import Final

from squash.limits import MIB

_M_MMAP_THRESHOLD: Final = -3
_BLOCK_BYTES_MIN: Final = MIB


def give_back_freed_memory() -> None:
    """Have blocks of a megabyte and more go back to the system as soon as they are freed.

    glibc does so until the first of them is freed; then it keeps those that are no longer than that
    one for others to fill (decision 0034). Where the C library is another one, nothing changes.
    """
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _BLOCK_BYTES_MIN)
