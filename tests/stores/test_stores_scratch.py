"""Folders for temporary files: gone at the end, and by the next process where one was killed."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import squash
from squash.maintain import BuildOptions
from squash.storage import scratch
from squash.storage.scratch import scratch_folder

HOLDS = """
import sys
from pathlib import Path
from squash.storage.scratch import scratch_folder
with scratch_folder(Path(sys.argv[1])) as folder:
    (folder / "much").write_bytes(b"1")
    print(folder.name, flush=True)
    sys.stdin.read()
"""


def holder(parent: Path) -> tuple[subprocess.Popen[str], str]:
    """Start a process that holds a folder until its input ends; return it and the folder's name."""
    process = subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-c", HOLDS, str(parent)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    return process, process.stdout.readline().strip()


def names(parent: Path) -> set[str]:
    return {one.name for one in parent.iterdir()}


def test_a_folder_is_there_for_as_long_as_it_is_needed(tmp_path):
    """With all that is in it, in a parent that is made if need be, and whatever is raised."""
    parent = tmp_path / "a" / "b"
    with scratch_folder(parent) as folder, scratch_folder(parent) as other:
        assert folder != other
        (folder / "under").mkdir()
        (folder / "under" / "file").write_bytes(b"1")
        assert names(parent) == {folder.name, other.name}
    assert names(parent) == set()
    with pytest.raises(ZeroDivisionError), scratch_folder(parent):
        1 / 0  # noqa: B018
    assert names(parent) == set()
    with scratch_folder() as folder:
        assert folder.parent == Path(tempfile.gettempdir())


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path):
    """That of one that lives stays, however long it does."""
    killed, left = holder(tmp_path)
    living, held = holder(tmp_path)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert names(tmp_path) == {left, held}
    with scratch_folder(tmp_path) as folder:
        assert names(tmp_path) == {held, folder.name}
    living.communicate("")
    assert living.returncode == 0
    assert names(tmp_path) == set()


def test_a_fold_removes_what_a_killed_one_left(tmp_path):
    killed, left = holder(tmp_path)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    index = squash.connect("memory://").create_index("x", dimension=2)
    rng = np.random.default_rng(1)
    index.put(keys=[str(i) for i in range(400)], vectors=rng.normal(size=(400, 2)))
    assert names(tmp_path) == {left}
    index.optimize(options=BuildOptions(exact_rows_max=0), scratch=tmp_path)
    assert names(tmp_path) == set()


def test_nothing_else_is_removed(tmp_path):
    """Not what has such a name by chance, is behind a link, or has no lock: it may just begin."""
    (tmp_path / "squash-scratch-file").write_bytes(b"1")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / ".lock").write_bytes(b"")
    (tmp_path / "squash-scratch-link").symlink_to(outside)
    (tmp_path / "squash-scratch-begun").mkdir()
    linked = tmp_path / "squash-scratch-linked"
    linked.mkdir()
    (linked / ".lock").symlink_to(outside / ".lock")
    before = names(tmp_path)
    with scratch_folder(tmp_path):
        pass
    assert names(tmp_path) == before


def test_it_works_where_nothing_can_be_locked(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(scratch.fcntl, "flock", fail)
    with scratch_folder(tmp_path) as first, scratch_folder(tmp_path) as second:
        assert names(tmp_path) == {first.name, second.name}
    assert names(tmp_path) == set()


def test_many_at_once_do_not_remove_each_others(tmp_path):
    """Some begin and end while others sweep."""
    ready = threading.Barrier(8)

    def use(number):
        ready.wait()
        for _ in range(40):
            with scratch_folder(tmp_path) as folder:
                (folder / "file").write_bytes(bytes([number]))
                assert (folder / "file").read_bytes() == bytes([number])

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(use, range(8)))
    assert names(tmp_path) == set()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_of_with_its_folder(tmp_path, number):
    with pytest.raises(OSError, match="CompactorTmp") as caught, scratch_folder(tmp_path):
        raise OSError(number, "no room")
    assert caught.value.errno == number
    assert str(tmp_path) in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_other_errors_pass_as_they_are(tmp_path):
    error = OSError(errno.EIO, "broken")
    with pytest.raises(OSError, match="broken") as caught, scratch_folder(tmp_path):
        raise error
    assert caught.value is error
