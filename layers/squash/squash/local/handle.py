"""The local cloud as a Python object: it runs in a thread, for tests and benchmarks."""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from squash.errors import InvalidArgumentError
from squash.local.cloud import Cloud, CloudOptions, open_cloud
from squash.local.faults import Fault
from squash.local.template.values import REGION

T = TypeVar("T")


class LocalCloud:
    """A local cloud that lives as long as a `with` block.

    Parameters
    ----------
    template, build:
        A SAM template, and the folder of what `sam build` made of it.
    data:
        A folder for S3's objects and for what runs; None takes one that is removed again.
    options:
        The other attributes of `CloudOptions`, by name.

    Examples
    --------
    ``with LocalCloud(template="template.yaml", build=".aws-sam/build") as cloud:`` and then
    ``boto3.client("lambda", **cloud.client_arguments("lambda"))`` reaches its functions.

    """

    def __init__(
        self,
        *,
        template: str | Path,
        build: str | Path,
        data: str | Path | None = None,
        **options: Any,
    ) -> None:
        self._options = CloudOptions(
            template=Path(template), build=Path(build), data=Path(data or "."), **options
        )
        self._own_data = data is None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: Future[None] = Future()
        self._cloud: Cloud | None = None

    def __enter__(self) -> Self:
        started: Future[None] = Future()
        self._stop = Future()
        self._thread = threading.Thread(
            target=asyncio.run, args=(self._main(started),), name="squash-local"
        )
        self._thread.start()
        try:
            started.result()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def _end(self) -> None:
        if self._thread is not None:
            # Not an event of the loop: there may be no loop yet, or, after a start that failed,
            # none any more.
            self._stop.set_result(None)
            self._thread.join()
            self._thread = self._loop = self._cloud = None

    async def _main(self, started: Future[None]) -> None:
        self._loop = asyncio.get_running_loop()
        try:
            with tempfile.TemporaryDirectory(prefix="squash-local-") as folder:
                options = self._options
                if self._own_data:
                    options = replace(options, data=Path(folder))
                async with open_cloud(options) as cloud:
                    self._cloud = cloud
                    started.set_result(None)
                    await asyncio.wrap_future(self._stop)
        except BaseException as error:  # it is raised where the cloud is used
            if started.done():
                raise
            started.set_exception(error)

    @property
    def cloud(self) -> Cloud:
        """What runs; to be touched in its own thread only, but for what never changes.

        Raises
        ------
        InvalidArgumentError
            Outside of the `with` block.

        """
        if self._cloud is None:
            raise _not_running()
        return self._cloud

    @property
    def api_url(self) -> str:
        """Where the HTTP API is."""
        return self.cloud.api_url

    @property
    def function_urls(self) -> dict[str, str]:
        """Where functions that have a URL of their own answer, by their names."""
        return dict(self.cloud.function_urls)

    @property
    def lambda_url(self) -> str:
        """Where Lambda's invoke API is."""
        return self.cloud.lambda_url

    @property
    def s3_url(self) -> str:
        """Where functions find S3."""
        return self.cloud.s3_url

    @property
    def states_url(self) -> str | None:
        """Where Step Functions is; None if the template has no state machine."""
        return self.cloud.states_url

    def client_arguments(self, service: str) -> dict[str, str]:
        """Return what `boto3.client(service, …)` takes to reach this cloud."""
        key, secret = self.cloud.credentials
        urls = {"s3": self.s3_url, "stepfunctions": self.states_url}
        return {
            "endpoint_url": urls.get(service) or self.lambda_url,
            "region_name": REGION,
            "aws_access_key_id": key,
            "aws_secret_access_key": secret,
        }

    def containers(self) -> list[dict[str, Any]]:
        """Describe the containers that live."""
        return self._call(self.cloud.containers)

    def stats(self) -> dict[str, Any]:
        """Count what was done so far."""
        return self._call(self.cloud.stats)

    def logs(self, function: str) -> dict[str, str]:
        """Return the end of what each container of a function printed."""
        return self._call(lambda: self.cloud.logs(function))

    def kill(self, function: str, *, container: str | None = None) -> int:
        """Kill a function's containers, or one; returns how many there were."""
        return self._call(lambda: self.cloud.account.kill(function, container=container))

    def evict_idle(self, *, older_than_s: float = 0.0) -> int:
        """End what has been idle for so long; returns how many."""
        return self._call(lambda: self.cloud.account.evict_idle(older_than_s=older_than_s))

    def set_faults(self, faults: Sequence[Fault]) -> None:
        """Have these faults, and no others."""
        self._call(lambda: self.cloud.set_faults(faults))

    def faults(self) -> list[Fault]:
        """Return the faults that are not over."""
        return self._call(lambda: self.cloud.account.faults.in_force)

    def run_schedule(self, name: str) -> None:
        """Invoke what a schedule invokes, now."""
        self._call(lambda: self.cloud.schedules.run(name))

    def settle(self) -> None:
        """Wait until every asynchronous call is through."""
        self._await(self.cloud.account.settled)

    def _call(self, function: Callable[[], T]) -> T:
        async def run() -> T:
            return function()

        return self._await(run)

    def _await(self, function: Callable[[], Awaitable[T]]) -> T:
        async def run() -> T:
            return await function()

        if self._loop is None:
            raise _not_running()
        return asyncio.run_coroutine_threadsafe(run(), self._loop).result()


def _not_running() -> InvalidArgumentError:
    return InvalidArgumentError(
        "the local cloud runs only within its `with` block: use what it offers there"
    )
