"""The built artefacts in the local cloud, from the HTTP API to S3: what a deployment does."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack, contextmanager
from http import HTTPStatus

import boto3
import numpy as np
import pytest
import urllib3

from children import all_end, descendants, descendants_ids
from deployed import deployed
from squash.api import credentials
from squash.clock import SystemClock
from squash.local import Fault, FaultKind
from squash.maintain import BuildOptions
from squash.model import RowBatch
from waiting import until

DIMENSION = 16
ROWS = 4_000
FRESH = 40
SLOTS = 2
TURNS_MAX = 10
PAPERS = "papers"
NOTES = {"name": "notes", "dimension": 2, "metric": "euclidean"}
FILTER = {"year": {"$gte": 2020}}
OPTIONS = BuildOptions(partition_rows_target=500, cluster_rows_target=40, exact_rows_max=200)


class Asking:
    """Asks a deployment over HTTP."""

    def __init__(self, place, token=None, *, url=None):
        self.place = place
        self._url = url or place.url
        # A connection that stays open would be waited for when the cloud ends.
        self._headers = {"content-type": "application/json", "connection": "close"}
        if token:
            self._headers["authorization"] = f"Bearer {token}"
        self._http = urllib3.PoolManager(retries=False, timeout=60.0)

    def answer(self, method, path, body=None):
        """Return status and document."""
        data = None if body is None else json.dumps(body).encode()
        answer = self._http.request(method, self._url + path, body=data, headers=self._headers)
        return answer.status, answer.json()

    def ok(self, method, path, body=None):
        """Return the document of what must succeed."""
        status, document = self.answer(method, path, body)
        assert status < HTTPStatus.BAD_REQUEST, document
        return document

    def query(self, vector, **more):
        """Return the answer to one query."""
        return self.ok("POST", f"/v1/indexes/{PAPERS}/query", asked(vector, **more))


def asked(vector, **more):
    return {"vector": vector.tolist(), **more}


def found(document):
    return [(one["key"], one["distance"], one["metadata"]) for one in document["matches"]]


def expected(answer):
    return [(one.key, float(one.distance), dict(one.metadata)) for one in answer.matches]


def vectors(seed, count):
    """Return float32 [count, d], around some centres."""
    rng = np.random.default_rng(seed)
    centres = 2 * np.random.default_rng(0).standard_normal((20, DIMENSION))
    noise = rng.standard_normal((count, DIMENSION))
    return (centres[rng.integers(20, size=count)] + noise).astype(np.float32)


QUERIES = vectors(9, 12)


def make_index(database):
    """Make an index of some partitions, with records put and deleted on top."""
    index = database.create_index(PAPERS, dimension=DIMENSION, metric="euclidean")
    rng = np.random.default_rng(1)
    metadata = [{"year": int(year)} for year in rng.integers(2010, 2026, size=ROWS)]
    keys = [f"p{row}" for row in range(ROWS)]
    index.import_batches([RowBatch(keys, vectors(2, ROWS), metadata)])
    index.optimize(options=OPTIONS)
    assert index.stats().partitions >= 2 * SLOTS
    fresh = [{"year": 2026}] * FRESH
    index.put(keys=keys[:FRESH], vectors=vectors(3, FRESH), metadata=fresh)
    index.delete(keys=keys[100:140])
    return index


@pytest.fixture(scope="module", autouse=True)
def _environment():
    """`deployed` tells this process where S3 is; afterwards it is told nothing."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
            patch.setenv(name, "local")
        yield


@pytest.fixture(scope="module")
def clouds(artefacts):
    """Start deployments by shape and affinity, all over the S3 of the first; each one once."""
    started = {}
    others = descendants_ids(os.getpid())
    with ExitStack() as stack:

        def start(shape="fan-out", affinity="tenant", **environment):
            named = (shape, affinity, *environment.items())
            if named not in started:
                home = next(iter(started.values()), None)
                started[named] = stack.enter_context(
                    deployed(
                        build=artefacts.folder,
                        environment={"SQUASH_SHAPE": shape, **environment},
                        parameters={"Affinity": affinity, "Slots": str(SLOTS), "QueryUrl": "on"},
                        s3_proxy=True,
                        s3_memory=home is None,
                        s3=home and home.cloud.s3_url,
                    )
                )
            return started[named]

        yield start
        # Other tests of this process may have left servers of their own for the ones after.
        below = descendants(os.getpid(), without=others)
    assert len(below) > len(started)
    assert all_end(below), "a process was left behind"


@pytest.fixture(scope="module")
def index(clouds):
    """The index in this process, on the same objects."""
    return make_index(clouds().database())


@pytest.fixture
def fanned_out(clouds, index):
    """The deployment that has processors search, undisturbed in the beginning and the end."""
    place = clouds()
    yield Asking(place)
    place.cloud.set_faults(())


def quiet(place):
    """Wait until nobody runs: a straggler works on after the query that it was of is answered."""
    pools = place.cloud.cloud.account.pools.values()
    until(lambda: not any(pool.busy for pool in pools))


def replica_calls(place):
    """Return how many calls were a straggler's second, as far as their containers live."""
    return sum(one["calls"] for one in place.cloud.containers() if ":r" in (one["tenant"] or ""))


@contextmanager
def counted(place):
    """Count what is done meanwhile: calls by function, cold starts, and requests to S3."""
    quiet(place)
    before, counts, replicas = place.cloud.stats(), {}, replica_calls(place)
    yield counts
    quiet(place)
    after = place.cloud.stats()
    for name, of in after["functions"].items():
        role = next(r for r in ("processor", "allocator", "") if r in name)
        counts[role] = counts.get(role, 0) + of["calls"] - before["functions"][name]["calls"]
    counts["cold"] = sum(
        of["cold"] - before["functions"][name]["cold"] for name, of in after["functions"].items()
    )
    counts["s3"] = after["s3"]["requests"] - before["s3"]["requests"]
    counts["replicas"] = replica_calls(place) - replicas


@pytest.mark.parametrize(
    ("shape", "affinity", "called"),
    [
        ("none", "tenant", set()),
        ("fan-out", "tenant", {"processor"}),
        ("2,2", "tenant", {"processor", "allocator"}),
        ("fan-out", "pool", {"processor"}),
        ("fan-out", "none", {"processor"}),
    ],
)
def test_answers_are_those_of_one_process(clouds, index, shape, affinity, called):
    """To the bit, whoever answers, with and without a filter, near the best or exactly."""
    place = clouds(shape, affinity)
    asking = Asking(place)
    with counted(place) as counts:
        for options in ({}, {"filter": FILTER}, {"filter": FILTER, "exact": True, "top_k": 3}):
            body = {"queries": [asked(vector) for vector in QUERIES], **options}
            answers = asking.ok("POST", f"/v1/indexes/{PAPERS}/query", body)["answers"]
            given = {name: value for name, value in options.items() if name != "filter"}
            alone = index.query_many(QUERIES, filters=options.get("filter"), **given)
            assert list(map(found, answers)) == list(map(expected, alone))
            assert {one["snapshot"] for one in answers} == {index.stats().snapshot}
    assert {role for role in ("processor", "allocator") if counts[role]} == called


@pytest.mark.parametrize("affinity", ["tenant", "pool"])
def test_a_slot_is_found_again_in_the_container_that_is_warm_for_it(clouds, index, affinity):
    place = clouds("fan-out", affinity)
    asking = Asking(place)

    def serving():
        """Return calls by slot and container."""
        calls = {}
        for one in place.cloud.containers():
            if "processor" in one["function"]:
                slot = one["tenant"] or one["function"].removeprefix("squash-processor-")
                calls.setdefault(slot, {})[one["name"]] = one["calls"]
        return calls

    for vector in QUERIES:  # one alone may find all that it needs in one slot
        asking.query(vector)
    before = serving()
    for vector in QUERIES:
        asking.query(vector)
    after = serving()
    homes = [f"slot-{number}" for number in range(SLOTS)]
    assert set(homes) <= set(before)
    for slot in homes:
        assert set(before[slot]) <= set(after[slot])
        assert sum(after[slot][name] for name in before[slot]) > sum(before[slot].values())
    # A straggler is asked a second time, at its replica; nobody else is.
    assert set(after) <= {*homes, *(f"{slot}:r1" for slot in homes)}


def test_the_schedule_keeps_every_slot_and_reads_nothing(fanned_out):
    """What the template has it say calls the containers of all slots, as they are built."""
    fanned_out.query(QUERIES[0])
    cloud = fanned_out.place.cloud
    with counted(fanned_out.place) as counts:
        told = boto3.client("lambda", **cloud.client_arguments("lambda")).invoke(
            FunctionName="squash-coordinator", Payload=json.dumps({"keep_warm": True})
        )
        assert json.load(told["Payload"]) == {"slots": SLOTS, "answered": SLOTS}
    assert (counts["processor"], counts["s3"]) == (SLOTS, 0)


def test_a_warm_query_asks_little_of_s3(fanned_out):
    """Whether there is a newer commit, which tells of a drop too: one request, of all functions."""

    def spent(vector):
        """Return the requests of one query, as S3 and as its answer counts them."""
        with counted(fanned_out.place) as counts:
            usage = fanned_out.query(vector, filter=FILTER)["usage"]
        # A straggler's replica is cold, or has not read all of what is asked of it. Where the
        # machine has much else to do, most queries have stragglers.
        undisturbed = not counts["replicas"] and not counts["cold"]
        return [(counts["s3"], usage["store_requests"])] if undisturbed else []

    # Warm are the containers once they have bought whole what they had read in parts.
    turns = []
    while len(turns) < TURNS_MAX and set(turns[-1:]) != {(1, 1)}:
        asked_now = [one for vector in QUERIES for one in spent(vector)]
        turns.append(max(asked_now, default=None))
    assert turns[-1] == (1, 1), turns


def test_records_are_put_got_listed_deleted_and_folded(clouds, index):
    asking = Asking(clouds())
    base = "/v1/indexes/notes"
    assert asking.ok("POST", "/v1/indexes", NOTES)["name"] == "notes"
    records = [{"key": f"n{i}", "vector": [1.0, float(i)], "metadata": {"i": i}} for i in range(30)]
    assert asking.ok("POST", f"{base}/vectors", {"vectors": records})["rows"] == len(records)
    got = asking.ok("POST", f"{base}/vectors/get", {"keys": ["n3", "absent", "n1"]})["records"]
    assert got == [records[3], records[1]]
    page = asking.ok("GET", f"{base}/vectors?limit=20")
    rest = asking.ok("GET", f"{base}/vectors?limit=20&cursor={page['cursor']}")
    listed = [one["key"] for one in page["records"] + rest["records"]]
    assert sorted(listed) == sorted(one["key"] for one in records)
    assert rest["cursor"] is None
    asking.ok("POST", f"{base}/vectors/delete", {"keys": ["n3"]})
    assert asking.ok("POST", f"{base}/vectors/delete", {"filter": {"i": {"$gte": 28}}})["rows"] == 2
    before = asking.ok("GET", f"{base}/stats")
    status, told = asking.answer("POST", f"{base}/optimize")
    assert (status, told["snapshot"]) == (HTTPStatus.ACCEPTED, before["snapshot"])
    asking.place.cloud.settle()
    after = asking.ok("GET", f"{base}/stats")
    assert (before["rows"], after["rows"]) == (27, 27)
    assert (after["snapshot"], before["stored_bytes"]) == (before["snapshot"] + 1, 0)
    assert after["stored_bytes"] > 0
    near = asking.ok("POST", f"{base}/query", {"vector": [1, 3], "filter": {"i": {"$lt": 9}}})
    assert [one["key"] for one in near["matches"]][:2] == ["n2", "n4"]
    _older_snapshots_are_read_and_collected(asking, base)
    assert asking.ok("DELETE", base) == {"dropped": "notes"}
    assert asking.answer("GET", base)[0] == HTTPStatus.NOT_FOUND


def _older_snapshots_are_read_and_collected(asking, base):
    """Patches, conditions and `as_of` behind the gateway; what is collected is young, and stays."""
    told = asking.ok("GET", f"{base}/snapshots?limit=2")["snapshots"]
    assert [one["operation"] for one in told] == ["fold", "delete"]
    newest = told[0]["snapshot"]
    patch = {"patches": [{"key": "n1", "metadata": {"i": None, "new": "x"}}]}
    assert asking.ok("POST", f"{base}/vectors/patch", {**patch, "if_snapshot": newest})["rows"] == 1
    again = asking.answer("POST", f"{base}/vectors/patch", {**patch, "if_snapshot": newest})
    assert again[0] == HTTPStatus.CONFLICT
    for more, metadata in (({}, {"new": "x"}), ({"as_of": newest}, {"i": 1})):
        got = asking.ok("POST", f"{base}/vectors/get", {"keys": ["n1"], **more})["records"]
        assert [one["metadata"] for one in got] == [metadata]
    query = {"vector": [1, 3], "filter": {"i": 1}}
    assert asking.ok("POST", f"{base}/query", query)["matches"] == []
    (then,) = asking.ok("POST", f"{base}/query", {**query, "as_of": newest})["matches"]
    assert then["key"] == "n1"
    status, told = asking.answer("POST", f"{base}/gc", {"retention_s": 3_600})
    assert (status, told["snapshot"]) == (HTTPStatus.ACCEPTED, newest + 1)
    asking.place.cloud.settle()
    (then,) = asking.ok("POST", f"{base}/query", {**query, "as_of": newest})["matches"]
    assert then["key"] == "n1"


def test_keys_say_who_may_do_what(clouds, index):
    """Scopes, indexes, time and a row filter hold behind the gateway as they do before it."""
    place = clouds("none", SQUASH_AUTH="keys")
    query = f"/v1/indexes/{PAPERS}/query"

    def asking(url=None, **options):
        made = {"scopes": ["read"], "indexes": [PAPERS], "clock": SystemClock(), **options}
        return Asking(place, credentials.create_key(place.store(), **made).token, url=url)

    body = asked(QUERIES[0], top_k=50)
    for nobody in (Asking(place), Asking(place, "sqk_" + "0" * 16 + "_" + "a" * 43)):
        assert nobody.answer("POST", query, body)[0] == HTTPStatus.UNAUTHORIZED
    assert Asking(place).answer("GET", "/v1/health")[0] == HTTPStatus.OK
    reader = asking()
    assert found(reader.ok("POST", query, body)) == expected(index.query(QUERIES[0], top_k=50))
    put = {"vectors": [{"key": "x", "vector": [0.0] * DIMENSION}]}
    assert reader.answer("POST", f"/v1/indexes/{PAPERS}/vectors", put)[0] == HTTPStatus.FORBIDDEN
    other = asking(indexes=["other*"])
    assert other.answer("POST", query, body)[0] == HTTPStatus.FORBIDDEN
    # The coordinator's own URL is another door with the same lock, to queries alone.
    at_url = place.cloud.function_urls["squash-coordinator"]
    there = asking(url=at_url)
    assert found(there.ok("POST", query, body)) == found(reader.ok("POST", query, body))
    assert Asking(place, url=at_url).answer("POST", query, body)[0] == HTTPStatus.UNAUTHORIZED
    assert there.answer("POST", f"/v1/indexes/{PAPERS}/vectors", put)[0] == HTTPStatus.NOT_FOUND
    passed = asking(lifetime_ms=1)
    assert passed.answer("POST", query, body)[0] == HTTPStatus.UNAUTHORIZED
    some = asking(row_filter=FILTER)
    for more in ({}, {"filter": {"$not": FILTER}}, {"filter": {"$or": [FILTER, {"year": 2011}]}}):
        both = {"$and": [FILTER, *more.values()]}
        answer = some.ok("POST", query, {**body, **more})
        assert found(answer) == expected(index.query(QUERIES[0], top_k=50, filter=both))
    assert index.get(keys=["x"]) == []


@pytest.mark.parametrize(
    "faults",
    [
        [Fault(FaultKind.KILL, target="*-processor-*", count=1)],
        [Fault(FaultKind.DROP, target="*-processor-*", count=1)],
        [Fault(FaultKind.THROTTLE, target="*-processor-*", count=4)],
        [Fault(FaultKind.S3_FAIL, target="GET *", count=2)],
        [Fault(FaultKind.S3_DROP, target="GET *", count=1)],
    ],
    ids=["killed", "dropped", "throttled", "S3 failing", "S3 not answering"],
)
def test_what_fails_once_is_not_seen(fanned_out, index, faults):
    """The answer is right still, from warm containers and from cold ones."""
    for cold in (False, True):
        for function in fanned_out.place.cloud.stats()["functions"] if cold else ():
            fanned_out.place.cloud.kill(function)
        fanned_out.place.cloud.set_faults(faults)
        answer = fanned_out.query(QUERIES[1], filter=FILTER)
        assert found(answer) == expected(index.query(QUERIES[1], filter=FILTER))
        assert "missing" not in answer


@pytest.mark.parametrize("target", ["squash-processor-slot-*", "squash-processor-slot-1"])
def test_what_cannot_be_searched_is_named_or_refused(clouds, index, target):
    """No processor of a pool is heard when it is called, or one, for which another may stand in."""
    place = clouds("fan-out", "pool")
    asking = Asking(place)
    whole = expected(index.query(QUERIES[2], exact=True, top_k=ROWS))
    partitions = {one.reader.ref.id: one for one in index._session.view("eventual").partitions}
    place.cloud.set_faults([Fault(FaultKind.DROP, target=target)])
    try:
        path = f"/v1/indexes/{PAPERS}/query"
        status, told = asking.answer("POST", path, asked(QUERIES[2], exact=True))
        partial = asking.query(QUERIES[2], exact=True, top_k=50, allow_partial=True)
    finally:
        place.cloud.set_faults(())
    if status == HTTPStatus.OK:
        assert found(told) == whole[:10]
    else:
        assert (status, told["type"]) == (503, "urn:squash:partial-answer")
    missing = set(partial.get("missing", ()))
    assert missing <= set(partitions)
    if target.endswith("*"):
        assert status == HTTPStatus.SERVICE_UNAVAILABLE
        assert missing == set(partitions)
    lost = {
        key
        for name in missing
        for key in partitions[name].reader.document_keys(np.arange(partitions[name].count))
    } - {f"p{row}" for row in range(FRESH)}
    assert found(partial) == [one for one in whole if one[0] not in lost][:50]
    assert found(asking.query(QUERIES[2], exact=True)) == whole[:10]


def test_a_coordinator_that_dies_is_the_gateways_to_tell(fanned_out, index):
    fanned_out.place.cloud.set_faults([Fault(FaultKind.KILL, target="*-coordinator", count=1)])
    path = f"/v1/indexes/{PAPERS}/query"
    status, told = fanned_out.answer("POST", path, asked(QUERIES[3]))
    assert (status, told) == (
        HTTPStatus.INTERNAL_SERVER_ERROR,
        {"message": "Internal Server Error"},
    )
    assert found(fanned_out.query(QUERIES[3])) == expected(index.query(QUERIES[3]))
