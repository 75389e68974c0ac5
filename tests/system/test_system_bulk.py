"""Bulk builds by the state machine, on built artefacts: killed everywhere, the same to the byte."""

from __future__ import annotations

import io
import time
from dataclasses import replace

import boto3
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bulk_disturbing import (
    StageKiller,
    ask,
    kept_objects,
    reports,
    store_of,
    wait_for_build,
)
from deployed import deployed
from squash.maintain.bulk.stages import MAPPED, Stage
from squash.runtime.build_requests import Runner, default_sizes

pytestmark = pytest.mark.slow
DIMENSION, FILES, FILE_ROWS = 32, 6, 3_400
ROWS = FILES * FILE_ROWS
BUILD = "0123456789abcdef0123456789abcdef"
OTHER = "fedcba9876543210fedcba9876543210"
SIZES = replace(
    default_sizes(32),
    partition_rows_target=2_048,
    partition_rows_max=4_096,
    cluster_rows_target=128,
    exact_rows_max=1_000,
    piece_rows_max=1_500,
    group_bytes_max=400_000,
    batch_bytes=300_000,
)
"""So small that every mapped stage has several tasks."""


def rows(file):
    """Return the vectors, keys and years of one file; some keys stand in the next file too."""
    rng = np.random.default_rng([file, 1])
    centres = 3 * np.random.default_rng(0).standard_normal((30, DIMENSION))
    vectors = centres[rng.integers(30, size=FILE_ROWS)] + rng.standard_normal(
        (FILE_ROWS, DIMENSION)
    )
    first = file * FILE_ROWS - 50 * (file % 2)
    keys = [f"k{number}" for number in range(first, first + FILE_ROWS)]
    return vectors.astype(np.float32), keys, rng.integers(1990, 2026, size=FILE_ROWS)


def written(file, *, keyed):
    """Return a file's name and bytes: Parquet with keys, or, without, every other one .npy."""
    vectors, keys, years = rows(file)
    stream = io.BytesIO()
    if not keyed and file % 2:
        np.save(stream, vectors)
        return f"plain/{file}.npy", stream.getvalue()
    columns = {
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), DIMENSION),
        "year": years,
        **({"key": keys} if keyed else {}),
    }
    pq.write_table(pa.table(columns), stream, row_group_size=1_000)
    return f"{'keyed' if keyed else 'plain'}/{file}.parquet", stream.getvalue()


def truth(*, keyed):
    """Return what the index is to hold: of each key the last row."""
    found = {}
    for file in range(FILES):
        vectors, keys, years = rows(file)
        for row in range(FILE_ROWS):
            key = keys[row] if keyed else str(file * FILE_ROWS + row)
            known = {"year": int(years[row])} if keyed or not file % 2 else {}
            found[key] = (vectors[row], known)
    return found


@pytest.fixture(scope="module")
def place(artefacts):
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
            patch.setenv(name, "local")
        with deployed(build=artefacts.folder, s3_memory=True) as place:
            yield place


def uploaded(place, *, keyed):
    """Upload the files; returns their URLs."""
    client = boto3.client("s3", **place.cloud.client_arguments("s3"))
    (bucket,) = place.cloud.cloud.template.buckets
    urls = []
    for file in range(FILES):
        key, data = written(file, keyed=keyed)
        client.put_object(Bucket=bucket, Key=key, Body=data)
        urls.append(f"s3://{bucket}/{key}")
    return urls


def made(place, name, location=None):
    """Make an index, among those of the functions or elsewhere in the same bucket."""
    database = place.database() if location is None else place.database_at(location)
    return database.create_index(name, dimension=DIMENSION, metric="euclidean")


def alone(place, inputs, build, **options):
    """Build the same by one process that nothing disturbs."""
    index = made(place, f"alone-{build[:8]}", "alone")
    assert index.build(inputs, build=build, **options).state == "published"
    return index


def check_same(index, reference, build):
    """Hold one index to another: every object that they rest on, by name and by byte."""
    ours, theirs = kept_objects(store_of(index)), kept_objects(store_of(reference))
    assert ours
    assert ours == theirs
    lasting = ("plan", "model", "outcome", "assembled/", "bad/", "replaced/")
    prefixes = tuple(f"builds/{build}/{name}" for name in lasting)
    assert kept_objects(store_of(index), prefixes) == kept_objects(store_of(reference), prefixes)


def check_answers(place, name, *, keyed):
    """Ask over HTTP: exact answers are those of brute force, and others nearly."""
    expected = truth(keyed=keyed)
    keys = list(expected)
    vectors = np.array([vector for vector, _ in expected.values()])
    queries = vectors[:: len(keys) // 20] + 0.05
    found_right = 0
    path = f"/v1/indexes/{name}/query"
    for query in queries:
        distances = ((vectors - query) ** 2).sum(axis=1)
        right = [keys[row] for row in np.argsort(distances, kind="stable")[:10]]
        body = {"vector": query.tolist(), "top_k": 10}
        exact = ask(place.url, "POST", path, {**body, "exact": True})["matches"]
        assert [one["key"] for one in exact] == right
        assert [one["metadata"] for one in exact] == [expected[key][1] for key in right]
        found = {one["key"] for one in ask(place.url, "POST", path, body)["matches"]}
        found_right += len(found & set(right))
    assert found_right >= 0.9 * 10 * len(queries)


def check_kills(killer, stages):
    assert killer.problem is None
    missed = [stage for stage in stages if not killer.kills[stage]]
    assert not missed, f"nothing was killed in {missed}; kills: {killer.kills}"


def test_a_build_over_http_survives_kills_in_each_stage(place):
    inputs = uploaded(place, keyed=False)
    index = made(place, "bulk")
    path = "/v1/indexes/bulk/builds"
    killer = StageKiller(place.cloud, store_of(index), BUILD, seed=1, delay_ms_max=60)
    seen = []
    with killer:
        begun = ask(place.url, "POST", path, {"inputs": inputs, "build": BUILD})
        assert (begun["state"], begun["executor"]) == ("running", "states")
        status = wait_for_build(place.url, "bulk", BUILD, seconds=300, told=seen.append)
    assert status["state"] == "published", status
    assert status["rows"] == ROWS
    assert status["cost_usd"] > 0
    check_kills(killer, reports(store_of(index), BUILD))
    check_same(index, alone(place, inputs, BUILD), BUILD)
    check_answers(place, "bulk", keyed=False)
    assert [one["build"] for one in ask(place.url, "GET", path)["builds"]] == [BUILD]


def test_a_build_of_many_tasks_that_is_cancelled_goes_on_when_it_is_resumed(place):
    inputs = uploaded(place, keyed=True)
    index = made(place, "many")
    (machine,) = place.cloud.cloud.template.state_machines
    runner = Runner("states", machine.arn, memory_mb=1769, architecture="x86_64")
    # HTTP has no say in sizes: what is prepared here is cancelled, and resumed over HTTP.
    index.bulk_builds().prepare(inputs, build_id=OTHER, sizes=SIZES, runner=runner)
    path = f"/v1/indexes/many/builds/{OTHER}"
    assert ask(place.url, "POST", f"{path}/cancel")["state"] == "cancelled"
    killer = StageKiller(place.cloud, store_of(index), OTHER, seed=2, delay_ms_max=60)
    with killer:
        ask(place.url, "POST", f"{path}/resume", {})
        deadline = time.monotonic() + 200
        while "assign" not in reports(store_of(index), OTHER):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert ask(place.url, "POST", f"{path}/cancel")["state"] == "cancelled"
        ask(place.url, "POST", f"{path}/resume", {})
        status = wait_for_build(place.url, "many", OTHER, seconds=300)
    assert status["state"] == "published", status
    assert status["attempt"] == 3
    assert status["replaced"] == 50 * (FILES // 2)
    done = reports(store_of(index), OTHER)
    assert all(len(done[stage]) > 1 for stage in MAPPED - {Stage.ENCODE, Stage.KEYS}), done
    check_kills(killer, done)
    check_same(index, alone(place, inputs, OTHER, sizes=SIZES), OTHER)
    check_answers(place, "many", keyed=True)


def test_a_file_that_is_none_stops_the_build_and_is_named(place):
    inputs = uploaded(place, keyed=False)
    made(place, "bad")
    client = boto3.client("s3", **place.cloud.client_arguments("s3"))
    bucket = inputs[0].split("/")[2]
    client.put_object(Bucket=bucket, Key="inputs/broken.npy", Body=b"not an array")
    urls = [*inputs, f"s3://{bucket}/inputs/broken.npy"]
    begun = ask(place.url, "POST", "/v1/indexes/bad/builds", {"inputs": urls})
    status = wait_for_build(place.url, "bad", begun["build"], seconds=120)
    assert status["state"] == "failed"
    assert any("broken.npy" in problem["message"] for problem in status["problems"]), status
