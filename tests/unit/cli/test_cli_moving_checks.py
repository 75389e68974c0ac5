"""What compares two sides, keeps how far a copy is, and tells it: each by itself."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from squash.cli.moving.checking import Side, check
from squash.cli.moving.ledger import Meter
from squash.cli.moving.records import (
    BadRow,
)
from squash.cli.moving.state import MoveState, SegmentState, StateFile
from squash.cli.service_index import ServiceIndex, file_or_index
from squash.errors import ConflictError, DataError

# Checking


def side(records):
    def pages():
        keys = list(records)
        for start in range(0, len(keys), 3):
            yield keys[start : start + 3]

    def fetch(keys):
        return {key: records[key] for key in keys if key in records}

    return Side(pages, fetch)


VALUES = st.tuples(st.sampled_from([1.0, 2.0]), st.sampled_from([{}, {"a": 1}, {"a": True}]))


@settings(deadline=None)
@given(
    st.dictionaries(st.text("abc", max_size=3), VALUES, max_size=12),
    st.dictionaries(st.text("abc", max_size=3), VALUES, max_size=12),
    st.sets(st.text("abc", max_size=1), max_size=2),
)
def test_a_check_says_what_two_dicts_would(left, right, left_out):
    def records(values):
        return {k: (np.array([v], np.float32), m) for k, (v, m) in values.items()}

    found = check(side(records(left)), side(records(right)), left_out=left_out, sample=99, salt="s")
    wanted = {key: value for key, value in left.items() if key not in left_out}
    assert (found.source_rows, found.target_rows) == (len(wanted), len(right))
    assert found.only_in_source == len(wanted.keys() - right.keys())
    assert found.only_in_target == len(right.keys() - wanted.keys())
    assert found.sampled == len(wanted)
    differing = {k for k in wanted if k not in right or repr(wanted[k]) != repr(right[k])}
    assert set(found.differing_keys) == differing
    assert found.same == (repr(sorted(wanted.items())) == repr(sorted(right.items())))


def test_differences_that_are_too_many_are_not_held(monkeypatch):
    monkeypatch.setattr("squash.cli.moving.checking.MOVE_DIFFERENCES_KEYS_MAX", 10)
    one = np.zeros(1, np.float32), {}
    left = {f"k{n}": one for n in range(30)}
    found = check(side(left), side({}), left_out=(), sample=0, salt="s")
    assert (found.only_in_source, found.same) == (None, False)


def test_a_key_that_is_listed_twice_is_a_difference():
    one = np.zeros(1, np.float32), {}

    def twice():
        yield ["a", "a"]

    source = side({"a": one})
    found = check(source, Side(twice, source.fetch), left_out=(), sample=9, salt="")
    assert not found.same


def test_samples_are_of_their_size_and_others_each_time():
    one = np.zeros(1, np.float32), {}
    records = {f"k{n}": one for n in range(500)}
    asked = []

    def spying(keys):
        asked.append(tuple(keys))
        return {key: records[key] for key in keys}

    for salt in "abc":
        found = check(
            side(records), Side(side(records).key_pages, spying), left_out=(), sample=20, salt=salt
        )
        assert (found.sampled, found.same) == (20, True)
    assert len(set(asked)) == 3
    assert len(set().union(*asked)) > 40


# The state


STATE = MoveState(
    {"index": "a", "created": 1.5}, {"index": "b"}, segments=[SegmentState("t", 3)],
    snapshot=7, rows=2, digest="d", bad_rows=[BadRow("k", "why")],
)  # fmt: skip


def test_a_state_is_read_back_as_it_was(tmp_path):
    file = StateFile(tmp_path / "s.json")
    assert file.load({"a": 1}, {"b": 2}) == MoveState({"a": 1}, {"b": 2})
    file.save(STATE)
    assert asdict(file.load(STATE.source, STATE.target)) == asdict(STATE)
    assert [one.name for one in tmp_path.iterdir()] == ["s.json"]
    file.remove()
    assert list(tmp_path.iterdir()) == []
    file.remove()


@pytest.mark.parametrize("what", ["source", "target"])
@pytest.mark.parametrize("other", [{"index": "z"}, {}, {"index": "a", "more": None}])
def test_a_state_of_another_copy_is_refused(tmp_path, what, other):
    file = StateFile(tmp_path / "s.json")
    file.save(STATE)
    sides = {"source": STATE.source, "target": STATE.target} | {what: other}
    if other.get("more", 1) is None:
        sides[what] = dict(getattr(STATE, what)) | {"more": 1}
    with pytest.raises(ConflictError, match=what):
        file.load(sides["source"], sides["target"])


@given(st.integers(0, 400))
@settings(deadline=None)
def test_a_state_that_is_cut_off_is_refused(tmp_path_factory, length):
    path = tmp_path_factory.mktemp("state") / "s.json"
    StateFile(path).save(STATE)
    whole = path.read_text()
    path.write_text(whole[: min(length, len(whole) - 1)])
    with pytest.raises(DataError, match="--restart"):
        StateFile(path).load(STATE.source, STATE.target)


# Names, and what is told


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("s3vectors://media/papers", ServiceIndex("media", "papers")),
        (
            "arn:aws:s3vectors:eu-west-1:123456789012:bucket/media/index/papers.v2",
            ServiceIndex("media", "papers.v2", "eu-west-1"),
        ),
    ],
)
def test_an_index_of_the_service_is_named_by_url_or_arn(text, place):
    assert file_or_index(text) == place


@pytest.mark.parametrize(
    "text",
    [
        "s3vectors://media", "s3vectors://media/", "s3vectors:///papers", "s3vectors://me/papers",
        "s3vectors://media/papers/more", "s3vectors://Media/papers", "arn:aws:s3:::media",
        "arn:aws:s3vectors:eu-west-1:123456789012:bucket/media",
    ],
)  # fmt: skip
def test_what_names_no_index_is_a_usage_error(text, capsys):
    from squash.cli.main import main

    assert main(["import", "papers", text]) == 2
    assert main(["export", "papers", text]) == 2
    assert "names no index of S3 Vectors" in capsys.readouterr().err


def test_the_meter_tells_the_rate_and_what_is_left():
    class Clock:
        now = 0

        def now_ms(self):
            return self.now

        def sleep(self, seconds):
            raise AssertionError

    clock, told = Clock(), []
    meter = Meter(told.append, clock, done=100, total=4_100)
    clock.now = 10_000
    meter.moved(1_100)
    assert (told[-1].done, told[-1].total) == (1_100, 4_100)
    assert told[-1].unit == "records, 100 a second, 30 s left"
    clock.now = 1_000_000
    meter.moved(1_200)
    assert told[-1].unit.endswith("44 min left")
    unknown = Meter(told.append, clock, done=0)
    clock.now += 1_000
    unknown.moved(50)
    assert (told[-1].total, told[-1].unit) == (0, "records, 50 a second")
