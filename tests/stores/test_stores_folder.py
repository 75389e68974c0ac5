"""What a folder of files promises beyond the contract."""

from __future__ import annotations

import ctypes
import errno
import multiprocessing
import os
import stat
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest
from store_cases import files

import squash
from squash.errors import InvalidArgumentError, PermissionDeniedError, UnavailableError
from squash.storage import FolderStore, folder


def race(path: str, number: int, turns: int, barrier, results) -> None:
    store = FolderStore(path)
    won = []
    for turn in range(turns):
        barrier.wait()
        if store.put_if_absent(f"race/{turn}/x", number.to_bytes(4, "little") * 50_000):
            won.append(turn)
    results.put((number, won))


def test_race_of_processes(tmp_path):
    """Of several processes that create one key exactly one wins, and its bytes are whole."""
    context = multiprocessing.get_context("spawn")
    count, turns = 3, 20
    barrier, results = context.Barrier(count), context.Queue()
    processes = [
        context.Process(target=race, args=(str(tmp_path), n, turns, barrier, results))
        for n in range(count)
    ]
    for process in processes:
        process.start()
    found = dict(results.get(timeout=60) for _ in processes)
    for process in processes:
        process.join()
    assert sorted(turn for won in found.values() for turn in won) == list(range(turns))
    store = FolderStore(tmp_path)
    for number, won in found.items():
        for turn in won:
            data = bytes(store.get(f"race/{turn}/x"))
            assert data == number.to_bytes(4, "little") * 50_000
    assert not [name for name in files(tmp_path) if name.startswith(".")]


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO])
def test_only_absence_is_absence(tmp_path, monkeypatch, number):
    """Where the system cannot tell whether a file is there, opening it decides."""

    def access(*_):
        ctypes.set_errno(number)
        return -1

    monkeypatch.setattr(folder, "_access", lambda: access)
    store = FolderStore(tmp_path)
    store.put("there", b"x")
    assert (store.getter("there")(), store.getter("not")()) == (b"x", None)


def test_without_asking_the_system(tmp_path, monkeypatch):
    """Where there is no such call, objects are there and not there all the same."""
    monkeypatch.setattr(folder, "_access", lambda: None)
    store = FolderStore(tmp_path)
    store.put("there", b"x")
    keys = ("there", "not", "there/not")
    assert [store.getter(key)() for key in keys] == [b"x", None, None]


def smaps_flags(path: Path) -> list[str]:
    """Return the flags of this process's map of a file, as `proc_pid_smaps` names them."""
    lines = Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines()
    begin = next(i for i, line in enumerate(lines) if line.endswith(str(path)))
    return next(line for line in lines[begin:] if line.startswith("VmFlags:")).split()[1:]


@pytest.mark.skipif(
    not Path("/sys/kernel/mm/transparent_hugepage").exists(), reason="no such pages here"
)
def test_long_objects_ask_for_large_pages(tmp_path):
    """Files that the system can hold in pieces of 2 MiB are mapped so when they are read."""
    store = FolderStore(tmp_path)
    store.put("long", bytes(3 << 20))
    data = store.get("long")
    assert "hg" in smaps_flags(tmp_path / "long")
    assert data is not None
    assert bytes(data) == bytes(3 << 20)


def test_long_objects_without_large_pages(tmp_path, monkeypatch):
    """A system that refuses such pages, or does not know them, maps all the same."""
    store = FolderStore(tmp_path)
    store.put("long", bytes(3 << 20))
    for advice in (None, -1):
        monkeypatch.setattr(folder, "_HUGE_PAGES", advice)
        assert bytes(store.get("long") or b"") == bytes(3 << 20)


def test_long_objects_are_mapped(tmp_path):
    """Objects over a MiB come back as a view of the file, read-only; shorter ones as bytes."""
    store = FolderStore(tmp_path)
    store.put("long", b"x" * ((1 << 20) + 1))
    store.put("short", b"x" * (1 << 20))
    assert isinstance(store.get("long"), memoryview)
    assert store.get("long").readonly
    assert isinstance(store.get("short"), bytes)
    view = store.get("long")
    store.delete(["long"])
    assert view[-1:] == b"x"


def test_a_write_that_breaks_off_leaves_nothing(tmp_path, monkeypatch):
    """If the disk fails before the name is given, there is no object and no leftover."""
    store = FolderStore(tmp_path)
    store.put("a", b"old")

    def fail(_file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folder.os, "fsync", fail)
    for put in (store.put, store.put_if_absent):
        with pytest.raises(UnavailableError, match="No space left"):
            put("b/c", b"new")
    with pytest.raises(UnavailableError):
        store.put("a", b"new")
    monkeypatch.undo()
    assert files(tmp_path) == {"a": b"old"}


def test_names_come_after_bytes(tmp_path, monkeypatch):
    """The bytes are on the disk before the name is given, and the name before the answer."""
    store, order = FolderStore(tmp_path), []
    store.put("d/x", b"")
    real = {name: getattr(os, name) for name in ("fsync", "link", "replace")}

    def note(name):
        def call(*args, **more):
            kind = name
            if name == "fsync":
                kind += " folder" if Path(f"/proc/self/fd/{args[0]}").is_dir() else " file"
            order.append(kind)
            return real[name](*args, **more)

        return call

    for name in real:
        monkeypatch.setattr(os, name, note(name))
    store.put_if_absent("d/y", b"1")
    store.put("d/x", b"2")
    assert order == ["fsync file", "link", "fsync folder", "fsync file", "replace", "fsync folder"]


def test_leftovers_are_no_objects(tmp_path):
    """What a killed process left, and other programs' hidden files, are never listed."""
    store = FolderStore(tmp_path)
    (tmp_path / ".squash-tmp").mkdir()
    (tmp_path / ".squash-tmp" / "0123").write_bytes(b"half")
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / ".hidden").write_bytes(b"")
    (tmp_path / "empty" / "deep").mkdir(parents=True)
    assert list(store.list("")) == []
    assert list(store.list_folders("")) == []


def test_leftovers_are_removed_when_old(tmp_path):
    """A killed process's temporary file goes a day later, with somebody's first write."""
    folder = tmp_path / ".squash-tmp"
    folder.mkdir()
    for name, hours in (("old", 25), ("young", 23)):
        (folder / name).write_bytes(b"half")
        at_ns = (folder / name).stat().st_mtime_ns - hours * 3_600_000_000_000
        os.utime(folder / name, ns=(at_ns, at_ns))
    FolderStore(tmp_path).put("a", b"1")
    assert [one.name for one in folder.iterdir()] == ["young"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS])
@pytest.mark.parametrize("call", ["fsync", "link"])
def test_a_write_for_which_there_is_no_room_did_not_happen(tmp_path, monkeypatch, number, call):
    """That is what is said of it, not that it may have happened; and the next one goes through."""
    index = squash.connect(str(tmp_path)).create_index("papers", dimension=2)
    index.put(keys=["a"], vectors=[[1, 0]])

    def fail(*_):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        kind = PermissionDeniedError if number == errno.EROFS else UnavailableError
        words = "read-only" if number == errno.EROFS else os.strerror(number)
        with pytest.raises(kind, match=words):
            index.put(keys=["b"], vectors=[[0, 1]])
    assert [one.key for one in index.list().records] == ["a"]
    assert index.put(keys=["c"], vectors=[[0, 1]]).snapshot == 2


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EIO])
def test_a_write_that_happened_is_not_refused_for_what_follows(tmp_path, monkeypatch, number):
    """A folder that cannot be brought to the disk leaves doubt; a left temporary file, none."""
    sync = os.fsync

    def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    def fail_for_folders(file):
        fail() if stat.S_ISDIR(os.fstat(file).st_mode) else sync(file)

    index = squash.connect(str(tmp_path)).create_index("papers", dimension=2)
    index.put(keys=["a"], vectors=[[1, 0]])
    store = FolderStore(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", fail)
        assert store.put_if_absent("folder/b", b"1")
        patch.setattr(os, "fsync", fail_for_folders)
        with pytest.raises(UnavailableError) as caught:
            store.put_if_absent("folder/c", b"1")
        assert not caught.value.unchanged
        assert index.put(keys=["b"], vectors=[[0, 1]]).snapshot == 2
    assert [one.key for one in index.list().records] == ["a", "b"]


def test_a_file_is_no_store(tmp_path):
    """A path that is a file, or lies below one, is refused at once; a new path is fine."""
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InvalidArgumentError, match="is a file"):
            FolderStore(path)
    assert list(FolderStore(tmp_path / "new").list("")) == []
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("number", "expected"),
    [(errno.EACCES, PermissionDeniedError), (errno.ENAMETOOLONG, InvalidArgumentError)],
)
def test_a_folder_that_may_not_be_looked_for(tmp_path, monkeypatch, number, expected):
    """Whoever opens the store gets our error, not the system's."""

    def refuse(self, **_):
        raise OSError(number, os.strerror(number), str(self))

    monkeypatch.setattr(Path, "exists", refuse)
    with pytest.raises(expected):
        FolderStore(tmp_path / "store")


def test_a_name_that_is_too_long(tmp_path):
    with pytest.raises(InvalidArgumentError, match="shorter names"):
        FolderStore(tmp_path / ("x" * 300)).put("a", b"")


def test_removing_the_last_of_a_linked_folder(tmp_path):
    """Somebody moved it to another disk: its objects go, and the link stays."""
    store, elsewhere = FolderStore(tmp_path / "store"), tmp_path / "elsewhere"
    store.put("a/b/c", b"1")
    store.put("a/d", b"2")
    (tmp_path / "store/a/b").rename(elsewhere)
    (tmp_path / "store/a/b").symlink_to(elsewhere)
    store.delete(["a/b/c", "a/d"])
    assert list(store.list("")) == []
    assert list(elsewhere.iterdir()) == []
    store.put("a/b/c", b"3")
    store.delete_if_same("a/b/c", b"3")
    assert store.get("a/b/c") is None


def test_objects_below_objects(tmp_path):
    """What a file system cannot hold is refused with a reason, not lost."""
    store = FolderStore(tmp_path)
    store.put("a/b", b"1")
    for put in (store.put, store.put_if_absent):
        for key in ("a", "a/b/c", "a/b/c/d"):
            with pytest.raises(InvalidArgumentError):
                put(key, b"2")
        with pytest.raises(InvalidArgumentError, match="too long"):
            put("x" * 300, b"2")
    assert files(tmp_path) == {"a/b": b"1"}


def test_putting_while_deleting(tmp_path):
    """Folders that come and go under concurrent puts and deletes lose no put."""
    store = FolderStore(tmp_path)

    def work(number: int) -> None:
        for turn in range(60):
            key = f"deep/down/{number}"
            assert store.put_if_absent(key, b"%d" % turn) is True
            assert bytes(store.get(key)) == b"%d" % turn
            store.delete([key])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert list(store.list("")) == []


def test_removing_what_was_replaced(tmp_path, monkeypatch):
    """However late one removes what it has compared, what another put since stays."""
    store, read = FolderStore(tmp_path), folder._read
    store.put("a/one", b"old")

    def replace():
        store.delete_if_same("a/one", b"old")
        return store.put_if_absent("a/one", b"new")

    with ThreadPoolExecutor(1) as pool:
        others = []

        def late(*args):
            data = read(*args)
            if not others:
                others.append(pool.submit(replace))
                wait(others, timeout=0.1)  # Who does not wait for this one is done by then.
            return data

        monkeypatch.setattr(folder, "_read", late)
        store.delete_if_same("a/one", b"old")
        assert others[0].result()
    assert files(tmp_path) == {"a/one": b"new"}


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_forbidden(tmp_path):
    """What the operating system forbids is a permission error."""
    store = FolderStore(tmp_path)
    store.put("a", b"1")
    (tmp_path / "a").chmod(0)
    with pytest.raises(PermissionDeniedError):
        store.get("a")


def test_errors_of_the_system_have_a_type(tmp_path, monkeypatch):
    """Permission errors and input-output errors are told apart; none becomes None."""
    store = FolderStore(tmp_path)
    store.put("a", b"1")
    for error, expected in (
        (PermissionError(13, "Permission denied"), PermissionDeniedError),
        (OSError(5, "Input/output error"), UnavailableError),
    ):

        def fail(*_args, error=error):
            raise error

        monkeypatch.setattr(folder.os, "pread", fail)
        with pytest.raises(expected):
            store.get("a")
        with pytest.raises(expected):
            store.get_ranges("a", [(0, 1)])


def test_the_home_of_nobody_names_no_folder():
    with pytest.raises(InvalidArgumentError, match="home folder"):
        FolderStore("~nobody-of-this-name/x")
