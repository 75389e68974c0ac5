"""What a build may be asked for, and who runs it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any, Final

from squash.errors import InvalidArgumentError
from squash.index.checking import is_unicode
from squash.limits import (
    BUILD_BATCH_BYTES,
    BUILD_GROUP_BYTES_MAX,
    BUILD_PIECE_BYTES_MAX,
    BUILD_PIECE_ROWS_MAX,
    ID_PATTERN,
)
from squash.maintain import BuildOptions
from squash.maintain.bulk.request import BuildRequest, BuildSizes, Executor, InputColumns
from squash.planning.prices import Architecture
from squash.values import dataclass

BUILD_ID: Final = re.compile(ID_PATTERN)
SCHEMES: Final = ("s3://", "file://", "memory://")


def default_sizes(dimension: int) -> BuildSizes:
    """Return the sizes of a build that says nothing else: those of a fold."""
    fold = BuildOptions().fitted(dimension)
    return BuildSizes(
        partition_rows_target=fold.partition_rows_target,
        partition_rows_max=fold.partition_rows_max,
        cluster_rows_target=fold.cluster_rows_target,
        sample_rows_max=fold.sample_rows_max,
        sample_bytes_max=fold.sample_bytes_max,
        calibration_queries=fold.calibration_queries,
        exact_rows_max=fold.exact_rows_max,
        piece_rows_max=BUILD_PIECE_ROWS_MAX,
        piece_bytes_max=BUILD_PIECE_BYTES_MAX,
        group_bytes_max=BUILD_GROUP_BYTES_MAX,
        batch_bytes=BUILD_BATCH_BYTES,
    )


@dataclass(frozen=True, slots=True)
class Runner:
    """Who runs the tasks of an attempt.

    Parameters
    ----------
    executor:
        "local" for processes on one machine, "states" for a state machine of Step Functions.
    state_machine:
        Its ARN.
    memory_mb, architecture:
        Of the function; 0 where tasks cost nothing.

    """

    executor: Executor = "local"
    state_machine: str | None = None
    memory_mb: int = 0
    architecture: Architecture = "arm64"


def check_build_id(build: Any) -> str:
    """Return a build's id.

    Raises
    ------
    InvalidArgumentError
        If it is none.

    """
    if not isinstance(build, str) or not BUILD_ID.fullmatch(build):
        raise InvalidArgumentError(
            f"a build's id has 32 of 0-9 and a-f, unlike {build!r:.80}", field="build"
        )
    return build


def check_inputs(inputs: Sequence[str], runner: Runner) -> tuple[str, ...]:
    """Return the URLs of inputs.

    Raises
    ------
    InvalidArgumentError
        If there are none, or who runs the tasks cannot read them.

    """
    if isinstance(inputs, str) or not isinstance(inputs, Sequence) or not inputs:
        raise InvalidArgumentError(
            "a build has inputs: a list of the URLs of files and folders, in the order of the rows",
            field="inputs",
        )
    schemes = SCHEMES[:1] if runner.executor == "states" else SCHEMES
    shown = schemes[:2]
    for place, url in enumerate(inputs):
        if not isinstance(url, str) or not url.startswith(schemes):
            raise InvalidArgumentError(
                f"input {url!r:.200} is none that a build reads here: name files or folders as "
                + " or ".join(f"{scheme}…" for scheme in shown),
                field=f"inputs[{place}]",
            )
        if not is_unicode(url):
            raise InvalidArgumentError(
                f"input {url!r:.200} has half a surrogate pair: give valid Unicode, and bytes of a "
                "path that are no UTF-8 as %FF",
                field=f"inputs[{place}]",
            )
    return tuple(inputs)


def check_columns(columns: InputColumns) -> InputColumns:
    """Return the names of columns.

    Raises
    ------
    InvalidArgumentError
        If no file can have one of this name.

    """
    for of, name in asdict(columns).items():
        if name is not None and not is_unicode(name):
            raise InvalidArgumentError(
                f"the column {name!r:.200} has half a surrogate pair: give valid Unicode",
                field=f"columns.{of}",
            )
    return columns


def same(one: BuildRequest, other: BuildRequest) -> bool:
    """Tell if two requests ask for the same, whenever they were made."""
    return one == replace(other, base=one.base, created_ms=one.created_ms)


def execution_arn(state_machine: str, build: str, attempt: int) -> str:
    """Return the ARN of the execution that runs an attempt: its name is of both."""
    return f"{state_machine.replace(':stateMachine:', ':execution:')}:{build}-{attempt}"
