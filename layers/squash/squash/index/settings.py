"""Settings that change: numbered versions, of which the newest holds.

There is no mutable object: whoever changes settings puts the next number, and of two at once one
finds it taken, reads on and decides again.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Final

from squash.errors import ChecksumError, ConflictError, DataError, UnsupportedFormatError
from squash.index.references import MALFORMED
from squash.storage import ObjectStore

FORMAT: Final = "squash-settings"
VERSION: Final = 1
_ATTEMPTS_MAX: Final = 16
_NUMBER: Final = re.compile(r"\d{20}")

Content = Mapping[str, Any]


class SettingsLog:
    """The settings kept below one prefix.

    Parameters
    ----------
    store, prefix:
        Where; the prefix ends with "/".

    """

    def __init__(self, store: ObjectStore, prefix: str) -> None:
        self._store = store
        self._prefix = prefix

    def read(self) -> Content:
        """Return the newest settings; empty if none were ever written.

        Raises
        ------
        DataError, UnsupportedFormatError
            If they are damaged, or of a newer release.

        """
        return self._newest()[1]

    def change(self, change: Callable[[Content], Content]) -> Content:
        """Write what `change` makes of the newest settings; it may be asked several times.

        Raises
        ------
        ConflictError
            If others were first, again and again.
        DataError, UnsupportedFormatError
            If they are damaged, or of a newer release.

        """
        for _ in range(_ATTEMPTS_MAX):
            number, content = self._newest()
            changed = change(content)
            if changed == content:
                return content
            if self._store.put_if_absent(self._key(number + 1), _to_bytes(changed)):
                # What is older is of no use any more; a reader that finds it gone lists again.
                self._store.delete(self._key(one) for one in range(max(1, number - 1), number + 1))
                return changed
        raise ConflictError("others change the same settings at this moment: try again")

    def _newest(self) -> tuple[int, Content]:
        for _ in range(_ATTEMPTS_MAX):
            names = [info.key.removeprefix(self._prefix) for info in self._store.list(self._prefix)]
            number = max((int(name) for name in names if _NUMBER.fullmatch(name)), default=0)
            if not number:
                return 0, {}
            data = self._store.get(self._key(number))
            if data is not None:
                return number, _from_bytes(bytes(data), self._key(number))
        raise ConflictError("others change the same settings at this moment: try again")

    def _key(self, number: int) -> str:
        return f"{self._prefix}{number:020d}"


def _to_bytes(content: Content) -> bytes:
    document: dict[str, Any] = {"format": FORMAT, "version": VERSION, "content": dict(content)}
    document["crc32"] = _checksum(document)
    return (json.dumps(document, indent=2) + "\n").encode()


def _from_bytes(data: bytes, key: str) -> Content:
    try:
        document = json.loads(data)
        if (document["format"], document["version"]) != (FORMAT, VERSION):
            raise UnsupportedFormatError(
                f"{key} is of another format than this release reads: install a newer one",
                object_key=key,
            )
        if document["crc32"] != _checksum(document):
            raise ChecksumError(f"{key} is not as it was written", object_key=key)
        content = document["content"]
        if not isinstance(content, dict):
            raise TypeError("its content is no object")
    except MALFORMED as error:
        raise DataError(f"{key} holds no settings ({error!r})", object_key=key) from error
    return content


def _checksum(document: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in document.items() if key != "crc32"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    return f"{zlib.crc32(text.encode()):08x}"
