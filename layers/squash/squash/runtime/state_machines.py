"""Executions of a state machine of AWS Step Functions: begun, stopped, looked at.

An execution's name is for whoever begins it to choose, and its ARN follows from that: so it can be
written down before anything is begun, and to begin it twice begins it once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, NoReturn

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import Session

from squash.errors import InvalidArgumentError, UnavailableError
from squash.runtime.aws_errors import error_code, refusal, unanswered
from squash.values import dataclass

_CONFIG: Final = Config(
    connect_timeout=3,
    read_timeout=5,
    retries={"mode": "standard", "total_max_attempts": 3},
    user_agent_extra="squash-search",
)
_ARN: Final = re.compile(
    r"arn:aws[a-z-]*:states:(?P<region>[a-z0-9-]+):\d{12}:stateMachine:(?P<name>[A-Za-z0-9_-]{1,80})"
)
_THERE: Final = "ExecutionAlreadyExists"
_ABSENT: Final = "ExecutionDoesNotExist"
_THROTTLED: Final = frozenset({"ThrottlingException", "ExecutionLimitExceeded"})
_SERVICE: Final = "Step Functions"


@dataclass(frozen=True, slots=True)
class Execution:
    """An execution as it is: RUNNING, SUCCEEDED, FAILED, TIMED_OUT, ABORTED or PENDING_REDRIVE."""

    status: str
    error: str = ""
    cause: str = ""

    @property
    def ended(self) -> bool:
        """Tell if nothing will come of it any more."""
        return self.status != "RUNNING"


class StateMachine:
    """A state machine, by its ARN; no client is made before the first call. Threads may share it.

    Parameters
    ----------
    arn:
        Its ARN, without a version or an alias.

    Raises
    ------
    InvalidArgumentError
        If that is none.

    """

    def __init__(self, arn: str) -> None:
        found = _ARN.fullmatch(arn)
        if found is None:
            raise InvalidArgumentError(
                f"{arn!r:.200} is no ARN of a state machine: the stack's output BuildMachine is one"
            )
        self.arn = arn
        self._region = found["region"]

    def execution_arn(self, name: str) -> str:
        """Return the ARN that an execution of a name has, or would have."""
        return f"{self.arn.replace(':stateMachine:', ':execution:')}:{name}"

    def start(self, name: str, given: Mapping[str, Any]) -> str:
        """Begin an execution, unless one of this name was begun; return its ARN.

        Raises
        ------
        ThrottledError
            If too much is asked at once.
        UnavailableError
            If Step Functions did not answer as it should: repeat it, with the same name.
        InternalError
            If it refuses: there is no such machine, or this function or user may not start it.

        """
        try:
            _client(self._region).start_execution(
                stateMachineArn=self.arn, name=name, input=json.dumps(dict(given))
            )
        except ClientError as error:
            if error_code(error) != _THERE:
                self._refuse(error, "states:StartExecution")
        except BotoCoreError as error:
            raise self._unanswered(error) from error
        return self.execution_arn(name)

    def stop(self, name: str, *, reason: str) -> bool:
        """End an execution and those of its maps; tell if there is one, ended or not.

        Raises
        ------
        ThrottledError, UnavailableError, InternalError
            As `start`.

        """
        try:
            _client(self._region).stop_execution(
                executionArn=self.execution_arn(name), error="BuildStoppedError", cause=reason
            )
        except ClientError as error:
            if error_code(error) == _ABSENT:
                return False
            self._refuse(error, "states:StopExecution")
        except BotoCoreError as error:
            raise self._unanswered(error) from error
        return True

    def describe(self, name: str) -> Execution | None:
        """Return an execution as it is; None if there is none.

        Raises
        ------
        ThrottledError, UnavailableError, InternalError
            As `start`.

        """
        try:
            found = _client(self._region).describe_execution(executionArn=self.execution_arn(name))
        except ClientError as error:
            if error_code(error) == _ABSENT:
                return None
            self._refuse(error, "states:DescribeExecution")
        except BotoCoreError as error:
            raise self._unanswered(error) from error
        return Execution(found["status"], found.get("error") or "", found.get("cause") or "")

    def _refuse(self, error: ClientError, action: str) -> NoReturn:
        raise refusal(
            error,
            of=self.arn,
            service=_SERVICE,
            throttled=_THROTTLED,
            advice=f"allow {action}, and look whether there is such a machine",
        ) from error

    def _unanswered(self, error: BotoCoreError) -> UnavailableError:
        return unanswered(error, of=self.arn, service=_SERVICE)


@lru_cache(maxsize=4)
def _client(region: str) -> Any:
    return Session().create_client("stepfunctions", region_name=region, config=_CONFIG)
