"""Invokers: Lambda's functions, called by their roles."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, Literal, TypeAlias, cast

from squash.errors import (
    InternalError,
    PermissionDeniedError,
    SquashError,
    ThrottledError,
    TooLargeError,
    UnauthenticatedError,
    UnavailableError,
)
from squash.limits import CALL_BYTES_MAX, CALLS_AT_ONCE_MAX
from squash.planning.slots import stand_in
from squash.storage.s3_errors import NO_CREDENTIAL

Affinity: TypeAlias = Literal["tenant", "pool", "none"]
AFFINITIES: Final[tuple[Affinity, ...]] = ("tenant", "pool", "none")

# A client's time-out holds for all of its calls: there is one for calls up to each of these.
_TIMEOUTS_S: Final = (1, 3, 10, 30, 90, 300, 900)
_USUAL_TIMEOUT_S: Final = 30
_CONNECT_TIMEOUT_S: Final = 2
_CONNECTION_TRIES: Final = 2
_RETRY_AFTER_MS: Final = 100
_SERVER_ERROR: Final = 500
_TOO_MANY: Final = 429
_NOT_READY: Final = frozenset({408, 409})  # so Lambda says of a function that it still makes ready
_TOO_LARGE: Final = frozenset({"RequestTooLargeException", "RequestEntityTooLargeException"})
_FORBIDDEN: Final = frozenset({"AccessDeniedException", "AccessDenied"})
_UNKNOWN_CREDENTIAL: Final = NO_CREDENTIAL | {
    "ExpiredTokenException", "InvalidSignatureException", "UnrecognizedClientException",
    "IncompleteSignatureException", "InvalidClientTokenId", "MissingAuthenticationToken",
    "MissingAuthenticationTokenException",
}  # fmt: skip
_ANSWER_TOO_LARGE: Final = "Function.ResponseSizeTooLarge"
_NEVER_SENT: Final = frozenset(
    {"NoRegionError", "ParamValidationError", "InvalidRegionError", "InvalidEndpointURLError"}
)


class LambdaInvoker:
    """Invokes Lambda functions and waits for what they answer. Threads may share it.

    Parameters
    ----------
    allocator, processor, encoder:
        The functions' names; in a pool, the processors' names without the slot.
    affinity:
        How a slot is found again: "tenant" gives its name as `TenantId` to one function, "pool"
        has a function for each, ``<processor>-<slot>``, "none" lets Lambda choose.
    slots:
        All slots' names; a pool lets another one stand in for a replica.
    endpoint_url, region:
        Of Lambda, where they differ from what the environment says.

    """

    def __init__(
        self,
        *,
        allocator: str,
        processor: str,
        affinity: Affinity,
        slots: Sequence[str],
        encoder: str = "",
        endpoint_url: str | None = None,
        region: str | None = None,
    ) -> None:
        self._functions = {
            "allocator": allocator,
            "processor": processor,
            "encoder": encoder,
        }
        self._affinity = affinity
        self._slots = tuple(slots)
        self._endpoint_url = endpoint_url
        self._region = region
        self._lock = threading.Lock()
        self._session: Any = None
        self._clients: dict[int, Any] = {}
        self._made_ready = False

    def invoke(self, role: str, payload: bytes, *, slot: str | None, timeout_s: float) -> bytes:
        """Call a function.

        It is called once, save that a connection which breaks, such as one that stayed open while
        the container was frozen, is made anew once.

        Raises
        ------
        UnavailableError
            If it crashed, or did not answer in time, or Lambda has a fault.
        ThrottledError
            If too much runs at once.
        TooLargeError
            If the payload or the answer is more than Lambda carries.
        PermissionDeniedError, UnauthenticatedError, InternalError
            If this process may not call it, or it is not there, or not made for this.

        """
        if len(payload) > CALL_BYTES_MAX:
            raise _too_large(f"a request of {len(payload)} bytes")
        target = self._target(role, slot)
        name = target["FunctionName"]
        response = self._call(target | {"Payload": payload}, timeout_s)
        try:
            answer = cast("bytes", response["Payload"].read())
        except Exception as error:
            raise _translated(error, name) from error
        if "FunctionError" in response:
            raise _crashed(name, answer)
        return answer

    def make_ready(self) -> None:
        """Begin to make the client that most calls use, beside what else is waited for.

        Loading botocore takes a tenth of a second, in which a cold process reads from S3.
        """
        if self._made_ready:
            return
        self._made_ready = True  # of two threads, one's client is used by both

        def make() -> None:
            # Whatever is wrong is wrong for the first call too, which tells.
            with suppress(Exception):
                self._client(_USUAL_TIMEOUT_S)

        threading.Thread(target=make, name="squash-client", daemon=True).start()

    def _target(self, role: str, slot: str | None) -> dict[str, Any]:
        name = self._functions[role]
        if slot is None or self._affinity == "none":
            return {"FunctionName": name}
        if self._affinity == "tenant":
            return {"FunctionName": name, "TenantId": slot}
        return {"FunctionName": f"{name}-{stand_in(slot, self._slots)}"}

    def _call(self, arguments: Mapping[str, Any], timeout_s: float) -> Any:
        for attempt in range(_CONNECTION_TRIES):
            try:
                return self._client(timeout_s).invoke(**arguments)
            except SquashError:
                raise
            # botocore is not loaded here, so that its classes cannot be named; `_translated` knows
            # their names, and raises what it does not know.
            except Exception as error:
                if attempt + 1 < _CONNECTION_TRIES and _is_broken_connection(error):
                    continue
                raise _translated(error, str(arguments["FunctionName"])) from error
        raise InternalError("a call was neither answered nor refused")

    def _client(self, timeout_s: float) -> Any:
        """Return the client whose time-out is the next one from `timeout_s` on."""
        read_s = next((one for one in _TIMEOUTS_S if one >= timeout_s), _TIMEOUTS_S[-1])
        client = self._clients.get(read_s)
        if client is not None:
            return client
        with self._lock:
            if read_s not in self._clients:
                self._clients[read_s] = self._new_client(read_s)
            return self._clients[read_s]

    def _new_client(self, read_s: int) -> Any:
        # A tenth of a second of import, which who calls nobody can do without.
        from botocore.config import Config  # noqa: PLC0415
        from botocore.session import Session  # noqa: PLC0415

        if self._session is None:
            self._session = Session()
        return self._session.create_client(
            "lambda",
            endpoint_url=self._endpoint_url,
            region_name=self._region,
            config=Config(
                connect_timeout=_CONNECT_TIMEOUT_S,
                read_timeout=read_s,
                retries={"mode": "standard", "total_max_attempts": 1},
                max_pool_connections=CALLS_AT_ONCE_MAX,
                tcp_keepalive=True,
                user_agent_extra="squash-search",
            ),
        )


def _is_broken_connection(error: Exception) -> bool:
    return type(error).__name__ in {"ConnectionClosedError", "EndpointConnectionError"}


def _translated(error: Exception, name: str) -> SquashError:
    """Return the typed error for one of botocore's.

    Raises
    ------
    Exception
        The error itself, if it is none of botocore's.

    """
    response: Any = getattr(error, "response", None)
    kind = type(error).__name__
    code, status, headers = kind, 0, {}
    if isinstance(response, dict):
        code = str(response.get("Error", {}).get("Code") or kind)
        meta = response.get("ResponseMetadata", {})
        status, headers = int(meta.get("HTTPStatusCode") or 0), meta.get("HTTPHeaders", {})
    elif not type(error).__module__.startswith(("botocore", "urllib3")):
        raise error
    if status == _TOO_MANY or code == "TooManyRequestsException":
        return ThrottledError(
            f"Lambda runs as many of function {name} as it may ({code}): wait and repeat, or raise "
            "its concurrency",
            retry_after_ms=_retry_after_ms(headers),
        )
    if code in _TOO_LARGE or status == 413:  # noqa: PLR2004
        return _too_large(f"what function {name} is sent")
    if code == "ResourceNotFoundException":
        return InternalError(
            f"there is no function {name}: deploy it, or correct SQUASH_ALLOCATOR, "
            "SQUASH_PROCESSOR, SQUASH_ENCODER and SQUASH_AFFINITY"
        )
    if code in _FORBIDDEN:
        return PermissionDeniedError(
            f"Lambda does not allow to call function {name} ({code}): grant "
            "lambda:InvokeFunction on it"
        )
    if code in _UNKNOWN_CREDENTIAL:
        return UnauthenticatedError(
            f"no AWS credentials to call function {name} with, or unknown or expired ones ({code})"
        )
    if status >= _SERVER_ERROR or status in _NOT_READY or (status == 0 and code not in _NEVER_SENT):
        return UnavailableError(f"function {name} did not answer ({code}: {error}): repeat")
    return InternalError(
        f"Lambda refuses to call function {name} ({code}: {error}): see that it is deployed as "
        "SQUASH_AFFINITY says"
    )


def _retry_after_ms(headers: Mapping[str, str]) -> int:
    try:
        return max(int(float(headers.get("retry-after", "")) * 1000), _RETRY_AFTER_MS)
    except ValueError:
        return _RETRY_AFTER_MS


def _crashed(name: str, answer: bytes) -> SquashError:
    """Return the error for a function that raised, died or ran out of time."""
    try:
        said = json.loads(answer)
        kind, message = str(said["errorType"]), str(said.get("errorMessage", ""))
    except (ValueError, KeyError, TypeError):
        kind, message = "unknown", answer[:200].decode(errors="replace")
    if kind == _ANSWER_TOO_LARGE:
        return _too_large(f"the answer of function {name}")
    return UnavailableError(f"function {name} failed ({kind}: {message:.300}): repeat")


def _too_large(what: str) -> TooLargeError:
    return TooLargeError(
        f"{what} is more than the {CALL_BYTES_MAX} bytes that a call carries: send fewer queries "
        "at once, lower top_k, or leave metadata or vectors out of include"
    )
