"""The roles as callables of this process, called as functions are; what befalls calls is chosen."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Literal, TypeAlias

from squash.clock import Clock
from squash.errors import ThrottledError, UnavailableError
from squash.values import dataclass

_RETRY_AFTER_MS: Final = 100


@dataclass(frozen=True, slots=True)
class Fault:
    """What is done to one call: it is delayed, and then it fails, is refused, or is not answered.

    Parameters
    ----------
    kind:
        "none", "fail" (before the function runs), "throttle", or "lose" (its answer, after it ran).
    delay_ms:
        How much later it happens.

    """

    kind: Literal["none", "fail", "throttle", "lose"] = "none"
    delay_ms: int = 0


NO_FAULT: Final = Fault()
Handler: TypeAlias = Callable[[dict[str, Any]], Mapping[str, Any]]


class InProcessInvoker:
    """Calls the roles as callables, in the thread of whoever calls.

    Payloads pass through JSON just as between functions.

    Parameters
    ----------
    handlers:
        By role: takes an event, returns an answer.
    clock:
        For delays and durations.
    faults:
        What is done to the calls, in the order in which they come; nothing once it has ended.
    memory_mb:
        What the answers say that the roles have.

    """

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        *,
        clock: Clock,
        faults: Iterator[Fault] | None = None,
        memory_mb: int = 0,
    ) -> None:
        self._handlers = handlers
        self._clock = clock
        self._faults = faults or iter(())
        self._memory_mb = memory_mb
        self._lock = threading.Lock()

    def make_ready(self) -> None:
        """Do nothing: all is there."""

    def invoke(self, role: str, payload: bytes, *, slot: str | None, timeout_s: float) -> bytes:
        """Call a role, whichever the slot; only what a fault delays is stopped by the time-out.

        Raises
        ------
        UnavailableError, ThrottledError
            If a fault says so.

        """
        del slot
        with self._lock:
            fault = next(self._faults, NO_FAULT)
        delay_s = fault.delay_ms / 1000.0
        if delay_s >= timeout_s:
            self._clock.sleep(timeout_s)
            raise UnavailableError(f"the {role} was delayed beyond its time: repeat")
        self._clock.sleep(delay_s)
        match fault.kind:
            case "fail":
                raise UnavailableError(f"the {role} was made to fail: repeat")
            case "throttle":
                raise ThrottledError(
                    f"the {role} was made to refuse: repeat", retry_after_ms=_RETRY_AFTER_MS
                )
        began_ms = self._clock.now_ms()
        answer = dict(self._handlers[role](json.loads(payload)))
        took_ms = self._clock.now_ms() - began_ms
        if fault.kind == "lose":
            self._clock.sleep(max(timeout_s - delay_s - took_ms / 1000.0, 0.0))
            raise UnavailableError(f"the answer of the {role} was lost: repeat")
        answer.setdefault("cold", False)
        answer.setdefault("duration_ms", took_ms)
        answer.setdefault("memory_mb", self._memory_mb)
        return json.dumps(answer).encode()
