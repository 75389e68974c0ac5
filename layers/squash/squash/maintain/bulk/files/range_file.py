"""An input file as a Python file, read from its store in parts of some MB."""

from __future__ import annotations

import io
from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from squash.container import Buffer
from squash.limits import BUILD_READ_AHEAD_BYTES_MAX, BUILD_READ_BYTES, BUILD_READ_BYTES_MIN
from squash.storage.inputs import InputInfo, InputStore

_SPARE_BLOCKS: Final = 2


class RangeFile(io.RawIOBase):
    """Reads blocks of a file and keeps the latest.

    Readers of columns go forward at several places in turn, a little at each: every place has its
    block, so that requests are as long as blocks, however little is asked for.
    """

    def __init__(self, store: InputStore, info: InputInfo) -> None:
        super().__init__()
        self._store = store
        self._info = info
        self._position = 0
        self._blocks: OrderedDict[int, Buffer] = OrderedDict()
        self._block_bytes = BUILD_READ_BYTES_MIN
        self._blocks_max = 1 + _SPARE_BLOCKS

    def shape(self, places: int) -> None:
        """Make ready for reading at so many places in turn."""
        share = BUILD_READ_AHEAD_BYTES_MAX // (places + _SPARE_BLOCKS)
        size = max(BUILD_READ_BYTES_MIN, min(BUILD_READ_BYTES, share))
        if size != self._block_bytes:
            self._blocks.clear()
        self._blocks_max, self._block_bytes = places + _SPARE_BLOCKS, size

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def seekable(self) -> bool:
        """Tell that it has places."""
        return True

    def tell(self) -> int:
        """Return the place of the next byte."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._info.bytes}
        self._position = base[whence] + offset
        return self._position

    def readinto(self, buffer: Buffer) -> int:  # type: ignore[override]
        """Fill a buffer."""
        data = self.read(len(buffer))
        memoryview(buffer)[: len(data)] = data
        return len(data)

    def read(self, size: int | None = -1) -> bytes:
        """Read bytes, fewer only at the end."""
        start = min(self._position, self._info.bytes)
        stop = self._info.bytes if size is None or size < 0 else start + size
        stop = min(stop, self._info.bytes)
        if start >= stop:
            return b""
        self._position = stop
        first, last = start // self._block_bytes, (stop - 1) // self._block_bytes
        blocks = self._held(range(first, last + 1))
        parts = [
            memoryview(block)[
                max(0, start - number * self._block_bytes) : stop - number * self._block_bytes
            ]
            for number, block in zip(range(first, last + 1), blocks, strict=True)
        ]
        return b"".join(parts)

    def _held(self, numbers: Iterable[int]) -> list[Buffer]:
        """Return blocks, those that are not held read side by side."""
        numbers = list(numbers)
        absent = [number for number in numbers if number not in self._blocks]
        if absent:
            size = self._block_bytes
            ranges = [(n * size, min((n + 1) * size, self._info.bytes)) for n in absent]
            found = dict(zip(absent, self._store.read(self._info, ranges), strict=True))
        else:
            found = {}
        held = [found[n] if n in found else self._blocks[n] for n in numbers]
        for number, block in zip(numbers, held, strict=True):
            self._blocks[number] = block
            self._blocks.move_to_end(number)
        while len(self._blocks) > self._blocks_max:
            self._blocks.popitem(last=False)
        return held
