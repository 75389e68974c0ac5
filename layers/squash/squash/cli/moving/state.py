"""How far a copy is, in a small file, so that one that was stopped goes on where it was.

Every change of the file replaces it whole: whoever is killed at any moment leaves the one before
or the one after. What was moved after the one before is moved once more, which changes nothing:
putting a record again replaces it by itself.
"""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, field
from pathlib import Path
from typing import Any, Final

from squash.cli.moving.records import BadRow
from squash.errors import ConflictError, DataError
from squash.values import dataclass

FORMAT: Final = "squash-move"
VERSION: Final = 1


@dataclass(slots=True)
class SegmentState:
    """How far one segment of a listing is read: what of it is durable at the target."""

    token: str | None = None
    rows: int = 0
    done: bool = False


@dataclass(slots=True)
class MoveState:
    """How far a copy is.

    `source` and `target` say which indexes it is about, down to when each was created. An import
    has `segments`; an export the `snapshot` that it reads, how many of its `rows` are at the
    target, and the `digest` of their keys, by which one that goes on knows that it reads them in
    the same order again.
    """

    source: Mapping[str, Any]
    target: Mapping[str, Any]
    segments: list[SegmentState] = field(default_factory=list)
    snapshot: int = 0
    rows: int = 0
    digest: str = ""
    moved: bool = False
    bad_rows: list[BadRow] = field(default_factory=list)

    @property
    def rows_moved(self) -> int:
        """How many records are durable at the target."""
        if self.segments:
            return sum(segment.rows for segment in self.segments)
        return self.rows - len(self.bad_rows) if self.rows else 0


class StateFile:
    """The file that keeps a `MoveState`.

    Parameters
    ----------
    path:
        Where.

    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self, source: Mapping[str, Any], target: Mapping[str, Any]) -> MoveState:
        """Return what is kept, or a state in which nothing is moved yet.

        Raises
        ------
        ConflictError
            If it is about another source or target.
        DataError
            If it is no such file.

        """
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return MoveState(source, target)
        kept = _parsed(text, self.path)
        for what, now, then in (
            ("source", source, kept.source),
            ("target", target, kept.target),
        ):
            other = [name for name in {**now, **then} if now.get(name) != then.get(name)]
            if other:
                raise ConflictError(
                    f"{self.path} keeps how far another copy is: its {what} has {other[0]} "
                    f"{then.get(other[0])!r}, this one {now.get(other[0])!r}. Name another file "
                    "with --state, or begin anew with --restart"
                )
        return kept

    def save(self, state: MoveState) -> None:
        """Replace the file by one with this state, durably."""
        document = {"format": FORMAT, "version": VERSION, **asdict(state)}
        partial = self.path.with_name(f".{self.path.name}.{os.getpid()}.partial")
        try:
            with partial.open("w", encoding="utf-8") as file:
                json.dump(document, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self.path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise

    def remove(self) -> None:
        """Remove the file, and what runs left that were killed while they wrote it."""
        self.path.unlink(missing_ok=True)
        for partial in self.path.parent.glob(f".{glob.escape(self.path.name)}.*.partial"):
            partial.unlink(missing_ok=True)


def _parsed(text: str, path: Path) -> MoveState:
    try:
        document = json.loads(text)
        kind = document.pop("format"), document.pop("version")
        document["segments"] = [SegmentState(**one) for one in document["segments"]]
        document["bad_rows"] = [BadRow(**one) for one in document["bad_rows"]]
        state = MoveState(**document)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _not_ours(path, repr(error)) from error
    if kind != (FORMAT, VERSION):
        raise _not_ours(path, f"it is of the format {kind[0]} {kind[1]}")
    return state


def _not_ours(path: Path, why: str) -> DataError:
    return DataError(
        f"{path} is no file of `squash import` or `squash export` that keeps how far a copy is "
        f"({why}): name another with --state, or replace it with --restart"
    )
