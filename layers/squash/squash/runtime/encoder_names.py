"""What encoders are called: by those who ask for one, and in answers."""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

from squash.errors import InvalidArgumentError
from squash.limits import INDEX_NAME_PATTERN
from squash.model import EncoderPin

DIGEST_DIGITS_SHOWN: Final = 12
_DIGEST_DIGITS_MIN: Final = 8
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_NAME: Final = re.compile(INDEX_NAME_PATTERN)
_REFERENCE: Final = re.compile(
    rf"(?P<name>{INDEX_NAME_PATTERN})(?:@(?P<digest>[0-9a-f]{{{_DIGEST_DIGITS_MIN},64}}))?"
)


class EncoderReference(NamedTuple):
    """What encoders are asked for by: a name, the digest's first digits, or both."""

    name: str | None
    digest: str
    """May be empty."""

    def fits(self, pin: EncoderPin) -> bool:
        """Tell whether it can mean a pinned encoder."""
        return self.name in {None, pin.name} and pin.digest.startswith(self.digest)


def is_name(text: str) -> bool:
    """Tell whether a text can be an encoder's name."""
    return _NAME.fullmatch(text) is not None


def is_digest(text: str) -> bool:
    """Tell whether a text can be a digest: an encoder's folder is called so, and nothing else."""
    return _DIGEST.fullmatch(text) is not None


def encoder_label(name: str, digest: str) -> str:
    """Return ``name@digest``, with the digest's first digits: an encoder for people to read."""
    return f"{name}@{digest[:DIGEST_DIGITS_SHOWN]}"


def read_reference(reference: Any, field: str = "encoder") -> EncoderReference:
    """Read what an encoder is asked for by: ``name``, ``name@<digest>``, or a whole digest.

    Raises
    ------
    InvalidArgumentError
        If it is none of these.

    """
    if isinstance(reference, str):
        if _DIGEST.fullmatch(reference):
            return EncoderReference(None, reference)
        found = _REFERENCE.fullmatch(reference)
        if found:
            return EncoderReference(found["name"], found["digest"] or "")
    raise InvalidArgumentError(
        f"{reference!r:.160} names no encoder: give its name, or name@ and the first "
        f"{_DIGEST_DIGITS_MIN} or more digits of its digest",
        field=field,
    )
