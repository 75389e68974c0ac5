"""A short soak: many clients ask and write, much goes wrong, and nothing is answered wrongly."""

from __future__ import annotations

import pytest

from deployed import deployed
from disturbing import Disturbance, soak
from soaking import Load


@pytest.fixture
def place(artefacts, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, "local")
    with deployed(
        build=artefacts.folder,
        environment={"SQUASH_SHAPE": "fan-out"},
        parameters={"Slots": "3"},
        s3_memory=True,
        s3_proxy=True,
    ) as place:
        yield place


def test_every_answer_is_right_and_no_write_is_lost_whatever_fails(place):
    """`bench/soak.py` does the same for as long as one likes."""
    load = Load("soak", 16, queries=300, readers=2, writers=1, writes=40)
    disturbance = Disturbance(seconds=30, kill_every_s=1.5, fold_every_s=8)
    soaked = soak(place, load, disturbance, rows=4_000)
    record, verdict = soaked.record, soaked.verdict
    assert verdict.wrong == []
    assert verdict.lost == []
    assert record.unexpected == []
    assert record.given_up == []
    assert verdict.answers == len(record.asked) > 0
    assert record.written
    assert sum(soaked.killed.values()) > 0
