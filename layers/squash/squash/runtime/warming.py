"""Keeping the containers of all slots: what nobody calls Lambda takes away, with all it retains."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from squash.errors import SquashError
from squash.limits import CALLS_AT_ONCE_MAX
from squash.search.calls import Invoker
from squash.search.events import Request, pack_request

_TIMEOUT_S: Final = 10.0
# A task that nobody waits for any more: a processor says so, and neither reads nor computes.
_NOTHING: Final = pack_request(Request("process", b"", deadline_ms=0))


def keep_warm(invoker: Invoker, slots: Sequence[str]) -> int:
    """Call the processor of every slot for nothing; return how many answered.

    Side by side: where slots have no containers of their own, as many are kept as are called at
    once. One that does not answer is no error: the next time it is called again.
    """

    def called(slot: str) -> bool:
        try:
            invoker.invoke("processor", _NOTHING, slot=slot, timeout_s=_TIMEOUT_S)
        except SquashError:
            return False
        return True

    with ThreadPoolExecutor(min(max(len(slots), 1), CALLS_AT_ONCE_MAX)) as pool:
        return sum(pool.map(called, slots))
