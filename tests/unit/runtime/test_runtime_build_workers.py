"""Processes that run a build's tasks: what becomes of one that dies."""

import sys

import pytest

from bulk_files import BUILD
from squash.errors import InternalError, UnavailableError
from squash.maintain.bulk.stages import Stage, Task
from squash.runtime import build_workers

WORKER = """
import sys
from pathlib import Path
mark = Path({mark!r})
lines = iter(sys.stdin)
next(lines)
for line in lines:
    tries = int(mark.read_text()) if mark.exists() else 0
    mark.write_text(str(tries + 1))
    if tries < {deaths}:
        {death}
    print('{{"report": {{"rows": 7}}}}', flush=True)
"""


def worker_of(tmp_path, monkeypatch, *, deaths, death="import os; os.kill(os.getpid(), 9)"):
    """Put a worker of our own in the place of the library's."""
    mark = tmp_path / "tries"
    (tmp_path / "toy_worker.py").write_text(
        WORKER.format(mark=str(mark), deaths=deaths, death=death)
    )
    monkeypatch.setattr(build_workers, "MODULE", "toy_worker")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    return build_workers.WorkerProcesses(
        build_workers.StorePlace("/nowhere"), "papers", workers=1, scratch=tmp_path
    )


def test_a_task_whose_process_dies_is_run_by_another(tmp_path, monkeypatch):
    with worker_of(tmp_path, monkeypatch, deaths=2) as crew:
        (report,) = crew.run([Task("papers", BUILD, Stage.PLAN)])
    assert report.rows == 7


def test_a_task_whose_process_dies_again_and_again_is_given_up(tmp_path, monkeypatch):
    with (
        worker_of(tmp_path, monkeypatch, deaths=9) as crew,
        pytest.raises(UnavailableError, match=r"3 times.*memory"),
    ):
        list(crew.run([Task("papers", BUILD, Stage.PLAN)]))


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (15, r"3 times \(SIGTERM\): find out who ends it"),
        (11, r"3 times \(SIGSEGV\): a library crashed"),
    ],
)
def test_who_is_ended_for_no_lack_of_memory_is_not_told_of_memory(
    tmp_path, monkeypatch, number, words
):
    death = f"import os; os.kill(os.getpid(), {number})"
    with (
        worker_of(tmp_path, monkeypatch, deaths=9, death=death) as crew,
        pytest.raises(UnavailableError, match=words) as caught,
    ):
        list(crew.run([Task("papers", BUILD, Stage.PLAN)]))
    assert "memory" not in str(caught.value)


def test_a_bug_in_a_worker_is_not_repeated(tmp_path, monkeypatch):
    with (
        worker_of(tmp_path, monkeypatch, deaths=9, death="sys.exit(1)") as crew,
        pytest.raises(InternalError, match="status 1"),
    ):
        list(crew.run([Task("papers", BUILD, Stage.PLAN)]))
    assert (tmp_path / "tries").read_text() == "1"
