"""The encoder function: texts or images in, their vectors out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from squash.clock import Clock
from squash.errors import SquashError, UnavailableError
from squash.runtime.encode_messages import read_request, write_encoded
from squash.runtime.encoding import Encoding
from squash.search.events import Answered, answer_event, error_event, open_request
from squash.search.processor import Meter
from squash.search.spending import Spent
from squash.storage import CountingStore


class StoreMeter:
    """Counts what is asked of a store, from when it is made on.

    Parameters
    ----------
    store:
        The store below.

    """

    def __init__(self, store: CountingStore) -> None:
        self._store = store
        self._before = store.counts()

    def spent(self) -> Spent:
        """Return what was asked since."""
        spent = Spent()
        spent.add_store(self._store.counts() - self._before)
        return spent


class EncoderRole:
    """Encodes what it is sent.

    Parameters
    ----------
    encoding:
        Encodes; it keeps the encoders used last open.
    meter:
        Begins to count what a call asks of the store: an encoder's files, where it is new here.
    clock:
        Tells whether somebody still waits for the answer.

    """

    def __init__(self, encoding: Encoding, meter: Callable[[], Meter], clock: Clock) -> None:
        self._encoding = encoding
        self._meter = meter
        self._clock = clock

    def handle(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """Answer an event; errors that Squash knows are answers, too."""
        meter = self._meter()
        try:
            request = open_request(event, "encode")
            if self._clock.now_ms() >= request.deadline_ms:
                raise UnavailableError("the call came after its deadline: nobody waits for it")
            asked = read_request(request.body)
            found = self._encoding.encode(
                asked.pin,
                asked.inputs,
                purpose=asked.purpose,
                dimension=asked.dimension,
                deadline_ms=request.deadline_ms,
            )
            body = write_encoded(found.encoded)
            spent = meter.spent()
            spent.add(found.spent)
            return answer_event(Answered(body, spent))
        except SquashError as error:
            return error_event(error, meter.spent())
