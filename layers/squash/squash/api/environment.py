"""What the environment says of a function's HTTP interface, read once into a frozen value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from squash.errors import InvalidArgumentError
from squash.limits import GC_RETENTION_S_DEFAULT, RETENTION_DAYS_MAX

AUTH: Final = "SQUASH_AUTH"
LOCAL: Final = "SQUASH_LOCAL"
COMPACTOR: Final = "SQUASH_COMPACTOR"
RETENTION_DAYS: Final = "SQUASH_RETENTION_DAYS"
_DAY_S: Final = 86_400


class Auth(StrEnum):
    """How callers are known."""

    KEYS = "keys"
    IAM = "iam"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class FaceSettings:
    """How one function answers HTTP.

    Parameters
    ----------
    auth:
        How callers are known.
    compactor:
        The function that folds; None where there is none.

    """

    auth: Auth = Auth.KEYS
    compactor: str | None = None


def read_face(environment: Mapping[str, str]) -> FaceSettings:
    """Read the variables.

    Raises
    ------
    InvalidArgumentError
        With the variable that is wrong.

    """
    word = environment.get(AUTH) or Auth.KEYS.value
    if word not in list(Auth):
        raise InvalidArgumentError(f"{AUTH} is one of {', '.join(Auth)}, not {word!r:.80}")
    if word == Auth.NONE and environment.get(LOCAL) != "1":
        raise InvalidArgumentError(
            f"{AUTH}=none lets everybody in, and is for the local cloud alone, which sets {LOCAL}=1"
        )
    return FaceSettings(Auth(word), environment.get(COMPACTOR) or None)


def read_retention_s(environment: Mapping[str, str]) -> int:
    """Read for how long states of indexes are kept, in seconds.

    Raises
    ------
    InvalidArgumentError
        If it is no number of days that may be.

    """
    word = environment.get(RETENTION_DAYS)
    if not word:
        return GC_RETENTION_S_DEFAULT
    try:
        days = float(word)
    except ValueError:
        days = 0.0
    if not 1 <= days <= RETENTION_DAYS_MAX:
        raise InvalidArgumentError(
            f"{RETENTION_DAYS} is a number from 1 to {RETENTION_DAYS_MAX}, not {word!r:.80}"
        )
    return round(days * _DAY_S)
