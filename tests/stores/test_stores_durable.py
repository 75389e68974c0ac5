"""What a folder of files has brought to the disk before it answers, and how processes race."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest
from store_cases import files

from squash.storage import FolderStore

PROCESSES = 16
KEYS = 200
BLOCK = 4_096


class Disk:
    """What would be left if the power failed now: names and bytes count once they are synced.

    It watches the calls by which the store makes files, names them and syncs them.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.bytes_synced: set[int] = set()
        self.named: dict[Path, int] = {}
        self.names_synced: set[Path] = set()
        self._real = {name: getattr(os, name) for name in ("fsync", "link", "replace", "mkdir")}
        for name in self._real:
            patch.setattr(os, name, getattr(self, name))

    def fsync(self, file: int) -> None:
        self._real["fsync"](file)
        status = os.fstat(file)
        folder = Path(f"/proc/self/fd/{file}").readlink()
        if folder.is_dir():
            self.names_synced |= {path for path in self.named if path.parent == folder}
        else:
            self.bytes_synced.add(status.st_ino)

    def link(self, source, target, **more) -> None:
        self._real["link"](source, target, **more)
        self._name(target)

    def replace(self, source, target, **more) -> None:
        self._real["replace"](source, target, **more)
        self._name(target)

    def mkdir(self, path, *more) -> None:
        self._real["mkdir"](path, *more)
        self._name(path)

    def _name(self, path) -> None:
        self.named[Path(path)] = Path(path).stat().st_ino
        self.names_synced.discard(Path(path))

    def assert_durable(self, path: Path, root: Path) -> None:
        """The file's bytes, its name, and the names of all folders above that were made."""
        assert self.named[path] in self.bytes_synced
        for one in (path, *path.parents):
            if one == root:
                break
            assert one in self.names_synced, one


@pytest.mark.parametrize("name", ["put", "put_if_absent"])
def test_what_is_answered_is_on_the_disk(tmp_path, monkeypatch, name):
    """The bytes, the name, and every folder that was made for it, whatever was there before."""
    root = tmp_path / "new" / "store"
    store, disk = FolderStore(root), Disk(monkeypatch)
    for key in ("x", "a/b/c/x", "a/b/y", "a/z/x", "b/x"):
        getattr(store, name)(key, key.encode())
        disk.assert_durable(root / key, tmp_path)
    assert files(root)["a/b/c/x"] == b"a/b/c/x"


def test_what_replaces_is_on_the_disk_too(tmp_path, monkeypatch):
    """The new bytes were synced before they took the old ones' name."""
    store = FolderStore(tmp_path)
    store.put("a/x", b"old")
    disk = Disk(monkeypatch)
    store.put("a/x", b"new")
    assert disk.named[tmp_path / "a" / "x"] in disk.bytes_synced
    assert tmp_path / "a" / "x" in disk.names_synced


def test_bytes_are_synced_before_they_have_a_name(tmp_path, monkeypatch):
    """At no moment is there an object whose bytes may be gone after a power cut."""
    store, disk = FolderStore(tmp_path), Disk(monkeypatch)
    name = disk._name

    def check(path) -> None:
        if Path(path).is_file():
            assert Path(path).stat().st_ino in disk.bytes_synced
        name(path)

    disk._name = check
    store.put("a", b"1")
    store.put("a", b"2")
    assert store.put_if_absent("b/c", b"3")


def _block(number: int, turn: int) -> bytes:
    return bytes([number, turn % 256]) * (BLOCK // 2)


def _race(path: str, number: int, barrier, results) -> None:
    store = FolderStore(path)
    barrier.wait()
    # Each begins elsewhere, so that for most keys some meet.
    order = [(turn + number * 3) % KEYS for turn in range(KEYS)]
    won = [turn for turn in order if store.put_if_absent(f"race/{turn}", _block(number, turn))]
    seen = all(len(store.get(f"race/{turn}") or b"") == BLOCK for turn in range(KEYS))
    results.put((number, won, seen))


def test_sixteen_processes_create_the_same_keys(tmp_path):
    """Of each key exactly one is the first, its bytes are whole, and nobody sees fewer."""
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(PROCESSES), context.Queue()
    processes = [
        context.Process(target=_race, args=(str(tmp_path), number, barrier, results))
        for number in range(PROCESSES)
    ]
    for process in processes:
        process.start()
    found = [results.get(timeout=120) for _ in processes]
    for process in processes:
        process.join()
    assert sorted(turn for _, won, _ in found for turn in won) == list(range(KEYS))
    assert all(seen for _, _, seen in found)
    store = FolderStore(tmp_path)
    for number, won, _ in found:
        for turn in won:
            assert store.get(f"race/{turn}") == _block(number, turn)
    assert len(files(tmp_path)) == KEYS
