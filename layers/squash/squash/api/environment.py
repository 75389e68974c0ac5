"""What the environment of a function says, read once into a frozen value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from squash.errors import InvalidArgumentError
from squash.limits import MIB

STORE: Final = "SQUASH_STORE"
AUTH: Final = "SQUASH_AUTH"
LOCAL: Final = "SQUASH_LOCAL"
COMPACTOR: Final = "SQUASH_COMPACTOR"
RETAINED_SHARE: Final = "SQUASH_RETAINED_SHARE"
MEMORY: Final = "AWS_LAMBDA_FUNCTION_MEMORY_SIZE"
S3_ENDPOINT: Final = "AWS_ENDPOINT_URL_S3"
_RETAINED_SHARE_DEFAULT: Final = 0.5
_MEMORY_DEFAULT_MIB: Final = 2_048


class Auth(StrEnum):
    """How callers are known."""

    KEYS = "keys"
    IAM = "iam"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class FunctionSettings:
    """How one function works.

    Parameters
    ----------
    location:
        Where the indexes lie.
    auth:
        How callers are known.
    retained_bytes_max:
        How much of what was read is kept in memory, of all indexes together.
    compactor:
        The function that folds; None where there is none.
    s3_endpoint:
        Another S3 than Amazon's.

    """

    location: str
    auth: Auth = Auth.KEYS
    retained_bytes_max: int = _MEMORY_DEFAULT_MIB * MIB // 2
    compactor: str | None = None
    s3_endpoint: str | None = None


def read_settings(environment: Mapping[str, str]) -> FunctionSettings:
    """Read the variables.

    Raises
    ------
    InvalidArgumentError
        With the variable that is missing or wrong.

    """
    location = environment.get(STORE)
    if not location:
        raise InvalidArgumentError(f"{STORE} is not set: name a store, as s3://bucket/prefix")
    share = _number(environment, RETAINED_SHARE, _RETAINED_SHARE_DEFAULT)
    if not 0 < share < 1:
        raise InvalidArgumentError(f"{RETAINED_SHARE} is a share between 0 and 1, not {share}")
    memory_mib = _number(environment, MEMORY, _MEMORY_DEFAULT_MIB)
    return FunctionSettings(
        location=location,
        auth=_auth(environment),
        retained_bytes_max=int(memory_mib * MIB * share),
        compactor=environment.get(COMPACTOR) or None,
        s3_endpoint=environment.get(S3_ENDPOINT) or None,
    )


def _auth(environment: Mapping[str, str]) -> Auth:
    word = environment.get(AUTH) or Auth.KEYS.value
    if word not in list(Auth):
        raise InvalidArgumentError(f"{AUTH} is one of {', '.join(Auth)}, not {word!r}")
    if word == Auth.NONE and environment.get(LOCAL) != "1":
        raise InvalidArgumentError(
            f"{AUTH}=none lets everybody in, and is for the local cloud alone, which sets {LOCAL}=1"
        )
    return Auth(word)


def _number(environment: Mapping[str, str], name: str, default: float) -> float:
    text = environment.get(name)
    try:
        return float(text) if text else default
    except ValueError as error:
        raise InvalidArgumentError(f"{name} is a number, not {text!r}") from error
