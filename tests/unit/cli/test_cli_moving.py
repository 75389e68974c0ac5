"""Copies between an index here and one behind a live server: whole, resumed, disturbed."""

from __future__ import annotations

import json

import numpy as np
import pytest
from cli_moving_world import PLACE, small
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moving_server import contents
from strategies import metadata_rows


def test_an_index_goes_out_and_comes_back(world):
    """Made at the other side, too, with all that its settings are there."""
    index = world.ours(50, non_filterable=["text"])
    small(world)
    status, told = world.run("export", "papers", PLACE, "--create", threads=3)
    assert (status, told["rows"], told["check"]["same"]) == (0, 50, True)
    assert contents(world.copied()) == contents(index)
    assert world.copied().config.non_filterable == ("text",)
    status, told = world.run("import", "media/again", PLACE, "--create")
    assert (status, told["rows"], told["check"]["same"]) == (0, 50, True)
    again = world.database.index("media/again")
    assert contents(again) == contents(index)
    assert (again.config.dimension, again.config.non_filterable) == (3, ("text",))
    assert list(world.folder.iterdir()) == []


@settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    data=st.data(),
    rows=metadata_rows(max_size=12),
    dimension=st.sampled_from([1, 3, 17]),
    put=st.integers(1, 5),
)
def test_records_go_out_and_come_back_to_the_bit(world, data, rows, dimension, put):
    """Any float32, any mixture of metadata, whatever the batches."""
    world.renew()
    if any(world.cloud.database.vector_buckets.names()):
        world.cloud.database.drop_index("media/papers")
    values = st.floats(-(2.0**49), 2.0**49, width=32)
    numbers = data.draw(
        st.lists(values, min_size=len(rows) * dimension, max_size=len(rows) * dimension)
    )
    index = world.ours(0, dimension=dimension)
    index.put(
        keys=[f'k"{row}\n€' for row in range(len(rows))],
        vectors=np.array(numbers, np.float32).reshape(len(rows), dimension),
        metadata=rows,
    )
    small(world, put=put, page=put, batch=put)
    assert world.run("export", "papers", PLACE, "--create")[0] == 0
    status, told = world.run("import", "back", PLACE, "--create")
    assert (status, told["check"]["same"], told["check"]["sampled"]) == (0, True, len(rows))
    assert contents(world.database.index("back")) == contents(index)


@pytest.mark.parametrize("direction", ["import", "export"])
def test_a_copy_goes_on_where_it_was_stopped(world, direction):
    """Stopped at every request in turn, it loses nothing and begins nothing anew."""
    (world.theirs if direction == "import" else world.ours)(40)
    small(world, put=4)
    moving = "/ListVectors" if direction == "import" else "/PutVectors"
    stops = 0
    for stop in range(1, 30):
        world.cloud.asked.clear()

        def rule(path, members, number, stop=stop):
            if path != moving or (direction == "import" and "returnData" not in members):
                return None
            seen = world.cloud.paths()[:number].count(moving)
            return (403, "AccessDeniedException", "no") if seen > stop else None

        world.cloud.rule = rule
        status, told = world.run(direction, "papers", PLACE, "--create")
        if status == 0:
            break
        stops += 1
        assert told["type"] == "urn:squash:permission-denied"
        # The first run did not even end a commit; what it says is what the next goes on with.
        state = list(world.folder.iterdir())
        assert ("goes on from there" in told["detail"]) == bool(state)
    assert stops >= 3
    assert told["check"]["same"]
    assert told["rows"] == 40
    assert contents(world.copied()) == contents(world.database.index("papers"))
    assert list(world.folder.iterdir()) == []


def test_a_resumed_import_reads_no_page_twice_that_is_durable(world):
    world.theirs(40)
    small(world, page=10)
    world.cloud.rule = lambda path, members, number: (
        (403, "AccessDeniedException", "no") if world.cloud.paths().count("/ListVectors") > 3
        else None
    )  # fmt: skip
    assert world.run("import", "papers", PLACE, "--create", "--no-check")[0] == 1
    assert world.database.index("papers").stats().rows == 30
    world.cloud.rule = lambda path, members, number: None
    world.cloud.asked.clear()
    status, told = world.run("import", "papers", PLACE, "--no-check")
    assert (status, told["rows"]) == (0, 40)
    assert world.cloud.paths().count("/ListVectors") == 1


def test_a_token_that_has_expired_begins_the_segment_again(world):
    """The records are put again, and are as many as they were."""
    world.theirs(40)
    small(world)
    expired = []

    def rule(path, members, number):
        token = members.get("nextToken")
        if token and members.get("returnData") and number % 5 == 0 and len(expired) < 2:
            expired.append(token)
            return 400, "ValidationException", "Invalid next token"
        return None

    world.cloud.rule = rule
    status, told = world.run("import", "papers", PLACE, "--create")
    assert expired
    assert (status, told["rows"], told["check"]["same"]) == (0, 40, True)


def test_a_service_that_takes_no_token_is_given_up(world):
    world.theirs(40)
    small(world)
    world.cloud.rule = lambda path, members, number: (
        (400, "ValidationException", "Invalid next token") if members.get("nextToken") else None
    )
    status, told = world.run("import", "papers", PLACE, "--create")
    assert (status, told["type"]) == (1, "urn:squash:invalid-argument")
    assert "Invalid next token" in told["detail"]


@pytest.mark.parametrize("direction", ["import", "export"])
@pytest.mark.parametrize(
    ("status", "code"),
    [(429, "TooManyRequestsException"), (503, "ServiceUnavailableException"), (500, "")],
)
def test_what_is_throttled_or_fails_for_a_moment_is_asked_again(world, direction, status, code):
    """Nothing of it is lost: the check compares every key."""
    (world.theirs if direction == "import" else world.ours)(40)
    small(world)
    world.cloud.rule = lambda path, members, number: (
        (status, code, "slow down") if number % (9 if status == 429 else 4) == 0 else None
    )
    done, told = world.run(direction, "papers", PLACE, "--create")
    assert (done, told["rows"], told["check"]["same"]) == (0, 40, True)


def test_batches_are_halved_until_they_are_taken(world):
    """As the gateway before a deployment says it, and only until the size is known."""
    world.ours(60, dimension=32)
    small(world, put=30)
    refused = []

    def rule(path, members, number):
        if path == "/PutVectors" and len(json.dumps(members)) > 5_000:
            refused.append(number)
            return 413, "", "Request Entity Too Large"
        return None

    world.cloud.rule = rule
    status, told = world.run("export", "papers", PLACE, "--create", threads=1)
    assert (status, told["rows"], told["check"]["same"]) == (0, 60, True)
    assert 1 <= len(refused) <= 6


def test_a_page_that_is_too_large_is_asked_for_with_fewer_records(world):
    world.theirs(40)
    small(world, page=16)
    world.cloud.rule = lambda path, members, number: (
        (413, "RequestTooLargeException", "ask for less")
        if members.get("maxResults", 0) > 4 or len(members.get("keys", [])) > 30
        else None
    )
    status, told = world.run("import", "papers", PLACE, "--create")
    assert (status, told["rows"], told["check"]["same"]) == (0, 40, True)


def test_records_that_the_target_refuses_are_named_and_counted(world):
    """None is dropped unless so many are allowed, and never without being named."""
    world.ours(20)
    small(world)

    def rule(path, members, number):
        keys = [one["key"] for one in members.get("vectors", [])]
        bad = [key for key in keys if key in {"k3", "k11"}]
        return (400, "ValidationException", f"Invalid record for key '{bad[0]}'") if bad else None

    world.cloud.rule = rule
    status, told = world.run("export", "papers", PLACE, "--create")
    assert (status, told["type"]) == (1, "urn:squash:invalid-argument")
    assert told["key"] in {"k3", "k11"}
    assert "--bad-rows" in told["detail"]
    assert world.run("export", "papers", PLACE, "--bad-rows", 1)[0] == 1
    status, told = world.run("export", "papers", PLACE, "--bad-rows", 2)
    assert (status, told["rows"]) == (0, 18)
    assert sorted(row["key"] for row in told["bad_rows"]) == ["k11", "k3"]
    assert all("Invalid record" in row["why"] for row in told["bad_rows"])
    assert told["check"]["same"]
    assert world.copied().stats().rows == 18


def test_records_that_we_refuse_are_named_and_counted(world):
    """Found by our own rules before anything is written, each with its reason."""
    theirs = world.theirs(20, non_filterable=["lists", "n" * 63])
    theirs.put(
        keys=["long", "nested"],
        vectors=np.ones((2, 3), np.float32),
        metadata=[{"lists": list(range(300))}, {"lists": {"a": 1}}],
    )
    world.ours(0)  # where every key can be filtered by
    small(world)
    status, told = world.run("import", "papers", PLACE, "--bad-rows", 1)
    assert (status, told["type"]) == (1, "urn:squash:invalid-argument")
    status, told = world.run("import", "papers", PLACE, "--bad-rows", 2)
    assert (status, told["rows"], told["check"]["same"]) == (0, 20, True)
    why = {row["key"]: row["why"] for row in told["bad_rows"]}
    assert "256" in why["long"]
    assert "filterable" in why["nested"]


def test_another_source_of_the_same_name_is_refused(world):
    """An index that was made anew is another; --restart takes it."""
    world.theirs(40)
    small(world)
    world.cloud.rule = lambda path, members, number: (
        (403, "AccessDeniedException", "no") if world.cloud.paths().count("/ListVectors") > 3
        else None
    )  # fmt: skip
    assert world.run("import", "papers", PLACE, "--create")[0] == 1
    world.cloud.rule = lambda path, members, number: None
    world.cloud.database.drop_index("media/papers")
    world.theirs(8)
    status, told = world.run("import", "papers", PLACE)
    assert (status, told["type"]) == (1, "urn:squash:conflict")
    assert "its source has created" in told["detail"]
    status, told = world.run("import", "papers", PLACE, "--restart")
    # What the first source had besides is still there, and the check says so.
    assert (status, told["rows"], told["check"]["same"]) == (1, 8, False)
    assert told["check"]["only_in_target"] > 0


def test_what_was_written_meanwhile_is_told(world):
    index = world.ours(40)
    small(world)
    written = []

    def rule(path, members, number):
        if path == "/PutVectors" and not written:
            written.append(index.put(keys=["late"], vectors=[[1, 2, 3]]))

    world.cloud.rule = rule
    status, told = world.run("export", "papers", PLACE, "--create")
    assert (status, told["rows"], told["commits_since"]) == (0, 40, 1)
    assert told["check"]["same"]  # as the snapshot that was read
    status, told = world.run("export", "papers", PLACE, "--check-only")
    assert (status, told["check"]["only_in_source_keys"]) == (1, ["late"])
