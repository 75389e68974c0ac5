from __future__ import annotations

import json
from dataclasses import dataclass

import pytest
from cli_fake_face import FakeDatabase

import squash.cli.main


@dataclass
class Done:
    """What a run of the command left behind."""

    status: int
    out: str
    err: str

    @property
    def document(self):
        return json.loads(self.out)

    @property
    def problem(self):
        return json.loads(self.err)


@pytest.fixture
def face(monkeypatch):
    """A fake Python face, in the place of the real one."""
    database = FakeDatabase()
    monkeypatch.setattr(squash.cli.main, "connect", database.connect)
    monkeypatch.delenv("SQUASH_STORE", raising=False)
    return database


@pytest.fixture
def run(face, capsys):
    """Run the command on the fake face, and look at its status and what it wrote."""

    def run_command(*words):
        status = squash.cli.main.main([str(word) for word in words])
        captured = capsys.readouterr()
        return Done(status, captured.out, captured.err)

    return run_command


@pytest.fixture
def papers(run, face):
    """An index of three records of dimension 2."""
    assert run("create", "papers", "--dimension", 2, "--metric", "euclidean").status == 0
    index = face.indexes["papers"]
    import numpy as np

    index.put(
        keys=["a", "b", "c"],
        vectors=np.array([[0, 0], [1, 0], [0, 3]], dtype=np.float32),
        metadata=[{"year": 2019}, {"year": 2020}, {"year": 2021, "tags": ["x"]}],
    )
    return index
