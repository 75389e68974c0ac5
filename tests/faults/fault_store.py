"""A store that fails when told to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

from squash.errors import UnavailableError
from squash.storage import MemoryStore, ObjectInfo

When = Literal["before", "after"]


class KilledError(BaseException):
    """The process ends here: nothing in the library may catch it."""


def unavailable() -> UnavailableError:
    return UnavailableError("made to fail")


class FaultStore:
    """Passes on to a store, and fails at the calls numbered `at`, before or after their effect.

    Listings fail when they are begun. `log` is what was called, in order.
    """

    def __init__(
        self,
        store: MemoryStore,
        *,
        at: Iterable[int] = (),
        when: When = "before",
        error: Callable[[], BaseException] = unavailable,
        kinds: frozenset[str] | None = None,
    ) -> None:
        self.store = store
        self.at = set(at)
        self.when = when
        self.error = error
        self.kinds = kinds
        self.log: list[str] = []
        self._lock = threading.Lock()

    def get(self, key: str) -> Any:
        return self._call("get", key, lambda: self.store.get(key))

    def get_ranges(self, key: str, ranges: Any) -> Any:
        return self._call("get_ranges", key, lambda: self.store.get_ranges(key, ranges))

    def put(self, key: str, data: Any) -> None:
        self._call("put", key, lambda: self.store.put(key, data))

    def put_if_absent(self, key: str, data: Any) -> bool:
        return self._call("put_if_absent", key, lambda: self.store.put_if_absent(key, data))

    def delete(self, keys: Iterable[str]) -> None:
        listed = list(keys)
        self._call("delete", ",".join(listed), lambda: self.store.delete(listed))

    def delete_if_same(self, key: str, data: Any) -> None:
        self._call("delete_if_same", key, lambda: self.store.delete_if_same(key, data))

    def list(
        self, prefix: str, *, start_after: str = "", limit: int | None = None
    ) -> Iterator[ObjectInfo]:
        return self._call(
            "list", prefix, lambda: self.store.list(prefix, start_after=start_after, limit=limit)
        )

    def list_folders(self, prefix: str) -> Iterator[str]:
        return self._call("list_folders", prefix, lambda: self.store.list_folders(prefix))

    def _call(self, kind: str, key: str, act: Callable[[], Any]) -> Any:
        with self._lock:
            number = len(self.log)
            self.log.append(f"{kind} {key}")
        fails = number in self.at and (self.kinds is None or kind in self.kinds)
        if fails and self.when == "before":
            raise self.error()
        result = act()
        if fails:
            raise self.error()
        return result


Fault = Literal[
    "refused",  # an error, and nothing happened
    "lost",  # it happened, and the answer is an error
    "killed before",
    "killed after",
    "overtaken",  # somebody else acts before it happens
    "late",  # it happens, and somebody else acts before the answer comes
    "twice",  # a store that had no answer tries again by itself, and meets its own first try
]
_PUTS = frozenset({"put", "put_if_absent"})


class StepStore(FaultStore):
    """Passes on to a store, and lets one fault happen at one call.

    Once killed it does nothing any more, for whichever thread. `rival` is what somebody else does.
    """

    def __init__(
        self,
        store: MemoryStore,
        *,
        step: int = -1,
        fault: Fault = "refused",
        rival: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(store)
        self.step = step
        self.fault = fault
        self.rival = rival
        self.happened = ""
        self.dead = False

    def _call(self, kind: str, key: str, act: Callable[[], Any]) -> Any:
        with self._lock:
            if self.dead:
                raise KilledError
            number = len(self.log)
            self.log.append(f"{kind} {key}")
        if number != self.step or (self.fault == "twice" and kind not in _PUTS):
            return act()
        self.happened = f"{self.fault} at call {number}: {kind} {key}"
        match self.fault:
            case "refused":
                raise unavailable()
            case "killed before":
                self.dead = True
                raise KilledError
            case "overtaken":
                self.rival()
                return act()
        result = act()
        match self.fault:
            case "lost":
                raise unavailable()
            case "killed after":
                self.dead = True
                raise KilledError
            case "late":
                self.rival()
            case "twice":
                return act()
        return result
