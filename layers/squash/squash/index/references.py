"""References to objects and segments, to and from JSON; and reading what they name."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from typing import Any, Final

from squash.container import Buffer
from squash.errors import ChecksumError
from squash.model import ObjectRef, SegmentRef
from squash.storage import ObjectStore

# What reading a JSON value of another form than expected raises.
MALFORMED: Final = (
    KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, RecursionError,
)  # fmt: skip
_KEY: Final = re.compile(r"(?:[0-9a-z][0-9a-z_-]*/)*[0-9a-z][0-9a-z_-]*")


def object_to_json(ref: ObjectRef) -> list[Any]:
    """Return [key, bytes, crc32]."""
    return [ref.key, ref.bytes, ref.crc32]


def object_from_json(value: Any) -> ObjectRef:
    """Read what `object_to_json` made; ValueError, TypeError or KeyError if it did not."""
    key, length, crc32 = value
    if not isinstance(key, str) or type(length) is not int or type(crc32) is not int:
        raise TypeError("an object's reference is [key, bytes, crc32]")
    if not _KEY.fullmatch(key) or length < 0:
        raise ValueError(f"{key[:64]!r} of {length} bytes can be no object")
    return ObjectRef(key, length, crc32)


def segment_to_json(ref: SegmentRef) -> dict[str, Any]:
    """Return the fields, objects in the order of their names."""
    return {
        "id": ref.id,
        "kind": ref.kind,
        "rows": ref.rows,
        "as_of": ref.as_of,
        "objects": {name: object_to_json(ref.objects[name]) for name in sorted(ref.objects)},
        "deleted": object_to_json(ref.deleted) if ref.deleted else None,
        "deleted_as_of": ref.deleted_as_of,
    }


def segment_from_json(value: Mapping[str, Any]) -> SegmentRef:
    """Read what `segment_to_json` made; ValueError, TypeError or KeyError if it did not."""
    if value["kind"] not in {"flat", "partition"}:
        raise ValueError(f"a segment cannot be a {value['kind']!r}")
    if not isinstance(value["id"], str) or int(value["rows"]) < 0:
        raise ValueError(f"a segment cannot be {value['id']!r:.80} of {value['rows']!r:.80} rows")
    return SegmentRef(
        id=value["id"],
        kind=value["kind"],
        rows=int(value["rows"]),
        as_of=int(value["as_of"]),
        objects={name: object_from_json(ref) for name, ref in value["objects"].items()},
        deleted=object_from_json(value["deleted"]) if value["deleted"] else None,
        deleted_as_of=int(value["deleted_as_of"]),
    )


def read_object(store: ObjectStore, ref: ObjectRef) -> Buffer:
    """Get an object and check that it is the one meant.

    Raises
    ------
    ChecksumError
        If it is missing, or its length or checksum differs.

    """
    data = store.get(ref.key)
    if data is None or len(data) != ref.bytes or zlib.crc32(data) != ref.crc32:
        what = "is missing" if data is None else "has another length or checksum than its reference"
        raise ChecksumError(
            f"{ref.key} {what}. Run `squash verify` to see what else is damaged, and restore it "
            "from a copy.",
            object_key=ref.key,
        )
    return data
