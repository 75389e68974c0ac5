"""Containers, and JSON documents, that carry the checksum of all that they hold beside it.

Segments are checked against what their snapshot says. Commits and snapshots have nobody above them
who could know their checksum, so they carry their own, as eight hexadecimal digits at the start of
the header; the checksum is that of the whole object with zeros in the place of these digits. Of a
document it is that of its members, however they are laid out.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any, Final

from squash.arrays import AnyArray
from squash.container import Buffer, Container, pack
from squash.errors import ChecksumError

_FIELD: Final = b'\\"crc32\\":\\"'
_ZEROS: Final = b"00000000"
_FIELD_STARTS_MAX: Final = 256


def seal(
    kind: str, version: int, *, header: Mapping[str, Any], arrays: Mapping[str, AnyArray]
) -> bytes:
    """Pack a container (see `squash.container.pack`) with its own checksum in its header."""
    data = pack(
        kind, version, header={"crc32": _ZEROS.decode(), "features": [], **header}, arrays=arrays
    )
    at = data.index(_FIELD) + len(_FIELD)
    return b"".join([data[:at], b"%08x" % zlib.crc32(data), data[at + len(_ZEROS) :]])


def open_sealed(data: Buffer, *, kind: str, versions: tuple[int, ...], where: str) -> Container:
    """Check the checksum and open the container.

    Raises
    ------
    ChecksumError
        If any bit differs from what was written.
    DataError, UnsupportedFormatError
        If it is of another kind, or of a version or with features not known.

    """
    view = memoryview(data)
    at = bytes(view[:_FIELD_STARTS_MAX]).find(_FIELD) + len(_FIELD)
    digits = bytes(view[at : at + len(_ZEROS)])
    sums = zlib.crc32(view[:at])
    sums = zlib.crc32(_ZEROS, sums)
    sums = zlib.crc32(view[at + len(_ZEROS) :], sums)
    if at < len(_FIELD) or digits != b"%08x" % sums:
        raise ChecksumError(
            f"{where} is not as it was written: its checksum differs. Run `squash verify` to see "
            "what else is damaged, and restore it from a copy.",
            object_key=where,
        )
    return Container(data, kind=kind, versions=versions, where=where)


def document_checksum(document: Mapping[str, Any]) -> str:
    """Return the CRC-32 of a JSON document without its member `crc32`, in hexadecimal digits."""
    rest = {key: value for key, value in document.items() if key != "crc32"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    return f"{zlib.crc32(text.encode()):08x}"
