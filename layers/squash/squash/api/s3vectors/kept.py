"""Policies of vector buckets as they were read lately: a warm function asks the store for none."""

from __future__ import annotations

import threading
from collections import OrderedDict

from squash.clock import Clock
from squash.database import Database
from squash.errors import NotFoundError
from squash.limits import KEY_ABSENT_KEPT_MS_MAX, KEY_KEPT_MS_MAX, POLICIES_KEPT_MAX
from squash.values import dataclass


@dataclass(frozen=True, slots=True)
class _Kept:
    text: str | None
    read_ms: int
    ms_max: int

    def fresh(self, now_ms: int) -> bool:
        return 0 <= now_ms - self.read_ms < self.ms_max


class KeptPolicies:
    """Reads the policies of vector buckets, and remembers them for a while. Threads may share it.

    A policy is remembered for `KEY_KEPT_MS_MAX`, as keys are: so long at most does another
    process go by an older one. That a bucket is not there is remembered for
    `KEY_ABSENT_KEPT_MS_MAX`. What cannot be read is not remembered.

    Parameters
    ----------
    database:
        Whose vector buckets.
    clock:
        Tells how old what is remembered is.

    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._lock = threading.Lock()
        # Apart, so that asking for a thousand unknown names drives out no policy.
        self._there: OrderedDict[str, _Kept] = OrderedDict()
        self._absent: OrderedDict[str, _Kept] = OrderedDict()
        self._forgotten = 0

    def text(self, bucket: str) -> str | None:
        """Return a bucket's policy; None if it has none, or if there is no such bucket.

        Raises
        ------
        DataError
            If what is stored of the bucket cannot be read.

        """
        # Before it is read: what is read is at least as new.
        now_ms = self._clock.now_ms()
        with self._lock:
            for memory in (self._there, self._absent):
                known = memory.get(bucket)
                if known is not None and known.fresh(now_ms):
                    memory.move_to_end(bucket)
                    return known.text
            forgotten = self._forgotten
        text, memory, ms_max = None, self._absent, KEY_ABSENT_KEPT_MS_MAX
        try:
            text = self._database.vector_buckets.get(bucket).settings.policy
            memory, ms_max = self._there, KEY_KEPT_MS_MAX
        except NotFoundError:
            pass
        with self._lock:
            # What was changed since it was read may be older than what is remembered by now.
            if forgotten == self._forgotten:
                self._drop(bucket)
                memory[bucket] = _Kept(text, now_ms, ms_max)
                while len(memory) > POLICIES_KEPT_MAX:
                    memory.popitem(last=False)
        return text

    def forget(self, bucket: str) -> None:
        """Read a bucket's policy again when it is asked for: it may have changed."""
        with self._lock:
            self._forgotten += 1
            self._drop(bucket)

    def _drop(self, bucket: str) -> None:
        self._there.pop(bucket, None)
        self._absent.pop(bucket, None)
