"""What the environment says of a function's HTTP interface, read once into a frozen value."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from squash.errors import InvalidArgumentError
from squash.limits import GC_RETENTION_S_DEFAULT, RETENTION_DAYS_MAX, SIGNING_KEYS_MAX
from squash.values import dataclass

AUTH: Final = "SQUASH_AUTH"
LOCAL: Final = "SQUASH_LOCAL"
S3VECTORS: Final = "SQUASH_S3VECTORS"
REGION: Final = "AWS_REGION"  # Lambda sets it
_REGIONS: Final = ("AWS_DEFAULT_REGION", REGION)  # botocore looks at the first alone
KMS_KEY: Final = "SQUASH_KMS_KEY_ARN"
METRICS: Final = "SQUASH_METRICS"
COMPACTOR: Final = "SQUASH_COMPACTOR"
BUILD_MACHINE: Final = "SQUASH_BUILD_MACHINE"
BUILD_MEMORY: Final = "SQUASH_BUILD_MEMORY"
SIGNING_KEY: Final = "SQUASH_SIGNING_KEY"
RETENTION_DAYS: Final = "SQUASH_RETENTION_DAYS"
_REGION_DEFAULT: Final = "us-east-1"
_DAY_S: Final = 86_400
_MEMORY_DIGITS_MAX: Final = 6
_PLACE: Final = re.compile(
    r"(?P<ssm>ssm):(?P<parameter>(?:/[A-Za-z0-9_.-]{1,200}){1,8})"
    r"|store(?::(?P<object>[a-z0-9][a-z0-9-]{0,62}))?"
)


class Auth(StrEnum):
    """How callers are known."""

    KEYS = "keys"
    IAM = "iam"
    NONE = "none"


class PlaceKind(StrEnum):
    """Where signing keys can lie."""

    SSM = "ssm"
    """In the Parameter Store of AWS Systems Manager, encrypted."""
    STORE = "store"
    """Beside the indexes: for whom everybody who reads them may sign."""


@dataclass(frozen=True, slots=True)
class KeyPlace:
    """Where a signing key lies: a parameter's name, or an object's below ``_signing/``."""

    kind: PlaceKind
    name: str
    region: str | None = None
    """Of a parameter; None where the AWS configuration says it."""

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"


IN_THE_STORE: Final = (KeyPlace(PlaceKind.STORE, "key"),)


@dataclass(frozen=True, slots=True)
class S3VectorsSettings:
    """How the API of Amazon S3 Vectors is answered.

    Parameters
    ----------
    signing_keys:
        Where the keys lie that secrets of access keys are derived from; new ones from the first.
    region:
        Stands in ARNs.
    kms_key:
        ARN of the KMS key that the store encrypts all with; empty if S3's own keys do it.

    """

    signing_keys: tuple[KeyPlace, ...] = IN_THE_STORE
    region: str = _REGION_DEFAULT
    kms_key: str = ""


@dataclass(frozen=True, slots=True)
class BuildMachine:
    """The state machine that runs bulk builds: its ARN, and the MB of the function it calls."""

    arn: str
    memory_mb: int


@dataclass(frozen=True, slots=True)
class FaceSettings:
    """How one function answers HTTP.

    Parameters
    ----------
    auth:
        How callers are known.
    compactor:
        The function that folds; None where there is none.
    s3vectors:
        How the API of Amazon S3 Vectors is answered beside ours; None if it is not.
    build_machine:
        Runs bulk builds; None where this process does.
    metrics:
        Whether every request is told of in metrics, beside the log.

    """

    auth: Auth = Auth.KEYS
    compactor: str | None = None
    s3vectors: S3VectorsSettings | None = S3VectorsSettings()
    build_machine: BuildMachine | None = None
    metrics: bool = False


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
    speaks = _is_on(environment, S3VECTORS, default="on")
    return FaceSettings(
        Auth(word),
        environment.get(COMPACTOR) or None,
        read_s3vectors(environment) if speaks else None,
        read_build_machine(environment),
        _is_on(environment, METRICS, default="off"),
    )


def _is_on(environment: Mapping[str, str], name: str, *, default: str) -> bool:
    word = environment.get(name) or default
    if word not in {"on", "off"}:
        raise InvalidArgumentError(f"{name} is on or off, not {word!r:.80}")
    return word == "on"


def read_build_machine(environment: Mapping[str, str]) -> BuildMachine | None:
    """Read what runs bulk builds; None where nothing is named.

    Raises
    ------
    InvalidArgumentError
        If the memory of its function is no number.

    """
    arn, memory = environment.get(BUILD_MACHINE), environment.get(BUILD_MEMORY) or "0"
    if not arn:
        return None
    if not (memory.isascii() and memory.isdecimal() and len(memory) <= _MEMORY_DIGITS_MAX):
        raise InvalidArgumentError(f"{BUILD_MEMORY} is a number of MB, not {memory!r:.80}")
    return BuildMachine(arn, int(memory))


def read_s3vectors(
    environment: Mapping[str, str], *, parameters_region: str | None = None
) -> S3VectorsSettings:
    """Read how the API of Amazon S3 Vectors is answered; see `read_signing_keys`.

    Raises
    ------
    InvalidArgumentError
        With the variable that is wrong.

    """
    region = environment.get(REGION) or _REGION_DEFAULT
    places = read_signing_keys(environment, region=parameters_region)
    return S3VectorsSettings(places, region, environment.get(KMS_KEY) or "")


def read_signing_keys(
    environment: Mapping[str, str], *, region: str | None = None
) -> tuple[KeyPlace, ...]:
    """Read where signing keys lie; the store, where nothing is said.

    Parameters
    ----------
    environment:
        The variables.
    region:
        Of parameters, over what the variables say.

    Raises
    ------
    InvalidArgumentError
        If a place is none, or there are too many.

    """
    word = environment.get(SIGNING_KEY)
    if not word:
        return IN_THE_STORE
    found = [_PLACE.fullmatch(part.strip()) for part in word.split(",")]
    if None in found or len(found) > SIGNING_KEYS_MAX:
        raise InvalidArgumentError(
            f"{SIGNING_KEY} is ssm:/name, store or store:name, or up to {SIGNING_KEYS_MAX} of them "
            f"with commas, not {word!r:.80}"
        )
    said = region or next(filter(None, map(environment.get, _REGIONS)), None)
    return tuple(
        KeyPlace(PlaceKind.SSM, one["parameter"], said)
        if one["ssm"]
        else KeyPlace(PlaceKind.STORE, one["object"] or "key")
        for one in found
        if one is not None
    )


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
