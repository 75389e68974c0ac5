"""Writers, folders and readers are killed again and again, and nothing acknowledged is lost.

`python tests/killing.py` does the same for as long as one likes.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import squash
from kill_account import Verdict, judge
from kill_processes import DIMENSION, INDEX, Journal, Place, metadata_of, vectors_of

SCRIPT = Path(__file__).parents[1] / "killing.py"


def check_killed(store: str, seconds: float, *, kills: int, writes: int) -> None:
    """Kill in a process of its own: it forks, which a test with threads must not."""
    given = {"seconds": seconds, "store": store, "seed": 1, "kills": kills, "writes": writes}
    words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    done = subprocess.run(  # noqa: S603 - our own script
        [sys.executable, str(SCRIPT), *words],
        check=False,
        capture_output=True,
        text=True,
        timeout=11 * seconds + 240,
    )
    assert done.stdout, done.stderr
    verdict = json.loads(done.stdout)
    print(verdict)  # noqa: T201 - shown where a line below fails
    assert verdict["lost"] == []
    assert verdict["wrong"] == []
    assert verdict["damages"] == []
    assert verdict["died"] == []
    assert verdict["kills_total"] >= kills
    assert verdict["writes_acknowledged"] >= writes


def test_kills_on_a_folder():
    """Some dozen kills in some seconds, on files."""
    check_killed("folder", 12, kills=10, writes=10)


def test_kills_on_s3():
    """The same over HTTP, where a request may arrive after its sender is dead."""
    check_killed("s3", 15, kills=6, writes=5)


@pytest.mark.slow
@pytest.mark.parametrize("store", ["folder", "s3"])
def test_kills_for_long(store):
    """The same for two minutes."""
    check_killed(store, 120, kills=60, writes=200)


@pytest.fixture
def place(tmp_path):
    place = Place(str(tmp_path / "store"), tmp_path, writers=1)
    squash.connect(place.location).create_index(INDEX, dimension=DIMENSION, metric="euclidean")
    return place


def put(place: Place, keys: list[str], op: int) -> int:
    rows = {"vectors": vectors_of(keys, 0, op), "metadata": metadata_of(keys, 0, op)}
    return place.open().put(keys=keys, **rows).snapshot


def test_the_judge_finds_what_is_missing(place):
    """A row that was acknowledged and is not there is lost; one never answered need not be."""
    journal = Journal(place.journal("writer0"))
    for op, key, happens, answered in (
        (1, "w0.own1", True, True),
        (2, "w0.own2", False, True),
        (3, "w0.own3", False, False),
        (4, "w0.own4", True, False),
        (5, "shared1", False, True),
        (6, "shared2", True, True),
    ):
        do = "put shared" if "shared" in key else "put"
        journal.write(do=do, keys=[key], op=op, commit="")
        snapshot = put(place, [key], op) if happens else 1
        if answered:
            journal.write(op=op, ok=snapshot, repeated=0)
    verdict = judge(place, Verdict())
    assert [line.split()[0] for line in verdict.lost] == ["w0.own2", "shared1"]
    assert verdict.writes_acknowledged == 4
    assert verdict.unanswered == 2
    assert not verdict.good()


def test_the_judge_finds_halves_and_strangers(place):
    """Half of a group, and a key that nobody wrote, are wrong."""
    put(place, ["w0.group0", "nobody's"], 1)
    verdict = judge(place, Verdict())
    assert any("half" in line for line in verdict.wrong)
    assert any("never written" in line for line in verdict.wrong)


def test_a_line_that_was_cut_off_was_never_written(tmp_path):
    """A journal goes on after its last whole line."""
    path = tmp_path / "j"
    Journal(path).write(a=1)
    path.write_bytes(path.read_bytes() + b'{"half')
    Journal(path).write(b=2)
    assert path.read_bytes() == b'{"a": 1}\n{"b": 2}\n'
