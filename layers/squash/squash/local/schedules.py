"""Invokes what a schedule invokes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from datetime import UTC, datetime

from squash.clock import Clock, IdSource
from squash.errors import NotFoundError
from squash.local.account import Account
from squash.local.calls import Call
from squash.local.invoke_api import request_id
from squash.local.template import Schedule
from squash.local.template.values import ACCOUNT_ID, REGION


class Schedules:
    """Runs schedules when told to, and those with a rate by themselves once started."""

    def __init__(
        self, schedules: Iterable[Schedule], account: Account, *, clock: Clock, ids: IdSource
    ) -> None:
        self._schedules = {schedule.name: schedule for schedule in schedules}
        self._account = account
        self._clock = clock
        self._ids = ids
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to run those with a rate."""
        self._tasks = [
            asyncio.ensure_future(self._repeat(schedule, schedule.every_s))
            for schedule in self._schedules.values()
            if schedule.every_s is not None
        ]

    def stop(self) -> None:
        """Run none any more."""
        for task in self._tasks:
            task.cancel()

    def run(self, name: str) -> None:
        """Invoke what a schedule invokes, now.

        Raises
        ------
        NotFoundError
            If there is no such schedule.

        """
        if name not in self._schedules:
            known = ", ".join(self._schedules) or "none"
            raise NotFoundError(f"there is no schedule {name}; there is {known}")
        schedule = self._schedules[name]
        event = schedule.input or json.dumps(self._event(schedule))
        call = Call(request_id=request_id(self._ids), payload=event.encode())
        self._account.invoke_later(schedule.function, call)

    async def _repeat(self, schedule: Schedule, every_s: float) -> None:
        while True:
            await asyncio.sleep(every_s)
            self.run(schedule.name)

    def _event(self, schedule: Schedule) -> dict[str, object]:
        now = datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC)
        return {
            "version": "0",
            "id": request_id(self._ids),
            "detail-type": "Scheduled Event",
            "source": "aws.events",
            "account": ACCOUNT_ID,
            "time": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "region": REGION,
            "resources": [f"arn:aws:events:{REGION}:{ACCOUNT_ID}:rule/{schedule.name}"],
            "detail": {},
        }
