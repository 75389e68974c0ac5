"""Files to build from that are objects of a store in memory: for tests."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence

from squash.container import Buffer
from squash.storage.inputs import InputInfo, changed, is_data, no_files, no_input, vanished
from squash.storage.locations import open_store
from squash.storage.protocol import ObjectStore


class MemoryInputs:
    """The objects of the store ``memory://<name>``, as ``memory://<name>/<key>``."""

    def __init__(self, name: str, store: ObjectStore | None = None) -> None:
        self._root = f"memory://{name}/"
        self._store = store or open_store(self._root.removesuffix("/"))

    def files(self, url: str) -> Iterator[InputInfo]:
        """Yield what `url` names; see `InputStore`."""
        key = self._key(url)
        keys = [key]
        if not key or key.endswith("/"):
            listed = (info.key for info in self._store.list(key))
            keys = [one for one in listed if is_data(one[len(key) :])]
        found = 0
        for one in keys:
            data = self._store.get(one)
            if data is not None:
                found += 1
                yield InputInfo(self._root + one, _etag(data), len(data))
        if not found:
            raise no_files(url)

    def read(self, info: InputInfo, ranges: Sequence[tuple[int, int]]) -> list[Buffer]:
        """Return parts of a file; see `InputStore`."""
        data = self._store.get(self._key(info.url))
        if data is None:
            raise vanished(info.url)
        if _etag(data) != info.etag:
            raise changed(info.url)
        return [bytes(memoryview(data)[start:stop]) for start, stop in ranges]

    def _key(self, url: str) -> str:
        if not url.startswith(self._root):
            raise no_input(url)
        return url[len(self._root) :]


def _etag(data: Buffer) -> str:
    return f"{len(data)}-{zlib.crc32(data):08x}"
