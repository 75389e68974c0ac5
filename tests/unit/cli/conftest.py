from __future__ import annotations

import json
from dataclasses import dataclass

import pytest
from cli_fake_face import FakeDatabase
from cli_moving_world import World

import squash.cli.main
from moving_server import serving


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


@pytest.fixture(scope="module")
def service():
    """A live server."""
    with serving() as running:
        yield running


@pytest.fixture
def cloud(service):
    """The server with nothing in it, which lets everything through."""
    buckets = service.database.vector_buckets
    for name in list(buckets.names()):
        for index in list(buckets.index_names(name)):
            service.database.drop_index(f"{name}/{index}")
        buckets.delete(name)
    service.rule = lambda path, members, number: None
    service.asked.clear()
    return service


@pytest.fixture
def world(cloud, monkeypatch, tmp_path, capsys):
    """Run commands on a store of their own, in a folder of their own."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff._MAX_BACKOFF", 0.01)
    # Nor is its rate held down for seconds after it was throttled.
    monkeypatch.setattr("botocore.retries.bucket.TokenBucket.acquire", lambda *_, **__: True)
    return World(cloud, monkeypatch, tmp_path, capsys)
