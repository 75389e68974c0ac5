"""What both directions of a copy say, and the options they share."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from squash.cli.moving.checking import Check
from squash.cli.moving.state import MoveState, StateFile
from squash.cli.output import Output, counted
from squash.cli.service_index import ServiceIndex

_SAME: Final = 0
_DIFFERENT: Final = 1


def state_path(arguments: Namespace, direction: str, place: ServiceIndex) -> Path:
    """Return where it is kept how far the copy is: in this folder, if nothing else is said."""
    if arguments.state is not None:
        return Path(arguments.state)
    ours = arguments.index.replace("/", ".")
    return Path(f"{direction}-{ours}-{place.bucket}.{place.index}.json")


def going_on(state: MoveState, file: StateFile, output: Output) -> None:
    """Say that an earlier run is gone on with."""
    if state.moved or state.rows_moved:
        output.note(
            f"Going on after {counted(state.rows_moved, 'record')}, as {file.path} says; "
            "--restart begins anew."
        )


def stopped(error: BaseException, state: MoveState, file: StateFile) -> None:
    """Note in an error what became of the copy that it stopped."""
    if state.moved or state.rows_moved:
        error.add_note(
            f"{counted(state.rows_moved, 'record')} were moved before; the same command goes on "
            f"from there, by {file.path}."
        )
    else:
        error.add_note("Nothing was moved.")


def tell(
    output: Output,
    *,
    source: str,
    target: str,
    state: MoveState | None,
    found: Check | None,
    later: int = 0,
) -> int:
    """Say what was moved and what a check found, and return the exit status.

    Parameters
    ----------
    source, target:
        What they are called.
    state:
        Of the copy; None if it was only checked.
    found:
        What the check found; None if there was none.
    later:
        How many commits changed the source after the snapshot that was read.

    """
    document: dict[str, Any] = {"source": source, "target": target}
    lines = []
    if state is not None:
        document |= {
            "rows": state.rows_moved,
            "bad_rows": [asdict(row) for row in state.bad_rows],
        }
        lines.append(f"Moved {counted(document['rows'], 'record')} from {source} to {target}.")
        if state.bad_rows:
            left = counted(len(state.bad_rows), "record")
            lines.append(f"{left} that the target does not take, named above, left out.")
    if later:
        document["commits_since"] = later
        lines.append(
            f"{counted(later, 'commit')} changed {source} after the snapshot that was read; of "
            "them the copy has nothing."
        )
    if found is not None:
        document["check"] = asdict(found) | {"same": found.same}
        lines += _found_lines(found, source, target)
    output.result(document, *lines)
    return _SAME if found is None or found.same else _DIFFERENT


def _found_lines(found: Check, source: str, target: str) -> list[str]:
    compared = counted(found.sampled, "record")
    said = f"{counted(found.source_rows, 'key')} in {source}, {found.target_rows:,} in {target}"
    lines = [f"Checked: {said}, {compared} compared whole."]
    if found.same:
        return [*lines, "They are the same."]
    for name, number, keys in (
        (source, found.only_in_source, found.only_in_source_keys),
        (target, found.only_in_target, found.only_in_target_keys),
    ):
        if number is None:
            lines.append(f"So many keys differ that they were not told apart ({name}).")
        elif number:
            lines.append(f"Only in {name}: {counted(number, 'key')}, as {', '.join(keys)}.")
    if found.differing_keys:
        lines.append(f"Not the same in both: {', '.join(found.differing_keys)}.")
    lines.append(
        "They differ. What was written at one of them meanwhile, or was in the target before, "
        "looks like this, too: run the command again, or with --check-only."
    )
    return lines
