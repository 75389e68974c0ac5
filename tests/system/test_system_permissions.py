"""What functions do to the store, builds included, is what their roles may do, and no more."""

from __future__ import annotations

import importlib.util
import json
from fnmatch import fnmatchcase
from types import SimpleNamespace
from urllib.parse import unquote

import numpy as np
import pytest

import squash.database
from bulk_files import SIZES
from permissions import allowed, written_once
from squash.api import functions
from squash.api.credentials import create_key
from squash.api.environment import IN_THE_STORE
from squash.api.s3vectors.operations import OPERATIONS
from squash.api.signing_keys import ensure_signing_key
from squash.clock import SystemClock, SystemIds
from squash.maintain.bulk.batches import stage_tasks
from squash.maintain.bulk.stages import STAGES
from squash.runtime import Settings
from squash.storage import MemoryStore
from templates import ROOT, read

TEMPLATE = read("template.yaml")
PLACE = {"vectorBucketName": "media"}
ARN = "arn:aws:s3vectors:eu-central-1:123456789012:bucket/media"
NAMES = ("papers", "log", "settings")  # the last two as folders are called, too
POLICY = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": "*", "Action": "s3vectors:*", "Resource": f"{ARN}/index/*"}
    ],
}


class RecordingStore:
    """Notes what is done to a store, in the words of S3."""

    def __init__(self, store):
        self._store = store
        self.done = set()
        self.overwritten = set()

    def get(self, key):
        self.done.add(("s3:GetObject", key))
        return self._store.get(key)

    def get_ranges(self, key, ranges):
        self.done.add(("s3:GetObject", key))
        return self._store.get_ranges(key, ranges)

    def put(self, key, data):
        self.done.add(("s3:PutObject", key))
        self.overwritten.add(key)
        self._store.put(key, data)

    def put_if_absent(self, key, data):
        self.done.add(("s3:PutObject", key))
        return self._store.put_if_absent(key, data)

    def delete(self, keys):
        listed = list(keys)
        self.done |= {("s3:DeleteObject", key) for key in listed}
        self._store.delete(listed)

    def delete_if_same(self, key, data):
        self.done |= {("s3:GetObject", key), ("s3:DeleteObject", key)}
        self._store.delete_if_same(key, data)

    def list(self, prefix, *, start_after="", limit=None):
        self.done.add(("s3:ListBucket", "bucket"))
        return self._store.list(prefix, start_after=start_after, limit=limit)

    def list_folders(self, prefix):
        self.done.add(("s3:ListBucket", "bucket"))
        return self._store.list_folders(prefix)


def sign_of_events():
    """Return what `events/sign.py` signs events with."""
    spec = importlib.util.spec_from_file_location("sign", ROOT / "events" / "sign.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.signed


class Functions:
    """The functions on one store, each with a record of its own, and one who may everything."""

    def __init__(self, monkeypatch):
        self._store = MemoryStore()
        self.stores = {}
        self._sign = sign_of_events()
        key = ensure_signing_key(IN_THE_STORE[0], self._store)
        self._key = create_key(
            self._store,
            scopes=["read", "write", "admin"],
            indexes=["*"],
            clock=SystemClock(),
            signing_key=key,
        )
        self._event = json.loads((ROOT / "events" / "documents-put-vectors.json").read_text())
        self._handlers = {}
        for name in ("coordinator", "documents", "indexes", "compactor", "builder"):
            self.stores[name] = RecordingStore(self._store)
            with monkeypatch.context() as patch:
                found = self.stores[name]
                patch.setattr(
                    "squash.runtime.functions.store_of", lambda _, store=found, **_more: store
                )
                environment = {
                    "SQUASH_STORE": "memory://x",
                    "SQUASH_SIGNING_KEY": "store",
                    "AWS_REGION": "eu-central-1",
                }
                self._handlers[name] = getattr(functions, name)(environment)

    def ask(self, name, *, query="", **members):
        """Ask for an operation; return the function's answer."""
        operation = OPERATIONS[name]
        path = operation.path + (members.pop("arn") if operation.on == "resource" else "")
        event = self._event | {"rawPath": unquote(path), "rawQueryString": query}
        http = {"method": operation.method, "path": path}
        event["requestContext"] = event["requestContext"] | {"http": http}
        event["body"] = json.dumps(members) if operation.method == "POST" else ""
        signed = self._sign(event, self._key.record.access_key_id, self._key.secret)
        answer = self._handlers[operation.function](signed, self._context())
        assert answer["statusCode"] == 200, (name, answer)
        return json.loads(answer["body"])

    def compact(self, event):
        """Run the compactor."""
        return self._handlers["compactor"](event, self._context())

    def build(self, name, inputs):
        """Have an index built from files, by the events that the state machine sends."""
        index = squash.database.Database(
            self.stores["indexes"], settings=Settings(), clock=SystemClock(), ids=SystemIds()
        ).index(name)
        builds = index.bulk_builds()
        build = builds.prepare([inputs], replaces=True, sizes=SIZES).build
        own = {"index": name, "build": build}
        for stage in STAGES:
            listed = self._handlers["builder"](own | {"open": stage.value}, self._context())
            for task in stage_tasks(builds._store, name, build, stage):
                self._handlers["builder"](task.to_json(), self._context())
            again = self._handlers["builder"](own | {"open": stage.value}, self._context())
            assert again["tasks"] == 0, (stage, listed)
        assert builds.status(build).state == "published"
        stopped = builds.prepare([inputs], replaces=True).build
        builds.cancel(stopped)
        builds.resume(stopped)
        failed = {"stage": "plan", "error": "x", "cause": "y"}
        told = {"index": name, "build": stopped, "failed": failed}
        self._handlers["builder"](told, self._context())
        assert builds.status(stopped).state == "failed"
        assert len(builds.list()) == 2

    @staticmethod
    def _context():
        return SimpleNamespace(
            aws_request_id="x", get_remaining_time_in_millis=lambda: 900_000, function_name="x"
        )


def write_files(folder):
    """Write files of as few rows as go through every stage."""
    folder.mkdir()
    rng = np.random.default_rng(8)
    for number in range(3):
        np.save(folder / f"{number}.npy", rng.standard_normal((400, 2)).astype(np.float32))
    return f"{folder.as_uri()}/"


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """The functions, after a life of a vector bucket with indexes called like folders."""
    made = Functions(monkeypatch)
    made.ask("CreateVectorBucket", **PLACE, tags={"a": "b"})
    made.ask("PutVectorBucketPolicy", **PLACE, policy=json.dumps(POLICY))
    made.ask("PutVectorBucketDefaultIndexMode", **PLACE, defaultIndexMode="ENHANCED")
    for name in NAMES:
        index = {**PLACE, "indexName": name}
        kind = {"dataType": "float32", "dimension": 2, "distanceMetric": "euclidean"}
        made.ask("CreateIndex", **index, **kind, tags={"a": "b"})
        made.ask("UpdateIndexMode", **index, indexMode="ENHANCED")
        rows = [{"key": str(n), "data": {"float32": [n, 1]}} for n in range(9)]
        made.ask("PutVectors", **index, vectors=rows)
        made.ask("DeleteVectors", **index, keys=["1"])
        made.compact({"index": f"media/{name}"})
        made.ask("GetVectors", **index, keys=["2"], returnData=True)
        made.ask("ListVectors", **index)
        made.ask("QueryVectors", **index, queryVector={"float32": [1, 1]}, topK=3)
        made.ask("GetIndex", **index)
        made.build(f"media/{name}", write_files(tmp_path / name))
        made.compact({"gc": True})
    for arn in (ARN, f"{ARN}/index/papers"):
        made.ask("TagResource", arn=arn, tags={"c": "d"})
        made.ask("ListTagsForResource", arn=arn)
        made.ask("UntagResource", arn=arn, query="tagKeys=c")
    for operation in ("GetVectorBucket", "ListIndexes", "GetVectorBucketPolicy"):
        made.ask(operation, **PLACE)
    made.ask("ListVectorBuckets")
    made.compact({"gc": True})
    for name in NAMES:
        made.ask("DeleteIndex", **PLACE, indexName=name)
    made.ask("DeleteVectorBucketPolicy", **PLACE)
    made.ask("DeleteVectorBucket", **PLACE)
    made.compact({"gc": True})
    return made


def test_functions_do_what_their_roles_may(asked):
    """Every read, write and removal is one that IAM lets through; the signing key is elsewhere."""
    for name, store in asked.stores.items():
        may = allowed(TEMPLATE, f"{name.capitalize()}Role")
        refused = {
            (action, key)
            for action, key in store.done
            if not key.startswith("_signing/")  # in the Parameter Store, where there is one
            and not any(action == one and fnmatchcase(key, pattern) for one, pattern in may)
        }
        assert refused == set(), name


def test_what_is_written_over_is_nothing_that_the_bucket_keeps(asked):
    """The bucket's policy refuses unconditional writes of commits; no other write meets that."""
    once = written_once(TEMPLATE)
    for name, store in asked.stores.items():
        met = [key for key in store.overwritten if any(fnmatchcase(key, one) for one in once)]
        assert met == [], name
