"""The builder: does what the state machine of bulk builds asks for, one event an invocation.

``{"index", "build", "stage", "batch"}`` is a task; ``{"index", "build", "open": stage}`` lists what
a stage has to do; ``{"index", "build", "failed": {"stage", "error", "cause"}}`` notes why a build
ends. With its own name, as "execution", an execution that outlived its attempt is told so. Errors
are raised: the machine knows them by the names of their classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from squash.api.compacting import Note
from squash.database import Database
from squash.errors import InvalidArgumentError


def answer(
    database: Database,
    event: Mapping[str, Any],
    *,
    remaining_ms: Callable[[], int],
    note: Note,
) -> dict[str, Any]:
    """Carry out one event of the state machine.

    Parameters
    ----------
    database:
        Holds the indexes.
    event:
        As above.
    remaining_ms:
        How much time is left to the function.
    note:
        Told what was done.

    Raises
    ------
    InvalidArgumentError
        If the event is none of these.
    NotFoundError
        If there is no such index, or no such build of it.
    BuildStoppedError
        If the build was stopped.
    SquashError
        As the task.

    """
    said = event if isinstance(event, dict) else {}
    name, build = said.get("index"), said.get("build")
    if not isinstance(name, str) or not isinstance(build, str):
        raise InvalidArgumentError('an event of a build has "index" and "build", both strings')
    builds = database.index(name).bulk_builds()
    if "failed" in event:
        found = builds.note_failure(event)
        what = "failed"
    elif "open" in event:
        found = builds.open_stage(event)
        what = f"opened {found['stage']}"
    else:
        found = builds.run_task(event, remaining_ms)
        what = f"did {found['stage']} {found['batch']}"
    note(f"build {build}: {what}", index=name, build=build, **_told(event, found))
    return found


def _told(event: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the log is told of an event."""
    if "failed" in event:
        return {"failed": event["failed"]}
    return {name: found[name] for name in ("stage", "batch", "rows", "tasks") if name in found}
