"""Paging tokens: opaque to who gets them, bound to the request they continue.

A token is base64url text, without padding, of one version byte, a checksum of 8 bytes, and fields
of two length bytes each and UTF-8. The checksum covers the operation and what the request asked:
so a token that was changed is told from one that came from another request only by chance, and
neither is taken. It keeps no secret, and needs none: all it can say is where to go on.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
from collections.abc import Sequence
from typing import Final

from squash.api.s3vectors.problems import ServiceError, invalid

_VERSION: Final = 1
_CHECKSUM_BYTES: Final = 8
_HEAD_BYTES: Final = 1 + _CHECKSUM_BYTES
_LENGTH: Final = struct.Struct(">H")


def encode(operation: str, fields: Sequence[str], *, bound: Sequence[bytes] = ()) -> str:
    """Make a token.

    Parameters
    ----------
    operation:
        Whose pages; its token is no other's.
    fields:
        Where to go on, each of at most 65,535 bytes: a name, a key, a number in digits.
    bound:
        What the request asked for, as `decode` will be told again; whatever must not change.

    Returns
    -------
    Text of A-Z, a-z, 0-9, "-" and "_": four characters for three bytes of the fields, and some 20.

    """
    data = b"".join(_LENGTH.pack(len(raw)) + raw for raw in (field.encode() for field in fields))
    whole = bytes([_VERSION]) + _checksum(operation, data, bound) + data
    return base64.urlsafe_b64encode(whole).rstrip(b"=").decode()


def decode(
    operation: str, token: str, *, fields: int, bound: Sequence[bytes] = ()
) -> tuple[str, ...]:
    """Return what a token says.

    Parameters
    ----------
    operation, bound:
        As the token must have been made for.
    token:
        As the caller gave it; it may be anything.
    fields:
        How many there must be.

    Raises
    ------
    ServiceError
        A ValidationException, if the token is none of ours, was changed, or continues another
        request.

    """
    try:
        whole = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error) as error:
        raise refused() from error
    data = whole[_HEAD_BYTES:]
    # Trailing bits of the last character are no part of the bytes: only one text is the token.
    plain = base64.urlsafe_b64encode(whole).rstrip(b"=").decode()
    if len(whole) < _HEAD_BYTES or whole[0] != _VERSION or plain != token:
        raise refused()
    if whole[1:_HEAD_BYTES] != _checksum(operation, data, bound):
        raise refused()
    read = _fields(data)
    if len(read) != fields:
        raise refused()
    return read


def refused() -> ServiceError:
    """Make the error for a token that is not taken."""
    return invalid(
        "Invalid nextToken: give it as it was answered, with the request that it continues, or "
        "begin again without one",
        fields=[("/nextToken", "is not a token of this request")],
    )


def _checksum(operation: str, data: bytes, bound: Sequence[bytes]) -> bytes:
    hashed = hashlib.sha256(operation.encode())
    for part in (data, *bound):
        hashed.update(len(part).to_bytes(8, "big"))
        hashed.update(part)
    return hashed.digest()[:_CHECKSUM_BYTES]


def _fields(data: bytes) -> tuple[str, ...]:
    # The checksum holds: these are the bytes that `encode` wrote, or of somebody who computed it.
    fields: list[str] = []
    at = 0
    try:
        while at < len(data):
            (length,) = _LENGTH.unpack_from(data, at)
            at += _LENGTH.size
            if at + length > len(data):
                raise refused()
            fields.append(data[at : at + length].decode())
            at += length
    except (struct.error, UnicodeDecodeError) as error:
        raise refused() from error
    return tuple(fields)
