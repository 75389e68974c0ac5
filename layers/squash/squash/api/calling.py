"""Calling a Lambda function without waiting for its answer."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import Session

from squash.runtime.aws_errors import refusal, unanswered

_CONFIG: Final = Config(
    connect_timeout=3,
    read_timeout=5,
    retries={"mode": "standard", "total_max_attempts": 3},
    user_agent_extra="squash-search",
)
# While a writer waits whose answer does not depend on it.
_BRIEF: Final = _CONFIG.merge(
    Config(connect_timeout=1, read_timeout=2, retries={"mode": "standard", "total_max_attempts": 1})
)
_THROTTLED: Final = frozenset({"TooManyRequestsException", "ThrottlingException"})
_SERVICE: Final = "Lambda"


def call_later(function: str, payload: bytes) -> None:
    """Call a function; Lambda has taken the call when this returns.

    Raises
    ------
    ThrottledError
        If too much is called at once.
    UnavailableError
        If Lambda did not answer as it should.
    InternalError
        If Lambda refuses: there is no such function, or this one may not call it.

    """
    _call(_client(), function, payload)


def call_soon(function: str, payload: bytes) -> None:
    """Call a function as `call_later` does, and give up after three seconds.

    Raises
    ------
    ThrottledError, UnavailableError, InternalError
        As `call_later`.

    """
    _call(_brief_client(), function, payload)


def _call(client: Any, function: str, payload: bytes) -> None:
    of = f"function {function}"
    try:
        client.invoke(FunctionName=function, InvocationType="Event", Payload=payload)
    except ClientError as error:
        raise refusal(
            error,
            of=of,
            service=_SERVICE,
            throttled=_THROTTLED,
            advice="see that it is deployed, and allow lambda:InvokeFunction on it",
        ) from error
    except BotoCoreError as error:
        raise unanswered(error, of=of, service=_SERVICE) from error


@lru_cache(maxsize=1)
def _client() -> Any:
    return Session().create_client("lambda", config=_CONFIG)


@lru_cache(maxsize=1)
def _brief_client() -> Any:
    return Session().create_client("lambda", config=_BRIEF)
