"""Puts and queries a second through the API of S3 Vectors, beside our own HTTP interface and moto.

boto3's own client, with signatures, against the built artefacts in the local cloud; the same puts
and queries over our own interface with an API key in the same run, taken in turns; and moto's
server, which stores vectors and searches none. Clients and cloud share this machine's cores.

    make build-local && python bench/s3vectors.py
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import boto3
import numpy as np
import urllib3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSPreparedRequest, AWSRequest, AWSResponse
from botocore.config import Config
from botocore.credentials import Credentials

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import squash
from data import load
from deployed import BUILD, Deployed, deployed
from deployment import s3_server
from report import command_line, conditions, number, table, told, write_section
from squash.api.access import KeyRecords, OpenGate
from squash.api.credentials import NewKey, create_key
from squash.api.environment import IN_THE_STORE
from squash.api.requests import HttpRequest
from squash.api.s3vectors.gate import SigningGate
from squash.api.serving import make_faces
from squash.api.signing_keys import SigningKeys, ensure_signing_key
from squash.clock import SystemClock, SystemIds
from squash.limits import LAMBDA_REQUEST_BYTES_MAX
from squash.model import RowBatch
from squash.storage import MemoryStore

BUCKET: Final = "bench"
DIMENSIONS: Final = (128, 384, 1_536)
BATCHES: Final = (1, 50, 500)
THREADS: Final = (1, 4)
ROUNDS: Final = 3
K: Final = 10
# What the service documents for one index.
WRITES_A_SECOND: Final = 1_000
VECTORS_A_SECOND: Final = 2_500
REGION: Final = "us-east-1"


class Way(Protocol):
    """One client of one interface."""

    def create(self, index: str, dimension: int) -> None: ...
    def put(self, index: str, keys: Sequence[str], vectors: list[list[float]]) -> None: ...
    def query(self, index: str, vector: list[float]) -> list[str]: ...
    def close(self) -> None: ...


class Service:
    """The API of S3 Vectors by boto3, of ours or of moto."""

    def __init__(self, url: str, key: str, secret: str) -> None:
        self._client = boto3.client(
            "s3vectors",
            endpoint_url=url,
            region_name=REGION,
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            config=Config(retries={"total_max_attempts": 8, "mode": "standard"}),
        )

    def start(self) -> None:
        self._client.create_vector_bucket(vectorBucketName=BUCKET)

    def create(self, index: str, dimension: int) -> None:
        self._client.create_index(
            vectorBucketName=BUCKET,
            indexName=index,
            dataType="float32",
            dimension=dimension,
            distanceMetric="euclidean",
        )

    def put(self, index: str, keys: Sequence[str], vectors: list[list[float]]) -> None:
        rows = [
            {"key": key, "data": {"float32": vector}}
            for key, vector in zip(keys, vectors, strict=True)
        ]
        self._client.put_vectors(vectorBucketName=BUCKET, indexName=index, vectors=rows)

    def query(self, index: str, vector: list[float]) -> list[str]:
        answer = self._client.query_vectors(
            vectorBucketName=BUCKET,
            indexName=index,
            queryVector={"float32": vector},
            topK=K,
            returnDistance=True,
        )
        return [one["key"] for one in answer["vectors"]]

    def close(self) -> None:
        self._client.close()


class Native:
    """Our own interface, with lists of numbers as the other has them."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url
        self._http = urllib3.PoolManager(retries=urllib3.Retry(8, status_forcelist=[409, 503]))
        self._headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}

    def _ask(self, path: str, body: Any) -> Any:
        data = json.dumps(body).encode()
        answer = self._http.request("POST", self._url + path, body=data, headers=self._headers)
        if answer.status >= 300:
            raise RuntimeError(f"{answer.status}: {answer.data.decode()}")
        return answer.json()

    def create(self, index: str, dimension: int) -> None:
        self._ask("/v1/indexes", {"name": index, "dimension": dimension, "metric": "euclidean"})

    def put(self, index: str, keys: Sequence[str], vectors: list[list[float]]) -> None:
        rows = [{"key": key, "vector": vector} for key, vector in zip(keys, vectors, strict=True)]
        self._ask(f"/v1/indexes/{index}/vectors", {"vectors": rows})

    def query(self, index: str, vector: list[float]) -> list[str]:
        body = {"vector": vector, "top_k": K, "include": []}
        return [one["key"] for one in self._ask(f"/v1/indexes/{index}/query", body)["matches"]]

    def close(self) -> None:
        self._http.clear()


@dataclass
class Figures:
    """What one way did, over all its rounds."""

    requests: int = 0
    seconds: float = 0.0
    client_cpu_s: float = 0.0
    waited_s: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds

    def ms(self, percent: float) -> float:
        """A percentile of what a request took."""
        return 1e3 * float(np.percentile(self.waited_s, percent))


def drive(
    ways: Sequence[Way], act: Callable[[Way, int, int], None], seconds: float, into: Figures
) -> None:
    """Have each client act for some seconds, all at once, and add what they did."""
    waited: list[list[float]] = [[] for _ in ways]
    failed: list[BaseException] = []
    cpu = [0.0] * len(ways)
    begun = time.perf_counter()

    def work(number: int) -> None:
        used = time.thread_time()
        try:
            for turn in itertools.count():
                start = time.perf_counter()
                if start - begun >= seconds:
                    break
                act(ways[number], number, turn)
                waited[number].append(time.perf_counter() - start)
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            failed.append(error)
        cpu[number] = time.thread_time() - used

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(ways))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    into.seconds += time.perf_counter() - begun
    into.client_cpu_s += sum(cpu)
    into.requests += sum(map(len, waited))
    into.waited_s += [one for of in waited for one in of]


@dataclass
class Contest:
    """The ways that are compared; each makes a client for a thread."""

    makers: dict[str, Callable[[], Way]]
    seconds: float

    def puts(self, dimension: int, batch: int, threads: int) -> dict[str, Figures]:
        """Put into an index of each way's own, in turns."""
        rng = np.random.default_rng(dimension)
        vectors = rng.normal(size=(batch, dimension)).astype(np.float32).tolist()
        index = f"puts-{dimension}-{batch}-{threads}"
        found = {name: Figures() for name in self.makers}
        ways = {name: [make() for _ in range(threads)] for name, make in self.makers.items()}
        for of in ways.values():
            of[0].create(index, dimension)
        for round_ in range(ROUNDS):

            def act(way: Way, number: int, turn: int, round_: int = round_) -> None:
                keys = [f"{round_}-{number}-{turn}-{row}" for row in range(batch)]
                way.put(index, keys, vectors)

            for name, of in ways.items():
                if not round_:
                    act(of[0], 0, -1)  # containers and connections are warm from here on
                drive(of, act, self.seconds / ROUNDS, found[name])
        for of in ways.values():
            for way in of:
                way.close()
        return found

    def queries(self, index: str, vectors: list[list[float]], threads: int) -> dict[str, Figures]:
        """Ask, in turns."""
        found = {name: Figures() for name in self.makers}
        ways = {name: [make() for _ in range(threads)] for name, make in self.makers.items()}

        def act(way: Way, number: int, turn: int) -> None:
            way.query(index, vectors[(97 * number + turn) % len(vectors)])

        for round_ in range(ROUNDS):
            for name, of in ways.items():
                if not round_:
                    drive(of, act, 0.5, Figures())
                drive(of, act, self.seconds / ROUNDS, found[name])
        for of in ways.values():
            for way in of:
                way.close()
        return found


def fitting(dimension: int, batch: int) -> int:
    """Return how many vectors of a batch fit into a request that Lambda takes."""
    vector = np.random.default_rng(0).normal(size=dimension).astype(np.float32).tolist()
    row = len(json.dumps({"key": "0-0-0000-000", "data": {"float32": vector}}, indent=None))
    # Quotes count twice in an event, and the event is some kilobytes itself.
    return min(batch, (LAMBDA_REQUEST_BYTES_MAX - 16_384) // (row + 24))


def signature_cost() -> list[list[str]]:
    """Time the check of signatures in this process, by the length of the body."""
    store, clock = MemoryStore(), SystemClock()
    key = new_key(store)
    gate = SigningGate(KeyRecords(store, clock), SigningKeys(IN_THE_STORE, store, clock), clock)
    rows = []
    for length in (1_000, 100_000, 5_000_000):
        request = signed_request(key, b'"' + b"x" * (length - 2) + b'"')
        gate.admit(request)
        took = []
        for _ in range(max(20, 20_000_000 // (length + 20_000))):
            start = time.perf_counter_ns()
            gate.admit(request)
            took.append((time.perf_counter_ns() - start) / 1e3)
        low, median = min(took), float(np.median(took))
        rows.append([f"{length:,}", number(low), number(median)])
    return rows


def cpu_cost() -> list[list[str]]:
    """Count the CPU time of a request on either side, in this process, which load moves little."""
    clock, ids = SystemClock(), SystemIds()
    database = squash.connect("memory://cpu")
    faces = make_faces(database, gate=OpenGate(), clock=clock, ids=ids)
    where = {"vectorBucketName": BUCKET, "indexName": "cpu"}
    faces["indexes"](event("/CreateVectorBucket", {"vectorBucketName": BUCKET}), None)
    kind = {"dataType": "float32", "dimension": 384, "distanceMetric": "euclidean"}
    faces["indexes"](event("/CreateIndex", where | kind), None)
    database.create_index("cpu", dimension=384, metric="euclidean")
    client = boto3.client(
        "s3vectors",
        endpoint_url="http://127.0.0.1:1",
        region_name=REGION,
        aws_access_key_id="a",
        aws_secret_access_key="b",  # noqa: S106 - nobody checks it
    )
    client.meta.events.register("before-send.s3vectors", _answered_at_once)
    rows = []
    for batch in BATCHES:
        vectors = np.random.default_rng(0).normal(size=(batch, 384)).astype(np.float32).tolist()
        put = [{"key": str(n), "data": {"float32": one}} for n, one in enumerate(vectors)]
        own = [{"key": str(n), "vector": one} for n, one in enumerate(vectors)]
        asked = {
            "service": event("/PutVectors", where | {"vectors": put}),
            "native": event("/v1/indexes/cpu/vectors", {"vectors": own}),
        }
        served = [
            number(_cpu_ms(lambda one=one: faces["documents"](one, None))) for one in asked.values()
        ]
        sent = [
            number(_cpu_ms(lambda rows=put: client.put_vectors(**where, vectors=rows))),
            number(_cpu_ms(lambda rows=own: json.dumps({"vectors": rows}))),
        ]
        rows.append([f"put {batch} x 384", *served, *sent])
    return rows


def _cpu_ms(act: Callable[[], Any], times: int = 15) -> float:
    least = float("inf")
    for _ in range(times):
        start = time.process_time()
        act()
        least = min(least, time.process_time() - start)
    return 1e3 * least


def _answered_at_once(request: AWSPreparedRequest, **_: Any) -> AWSResponse:
    return AWSResponse(request.url, 200, {}, _Empty())


class _Empty:
    """A body of `{}`."""

    @staticmethod
    def stream(*_: Any, **__: Any) -> Iterator[bytes]:
        yield b"{}"


def event(path: str, body: Any) -> dict[str, Any]:
    """Return the event of a request that is not signed."""
    return {
        "version": "2.0",
        "rawPath": path,
        "rawQueryString": "",
        "headers": {"content-type": "application/json"},
        "requestContext": {"http": {"method": "POST", "path": path}, "stage": "$default"},
        "body": json.dumps(body),
        "isBase64Encoded": False,
    }


def signed_request(key: NewKey, body: bytes) -> HttpRequest:
    """Return a request as it comes from the gateway, signed now as boto3 does."""
    sent = AWSRequest(
        method="POST",
        url="http://127.0.0.1:3000/PutVectors",
        headers={"content-type": "application/json", "host": "127.0.0.1:3000"},
        data=body,
    )
    access = Credentials(key.record.access_key_id, key.secret)
    SigV4Auth(access, "s3vectors", REGION).add_auth(sent)
    headers = {name.lower(): value for name, value in sent.headers.items()}
    return HttpRequest("x", "POST", "/PutVectors", headers, body=body.decode())


def new_key(store: Any) -> NewKey:
    """Make a key that may do everything, and sign."""
    signing_key = ensure_signing_key(IN_THE_STORE[0], store)
    return create_key(
        store,
        scopes=["read", "write", "admin"],
        indexes=["*"],
        clock=SystemClock(),
        signing_key=signing_key,
    )


def put_rows(contest: Contest) -> Iterator[list[str]]:
    """Measure every kind of put; a row each."""
    for dimension, asked, threads in itertools.product(DIMENSIONS, BATCHES, THREADS):
        batch = fitting(dimension, asked)
        found = contest.puts(dimension, batch, threads)
        ours, native, other = (found[name] for name in ("service", "native", "moto"))
        told(
            f"put {dimension} x {batch}, {threads} threads: {ours.rate:.1f} a second, "
            f"ours {native.rate:.1f}, moto {other.rate:.1f}"
        )
        yield [
            f"{dimension} x {batch}",
            str(threads),
            number(ours.rate),
            number(ours.rate * batch),
            number(ours.ms(50)),
            number(ours.ms(99)),
            number(1e3 * ours.client_cpu_s / ours.requests),
            number(native.rate * batch),
            number(ours.rate / native.rate),
            number(other.rate * batch),
            number(ours.rate / WRITES_A_SECOND),
            number(ours.rate * batch / VECTORS_A_SECOND),
        ]


def query_rows(contest: Contest, place: Deployed, rows: int) -> Iterator[list[str]]:
    """Measure queries of the same records behind both interfaces; a row for each thread count."""
    data = load("sift", limit=rows)
    vectors = np.asarray(data.vectors, np.float32)
    queries = np.asarray(data.queries, np.float32)[:200]
    database = place.database()
    keys = [str(row) for row in range(len(vectors))]
    for name in (f"{BUCKET}/queries", "queries"):
        index = database.create_index(name, dimension=vectors.shape[1], metric="euclidean")
        index.import_batches([RowBatch(keys, vectors, [{}] * len(keys))])
        index.optimize()
    best = [
        {str(row) for row in np.argsort(((vectors - query) ** 2).sum(axis=1))[:K]}
        for query in queries
    ]
    asked = queries.tolist()
    way = contest.makers["service"]()
    hits = [
        len(truth & set(way.query("queries", one))) for truth, one in zip(best, asked, strict=True)
    ]
    recall = sum(hits) / (K * len(hits))
    way.close()
    searching = Contest(
        {name: make for name, make in contest.makers.items() if name != "moto"}, contest.seconds
    )
    for threads in THREADS:
        found = searching.queries("queries", asked, threads)
        ours, native = found["service"], found["native"]
        told(f"queries, {threads} threads: {ours.rate:.1f} a second, ours {native.rate:.1f}")
        yield [
            str(threads),
            number(ours.rate),
            number(ours.ms(50)),
            number(ours.ms(99)),
            number(1e3 * ours.client_cpu_s / ours.requests),
            number(native.rate),
            number(native.ms(50)),
            number(ours.rate / native.rate),
            f"{recall:.3f}",
        ]


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=6.0, help="a cell and a way")
    parser.add_argument("--rows", type=int, default=100_000, help="of the index that is asked")
    parser.add_argument("--build", type=Path, default=BUILD)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    before = os.getloadavg()[0]
    with (
        s3_server() as s3,
        s3_server() as other,
        deployed(build=options.build, s3=s3, environment={"SQUASH_AUTH": "keys"}) as place,
    ):
        key = new_key(place.store())
        access = (key.record.access_key_id or "", key.secret)
        makers: dict[str, Callable[[], Way]] = {
            "service": lambda: Service(place.url, *access),
            "native": lambda: Native(place.url, key.token),
            "moto": lambda: Service(other, "moto", "moto"),
        }
        for name in ("service", "moto"):
            way = makers[name]()
            assert isinstance(way, Service)
            way.start()
            way.close()
        contest = Contest(makers, options.seconds)
        asked = list(query_rows(contest, place, options.rows))
        put = list(put_rows(contest))
    text = f"{section(options.rows, put, asked, before)}\n\n{costs()}"
    if options.out:
        write_section(options.out, "s3vectors", text)
    print(text)


def section(rows: int, put: list[list[str]], asked: list[list[str]], load_: float) -> str:
    """Write what was measured."""
    put_head = (
        "dimensions x vectors a request", "threads", "requests/s", "vectors/s", "p50 ms", "p99",
        "of it the client's CPU ms", "ours, vectors/s", "x ours", "moto, vectors/s",
        "of 1,000 writes/s", "of 2,500 vectors/s",
    )  # fmt: skip
    query_head = (
        "threads", "queries/s", "p50 ms", "p99", "of it the client's CPU ms", "ours, queries/s",
        "p50 ms", "x ours", f"recall@{K}",
    )  # fmt: skip
    run = conditions(command_line(), ("boto3", "moto", "numpy"))
    run = run.replace("one thread used", "shared by clients, functions and S3")
    return (
        f"## The API of S3 Vectors\n\n{run} Load average when it began: {load_:.1f}.\n\n"
        "boto3's own client, signing, against the built functions in the local cloud, S3 in moto. "
        "*Ours* is our own HTTP interface in the same run, with an API key and lists of numbers, "
        f"in turns with the other in {ROUNDS} rounds; *x ours* is the ratio of the two rates. "
        "moto's server stores vectors in memory, makes nothing durable and answers no query. "
        "Everything shares these cores with the clients, whose share stands beside; the service's "
        f"limits are {WRITES_A_SECOND:,} writes and {VECTORS_A_SECOND:,} vectors a second an "
        "index, and the last two columns are what was reached as a multiple. 500 vectors of "
        "1,536 dimensions are more than the 6 MB that Lambda takes: as many as fit are put.\n\n"
        "**PutVectors**, each thread into the same index:\n\n"
        + table(put_head, put)
        + f"\n\n**QueryVectors**, top {K} of {rows:,} x 128 (sift), folded, warm, no filter; "
        "recall against brute force:\n\n" + table(query_head, asked)
    )


def costs() -> str:
    """Measure what a request costs on either side, and write it."""
    cpu_head = ("CPU ms", "the service's API", "ours", "boto3", "json.dumps of ours")
    return (
        "**CPU time of a request** in one process, the least of several: of the function with a "
        "store in memory, without the check of the signature, and of the client:\n\n"
        + table(cpu_head, cpu_cost())
        + "\n\n**A signature's check**, in µs, least and median, once the key is known to the "
        "container:\n\n" + table(("bytes of the body", "least", "median"), signature_cost())
    )


if __name__ == "__main__":
    main()
