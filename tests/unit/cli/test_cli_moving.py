"""Copies between an index here and one behind a live server: whole, resumed, checked."""

from __future__ import annotations

import json
from uuid import uuid4

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import squash
from moving_server import contents, serving
from squash import errors
from squash.cli.main import main
from strategies import metadata_rows

PLACE = "s3vectors://media/papers"


@pytest.fixture(scope="module")
def service():
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
    return World(cloud, monkeypatch, tmp_path, capsys)


class World:
    def __init__(self, cloud, monkeypatch, folder, capsys):
        self.cloud = cloud
        self.folder = folder
        self.patch = monkeypatch
        self.capsys = capsys
        monkeypatch.chdir(folder)
        self.renew()

    def renew(self):
        location = f"memory://{uuid4().hex}"
        self.patch.setenv("SQUASH_STORE", location)
        self.database = squash.connect(location)

    def run(self, *words, threads=1):
        self.capsys.readouterr()
        more = ("--service-url", self.cloud.url, "--json", "--parallel", str(threads))
        status = main([*map(str, words), *more])
        captured = self.capsys.readouterr()
        return status, json.loads(captured.out or captured.err)

    def theirs(self, rows, *, dimension=3, metric="euclidean", non_filterable=()):
        """Make the index of the service, of so many records."""
        buckets = self.cloud.database.vector_buckets
        if "media" not in list(buckets.names()):
            from squash.index.buckets import BucketSettings

            buckets.create("media", BucketSettings())
        index = self.cloud.database.create_index(
            "media/papers", dimension=dimension, metric=metric, non_filterable=non_filterable
        )
        return fill(index, rows)

    def ours(self, rows, *, dimension=3, metric="euclidean", name="papers", non_filterable=()):
        index = self.database.create_index(
            name, dimension=dimension, metric=metric, non_filterable=non_filterable
        )
        return fill(index, rows)

    def copied(self):
        return self.cloud.database.index("media/papers")


def fill(index, rows):
    if rows:
        rng = np.random.default_rng(rows)
        index.put(
            keys=[f"k{row}" for row in range(rows)],
            vectors=rng.normal(size=(rows, index.config.dimension)).astype(np.float32),
            metadata=[{"n": row, "even": row % 2 == 0} if row % 3 else {} for row in range(rows)],
        )
    return index


def small(world, *, put=7, page=5, batch=10):
    """Let there be many requests and commits of few records."""
    world.patch.setattr("squash.cli.moving.exporting.SERVICE_PUT_MAX", put)
    world.patch.setattr("squash.cli.moving.reading.SERVICE_LIST_PAGE_MAX", page)
    world.patch.setattr("squash.cli.moving.importing.MOVE_BATCH_ROWS_MAX", batch)


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
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
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


@pytest.mark.parametrize("direction", ["import", "export"])
def test_a_check_finds_every_kind_of_difference(world, direction):
    """A vector's last bit, a value's type, a key more or less on either side."""
    ours, theirs = world.ours(30), world.theirs(30)
    assert world.run(direction, "papers", PLACE, "--check-only")[0] == 0
    vectors = np.array([one.vector for one in ours.get(keys=["k4", "k7"])])
    metadata = [one.metadata for one in ours.get(keys=["k4", "k7"])]
    vectors[0, 1] = np.nextafter(vectors[0, 1], np.float32(9))
    metadata[1] = dict(metadata[1]) | {"even": 0}
    theirs.put(keys=["k4", "k7", "new"], vectors=[*vectors, [1, 1, 1]], metadata=[*metadata, {}])
    theirs.delete(keys=["k5"])
    status, told = world.run(direction, "papers", PLACE, "--check-only")
    found = told["check"]
    assert (status, found["same"]) == (1, False)
    assert {"k4", "k7"} <= set(found["differing_keys"]) <= {"k4", "k7", "k5", "new"}
    ours_only, theirs_only = found["only_in_source_keys"], found["only_in_target_keys"]
    if direction == "import":
        ours_only, theirs_only = theirs_only, ours_only
    assert (ours_only, theirs_only) == (["k5"], ["new"])
    assert "rows" not in told


@pytest.mark.parametrize(
    ("settings_", "words"),
    [({"dimension": 4}, "dimension 4"), ({"metric": "cosine"}, "metric cosine")],
)
def test_indexes_that_cannot_hold_the_same_are_refused_before_anything_moves(
    world, settings_, words
):
    world.ours(5)
    world.theirs(5, **settings_)
    for direction in ("import", "export"):
        status, told = world.run(direction, "papers", PLACE)
        assert (status, told["type"]) == (1, "urn:squash:invalid-argument")
        assert words in told["detail"]
    assert "/PutVectors" not in world.cloud.paths()
    assert "/ListVectors" not in world.cloud.paths()


def test_the_metric_dot_is_refused_with_its_reason(world):
    world.ours(5, metric="dot")
    status, told = world.run("export", "papers", PLACE, "--create")
    assert (status, told["type"]) == (1, "urn:squash:invalid-argument")
    assert "metric dot" in told["detail"]
    assert world.cloud.asked == []


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (("import", "papers", PLACE), "not-found"),
        (("export", "papers", PLACE), "not-found"),
        (("import", "papers", PLACE, "--state", "/no/such/folder/x"), "failed"),
    ],
)
def test_what_is_not_there_is_said(world, words, kind):
    world.ours(1)
    if kind == "failed":
        world.theirs(1)
    status, told = world.run(*words)
    assert (status, told["type"]) == (1, f"urn:squash:{kind}")


def test_a_file_that_keeps_no_state_is_refused(world):
    world.ours(1)
    world.theirs(1)
    for text in ("", "[]", "{}", '{"format": "squash-move", "version": 2}', "\0"):
        (world.folder / "s.json").write_text(text)
        status, told = world.run("import", "papers", PLACE, "--state", "s.json")
        assert (status, told["type"]) == (1, "urn:squash:damaged-data"), text
    assert world.run("import", "papers", PLACE, "--state", "s.json", "--restart")[0] == 0


def test_an_index_with_an_encoder_wants_to_know_whose_vectors_come(world, tmp_path):
    from tiny_encoders import make_text_encoder

    make_text_encoder(tmp_path / "encoder", name="tiny")
    world.patch.setenv("SQUASH_ENCODER_CACHE", str(tmp_path / "cache"))
    world.database.encoders.add(tmp_path / "encoder")
    index = world.database.create_index("papers", encoder="tiny")
    world.theirs(5, dimension=index.config.dimension, metric=str(index.config.metric))
    status, told = world.run("import", "papers", PLACE)
    assert (status, told["type"]) == (1, "urn:squash:invalid-argument")
    assert "--encoder" in told["detail"]
    assert world.run("import", "papers", PLACE, "--encoder", "tiny")[0] == 0


def test_older_snapshots_and_filters_are_copied_alone(world):
    index = world.ours(20)
    before = index.stats().snapshot
    index.put(keys=["late"], vectors=[[1, 2, 3]])
    words = ("--as-of", before, "--filter", '{"even": true}')
    status, told = world.run("export", "papers", PLACE, "--create", *words)
    assert (status, told["check"]["same"]) == (0, True)
    keys = {key for key, (_, metadata) in contents(index).items() if '"even": true' in metadata}
    assert set(contents(world.copied())) == keys
    assert told["rows"] == len(keys)


def test_people_are_told_what_was_done(world, capsys):
    world.ours(20)
    assert main(["export", "papers", PLACE, "--create", "--service-url", world.cloud.url,
                 "--parallel", "1"]) == 0  # fmt: skip
    captured = capsys.readouterr()
    assert captured.out == (
        f"Moved 20 records from papers to {PLACE}.\n"
        f"Checked: 20 keys in papers, 20 in {PLACE}, 20 records compared whole.\n"
        "They are the same.\n"
    )
    world.copied().delete(keys=["k1"])
    assert main(["export", "papers", PLACE, "--check-only", "--service-url", world.cloud.url,
                 "--parallel", "1"]) == 1  # fmt: skip
    assert "Only in papers: 1 key, as k1." in capsys.readouterr().out


def test_without_vectors_nothing_can_be_put(world):
    world.ours(1)
    assert world.run("export", "papers", PLACE, "--no-vectors")[0] == 2


def test_the_error_of_a_service_that_is_not_there_names_it(world, monkeypatch):
    world.ours(1)
    monkeypatch.setattr("squash.cli.moving.service.MOVE_ATTEMPTS_MAX", 1)
    world.cloud = type("Nowhere", (), {"url": "http://127.0.0.1:9"})()
    status, told = world.run("export", "papers", PLACE)
    assert (status, told["type"]) == (1, "urn:squash:unavailable")
    assert "127.0.0.1:9" in told["detail"]


def test_errors_are_ours():
    """So that the command words them like all others."""
    from squash.cli.moving import service

    assert issubclass(service.RefusedError, errors.InvalidArgumentError)
    assert issubclass(service.ServiceTooLargeError, errors.TooLargeError)
