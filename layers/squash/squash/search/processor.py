"""A processor: a task in, its answer out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from squash.clock import Clock
from squash.errors import SquashError, UnavailableError
from squash.search.events import Answered, answer_event, error_event, open_request
from squash.search.messages import read_task, write_task_answer
from squash.search.processing import process
from squash.search.slot import Slot
from squash.search.spending import Spent


class Meter(Protocol):
    """Tells what was asked of the store and of what is retained, from when it was made on."""

    def spent(self) -> Spent:
        """Return what was asked since."""
        ...


class Processor:
    """Carries out tasks.

    Parameters
    ----------
    slot_of:
        Gives what this container keeps of the index below a prefix.
    meter:
        Begins to count what a task asks of the store.
    clock:
        Tells whether somebody still waits for the answer.

    """

    def __init__(
        self, slot_of: Callable[[str], Slot], meter: Callable[[], Meter], clock: Clock
    ) -> None:
        self._slot_of = slot_of
        self._meter = meter
        self._clock = clock

    def handle(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """Answer an event; errors that Squash knows are answers, too."""
        meter = self._meter()
        try:
            request = open_request(event, "process")
            if self._clock.now_ms() >= request.deadline_ms:
                raise UnavailableError("the task came after its deadline: nobody waits for it")
            task = read_task(request.body)
            answer = process(task, self._slot_of(task.prefix))
            body = write_task_answer(answer, task.dimension)
            return answer_event(Answered(body, meter.spent()))
        except SquashError as error:
            return error_event(error, meter.spent())
