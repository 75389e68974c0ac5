"""What the command line says: tables and progress bars for people, JSON for machines."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final, TextIO

from squash.cli.problems import problem
from squash.reports import Progress
from squash.values import dataclass

Report = Callable[[Progress], None]
SUMMARY_CHARACTERS_MAX: Final = 100


@dataclass(frozen=True, slots=True)
class Table:
    """Rows to be shown in columns; numbers stand to the right."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    title: str = ""


class Output:
    """Where results and errors go.

    Results go to standard output, everything else to standard error, so that a pipe carries
    results only. Without `rich`, and where standard output is no terminal, tables are plain text.
    """

    def __init__(
        self, *, json_wanted: bool, stdout: TextIO | None = None, stderr: TextIO | None = None
    ) -> None:
        self._json_wanted = json_wanted
        self._stdout = stdout or sys.stdout
        self._stderr = stderr or sys.stderr

    def result(self, document: Mapping[str, Any], *shown: Table | str) -> None:
        """Write a result: the document for machines, else the tables and lines for people."""
        if self._json_wanted:
            self._stdout.write(_json(document, self._stdout) + "\n")
            return
        for part in shown:
            if isinstance(part, str):
                self._stdout.write(printable(part) + "\n")
            elif self._stdout.isatty() and _has_rich():
                _show_rich(part, self._stdout)
            else:
                self._stdout.write(plain_table(part))

    def note(self, text: str) -> None:
        """Write a line about the work that goes on, for people."""
        if not self._json_wanted:
            self._stderr.write(printable(text) + "\n")
            self._stderr.flush()

    def error(self, error: BaseException) -> None:
        """Write what failed."""
        members = problem(error)
        if self._json_wanted:
            self._stderr.write(_json(members, self._stderr) + "\n")
            return
        place = members.get("field", "")
        # The message of a filter error names the place already.
        at = "" if place in members["detail"] else f" (at {place})"
        self._stderr.write(printable(f"squash: {members['detail']}{at}") + "\n")

    @contextmanager
    def progress(self) -> Iterator[Report]:
        """Show the steps reported inside as bars, if a person is looking."""
        if self._json_wanted or not self._stderr.isatty():
            yield _silent
        elif _has_rich():
            with rich_progress(self._stderr) as report:
                yield report
        else:
            with _plain_progress(self._stderr) as report:
                yield report


def _json(document: Mapping[str, Any], stream: TextIO) -> str:
    """Return JSON on one line, in ASCII where the stream would escape what it cannot encode.

    Its escapes, with an x and two digits, are none of JSON's.
    """
    encoding = (stream.encoding or "utf-8").lower().replace("_", "-")
    return json.dumps(document, ensure_ascii=encoding not in {"utf-8", "utf8"}, allow_nan=False)


def printable(text: str) -> str:
    """Escape control characters: what is stored must not command the terminal."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


def summary(value: Any, *, characters: int = SUMMARY_CHARACTERS_MAX) -> str:
    """Return a value as JSON on one line, cut where it is long."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= characters else text[: characters - 1] + "…"


def minute(time_ms: int) -> str:
    """Return a time, in milliseconds since 1970 UTC, to the minute."""
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless it is one."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def cell(value: Any) -> str:
    """Return one value as it stands in a table."""
    if isinstance(value, bool) or value is None:
        return "" if value is None else str(value).lower()
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.6g}"
    return printable(str(value)).replace("\n", "\\n")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def plain_table(table: Table) -> str:
    """Lay a table out with blanks; nothing is cut, since it may be read by a program."""
    # The titles are text, and stand to the left as text does.
    lines = [list(table.columns), *([cell(value) for value in row] for row in table.rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = [table.title] if table.title else []
    for values, parts in zip([table.columns, *table.rows], lines, strict=True):
        padded = [
            part.rjust(width) if _is_number(value) else part.ljust(width)
            for value, part, width in zip(values, parts, widths, strict=True)
        ]
        text.append("  ".join(padded))
    return "".join(line.rstrip() + "\n" for line in text)


def _has_rich() -> bool:
    try:
        import rich  # noqa: F401, PLC0415 - an extra, and loaded only for people
    except ImportError:
        return False
    return True


def _show_rich(table: Table, stream: TextIO) -> None:
    from rich.console import Console  # noqa: PLC0415 - an extra, and loaded only for people
    from rich.table import Table as RichTable  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    shown = RichTable(title=table.title or None, title_justify="left", header_style="bold")
    for position, name in enumerate(table.columns):
        numbers = [_is_number(row[position]) for row in table.rows]
        last = position == len(table.columns) - 1
        shown.add_column(
            name,
            justify="right" if numbers and all(numbers) else "left",
            no_wrap=True,
            overflow="ellipsis" if last else "fold",
        )
    for row in table.rows:
        # Text, not str: what is stored must not be taken for markup.
        shown.add_row(*[Text(cell(value)) for value in row])
    Console(file=stream).print(shown)


@contextmanager
def rich_progress(stream: TextIO) -> Iterator[Report]:
    """Show one bar a stage, with what it has done and how long it took."""
    from rich.console import Console  # noqa: PLC0415 - an extra, and loaded only for people
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        TaskID,
        TextColumn,
        TimeElapsedColumn,
    )
    from rich.progress import Progress as Bars  # noqa: PLC0415

    columns = (
        TextColumn("{task.description:<16}"),
        BarColumn(),
        TextColumn("{task.fields[amount]}"),
        TimeElapsedColumn(),
    )
    tasks: dict[str, TaskID] = {}
    with Bars(*columns, console=Console(file=stream)) as bars:

        def report(step: Progress) -> None:
            total, amount = step.total or None, _amount(step)
            if step.stage not in tasks:
                tasks[step.stage] = bars.add_task(step.stage, total=total, amount=amount)
            bars.update(tasks[step.stage], completed=step.done, total=total, amount=amount)

        yield report


def _amount(step: Progress) -> str:
    """Say how much is done, of how much where that is known."""
    if step.done and not step.total:
        return f"{step.done:,} {step.unit}"
    amount = f"{step.done:,} / {step.total:,} {step.unit}"
    return f"{amount}, {step.note}" if step.note else amount


@contextmanager
def _plain_progress(stream: TextIO) -> Iterator[Report]:
    """Write one line a stage over and over."""
    stage: list[str] = []

    def report(step: Progress) -> None:
        if stage and stage[-1] != step.stage:
            stream.write("\n")
        stage.append(step.stage)
        stream.write(f"\r{step.stage}: {_amount(step)}")
        stream.flush()

    try:
        yield report
    finally:
        if stage:
            stream.write("\n")


def _silent(_: Progress) -> None:
    return
