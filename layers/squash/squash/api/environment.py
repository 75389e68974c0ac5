"""What the environment says of a function's HTTP interface, read once into a frozen value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from squash.errors import InvalidArgumentError

AUTH: Final = "SQUASH_AUTH"
LOCAL: Final = "SQUASH_LOCAL"
COMPACTOR: Final = "SQUASH_COMPACTOR"


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
