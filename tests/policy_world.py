"""The S3 Vectors interface over a store in memory, for callers that are only named, not checked."""

from __future__ import annotations

import json
import re
from importlib import import_module

from squash.api.access import Caller
from squash.api.problems import NoCredentialError
from squash.api.s3vectors.face import S3VectorsFace
from squash.api.s3vectors.operations import OPERATIONS
from squash.api.s3vectors.serving import _MODULES
from squash.api.services import make_services
from squash.api.telemetry import LogTelemetry
from squash.clock import SystemIds
from squash.database import Database
from squash.runtime import Settings
from squash.storage import CountingStore, MemoryStore

ACCOUNT = "000000000000"
ARN = f"arn:aws:s3vectors:us-east-1:{ACCOUNT}:bucket/"


def user(name):
    return f"arn:aws:iam::{ACCOUNT}:user/{name}"


def statement(effect, action, resource="media/*", principal="*"):
    """A statement; resources are given from the bucket on, principals by name."""
    resources = resource if isinstance(resource, list) else [resource]
    return {
        "Effect": effect,
        "Principal": "*" if principal == "*" else {"AWS": user(principal)},
        "Action": action,
        "Resource": [ARN + one for one in resources],
    }


def policy(*statements):
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


class NamingGate:
    """Takes callers by the access key that a request says to be signed with, unchecked."""

    def __init__(self, callers):
        self.callers = {caller.name: caller for caller in callers}

    def admit(self, request):
        found = re.search(r"Credential=([^/]+)/", request.headers.get("authorization", ""))
        if found is None:
            raise NoCredentialError("the request is not signed: sign it", given=False)
        return self.callers[found[1]]


class PolicyWorld:
    """Functions that share what they know of policies, as in one process."""

    def __init__(self, callers, clock, store=None):
        self.clock = clock
        self.store = CountingStore(store or MemoryStore())
        self.database = Database(self.store, settings=Settings(), clock=clock, ids=SystemIds())
        self.gate = NamingGate([Caller("root"), *callers])
        self.services = make_services(self.database, clock)
        self.faces = {name: self._face(name) for name in _MODULES}

    def _face(self, name):
        endpoints = {}
        for module in _MODULES[name]:
            endpoints |= import_module(f"squash.api.s3vectors.{module}").ENDPOINTS
        return S3VectorsFace(
            name,
            endpoints,
            self.services,
            gate=self.gate,
            telemetry=LogTelemetry(),
            clock=self.clock,
            ids=SystemIds(),
            region="us-east-1",
        )

    def ask(self, name, operation, members):
        """The status, the error's code if any, and the document that a caller is answered."""
        signed = {"authorization": f"AWS4-HMAC-SHA256 Credential={name}/x"} if name else {}
        event = {
            "version": "2.0",
            "rawPath": f"/{operation}",
            "rawQueryString": "",
            "headers": {"content-type": "application/json"} | signed,
            "requestContext": {"http": {"method": "POST", "path": f"/{operation}"}},
            "body": json.dumps(members),
            "isBase64Encoded": False,
        }
        answer = self.faces[OPERATIONS[operation].function](event, None)
        code = answer["headers"].get("x-amzn-ErrorType", "")
        return answer["statusCode"], code, json.loads(answer["body"])

    def done(self, operation, **members):
        """What root is answered, which it must be."""
        status, _, document = self.ask("root", operation, members)
        assert status == 200, document
        return document

    def media(self):
        """A bucket of two indexes of one vector each."""
        self.done("CreateVectorBucket", vectorBucketName="media")
        for index in ("papers", "photos"):
            self.done(
                "CreateIndex",
                **bucket("media"),
                indexName=index,
                dataType="float32",
                dimension=2,
                distanceMetric="euclidean",
            )
            self.done("PutVectors", **one("media", index), vectors=[VECTOR])


VECTOR = {"key": "a", "data": {"float32": [1, 0]}, "metadata": {"team": "red"}}
QUERY = {"topK": 1, "queryVector": {"float32": [1, 0]}}


def bucket(name):
    return {"vectorBucketName": name}


def one(name, index):
    return {"vectorBucketName": name, "indexName": index}
