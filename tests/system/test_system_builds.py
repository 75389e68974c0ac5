"""Builds by real processes: the same bytes whichever way they ran, and whoever was killed."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

import squash
from bulk_files import BUILD, DIMENSION, SIZES, built, reports, vectors, write_npy
from children import descendants_ids
from endpoint import make_bucket, s3_endpoint
from squash.maintain.bulk.stages import STAGES

WORKER = "squash.runtime.build_worker"
PATIENCE_S = 60
ATTEMPTS_MAX = 3


def command(store, *words):
    """Begin the command under test in a process of its own."""
    return subprocess.Popen(  # noqa: S603 - the command under test
        [sys.executable, "-m", "squash.cli.main", *map(str, words), "--store", str(store)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(squash.__file__).parents[1])},
        text=True,
    )


def finished(process):
    """Wait for a command; return its status and what it wrote."""
    out, err = process.communicate(timeout=PATIENCE_S)
    return process.returncode, out, err


def workers_of(process):
    """The numbers of a command's workers."""
    found = []
    for pid in descendants_ids(process.pid):
        with suppress(OSError):
            if WORKER in Path(f"/proc/{pid}/cmdline").read_bytes().decode():
                found.append(pid)
    return found


@contextmanager
def prepared(folder, url, **more):
    """Ask for a build in a folder, and run nothing of it."""
    database = squash.connect(str(folder))
    index = database.create_index("papers", dimension=DIMENSION)
    index.bulk_builds().prepare([url], sizes=SIZES, build_id=BUILD, **more)
    yield database, index


def begun(database, stage):
    """Whether a stage was opened."""
    return any(info.key.endswith(f"/items/{stage}") for info in database.store.list("papers/"))


def wait_until(condition, process=None):
    """Wait until something is so; False if a process ended first."""
    for _ in range(PATIENCE_S * 500):
        if condition():
            return True
        if process is not None and process.poll() is not None:
            return condition()
        time.sleep(0.002)
    raise AssertionError(f"not within {PATIENCE_S} s")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Files, and what a build in one process makes of them."""
    folder = tmp_path_factory.mktemp("undisturbed")
    url = write_npy(folder / "in", 2000, 1500, 1500)
    with prepared(folder / "store", url) as (database, index):
        index.build([url], sizes=SIZES, build=BUILD)
        return url, built(database.store)


def test_builds_by_processes_give_the_same_bytes_as_one_process(undisturbed, tmp_path):
    url, expected = undisturbed
    with prepared(tmp_path / "store", url) as (database, index):
        status = index.build([url], sizes=SIZES, build=BUILD, workers=2)
    assert (status.state, status.rows) == ("published", 5000)
    assert built(database.store) == expected
    assert index.stats().rows == 5000


def test_a_worker_of_builds_that_is_interrupted_while_it_starts_goes_on(undisturbed, tmp_path):
    """Ctrl-C reaches all processes of a terminal; it is for the one that was typed."""
    url, _ = undisturbed
    squash.connect(str(tmp_path)).create_index("papers", dimension=DIMENSION)
    files = url.removeprefix("file://")
    process = command(tmp_path, "import", "papers", files, "--workers", 2)
    interrupted = set()
    while process.poll() is None:
        for pid in workers_of(process):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGINT)
                interrupted.add(pid)
        time.sleep(0.02)
    assert interrupted
    status, _, err = finished(process)
    assert (status, err) == (0, "")


def test_the_workers_of_builds_whose_process_is_killed_end_without_a_word(undisturbed, tmp_path):
    url, _ = undisturbed
    with prepared(tmp_path, url) as (database, _):
        process = command(tmp_path, "build", "resume", "papers", BUILD, "--workers", 2)
        assert wait_until(lambda: begun(database, "assign") and workers_of(process), process)
        process.kill()
        _, _, err = finished(process)  # which is when the last of them has closed it
    assert err == ""


def test_builds_import_answers_as_putting_does(tmp_path):
    rows = [vectors(3000, 0), vectors(2500, 1)]
    write_npy(tmp_path / "in", *map(len, rows))
    database = squash.connect(str(tmp_path / "store"))
    index = database.create_index("papers", dimension=DIMENSION)
    files = [tmp_path / "in" / "part-00.npy", tmp_path / "in" / "part-01.npy"]
    done = command(tmp_path / "store", "import", "papers", *files, "--workers", 2, "--json")
    status, out, err = finished(done)
    assert (status, err) == (0, "")
    document = json.loads(out)
    assert (document["state"], document["rows"], document["bad"]) == ("published", 5500, 0)
    other = database.create_index("other", dimension=DIMENSION)
    every = np.concatenate(rows)
    other.put(keys=[str(row) for row in range(len(every))], vectors=every)
    other.optimize(full=True)
    for query in vectors(8, 9):
        mine, theirs = index.query(query, top_k=9), other.query(query, top_k=9)
        assert [(one.key, one.distance) for one in mine.matches] == [
            (one.key, one.distance) for one in theirs.matches
        ]


@pytest.mark.slow
def test_builds_that_ctrl_c_stops_are_resumed_to_the_same_bytes(undisturbed, tmp_path):
    url, expected = undisturbed
    for number in range(ATTEMPTS_MAX):
        store = tmp_path / f"store-{number}"
        resume = (store, "build", "resume", "papers", BUILD, "--workers", 2)
        with prepared(store, url) as (database, index):
            process = command(*resume)
            assert wait_until(lambda: begun(database, "sample"), process)
            process.send_signal(signal.SIGINT)
            status, _, err = finished(process)
            if status == 0:
                continue  # it was published before the signal came
            assert status == 1
            assert f"squash build resume papers {BUILD}" in err
            assert index.build_status(BUILD).state == "stopped"
            assert index.stats().rows == 0
            status, out, err = finished(command(*resume))
            assert (status, err) == (0, "")
            assert "Published papers" in out
            assert built(database.store) == expected
            return
    pytest.skip("it was published each time before it was stopped")


@pytest.mark.slow
def test_builds_cancelled_by_another_process_stop_and_leave_nothing_published(
    undisturbed, tmp_path
):
    url, _ = undisturbed
    with prepared(tmp_path / "store", url) as (database, index):
        process = command(tmp_path / "store", "build", "resume", "papers", BUILD)
        assert wait_until(lambda: begun(database, "sample"), process)
        index.cancel_build(BUILD)
        status, _, err = finished(process)
        if not index.builds()[0].snapshot:  # else it had been published before
            assert status == 1
            assert "cancelled" in err
            assert index.stats().rows == 0


@pytest.mark.slow
@pytest.mark.parametrize("stage", [one for one in STAGES if one not in {"encode", "keys"}])
def test_builds_whose_worker_is_killed_in_a_stage_end_with_the_same_bytes(
    undisturbed, tmp_path, stage
):
    url, expected = undisturbed
    with prepared(tmp_path / "store", url) as (database, index):
        process = command(tmp_path / "store", "build", "resume", "papers", BUILD, "--workers", 2)
        wait_until(lambda: begun(database, stage) and workers_of(process), process)
        for pid in workers_of(process)[:1]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        status, out, err = finished(process)
        assert (status, err) == (0, ""), out
        assert built(database.store) == expected
        assert index.stats().rows == 5000


@pytest.mark.slow
@pytest.mark.parametrize("stage", [one for one in STAGES if one not in {"encode", "keys"}])
def test_builds_killed_whole_in_a_stage_are_resumed_to_the_same_bytes(undisturbed, tmp_path, stage):
    url, expected = undisturbed
    with prepared(tmp_path / "store", url) as (database, index):
        process = command(tmp_path / "store", "build", "resume", "papers", BUILD, "--workers", 2)
        wait_until(lambda: begun(database, stage), process)
        for pid in [process.pid, *workers_of(process)]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.communicate(timeout=PATIENCE_S)
        assert len(reports(database.store)) >= STAGES.index(stage) - 2  # two stages have no task
        if index.build_status(BUILD).state == "published":
            pytest.skip("it was published before it was killed")
        # What publishes commits first, and then writes down that it has.
        assert index.stats().rows in ({0, 5000} if stage == "publish" else {0})
        status, out, err = finished(
            command(tmp_path / "store", "build", "resume", "papers", BUILD, "--workers", 2)
        )
        assert (status, err) == (0, ""), out
        assert built(database.store) == expected


@pytest.mark.slow
def test_builds_of_files_in_s3_into_s3_by_processes(undisturbed, tmp_path):
    """Workers find the same endpoint, and inputs in another bucket than the index."""
    import boto3

    _, expected = undisturbed
    write_npy(tmp_path / "in", 2000, 1500, 1500)
    with s3_endpoint() as url:
        for bucket in ("files", "indexes"):
            make_bucket(url, bucket)
        client = boto3.client("s3", endpoint_url=url)
        for file in sorted((tmp_path / "in").iterdir()):
            client.upload_file(str(file), "files", f"in/{file.name}")
        client.close()
        database = squash.connect("s3://indexes/some/prefix", endpoint_url=url)
        index = database.create_index("papers", dimension=DIMENSION)
        status = index.build(["s3://files/in/"], sizes=SIZES, build=BUILD, workers=2)
        assert (status.state, status.rows) == ("published", 5000)
        made = built(database.store)
    # The plan names the files, which are others.
    assert {key: made[key] for key in made if not key.endswith("/plan")} == {
        key: expected[key] for key in expected if not key.endswith("/plan")
    }
