"""Builds of one index: what is asked of them, what is refused, what is left when they end."""

import dataclasses
import json
import signal

import numpy as np
import pytest

import squash
from bulk_files import BUILD, DIMENSION, SIZES, built, reports, vectors, write_npy, write_parquet
from squash.clock import SystemIds
from squash.errors import (
    BuildStoppedError,
    ConflictError,
    DataError,
    InvalidArgumentError,
    NotFoundError,
    UnavailableError,
    UnsupportedFormatError,
)
from squash.maintain.bulk.drive import duration, run_patiently
from squash.maintain.bulk.records import read_request
from squash.maintain.bulk.request import InputColumns, Limits
from squash.maintain.bulk.stages import Stage, Task
from squash.runtime.build_requests import Runner
from squash.runtime.building import _bucket_of, _place
from squash.runtime.settings import Settings, StorePlace

MACHINE = "arn:aws:states:eu-west-1:123456789012:stateMachine:Build"


@pytest.fixture
def database():
    return squash.connect(f"memory://{SystemIds().new_id()}")


@pytest.fixture
def index(database):
    return database.create_index("papers", dimension=DIMENSION)


def test_a_build_gives_what_putting_and_optimizing_gives(database, index, tmp_path):
    url = write_npy(tmp_path / "in", 700, 500)
    steps = []
    status = index.build([url], sizes=SIZES, progress=steps.append, build=BUILD)
    assert (status.state, status.rows, status.bad, status.build) == ("published", 1200, 0, BUILD)
    assert status.snapshot == index.stats().snapshot
    assert [one.build for one in index.builds()] == [BUILD]
    rows = np.concatenate([vectors(700, 0), vectors(500, 1)])
    other = database.create_index("other", dimension=DIMENSION)
    other.put(keys=[str(row) for row in range(len(rows))], vectors=rows)
    other.optimize(full=True)
    for query in vectors(5, 9):
        mine = index.query(query, top_k=7, exact=True).matches
        theirs = other.query(query, top_k=7, exact=True).matches
        assert [one.key for one in mine] == [one.key for one in theirs]
    stages = {step.stage for step in steps}
    assert {"plan", "sample", "train", "assign", "assemble", "calibrate", "publish"} <= stages
    last = {step.stage: step for step in steps}
    assert all(step.done == step.total and step.unit == "tasks" for step in last.values())
    assert last["assign"].note == "1,200 rows"


def test_the_same_call_with_the_same_id_builds_once(database, index, tmp_path):
    url = write_npy(tmp_path / "in", 400)
    first = index.build([url], sizes=SIZES, build=BUILD)
    again = index.build([url], sizes=SIZES, build=BUILD)
    assert again.snapshot == first.snapshot
    assert [one.operation for one in index.snapshots()] == ["build", "fold"]  # it claims first
    with pytest.raises(ConflictError, match="asked for something else"):
        index.build([url], build=BUILD)


def test_what_cannot_be_asked_for_is_refused_before_anything_is_written(database, index, tmp_path):
    before = [info.key for info in database.store.list("")]
    url = write_npy(tmp_path / "in", 4)
    wrong = [
        ({"inputs": []}, "inputs"),
        ({"inputs": url}, "inputs"),
        ({"inputs": [str(tmp_path)]}, "inputs[0]"),
        ({"inputs": [url], "columns": {"image": "a"}}, "columns"),
        ({"inputs": [url], "columns": {"key": ""}}, "columns.key"),
        ({"inputs": [url], "columns": {"text": "a", "vector": "b"}}, "columns.text"),
        ({"inputs": [url], "columns": {"text": "a"}}, "texts"),
        ({"inputs": [url], "encoder": "mini"}, "encoder"),
        ({"inputs": [url], "workers": 0}, "workers"),
        ({"inputs": [url], "bad_rows_max": -1}, "bad_rows_max"),
        ({"inputs": [url], "dollars_max": 0}, "dollars_max"),
        ({"inputs": [url], "dollars_max": float("nan")}, "dollars_max"),
        ({"inputs": [url], "build": "papers"}, "build"),
    ]
    for given, field in wrong:
        with pytest.raises(InvalidArgumentError) as caught:
            index.build(given.pop("inputs"), **given)
        assert caught.value.field == field, given
    assert [info.key for info in database.store.list("")] == before


def test_names_that_are_no_unicode(index, tmp_path):
    """Refused before anything is written; of files in a folder they are as good as others."""
    for asked, field in (
        ({"inputs": ["file:///in/\udcff/"]}, "inputs[0]"),
        ({"inputs": ["file:///in/"], "columns": {"key": "\ud800"}}, "columns.key"),
    ):
        with pytest.raises(InvalidArgumentError, match="surrogate") as caught:
            index.build(**asked)
        assert caught.value.field == field
    assert index.optimize().snapshot == 0
    url = write_npy(tmp_path / "in", 30)
    (tmp_path / "in" / "part-00.npy").rename(tmp_path / "in" / "\udcff\u00e9%41.npy")
    assert index.build([url], sizes=SIZES).rows == 30


def test_records_give_way_only_where_that_is_asked_for(index, tmp_path):
    url = write_npy(tmp_path / "in", 400)
    index.put(keys=["a"], vectors=vectors(1))
    with pytest.raises(ConflictError, match="--replace"):
        index.build([url], sizes=SIZES)
    assert index.builds() == []
    status = index.build([url], sizes=SIZES, replace=True)
    assert index.stats().rows == 400
    index.restore(status.before)
    assert [record.key for record in index.get(keys=["a", "7"])] == ["a"]


def test_several_processes_are_refused_where_they_cannot_share_the_index(index, tmp_path):
    url = write_npy(tmp_path / "in", 400)
    with pytest.raises(InvalidArgumentError, match="memory"):
        index.build([url], sizes=SIZES, workers=2, build=BUILD)
    assert index.builds() == []


def test_a_cancelled_build_does_nothing_until_it_is_resumed(database, index, tmp_path):
    url = write_npy(tmp_path / "in", 400)
    builds = index.bulk_builds()
    builds.prepare([url], sizes=SIZES, build_id=BUILD)
    assert index.cancel_build(BUILD).state == "cancelled"
    with pytest.raises(BuildStoppedError, match="cancelled"):
        index.build([url], sizes=SIZES, build=BUILD)
    with pytest.raises(BuildStoppedError):
        builds.run_task(Task("papers", BUILD, Stage.PLAN).to_json())
    assert reports(database.store) == {}
    assert index.resume_build(BUILD).attempt == 2
    for refused in (index.cancel_build, index.resume_build):
        with pytest.raises(ConflictError, match="published"):
            refused(BUILD)


@pytest.mark.parametrize("error", [None, KeyboardInterrupt(), UnavailableError("no")])
def test_an_attempt_that_was_resumed_elsewhere_goes_no_further(database, index, tmp_path, error):
    """However it ends, that is not taken for the end of the one that goes on."""
    url = write_npy(tmp_path / "in", 700)
    elsewhere = database.index("papers").bulk_builds()

    def resume(step):
        if step.stage == "train" and not step.done:
            elsewhere.cancel(BUILD)
            elsewhere.resume(BUILD)
            if error is not None:
                raise error

    with pytest.raises(BuildStoppedError if error is None else type(error)) as caught:
        index.build([url], sizes=SIZES, build=BUILD, progress=resume)
    assert error is not None or "was resumed" in str(caught.value)
    # An execution of the state machine, which tells its name, is told the same.
    old = {"index": "papers", "build": BUILD, "execution": f"{BUILD}-1"}
    with pytest.raises(BuildStoppedError, match="was resumed"):
        elsewhere.open_stage(old | {"open": "plan"})
    elsewhere.note_failure(old | {"failed": {"stage": "plan", "error": "X", "cause": "Y"}})
    status = index.build_status(BUILD)
    assert (status.state, status.attempt) == ("running", 2)
    with pytest.raises(ConflictError, match=BUILD):
        index.optimize()
    own = old | {"execution": f"{BUILD}-2"}
    assert elsewhere.open_stage(own | {"open": "plan"})["tasks"] == 0
    elsewhere.note_failure(own | {"failed": {"stage": "plan", "error": "X", "cause": "Y"}})
    assert index.build_status(BUILD).state == "failed"
    assert index.resume_build(BUILD).rows == 700


def test_a_build_that_had_ended_is_cancelled_like_another(index, tmp_path):
    """It is shown cancelled from then on, and why it had ended stays known."""
    index.put(keys=["a"], vectors=vectors(1))
    url = write_parquet(tmp_path / "in", [(["k"], [None])])
    with pytest.raises(BuildStoppedError, match="cannot be kept"):
        index.build([url], sizes=SIZES, build=BUILD, replace=True)
    (why,) = index.build_status(BUILD).problems
    for _ in range(2):
        status = index.cancel_build(BUILD)
        assert (status.state, status.problems) == ("cancelled", (why,))
    assert index.optimize().rows == 1
    assert index.resume_build(BUILD, bad_rows_max=1).state == "published"


def test_a_build_whose_index_is_dropped_is_not_said_to_go_on(database, index, tmp_path):
    url = write_npy(tmp_path / "in", 400)

    def drop(step):
        if step.stage == "train" and not step.done:
            database.drop_index("papers")

    with pytest.raises(NotFoundError) as caught:
        index.build([url], sizes=SIZES, progress=drop)
    (note,) = caught.value.__notes__
    assert "dropped" in note


def test_a_cancelled_build_lets_another_begin(index, tmp_path):
    url = write_npy(tmp_path / "in", 400)
    index.put(keys=["a"], vectors=vectors(1))
    builds = index.bulk_builds()
    builds.prepare([url], sizes=SIZES, build_id=BUILD, replaces=True)
    with pytest.raises(ConflictError, match=BUILD):
        builds.prepare([url], sizes=SIZES, replaces=True)
    index.cancel_build(BUILD)
    assert index.build([url], sizes=SIZES, replace=True).state == "published"


@pytest.mark.parametrize(
    ("change", "error"),
    [({"version": 2}, UnsupportedFormatError), ({"later": 1}, DataError)],
    ids=str,
)
def test_a_newer_releases_build_is_not_gone_on_with_and_can_be_given_up(
    database, index, tmp_path, change, error
):
    """Who went back to this release must not wait for a build that only the newer one can do."""
    url = write_npy(tmp_path / "in", 400)
    index.bulk_builds().prepare([url], sizes=SIZES, build_id=BUILD, replaces=True)
    (key,) = (info.key for info in database.store.list("") if info.key.endswith("/request"))
    database.store.put(key, json.dumps(json.loads(database.store.get(key)) | change).encode())
    for ask in (index.build_status, index.resume_build):
        with pytest.raises(error):
            ask(BUILD)
    assert index.stats().rows == 0
    with pytest.raises(error, match="keeps nobody"):
        index.cancel_build(BUILD)
    assert index.build([url], sizes=SIZES, replace=True).state == "published"


def test_there_is_no_build_of_another_id(index):
    for unknown in (BUILD, "papers", "", "../x", "A" * 32):
        for ask in (index.build_status, index.cancel_build, index.resume_build):
            with pytest.raises(NotFoundError):
                ask(unknown)


def test_bad_rows_stop_a_build_which_goes_on_with_another_limit(database, index, tmp_path):
    rows = vectors(600)
    rows[[5, 77]] = np.nan
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in" / "a.npy", rows)
    url = f"{(tmp_path / 'in').as_uri()}/"
    with pytest.raises(BuildStoppedError, match="cannot be kept"):
        index.build([url], sizes=SIZES, build=BUILD, bad_rows_max=1)
    status = index.build_status(BUILD)
    assert status.state == "stopped"
    assert index.stats().rows == 0
    status = index.resume_build(BUILD, bad_rows_max=2)
    assert (status.state, status.bad, index.stats().rows) == ("published", 2, 598)
    listed = [
        json.loads(line)
        for info in database.store.list("papers/")
        if f"/{status.bad_key}" in info.key
        for line in bytes(database.store.get(info.key)).splitlines()
    ]
    assert [one["row"] for one in listed] == [5, 77]


def test_the_bad_rows_that_stopped_a_build_are_counted(index, tmp_path):
    """Those of the tasks that reported, and of the one that found too many."""
    keys, rows = [f"k{row}" for row in range(1_200)], vectors(1_200)
    bad = {3, 5, 700, 701, 702, 1_100}
    listed = [None if row in bad else one for row, one in enumerate(rows)]
    url = write_parquet(tmp_path / "in", [(keys, listed)], row_group_size=200)
    sizes = dataclasses.replace(SIZES, piece_rows_max=200, batch_bytes=1 << 13)
    with pytest.raises(BuildStoppedError, match="cannot be kept"):
        index.build([url], sizes=sizes, build=BUILD, bad_rows_max=2)
    (status,) = index.builds()
    assert (status.state, status.bad) == ("stopped", 5)
    assert status.bad_key == f"builds/{BUILD}/bad/"
    with pytest.raises(BuildStoppedError, match="6 bad rows"):
        index.resume_build(BUILD, bad_rows_max=5)
    assert index.build_status(BUILD).bad == 6
    assert index.resume_build(BUILD, bad_rows_max=6).bad == 6


def test_a_build_that_failed_before_it_was_planned_keeps_nobody_waiting(index, tmp_path):
    """Others fold and build; if it cannot go on then, that is said at once, not at its end."""
    index.put(keys=["a"], vectors=vectors(1))
    gone = (tmp_path / "gone.npy").as_uri()
    with pytest.raises(NotFoundError, match=r"gone\.npy"):
        index.build([gone], sizes=SIZES, replace=True, build=BUILD)
    assert index.backlog().building is None
    np.save(tmp_path / "gone.npy", vectors(4))
    index.put(keys=["b"], vectors=vectors(1))
    index.optimize()
    with pytest.raises(ConflictError, match="mixed records"):
        index.resume_build(BUILD)
    assert index.backlog().building is None
    assert index.build([gone], sizes=SIZES, replace=True).state == "published"


def test_a_build_that_failed_before_it_was_planned_goes_on(index, tmp_path):
    index.put(keys=["a"], vectors=vectors(1))
    gone = (tmp_path / "gone.npy").as_uri()
    with pytest.raises(NotFoundError):
        index.build([gone], sizes=SIZES, replace=True, build=BUILD)
    index.optimize()
    np.save(tmp_path / "gone.npy", vectors(4))
    index.put(keys=["b"], vectors=vectors(1))
    assert index.resume_build(BUILD).state == "published"
    assert sorted(one.key for one in index.list().records) == ["0", "1", "2", "3", "b"]


def test_a_later_row_of_a_key_replaces_earlier_ones(index, tmp_path):
    rows = vectors(30)
    url = write_parquet(
        tmp_path / "in",
        [(["a", "b", "a"], rows[:3]), (["c", "b"], rows[3:5])],
    )
    status = index.build([url], sizes=SIZES)
    assert (status.rows, status.replaced, index.stats().rows) == (5, 2, 3)
    found = {one.key: one.vector for one in index.get(keys=["a", "b", "c"])}
    assert np.allclose(found["b"], rows[4])
    assert np.allclose(found["a"], rows[2])


def test_an_interruption_is_noted_and_the_build_goes_on_to_the_same_bytes(
    database, index, tmp_path
):
    url = write_npy(tmp_path / "in", 700, 500)

    def interrupt(step):
        if (step.stage, step.done) == ("assign", 2):
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt) as caught:
        index.build([url], sizes=SIZES, build=BUILD, progress=interrupt)
    assert "squash build resume papers" in caught.value.__notes__[-1]
    status = index.build_status(BUILD)
    assert (status.state, status.problems[0].message) == ("stopped", "interrupted")
    assert index.resume_build(BUILD).state == "published"
    other = squash.connect(f"memory://{SystemIds().new_id()}")
    other.create_index("papers", dimension=DIMENSION).build([url], sizes=SIZES, build=BUILD)
    assert built(database.store) == built(other.store)


def test_a_file_that_changed_fails_a_build_and_is_named(index, tmp_path):
    url = write_npy(tmp_path / "in", 400, 300)
    changed = tmp_path / "in" / "part-01.npy"
    before = changed.read_bytes()

    def change(step):
        if (step.stage, step.done) == ("plan", 1):
            np.save(changed, vectors(310, 5))

    with pytest.raises(ConflictError, match=r"part-01.npy has changed"):
        index.build([url], sizes=SIZES, build=BUILD, progress=change)
    status = index.build_status(BUILD)
    assert status.state == "failed"
    assert status.problems[0].input == changed.as_uri()
    assert index.stats().rows == 0
    changed.write_bytes(before)
    with pytest.raises(ConflictError):  # another time of change: it may be another file
        index.resume_build(BUILD)


def test_the_row_of_a_file_that_failed_a_build_is_noted():
    error = InvalidArgumentError("file:///a row 7: no", object_key="file:///a", field="row 7")
    assert _place(error) == ("file:///a", 7)
    assert _place(InvalidArgumentError("no", field="row 7")) == (None, None)
    assert _place(NotFoundError("no", object_key="s3://a/b")) == ("s3://a/b", None)


def test_the_events_of_a_state_machine_bring_a_build_to_its_end(database, index, tmp_path):
    url = write_npy(tmp_path / "in", 700)
    builds = index.bulk_builds()
    builds.prepare([url], sizes=SIZES, build_id=BUILD)
    with pytest.raises(UnavailableError):
        builds.open_stage({"index": "papers", "build": BUILD, "open": "train"})
    stage, seen = "plan", []
    while stage is not None:
        opened = builds.open_stage({"index": "papers", "build": BUILD, "open": stage})
        key = next(one.key for one in database.store.list("") if one.key.endswith(opened["key"]))
        listed = json.loads(bytes(database.store.get(key)))
        assert (len(listed), opened["bucket"]) == (opened["tasks"], "")
        for event in listed:
            done = builds.run_task(event)
            assert (done["stage"], done["batch"]) == (stage, event["batch"])
        assert builds.open_stage({"index": "papers", "build": BUILD, "open": stage})["tasks"] == 0
        seen.append(stage)
        stage = opened["next"]
    assert seen == list(Stage)
    assert index.build_status(BUILD).state == "published"


def test_batches_that_a_stage_does_not_have_are_refused(database, index, tmp_path):
    """And leave nothing: a report of one would count among the stage's own."""
    builds = index.bulk_builds()
    builds.prepare([write_npy(tmp_path / "in", 700)], sizes=SIZES, build_id=BUILD)
    for stage in Stage:
        event = {"index": "papers", "build": BUILD, "open": stage.value}
        tasks = builds.open_stage(event)["tasks"]
        before = reports(database.store)
        for batch in (-1, max(tasks, 1), 10**30):
            with pytest.raises(InvalidArgumentError, match="batches from 0") as caught:
                builds.run_task(Task("papers", BUILD, stage, batch).to_json())
            assert caught.value.field == "batch"
        assert reports(database.store) == before
        for batch in range(tasks):
            builds.run_task(Task("papers", BUILD, stage, batch).to_json())
    assert index.build_status(BUILD).rows == 700


@pytest.mark.parametrize(
    ("location", "found"),
    [("s3://b/a/c", ("b", "a/c/")), ("s3://b/a/", ("b", "a/")), ("s3://b", ("b", "")),
     ("s3://b/", ("b", "")), ("/folder", ("", "")), ("memory://a", ("", ""))],
)  # fmt: skip
def test_items_are_read_by_the_whole_key_of_their_bucket(location, found):
    assert _bucket_of(Settings(place=StorePlace(location))) == found


def test_what_ended_a_state_machine_is_noted_once(index, tmp_path):
    builds = index.bulk_builds()
    builds.prepare([write_npy(tmp_path / "in", 4)], build_id=BUILD)
    cause = json.dumps({"errorMessage": "file s3://a/b has gone", "errorType": "NotFoundError"})
    failed = {"stage": "assign", "batch": 3, "error": "NotFoundError", "cause": cause}
    builds.note_failure({"index": "papers", "build": BUILD, "failed": failed})
    builds.note_failure({"build": BUILD, "failed": {"stage": "", "error": "States.Timeout"}})
    status = index.build_status(BUILD)
    assert status.state == "failed"
    (problem,) = status.problems
    assert (problem.stage, problem.message) == ("assign", "file s3://a/b has gone")


def test_a_state_machine_reads_what_is_in_s3_alone(index, tmp_path):
    builds = index.bulk_builds()
    runner = Runner("states", state_machine=MACHINE)
    with pytest.raises(InvalidArgumentError, match="s3://"):
        builds.prepare([write_npy(tmp_path / "in", 4)], runner=runner)
    builds.prepare(["s3://a/b/"], runner=runner, build_id=BUILD)
    assert builds.attempt(BUILD).execution == (
        f"arn:aws:states:eu-west-1:123456789012:execution:Build:{BUILD}-1"
    )


def test_an_attempt_keeps_the_limits_that_no_other_takes_the_place_of(index, tmp_path):
    builds = index.bulk_builds()
    builds.prepare(
        [write_npy(tmp_path / "in", 4)], build_id=BUILD, limits=Limits(7, 1.5), runner=Runner()
    )
    assert builds.resume(BUILD).limits == Limits(7, 1.5)
    assert builds.resume(BUILD, bad_rows_max=0).limits == Limits(0, 1.5)
    assert builds.resume(BUILD, dollars_max=9.0).limits == Limits(0, 9.0)


def test_a_request_is_what_was_first_asked_for(database, index, tmp_path):
    url = write_npy(tmp_path / "in", 4)
    builds = index.bulk_builds()
    first = builds.prepare([url], build_id=BUILD, columns=InputColumns(key="id"))
    again = builds.prepare([url], build_id=BUILD, columns=InputColumns(key="id"))
    assert again == first
    with pytest.raises(ConflictError):
        builds.prepare([url], build_id=BUILD)
    with builds.context() as context:
        assert read_request(context.store, BUILD) == first


def test_what_a_service_did_not_serve_is_asked_again(index, tmp_path, monkeypatch):
    builds = index.bulk_builds()
    builds.prepare([write_npy(tmp_path / "in", 4)], build_id=BUILD)
    tried, slept = [], []

    def run(context, task):
        tried.append(task)
        raise UnavailableError("nobody there")

    class Clock:
        def now_ms(self):
            return 0

        def sleep(self, seconds):
            slept.append(seconds)

    monkeypatch.setattr("squash.maintain.bulk.drive.run_task", run)
    with builds.context() as context, pytest.raises(UnavailableError):
        run_patiently(
            dataclasses.replace(context, clock=Clock()), Task("papers", BUILD, Stage.PLAN)
        )
    assert (len(tried), len(slept)) == (3, 2)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "120 min"), (7200, "2 h 0 min"),
     (12_000, "3 h 20 min")],
)  # fmt: skip
def test_times_are_told_in_words(seconds, words):
    assert duration(seconds) == words
