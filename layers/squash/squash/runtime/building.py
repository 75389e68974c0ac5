"""The bulk builds of one index: asked for, run here or elsewhere, looked at, stopped, gone on with.

Loaded by a session when it is first asked for: see `squash.runtime.maintenance`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

from squash.errors import (
    BuildStoppedError,
    InvalidArgumentError,
    NotFoundError,
    SquashError,
)
from squash.maintain.bulk import keys
from squash.maintain.bulk.context import BuildContext
from squash.maintain.bulk.drive import Crew, Here, Position, drive
from squash.maintain.bulk.gate import open_stage
from squash.maintain.bulk.run import run_task
from squash.maintain.bulk.stages import STAGES, Stage, Task
from squash.maintain.bulk.stops import Stop, note_stop
from squash.maintain.one_thread import one_blas_thread
from squash.reports import BuildStatus, Progress
from squash.runtime.build_records import BuildRecords
from squash.runtime.build_requests import SCHEMES
from squash.runtime.settings import Settings
from squash.storage.inputs import InputStore
from squash.storage.scratch import scratch_folder

Report = Callable[[Progress], None]
_CAUSE_CHARACTERS_MAX: Final = 2_000
_ATTEMPT: Final = re.compile(r"[1-9][0-9]{0,8}")
_ROW: Final = re.compile(r"row (\d+)")
_LONG_MS: Final = 1 << 40


class IndexBuilds(BuildRecords):
    """The bulk builds of one index.

    Parameters
    ----------
    store:
        The store below the index's own prefix.
    entry, views, content:
        The index's; `content` checks what is said of encoders, and encodes.
    settings, clock:
        How this process uses its machine; time.

    """

    def run(
        self,
        build: str,
        *,
        workers: int,
        report: Report,
        scratch: Path | None = None,
    ) -> BuildStatus:
        """Run all that is left of a build on this machine.

        Parameters
        ----------
        build:
            Its id.
        workers:
            1 for this process alone; else so many processes of their own.
        report:
            Told how far each stage is.
        scratch:
            A local folder with room for what the tasks bring together; the system's temporary one
            if None.

        Raises
        ------
        BuildStoppedError
            If it was cancelled, or passed one of its limits.
        SquashError, OSError
            As the task that failed. What is done stays done, and notes of the error say how the
            build goes on.

        """
        if self.published(build):
            return self.status(build)
        position, attempt = Position(), self.attempt(build).number
        try:
            with self.context(scratch) as context, self._crew(context, workers) as crew:
                drive(
                    context,
                    self._config.name,
                    build,
                    crew=crew,
                    report=report,
                    position=position,
                    open_stage=partial(self._open, attempt=attempt),
                )
        except KeyboardInterrupt as error:
            stop = Stop("stopped", "interrupted", self._clock.now_ms())
            self._ended(error, build, stop, attempt)
            raise
        except BuildStoppedError as error:
            stop = Stop("stopped", str(error), self._clock.now_ms(), position.stage.value)
            self._ended(error, build, stop, attempt)
            raise
        except (SquashError, OSError) as error:
            place = _place(error) if isinstance(error, SquashError) else (None, None)
            now_ms, stage = self._clock.now_ms(), position.stage.value
            stop = Stop("failed", str(error), now_ms, stage, *place)
            self._ended(error, build, stop, attempt)
            raise
        return self.status(build)

    def _ended(self, error: BaseException, build: str, stop: Stop, attempt: int) -> None:
        """Note what ended an attempt, for whoever looks, and say how the build goes on."""
        try:
            note_stop(self._store, build, stop, attempt=attempt)
            if self.attempt(build).number != attempt:
                return  # it was resumed, and goes on elsewhere
            self.let_fold(build)
        except NotFoundError:
            error.add_note(
                f"Nothing is left of the build: index {self._config.name!r} was dropped meanwhile"
            )
            return
        except SquashError as unnoted:
            error.add_note(f"That could not be noted, and the build is shown running: {unnoted}")
        error.add_note(
            f"What is done stays done: `squash build resume {self._config.name} {build}` goes on "
            "from there"
        )

    def check_workers(self, workers: int) -> None:
        """Refuse several processes where only this one can open the index.

        Raises
        ------
        InvalidArgumentError
            If it lies in the memory of this process.

        """
        place = self._settings.place
        if workers > 1 and (place is None or place.location.startswith("memory://")):
            raise InvalidArgumentError(
                "several processes cannot share an index that lies in the memory of this one: "
                "take one worker, or an index in a folder or in S3",
                field="workers",
            )

    @contextmanager
    def _crew(self, context: BuildContext, workers: int) -> Iterator[Crew]:
        self.check_workers(workers)
        place = self._settings.place
        if workers <= 1 or place is None:
            yield Here(context)
            return
        # Only now: who runs tasks alone starts no process.
        from squash.runtime.build_workers import WorkerProcesses  # noqa: PLC0415

        with WorkerProcesses(
            place, self._config.name, workers=workers, scratch=context.scratch
        ) as crew:
            yield crew

    @contextmanager
    def context(
        self, scratch: Path | None = None, remaining_ms: Callable[[], int] | None = None
    ) -> Iterator[BuildContext]:
        """Make what tasks work with; its scratch folder is removed at the end.

        Parameters
        ----------
        scratch:
            Where that folder is made; the system's temporary one if None.
        remaining_ms:
            How much time is left to a task; much, if None.

        """
        with scratch_folder(scratch) as folder, one_blas_thread():
            yield BuildContext(
                store=self._store,
                config=self._config,
                open_inputs=self._open_inputs,
                clock=self._clock,
                ids=self._ids,
                scratch=folder,
                encode=None if self._config.encoder is None else self._content.document_vectors,
                remaining_ms=remaining_ms or (lambda: _LONG_MS),
                memory_mb=self._settings.memory_mb,
            )

    def _open(self, build: str, stage: Stage, attempt: int | None = None) -> Sequence[Task]:
        """Return the tasks of a stage that are left, if it may begin."""
        left = open_stage(
            self._store,
            self._config.name,
            build,
            stage,
            billed=self._settings.billed,
            attempt=attempt,
        )
        if left:
            self.renew_claim(build)
        return left

    def _open_inputs(self, url: str) -> InputStore:
        from squash.storage.inputs import open_inputs  # noqa: PLC0415 - botocore, for some

        place = self._settings.place
        if place is None:
            return open_inputs(url)
        return open_inputs(url, endpoint_url=place.endpoint_url, region=place.region)

    def not_begun(self, build: str, error: SquashError) -> None:
        """Note that nobody was found to run a build, and in the error how it goes on."""
        stop = Stop("failed", str(error), self._clock.now_ms())
        self._ended(error, build, stop, self.attempt(build).number)

    # What a function is invoked with

    def run_task(
        self, event: Mapping[str, Any], remaining_ms: Callable[[], int] | None = None
    ) -> dict[str, Any]:
        """Run one task, as a state machine asks for it, and say what it did.

        Raises
        ------
        InvalidArgumentError
            If the event names no task.
        SquashError
            As the task.

        """
        task = Task.from_json(event)
        with self.context(remaining_ms=remaining_ms) as context:
            done = run_task(context, task)
        return {"stage": task.stage.value, "batch": task.batch, "rows": done.rows}

    def open_stage(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """Open a stage, as a state machine asks for it, and say where its tasks are listed.

        Raises
        ------
        InvalidArgumentError
            If the event names no stage.
        UnavailableError
            If the stage before is not complete.
        BuildStoppedError
            If the build was cancelled, or passed one of its limits.

        """
        task = Task.from_json({**event, "stage": event.get("open"), "batch": 0})
        left = self._open(task.build, task.stage, _attempt_of(event, task.build))
        bucket, prefix = _bucket_of(self._settings)
        after = STAGES[STAGES.index(task.stage) + 1 :]
        return {
            "stage": task.stage.value,
            "next": after[0].value if after else None,
            "tasks": len(left),
            "bucket": bucket,
            "key": prefix + self._prefix + keys.items_key(task.build, task.stage),
        }

    def note_failure(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """Note what ended a state machine's execution.

        Parameters
        ----------
        event:
            ``{"build", "failed": {"stage", "error", "cause"}}``, as the machine catches it; perhaps
            with the name of the "execution", which names the attempt.

        """
        build, failed = event.get("build"), event.get("failed")
        if not isinstance(failed, Mapping) or not isinstance(build, str):
            raise InvalidArgumentError('a failure is {"build": id, "failed": {"stage", "error"}}')
        kind = str(failed.get("error", ""))
        stopped = kind == BuildStoppedError.__name__
        stop = Stop(
            "stopped" if stopped else "failed",
            _cause(kind, failed.get("cause")),
            self._clock.now_ms(),
            str(failed.get("stage") or ""),
        )
        attempt = _attempt_of(event, self.there(build))
        note_stop(self._store, build, stop, attempt=attempt)
        if attempt is None or self.attempt(build).number == attempt:
            self.let_fold(build)
        return {}


def _attempt_of(event: Mapping[str, Any], build: str) -> int | None:
    """Return the attempt whose execution an event comes from; None if its name tells of none."""
    name = str(event.get("execution", ""))
    number = name.removeprefix(f"{build}-")
    return int(number) if number != name and _ATTEMPT.fullmatch(number) else None


def _place(error: SquashError) -> tuple[str | None, int | None]:
    """Return the URL of the input file that an error is about, and the row of it, as far as known.

    Errors of files have the URL as object key, and the row as field.
    """
    url = error.object_key
    if url is None or not url.startswith(SCHEMES):
        return None, None
    row = _ROW.fullmatch(error.field or "")
    return url, int(row[1]) if row else None


def _cause(kind: str, cause: Any) -> str:
    """Return the words of an error as Lambda tells it to a state machine."""
    words = str(cause or "")
    try:
        told = json.loads(words)
    except ValueError:
        told = None
    if isinstance(told, dict) and "errorMessage" in told:
        words = str(told["errorMessage"])
    return (words or kind or "it is not known why")[:_CAUSE_CHARACTERS_MAX]


def _bucket_of(settings: Settings) -> tuple[str, str]:
    """Return the bucket of the store, and what its keys begin with; both empty if it has none."""
    location = settings.place.location if settings.place else ""
    if not location.startswith("s3://"):
        return "", ""
    bucket, _, prefix = location.removeprefix("s3://").partition("/")
    prefix = prefix.strip("/")
    return bucket, f"{prefix}/" if prefix else ""
