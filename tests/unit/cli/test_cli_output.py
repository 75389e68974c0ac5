"""Tables, values and bars."""

from __future__ import annotations

import io
import json
import sys

import pytest

from squash.cli.output import Output, Table, cell, plain_table, printable, summary
from squash.errors import FilterError
from squash.reports import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


TABLE = Table(("key", "distance"), [("a[red]", 0.5), ("\x1b[2J", 12.0)], title="nearest")


def test_a_plain_table_is_aligned_and_whole():
    assert plain_table(TABLE).splitlines() == [
        "nearest",
        "key      distance",
        "a[red]        0.5",
        "\\x1b[2J        12",
    ]


def test_an_empty_table_shows_its_columns():
    assert plain_table(Table(("a", "b"), [])) == "a  b\n"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1234567, "1,234,567"),
        (0.12345678, "0.123457"),
        (True, "true"),
        (None, ""),
        ("a\nb", "a\\nb"),
    ],
)
def test_values_in_cells(value, text):
    assert cell(value) == text


def test_a_terminal_gets_a_table_without_markup_or_commands():
    """What is stored is shown as it is: neither markup of ours nor of the terminal's."""
    stream = Terminal()
    Output(json_wanted=False, stdout=stream, stderr=stream).result({}, TABLE, "done")
    assert "a[red]" in stream.getvalue()
    assert "\x1b[2J" not in stream.getvalue()


def test_without_rich_a_terminal_gets_plain_text(monkeypatch):
    monkeypatch.setitem(sys.modules, "rich", None)
    stream = Terminal()
    output = Output(json_wanted=False, stdout=stream, stderr=stream)
    output.result({}, TABLE)
    assert stream.getvalue() == plain_table(TABLE)
    with output.progress() as report:
        report(Progress("train", 1, 2, "partitions"))
        report(Progress("write", 1_000, 2_000, "rows"))
    assert "train: 1 / 2 partitions\n\rwrite: 1,000 / 2,000 rows\n" in stream.getvalue()


def test_an_error_names_its_place_once():
    """The place follows the message, unless the message holds it."""
    for message, shown in [("bad", "squash: bad (at $x)"), ("bad at $x", "squash: bad at $x")]:
        stream = io.StringIO()
        error = FilterError(message, field="$x")
        Output(json_wanted=False, stdout=stream, stderr=stream).error(error)
        assert stream.getvalue() == shown + "\n"


def test_bars_are_for_people():
    """A terminal gets bars; a pipe and --json get nothing."""
    for stream, json_wanted, shown in [
        (Terminal(), False, True),
        (Terminal(), True, False),
        (io.StringIO(), False, False),
    ]:
        output = Output(json_wanted=json_wanted, stdout=io.StringIO(), stderr=stream)
        with output.progress() as report:
            report(Progress("train", 1, 2, "partitions"))
            report(Progress("train", 2, 2, "partitions"))
        assert ("train" in stream.getvalue()) == shown


def test_long_values_are_cut_and_control_characters_escaped():
    assert len(summary("x" * 1_000)) == 100
    assert printable("a\tb\x00\n") == "a\\tb\\x00\n"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8", "UTF_8"])
def test_json_is_json_whatever_the_streams_can_encode(encoding):
    """As `main` sets them up, with what they cannot encode escaped."""
    document = {"key": "é文😀"}
    written, failed = io.BytesIO(), io.BytesIO()
    streams = [
        io.TextIOWrapper(raw, encoding=encoding, errors="backslashreplace", write_through=True)
        for raw in (written, failed)
    ]
    output = Output(json_wanted=True, stdout=streams[0], stderr=streams[1])
    output.result(document)
    output.error(FilterError(document["key"], field=""))
    assert json.loads(written.getvalue().decode(encoding)) == document
    assert json.loads(failed.getvalue().decode(encoding))["detail"] == document["key"]
