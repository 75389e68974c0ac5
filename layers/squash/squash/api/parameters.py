"""Secrets in the Parameter Store of AWS Systems Manager."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final, NoReturn

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import Session

from squash.errors import UnavailableError
from squash.runtime.aws_errors import error_code, refusal, unanswered

# A caller waits, for less long than API Gateway does.
_CONFIG: Final = Config(
    connect_timeout=2,
    read_timeout=4,
    retries={"mode": "standard", "total_max_attempts": 3},
    user_agent_extra="squash-search",
)
_ABSENT: Final = frozenset({"ParameterNotFound", "ParameterVersionNotFound"})
_THERE: Final = "ParameterAlreadyExists"
_THROTTLED: Final = frozenset({"ThrottlingException", "TooManyUpdates", "RequestLimitExceeded"})
_SERVICE: Final = "Systems Manager"


def read_parameter(name: str, *, region: str | None = None) -> str | None:
    """Return a parameter's value, decrypted; None if there is none.

    Parameters
    ----------
    name:
        Of the parameter.
    region:
        Where it lies; None where the AWS configuration says it.

    Raises
    ------
    ThrottledError
        If too much is asked at once.
    UnavailableError
        If Systems Manager did not answer as it should.
    InternalError
        If it refuses: this function or user may not read or decrypt it.

    """
    try:
        answer = _client(region).get_parameter(Name=name, WithDecryption=True)
    except ClientError as error:
        if error_code(error) in _ABSENT:
            return None
        _refuse(error, name, "ssm:GetParameter")
    except BotoCoreError as error:
        raise _unanswered(error, name) from error
    value: str = answer["Parameter"]["Value"]
    return value


def create_parameter(name: str, value: str, *, region: str | None = None) -> bool:
    """Make an encrypted parameter; tell if it was made, False if there is one already.

    Raises
    ------
    ThrottledError, UnavailableError, InternalError
        As `read_parameter`.

    """
    try:
        _client(region).put_parameter(
            Name=name,
            Value=value,
            Type="SecureString",
            Overwrite=False,
            Description="Squash: the secrets of access keys are derived from it; never change it",
        )
    except ClientError as error:
        if error_code(error) == _THERE:
            return False
        _refuse(error, name, "ssm:PutParameter")
    except BotoCoreError as error:
        raise _unanswered(error, name) from error
    return True


def _refuse(error: ClientError, name: str, action: str) -> NoReturn:
    raise refusal(
        error,
        of=f"parameter {name}",
        service=_SERVICE,
        throttled=_THROTTLED,
        advice=f"allow {action} on it, and its encryption key's use",
    ) from error


def _unanswered(error: BotoCoreError, name: str) -> UnavailableError:
    return unanswered(error, of=f"parameter {name}", service=_SERVICE)


@lru_cache(maxsize=1)
def _client(region: str | None) -> Any:
    return Session().create_client("ssm", region_name=region, config=_CONFIG)
