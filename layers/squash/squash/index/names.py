"""Names of indexes, and of the vector buckets that some of them are in.

An index outside of vector buckets has a name by itself, such as ``papers``; one inside has its
bucket's before it, such as ``media/papers``. No name begins with "_": what is no index's is kept
below such names.
"""

from __future__ import annotations

import re
from typing import Final

from squash.errors import InvalidArgumentError, shown
from squash.limits import (
    BUCKET_NAME_PATTERN,
    ID_PATTERN,
    INDEX_NAME_CHARACTERS_MAX,
    INDEX_NAME_PATTERN,
)

BUCKETS: Final = "_buckets/"
_NAME: Final = re.compile(INDEX_NAME_PATTERN)
_BUCKET_NAME: Final = re.compile(BUCKET_NAME_PATTERN)
_FOLDER: Final = rf"(?:{INDEX_NAME_PATTERN}|{BUCKETS}{BUCKET_NAME_PATTERN}/{BUCKET_NAME_PATTERN})"
_PREFIX: Final = re.compile(rf"{_FOLDER}/{ID_PATTERN}/")


def is_index_name(name: object) -> bool:
    """Tell if an index can be called so, in a vector bucket or outside of them."""
    if not isinstance(name, str):
        return False
    bucket, slash, rest = name.partition("/")
    if not slash:
        return _NAME.fullmatch(name) is not None
    return is_bucket_name(bucket) and is_bucket_name(rest)


def is_bucket_name(name: object) -> bool:
    """Tell if a vector bucket, or an index in one, can be called so."""
    return isinstance(name, str) and _BUCKET_NAME.fullmatch(name) is not None


def is_prefix(prefix: str) -> bool:
    """Tell if the data of an index can lie under this."""
    return _PREFIX.fullmatch(prefix) is not None


def check_index_name(name: str) -> None:
    """Refuse what cannot name an index.

    Raises
    ------
    InvalidArgumentError
        With what is allowed.

    """
    if not is_index_name(name):
        raise InvalidArgumentError(
            f"{shown(name)} cannot name an index: use 1 to {INDEX_NAME_CHARACTERS_MAX} of a-z, "
            '0-9, "-" and "_", with a letter or digit first and last; or bucket/index, each of 3 '
            f'to {INDEX_NAME_CHARACTERS_MAX} of a-z, 0-9, "-" and "."',
            field="name",
        )


def bucket_of(name: str) -> str | None:
    """Return the vector bucket that an index is in; None if in none."""
    bucket, slash, _ = name.partition("/")
    return bucket if slash else None


def folder_of(name: str) -> str:
    """Return below what an index is kept; it does not end with "/"."""
    return f"{BUCKETS}{name}" if "/" in name else name
