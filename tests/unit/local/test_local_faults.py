"""Faults befall calls by their share and seed, each on its own."""

from __future__ import annotations

import json

import pytest

from squash.errors import InvalidArgumentError, NotFoundError
from squash.local.faults import Fault, FaultKind, Faults, parse_faults, read_faults


def draws(faults, *, calls=200, name="search", s3=False):
    kept = Faults(faults)
    return [set(kept.befall(name, s3=s3)) for _ in range(calls)]


def test_the_same_seed_befalls_the_same_calls_whatever_else_is_wrong():
    kill = Fault(FaultKind.KILL, share=0.3, seed=7)
    alone = [FaultKind.KILL in one for one in draws([kill])]
    beside = [
        FaultKind.KILL in one for one in draws([Fault(FaultKind.DELAY, share=0.5, seed=1), kill])
    ]
    assert alone == beside
    assert 30 < sum(alone) < 90
    other = [FaultKind.KILL in one for one in draws([Fault(FaultKind.KILL, share=0.3, seed=8)])]
    assert other != alone


def test_a_fault_befalls_what_its_pattern_names_and_is_over_after_its_count():
    fault = Fault(FaultKind.DROP, target="sea*", count=2)
    assert draws([fault], calls=3) == [{FaultKind.DROP}, {FaultKind.DROP}, set()]
    assert draws([fault], calls=3, name="other") == [set()] * 3
    assert draws([fault], calls=3, s3=True) == [set()] * 3
    kept = Faults([fault])
    kept.befall("search")
    assert kept.in_force == [fault]
    kept.befall("search")
    assert kept.in_force == []


@pytest.mark.parametrize(
    "item",
    [
        {}, {"kind": "explode"}, {"kind": "kill", "sharee": 1}, {"kind": "kill", "share": 1.5},
        {"kind": "kill", "share": True}, {"kind": "kill", "share": "1"},
        {"kind": "kill", "share": float("nan")}, {"kind": "delay", "delay_ms": 10**400},
        {"kind": "kill", "seed": -1},
        {"kind": "drop", "count": 1.5}, {"kind": "drop", "delay_ms": 5},
        {"kind": "drop", "target": 1},
        "kill",
    ],
)  # fmt: skip
def test_what_is_no_fault_is_refused(item):
    with pytest.raises(InvalidArgumentError, match=r"faults\[0\]"):
        parse_faults([item])


def test_a_file_of_faults_is_read(tmp_path):
    path = tmp_path / "faults.json"
    path.write_text(json.dumps([{"kind": "s3-delay", "delay_ms": 20, "share": 0.1, "seed": 3}]))
    assert read_faults(path) == (Fault(FaultKind.S3_DELAY, share=0.1, seed=3, delay_ms=20),)
    path.write_text("[")
    with pytest.raises(InvalidArgumentError):
        read_faults(path)
    with pytest.raises(NotFoundError):
        read_faults(tmp_path / "none.json")
    with pytest.raises(InvalidArgumentError):
        parse_faults({"kind": "kill"})
