"""The whole way over a real S3 endpoint: the same answers, few requests, typed errors."""

import zlib
from uuid import uuid4

import boto3
import numpy as np
import pytest
from moto.server import ThreadedMotoServer

import squash
from forcing import codes_only
from model import ModelIndex
from squash.clock import SystemClock, SystemIds
from squash.database import Database
from squash.errors import ChecksumError, NotFoundError, UnavailableError
from squash.maintain import BuildOptions
from squash.model import ObjectRef
from squash.runtime import RetainedObjects, Settings
from squash.storage import MemoryStore, open_store
from squash.storage.tmp import TmpFiles

OPTIONS = BuildOptions(partition_rows_target=700, cluster_rows_target=60, exact_rows_max=100)


@pytest.fixture(scope="module")
def endpoint():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
        server.stop()


@pytest.fixture
def bucket(endpoint):
    name = f"b{uuid4().hex[:20]}"
    client = boto3.client("s3", endpoint_url=endpoint)
    client.create_bucket(Bucket=name)
    yield name, client
    client.close()


def test_an_index_in_s3_answers_as_brute_force_does(endpoint, bucket):
    """Put, fold, put on top, delete, query, from a process that knows nothing yet."""
    name, _ = bucket
    rng = np.random.default_rng(2)
    where = f"s3://{name}/some/prefix"
    vectors = rng.normal(size=(5000, 16)).astype(np.float32)
    metadata = [{"n": int(n)} for n in rng.integers(10, size=5000)]
    keys = [f"k{i}" for i in range(5000)]
    index = squash.connect(where, endpoint_url=endpoint).create_index(
        "papers", dimension=16, metric="cosine"
    )
    model = ModelIndex("cosine")
    index.put(keys=keys, vectors=vectors, metadata=metadata)
    model.put(keys, vectors, metadata)
    index.optimize(options=OPTIONS)
    index.put(keys=["k1", "new"], vectors=vectors[:2], metadata=[{"n": 3}, {"n": 3}])
    model.put(["k1", "new"], vectors[:2], [{"n": 3}, {"n": 3}])
    index.delete(keys=["k2"])
    model.delete(["k2"])
    fresh = squash.connect(where, endpoint_url=endpoint).index("papers")
    query = rng.normal(size=16)
    cold = fresh.query(query, filter={"n": 3}, recall_target=0.999)
    assert [m.key for m in cold.matches] == [key for _, key in model.query(query, 10, {"n": 3})]
    assert cold.usage.store_requests > 0
    assert cold.usage.cost_usd > 0
    warm = fresh.query(query, filter={"n": 3}, recall_target=0.999)
    assert warm.matches == cold.matches
    assert warm.usage.store_requests == 1  # is there a newer commit?
    eventual = fresh.query(query, filter={"n": 3}, recall_target=0.999, consistency="eventual")
    assert eventual.usage.store_requests == 0
    assert not fresh.verify().damages
    assert {r.key for r in fresh.get(keys=["k1", "k2", "new"])} == {"k1", "new"}


def test_usage_tells_cold_from_warm(endpoint, bucket, tmp_path):
    """Cold from the store, warm from memory, and from files where only those are left."""
    name, _ = bucket
    rng = np.random.default_rng(3)
    where = f"s3://{name}/p"
    vectors = rng.normal(size=(3000, 16)).astype(np.float32)
    index = squash.connect(where, endpoint_url=endpoint).create_index("x", dimension=16)
    index.put(keys=[f"k{i}" for i in range(3000)], vectors=vectors)
    index.optimize(options=OPTIONS)
    files = TmpFiles(str(tmp_path))

    def opened():
        store = open_store(where, endpoint_url=endpoint)
        settings = Settings(billed=True)
        clock, ids = SystemClock(), SystemIds()
        return Database(store, settings=settings, clock=clock, ids=ids, tmp=files).index("x")

    first = opened()
    with codes_only():
        cold, warm, files_only = (one.query(vectors[7]) for one in (first, first, opened()))
    assert cold.matches == warm.matches == files_only.matches
    assert cold.matches[0].key == "k7"
    assert cold.usage.parts_from_store > 0
    assert cold.usage.parts_from_tmp == 0
    assert warm.usage.parts_from_store == warm.usage.parts_from_tmp == 0
    assert warm.usage.parts_from_memory > 0
    assert warm.usage.store_requests == 1
    assert files_only.usage.parts_from_store == 0
    assert files_only.usage.parts_from_tmp == cold.usage.parts_from_store
    assert files_only.usage.store_bytes < cold.usage.store_bytes


def test_damage_on_the_way_is_not_kept(tmp_path):
    """Bytes that fail their check leave the files too, so that a second try asks the store."""
    inner = MemoryStore()
    inner.put("segments/x", b"bad!")
    loader = RetainedObjects(inner, bytes_max=100, whole_bytes_max=0, tmp=TmpFiles(str(tmp_path)))
    ref = ObjectRef("segments/x", 4, zlib.crc32(b"good"))
    with pytest.raises(ChecksumError):
        loader.load(ref, "bytes", bytes)
    inner.put("segments/x", b"good")
    assert loader.load(ref, "bytes", bytes) == b"good"


def test_damage_and_absence_in_s3_are_typed_errors(endpoint, bucket):
    """A flipped bit, a missing bucket, a server that does not answer."""
    name, client = bucket
    where = f"s3://{name}/p"
    index = squash.connect(where, endpoint_url=endpoint).create_index("x", dimension=4)
    vectors = np.random.default_rng(1).normal(size=(300, 4))
    index.put(keys=[str(i) for i in range(300)], vectors=vectors)
    index.optimize(options=OPTIONS)
    listed = client.list_objects_v2(Bucket=name)["Contents"]
    key = next(o["Key"] for o in listed if o["Key"].endswith("/vectors"))
    body = bytearray(client.get_object(Bucket=name, Key=key)["Body"].read())
    body[len(body) // 2] ^= 1
    client.put_object(Bucket=name, Key=key, Body=bytes(body))
    fresh = squash.connect(where, endpoint_url=endpoint).index("x")
    with pytest.raises(ChecksumError, match="vectors"):
        fresh.query(vectors[0], exact=True)
    assert any(d.object_key in key for d in fresh.verify().damages)
    with pytest.raises(NotFoundError, match="bucket"):
        squash.connect("s3://no-such-bucket-here/p", endpoint_url=endpoint).index("x")
    with pytest.raises(UnavailableError):
        squash.connect(where, endpoint_url="http://127.0.0.1:9").index("x")
