"""Builds from files: `squash import --workers`, and the verb `build`."""

from __future__ import annotations

import glob
import os
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from squash.api.documents import build_document
from squash.cli.output import Output, Report, Table, counted
from squash.cli.problems import UsageError, problem
from squash.cli.service_index import ServiceIndex, refuse_service_options
from squash.cli.statuses import FAILED, SUCCEEDED
from squash.cli.values import home_expanded
from squash.clock import SystemClock
from squash.errors import DataError, SquashError
from squash.reports import BuildStatus, Progress

if TYPE_CHECKING:
    from squash.database import Database, Index
    from squash.runtime.building import IndexBuilds

MACHINE_VARIABLE: Final = "SQUASH_STATE_MACHINE"
_WATCHED_S: Final = 2.0
_LINES: Final = (".jsonl", ".ndjson")


def import_files(arguments: Namespace, database: Database, output: Output) -> int:
    """Build an index from files by processes of this machine."""
    for wanted, name in (
        (arguments.keys, "--keys"),
        (arguments.metadata, "--metadata"),
        (arguments.image_column, "--image-column"),
        (arguments.no_optimize, "--no-optimize"),
    ):
        if wanted:
            raise UsageError(f"{name} does not go with --workers, which builds the whole index")
    refuse_service_options(arguments)
    inputs = [url for source in arguments.files for url in input_urls(source)]
    index = database.index(arguments.index)
    with output.progress() as report:
        status = index.build(
            inputs,
            replace=arguments.replace,
            columns=_columns(arguments),
            encoder=arguments.encoder,
            workers=arguments.workers,
            bad_rows_max=arguments.bad_rows_max or 0,
            progress=report,
            build=arguments.build,
            scratch=arguments.scratch,
        )
    return _tell(output, status)


def input_urls(source: str | Path | ServiceIndex) -> list[str]:
    """Return the URLs of the files or folders that a word of the command line names.

    Raises
    ------
    UsageError
        If there are none, or a build does not read such.

    """
    text = str(source)
    if isinstance(source, ServiceIndex):
        raise UsageError(f"{text} is an index, which is imported without --workers")
    if text.lower().endswith(_LINES):
        raise UsageError(
            f"{text}: a build reads .npy and .parquet files; lines are imported without --workers, "
            "and `squash export` makes a .parquet file of them"
        )
    if "://" in text:
        return [text]
    path = home_expanded(text)
    if not path.exists() and glob.has_magic(text):
        found = sorted(glob.glob(str(path)))  # noqa: PTH207 - of absolute patterns, too
        if not found:
            raise UsageError(f"there is no file {text}")
        return [_url(Path(one)) for one in found]
    if not path.exists():
        raise UsageError(f"there is no file {text}")
    return [_url(path)]


def _url(path: Path) -> str:
    url = path.absolute().as_uri()
    return f"{url}/" if path.is_dir() else url


def _columns(arguments: Namespace) -> dict[str, str]:
    given = {
        "vector": arguments.vector_column,
        "text": arguments.text_column,
        "key": arguments.key_column,
    }
    return {name: column for name, column in given.items() if column is not None}


def build(arguments: Namespace, database: Database, output: Output) -> int:
    """Start, look at, cancel or resume a build."""
    return _ACTIONS[arguments.action](arguments, database.index(arguments.index), output)


def _start(arguments: Namespace, index: Index, output: Output) -> int:
    from squash.maintain.bulk.request import InputColumns, Limits  # noqa: PLC0415 - only now

    machine = arguments.state_machine or os.environ.get(MACHINE_VARIABLE)
    if not machine:
        raise UsageError(
            f"say what runs the build: --state-machine ARN, or {MACHINE_VARIABLE} (the stack's "
            "output BuildMachine); or build on this machine: squash import INDEX FILE... "
            "--workers N"
        )
    builds = index.bulk_builds()
    request = builds.prepare(
        arguments.inputs,
        columns=InputColumns(**_columns(arguments)),
        encoder=arguments.encoder,
        replaces=arguments.replace,
        limits=Limits(arguments.bad_rows_max or 0, arguments.dollars_max),
        build_id=arguments.build,
        runner=_by(machine),
    )
    _begin(builds, request.build, machine)
    return _begun(output, builds.status(request.build))


def _resume(arguments: Namespace, index: Index, output: Output) -> int:
    builds = index.bulk_builds()
    machine = None
    if arguments.workers is None:
        machine = (
            arguments.state_machine
            or os.environ.get(MACHINE_VARIABLE)
            or _machine_of(builds.attempt(arguments.build).execution)
        )
    limits = {
        "bad_rows_max": arguments.bad_rows_max,
        "dollars_max": arguments.dollars_max,
    }
    if machine:
        builds.resume(arguments.build, **limits, runner=_by(machine))
        _begin(builds, arguments.build, machine)
        return _begun(output, builds.status(arguments.build))
    with output.progress() as report:
        status = index.resume_build(
            arguments.build,
            **limits,
            workers=arguments.workers or 1,
            progress=report,
            scratch=arguments.scratch,
        )
    return _tell(output, status)


def _by(machine: str) -> Any:
    from squash.runtime.build_requests import Runner  # noqa: PLC0415 - only now

    return Runner("states", state_machine=machine)


def _begin(builds: IndexBuilds, build: str, machine: str) -> None:
    """Have a state machine run the latest attempt of a build."""
    from squash.runtime.state_machines import StateMachine  # noqa: PLC0415 - loads botocore

    attempt = builds.attempt(build)
    try:
        StateMachine(machine).start(
            f"{build}-{attempt.number}", {"index": builds.index, "build": build}
        )
    except SquashError as error:
        builds.not_begun(build, error)
        raise


def _machine_of(execution: str | None) -> str | None:
    """Return the ARN of the state machine that an execution is of."""
    if execution is None:
        return None
    return execution.rpartition(":")[0].replace(":execution:", ":stateMachine:")


def _begun(output: Output, status: BuildStatus) -> int:
    output.result(
        build_document(status),
        f"Build {status.build} of {status.index} has begun, after snapshot {status.before:,}.",
        f"squash build status {status.index} {status.build} --watch",
    )
    return SUCCEEDED


def _cancel(arguments: Namespace, index: Index, output: Output) -> int:
    builds = index.bulk_builds()
    status = index.cancel_build(arguments.build)
    execution = builds.attempt(arguments.build).execution
    machine = _machine_of(execution)
    if execution is not None and machine is not None:
        from squash.runtime.state_machines import StateMachine  # noqa: PLC0415 - loads botocore

        try:
            StateMachine(machine).stop(execution.rpartition(":")[2], reason="cancelled")
        except SquashError as error:
            # It ends by itself: its next task finds that it was cancelled.
            output.note(
                f"The state machine could not be told, and ends with its next task: {error}"
            )
    output.result(
        build_document(status),
        f"Cancelled build {status.build}; squash build resume {status.index} {status.build} goes "
        "on with it.",
    )
    return SUCCEEDED


def _status(arguments: Namespace, index: Index, output: Output) -> int:
    chosen = arguments.build
    if chosen is None:
        found = index.builds()
        if not found:
            output.result({"builds": []}, f"There is no build of {arguments.index}.")
            return SUCCEEDED
        chosen = found[0].build
    if not arguments.watch:
        _show(output, index.build_status(chosen))
        return SUCCEEDED
    with output.progress() as report:
        status = _watched(index, chosen, report)
    return _tell(output, status)


def _watched(index: Index, build: str, report: Report) -> BuildStatus:
    """Look at a build again and again until it ends."""
    clock = SystemClock()
    while True:
        status = index.build_status(build)
        for stage in status.stages:
            if stage.tasks:
                rows = counted(stage.rows, "row") if stage.rows else ""
                report(Progress(stage.stage, stage.tasks_done, stage.tasks, "tasks", rows))
        if status.state != "running":
            return status
        clock.sleep(_WATCHED_S)


def _list(arguments: Namespace, index: Index, output: Output) -> int:
    failed: dict[str, DataError] = {}
    found = index.builds(unreadable=failed)
    rows = [
        (one.build, one.state, _time(one.started_ms), one.rows, one.bad, one.snapshot)
        for one in found
    ]
    hidden = [{"build": build, **problem(error)} for build, error in failed.items()]
    document = {"builds": [build_document(one) for one in found]}
    shown: list[Table | str] = []
    if rows:
        shown.append(Table(("build", "state", "begun", "rows", "bad", "snapshot"), rows))
    shown += [f"{build} cannot be read: {error}" for build, error in failed.items()]
    output.result(
        document | ({"unreadable": hidden} if hidden else {}),
        *(shown or [f"There is no build of {arguments.index}."]),
    )
    return FAILED if failed else SUCCEEDED


def _tell(output: Output, status: BuildStatus) -> int:
    """Show a build that has ended; one that is not published is a failure."""
    _show(output, status)
    return SUCCEEDED if status.state == "published" else FAILED


def _show(output: Output, status: BuildStatus) -> None:
    facts: list[tuple[str, Any]] = [
        ("state", status.state),
        ("run by", "a state machine" if status.executor == "states" else "one machine"),
        ("attempt", status.attempt),
        ("begun", _time(status.started_ms)),
        ("rows", status.rows),
        ("bad rows, left out", status.bad),
        ("rows replaced by later ones of their key", status.replaced),
    ]
    if status.cost_usd:
        facts.append(("spent, USD", status.cost_usd))
    if status.estimate is not None and status.state != "published":
        facts += [
            ("estimate, USD", status.estimate.cost_usd),
            ("estimate, CPU seconds", round(status.estimate.cpu_s)),
        ]
    if status.remaining_s is not None and status.state == "running":
        facts.append(("seconds to go, about", round(status.remaining_s)))
    facts.append(("begun after snapshot", status.before))
    if status.snapshot is not None:
        facts.append(("snapshot", status.snapshot))
    shown: list[Table | str] = [Table(("", status.build), facts)]
    stages = [
        (one.stage, f"{one.tasks_done:,}/{one.tasks:,}", one.rows, one.cpu_s)
        for one in status.stages
        if one.tasks
    ]
    if stages:
        shown.append(Table(("stage", "tasks", "rows", "CPU s"), stages))
    if status.problems:
        problems = [(one.stage, one.input or "", one.row, one.message) for one in status.problems]
        shown.append(Table(("stage", "input", "row", "problem"), problems))
    output.result(build_document(status), *shown, *_lines(status))


def _lines(status: BuildStatus) -> Sequence[str]:
    """Say what to do next."""
    lines = []
    if status.bad_key is not None:
        lines.append(f"The bad rows are listed in {status.bad_key}.")
    if status.replaced:
        lines.append(
            f"Of each key the last row stayed: {counted(status.replaced, 'earlier row')} gave way."
        )
    if status.state == "published":
        lines.append(f"Published {status.index}; the snapshot is {status.snapshot:,}.")
        back = f"squash restore {status.index} --as-of {status.before}"
        lines.append(f"To take the index back to what it was: {back}")
    elif status.state != "running":
        lines.append(
            f"It is not published. To go on: squash build resume {status.index} {status.build}"
        )
    return lines


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


_ACTIONS: Final[Mapping[str, Callable[[Namespace, Index, Output], int]]] = {
    "start": _start,
    "status": _status,
    "list": _list,
    "cancel": _cancel,
    "resume": _resume,
}
