"""Files behind a store: whole or not there, within their bound, and never an error."""

import errno
import multiprocessing
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amounts import examples
from squash.storage import CountingStore, MemoryStore, tmp
from squash.storage.tmp import TmpFiles

KEY = "segments/s/codes"
DATA = np.random.default_rng(1).bytes(4_000)
RANGES = [(0, 100), (100, 1_000), (3_000, 4_000), (7, 7)]


def behind(files):
    """The files there are, without the lock."""
    return [path for path in Path(files.folder).iterdir() if path.name != "lock"]


def counted(files):
    inner = MemoryStore()
    inner.put(KEY, DATA)
    store = CountingStore(inner)
    return store, files.over(store)


def read_all(over):
    assert over.get(KEY) == DATA
    found = over.get_ranges(KEY, RANGES)
    assert [bytes(one) for one in found] == [DATA[a:b] for a, b in RANGES]


def test_what_was_fetched_is_not_fetched_again(tmp_path):
    """Whole objects and ranges come from files the second time, also in the next process."""
    files = TmpFiles(str(tmp_path))
    store, over = counted(files)
    read_all(over)
    asked = store.counts().requests
    read_all(over)
    assert store.counts().requests == asked
    assert over.hits == 1 + len(RANGES)
    files.close()
    again = TmpFiles(str(tmp_path))
    assert again.folder == files.folder
    store, over = counted(again)
    read_all(over)
    assert store.counts().requests == 0
    again.close()


@pytest.mark.parametrize("key", ["index.json", "log/1", "snapshots/1", "segment/x", "trainedx"])
def test_what_may_change_is_always_asked_for(tmp_path, key):
    """Only objects of segments and builds are kept."""
    files = TmpFiles(str(tmp_path))
    _, over = counted(files)
    over.put(key, b"old")
    assert over.get(key) == b"old"
    assert over.get_ranges(key, [(0, 3)]) == [b"old"]
    over.put(key, b"new")
    assert over.get(key) == b"new"
    assert over.get_ranges(key, [(0, 3)]) == [b"new"]
    assert not behind(files)


def test_absence_is_not_kept(tmp_path):
    """What was not there may be there now."""
    _, over = counted(TmpFiles(str(tmp_path)))
    assert over.get("segments/later") is None
    over.put("segments/later", b"x")
    assert over.get("segments/later") == b"x"


@settings(max_examples=examples(60, least=25), deadline=None)
@given(data=st.data())
def test_damaged_files_are_fetched_again(tmp_path_factory, data):
    """A bit flipped, a file cut, emptied, lengthened, swapped or gone: the store's bytes come."""
    files = TmpFiles(str(tmp_path_factory.mktemp("tmp")))
    store, over = counted(files)
    read_all(over)
    asked = store.counts().requests
    path = data.draw(st.sampled_from(sorted(behind(files))))
    content = bytearray(path.read_bytes())
    how = data.draw(st.sampled_from(["flip", "cut", "empty", "longer", "swap", "gone", "folder"]))
    if how == "flip":
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    elif how == "cut":
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    elif how == "empty":
        content.clear()
    elif how == "longer":
        content += b"\0"
    elif how == "swap":
        content = bytearray(next(p for p in sorted(behind(files)) if p != path).read_bytes())
    path.unlink()
    if how == "folder":
        path.mkdir()
    elif how != "gone":
        path.write_bytes(content)
    read_all(over)
    # A range without bytes needs no request.
    assert store.counts().requests - asked <= 1
    if how != "folder":
        asked = store.counts().requests
        read_all(over)
        assert store.counts().requests == asked
    assert files.bytes == sum(one.stat().st_size for one in behind(files) if one.is_file())
    files.close()


@settings(max_examples=examples(40, least=25), deadline=None)
@given(data=st.data())
def test_files_stay_within_their_bound(tmp_path_factory, data):
    """Least recently used go first; what is larger than the bound is served all the same."""
    bound = data.draw(st.integers(0, 2_000))
    files = TmpFiles(str(tmp_path_factory.mktemp("tmp")), bytes_max=bound)
    _, over = counted(files)
    for _ in range(data.draw(st.integers(1, 20))):
        start = data.draw(st.integers(0, len(DATA)))
        stop = data.draw(st.integers(start, len(DATA)))
        (found,) = over.get_ranges(KEY, [(start, stop)])
        assert found == DATA[start:stop]
        assert files.bytes == sum(one.stat().st_size for one in behind(files)) <= bound
        if stop - start + 4 <= bound:
            hits = over.hits
            over.get_ranges(KEY, [(start, stop)])
            assert over.hits == hits + 1
    files.close()


def test_files_that_are_being_written_count(tmp_path, monkeypatch):
    """Each of several threads made room for its own file alone: together they were too many."""
    files = TmpFiles(str(tmp_path), bytes_max=100_000)
    most, half_way = [], [True]

    def while_written(name, data):
        if half_way:
            half_way.clear()
            other = threading.Thread(target=files.write, args=("b", bytes(60_000)))
            other.start()
            other.join()
        most.append(sum(path.stat().st_size for path in behind(files)))
        return checksum(name, data)

    checksum = tmp._checksum
    monkeypatch.setattr(tmp, "_checksum", while_written)
    files.write("a", bytes(60_000))
    assert max(most) <= 100_000
    assert files.read("a") == bytes(60_000)
    assert files.read("b") is None
    files.write("c", bytes(90_000))  # what was reserved is free again
    assert files.read("c") == bytes(90_000)


@pytest.mark.parametrize("after", [0, 1, 2, 5])
def test_a_full_disk_means_fewer_files(tmp_path, monkeypatch, after):
    """Where nothing more can be written, all is served without it, and nothing half stays."""
    files = TmpFiles(str(tmp_path))
    store, over = counted(files)
    real, calls = os.replace, []

    def full(*names):
        calls.append(names)
        if len(calls) > after:
            raise OSError(errno.ENOSPC, "no space left on device")
        real(*names)

    monkeypatch.setattr(os, "replace", full)
    read_all(over)
    read_all(over)
    assert len(behind(files)) == min(after, 1 + len(RANGES))
    assert files.bytes == sum(one.stat().st_size for one in behind(files))
    assert store.counts().requests > 0


def test_a_disk_that_is_full_for_real(tmp_path):
    """A file system that takes no byte: `/dev/full` stands in for every part file."""
    files = TmpFiles(str(tmp_path))
    _, over = counted(files)
    for name in [over._name(KEY, None), *(over._name(KEY, one) for one in RANGES)]:
        for number in range(12):
            Path(files.folder, f"{name}.{number}.part").symlink_to("/dev/full")
    read_all(over)
    assert not [one for one in behind(files) if not one.name.endswith(".part")]


def test_half_written_files_of_a_killed_process_are_removed(tmp_path):
    """What has no name of its own yet is nobody's."""
    first = TmpFiles(str(tmp_path))
    part = Path(first.folder, "0123.7.part")
    part.write_bytes(b"half")
    first.close()
    assert not behind(TmpFiles(str(tmp_path)))
    assert not part.exists()


def test_two_at_once_have_folders_of_their_own(tmp_path):
    """A folder that a living process holds is not taken over."""
    files = [TmpFiles(str(tmp_path)) for _ in range(3)]
    assert len({one.folder for one in files}) == 3
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(folder_of, (str(tmp_path),)) not in {one.folder for one in files}
    for one in files:
        one.close()


def folder_of(parent):
    return TmpFiles(parent).folder


@pytest.mark.parametrize("what", ["a file", "a link", "open to others", "no parent"])
def test_a_folder_that_others_could_write_into_is_not_used(tmp_path, what):
    """Another name is taken, or no files are kept at all."""
    first = tmp_path / "squash-retained-0"
    parent = tmp_path
    if what == "a file":
        first.write_text("x")
    elif what == "a link":
        (tmp_path / "elsewhere").mkdir()
        first.symlink_to(tmp_path / "elsewhere")
    elif what == "open to others":
        first.mkdir()
        first.chmod(0o777)
    else:
        parent = tmp_path / "absent"
    files = TmpFiles(str(parent))
    assert files.folder != str(first)
    _, over = counted(files)
    read_all(over)
    assert bool(files.folder) == (what != "no parent")


def test_threads_read_and_evict_at_once(tmp_path):
    """Whatever others remove meanwhile, each gets the right bytes."""
    files = TmpFiles(str(tmp_path), bytes_max=1_500)
    _, over = counted(files)
    barrier = threading.Barrier(6)

    def ask(seed):
        rng = np.random.default_rng(seed)
        barrier.wait()
        for _ in range(150):
            start = int(rng.integers(0, 20)) * 100
            (found,) = over.get_ranges(KEY, [(start, start + 300)])
            assert found == DATA[start : start + 300]

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(ask, range(6)))
    assert files.bytes == sum(one.stat().st_size for one in behind(files)) <= 1_500
