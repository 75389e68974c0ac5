"""The values that a template is read into."""

from __future__ import annotations

from collections.abc import Mapping

from squash.values import dataclass

ACCOUNT_ID = "000000000000"
REGION = "us-east-1"


@dataclass(frozen=True, slots=True)
class Function:
    """One Lambda function.

    Attributes
    ----------
    logical_id, name:
        What the template calls it, and what it is invoked by.
    handler:
        ``module.function``.
    layers:
        The logical ids of its layers, in order: a later one overlays an earlier one.
    memory_mb, timeout_s, tmp_mb:
        The settings ``MemorySize``, ``Timeout`` and ``EphemeralStorage``.
    reserved:
        Its reserved concurrency; None if it shares the account's.
    per_tenant:
        Whether a container serves one tenant only.
    async_attempts:
        How often a call is run, at most, whose caller does not wait.
    json_logs:
        Whether its logger writes JSON.

    """

    logical_id: str
    name: str
    handler: str
    memory_mb: int
    timeout_s: float
    tmp_mb: int
    reserved: int | None
    per_tenant: bool
    async_attempts: int
    json_logs: bool
    environment: Mapping[str, str]
    layers: tuple[str, ...]

    @property
    def arn(self) -> str:
        """Its name in full."""
        return function_arn(self.name)


@dataclass(frozen=True, slots=True)
class Route:
    """A route of the HTTP API: ``GET /v1/things/{id}``, ``ANY /{proxy+}`` or ``$default``."""

    method: str
    path: str
    function: str
    iam: bool = False

    @property
    def key(self) -> str:
        """What API Gateway calls it."""
        return self.path if self.path == "$default" else f"{self.method} {self.path}"


@dataclass(frozen=True, slots=True)
class FunctionUrl:
    """A URL of a function's own; `iam` where it asks for signed requests."""

    function: str
    iam: bool = False


@dataclass(frozen=True, slots=True)
class Schedule:
    """What is to invoke a function now and then; `every_s` is None for what is no ``rate(…)``."""

    name: str
    function: str
    expression: str
    every_s: float | None
    input: str | None


@dataclass(frozen=True, slots=True)
class StateMachine:
    """A state machine of Step Functions.

    Attributes
    ----------
    logical_id, name:
        What the template calls it, and what Step Functions does.
    definition:
        In Amazon States Language, as JSON.
    kind:
        ``STANDARD`` or ``EXPRESS``.

    """

    logical_id: str
    name: str
    definition: str
    kind: str = "STANDARD"

    @property
    def arn(self) -> str:
        """Its name in full."""
        return state_machine_arn(self.name)


@dataclass(frozen=True, slots=True)
class Template:
    """All that is run of a template; functions by their names."""

    functions: Mapping[str, Function]
    routes: tuple[Route, ...]
    schedules: tuple[Schedule, ...]
    state_machines: tuple[StateMachine, ...]
    buckets: tuple[str, ...]
    parameters: Mapping[str, str]
    left_out: tuple[str, ...]
    urls: tuple[FunctionUrl, ...] = ()


def function_arn(name: str) -> str:
    """Return a function's name in full."""
    return f"arn:aws:lambda:{REGION}:{ACCOUNT_ID}:function:{name}"


def state_machine_arn(name: str) -> str:
    """Return a state machine's name in full."""
    return f"arn:aws:states:{REGION}:{ACCOUNT_ID}:stateMachine:{name}"
