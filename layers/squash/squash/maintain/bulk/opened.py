"""The input stores that one task opens: each once, and what was asked of all of them counted."""

from __future__ import annotations

import threading
from collections import Counter

from squash.maintain.bulk.context import OpenInputs
from squash.storage import StoreCounts
from squash.storage.inputs import CountingInputs


class OpenedInputs:
    """Opens where input files are, as the function that it is made of, and counts.

    Parameters
    ----------
    open_inputs:
        Opens the store of a location.

    """

    def __init__(self, open_inputs: OpenInputs) -> None:
        self._open = open_inputs
        self._opened: dict[str, CountingInputs] = {}
        self._lock = threading.Lock()

    def __call__(self, url: str) -> CountingInputs:
        """Return the store of a location: the same for all of one bucket, or disk."""
        scheme, _, rest = url.partition("://")
        place = f"{scheme}://{rest.partition('/')[0]}"
        with self._lock:
            found = self._opened.get(place)
            if found is None:
                found = self._opened[place] = CountingInputs(self._open(url))
            return found

    def counts(self) -> StoreCounts:
        """Return what was asked of all of them until now."""
        kinds: Counter[str] = Counter()
        bytes_in = 0
        for one in list(self._opened.values()):
            counts = one.counts()
            kinds.update(counts.by_kind)
            bytes_in += counts.bytes_in
        return StoreCounts(kinds.total(), kinds.total(), bytes_in, 0, dict(kinds))
