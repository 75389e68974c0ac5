"""The functions that speak the API of S3 Vectors, over a store in memory, asked by events."""

from __future__ import annotations

import json

from squash.api.access import OpenGate
from squash.api.faces import function_of
from squash.api.serving import make_faces
from squash.clock import SystemIds
from squash.database import Database
from squash.limits import LAMBDA_RESPONSE_BYTES_MAX
from squash.runtime import Settings
from squash.storage import MemoryStore

PLACE = {"vectorBucketName": "bucket", "indexName": "index"}


class StoppedClock:
    """Stands still until it is moved."""

    def __init__(self, now_ms=1_795_688_431_000):
        self.ms = now_ms

    def now_ms(self):
        return self.ms

    def sleep(self, seconds):
        self.ms += int(seconds * 1000)


class Answer:
    """A handler's answer, with its body parsed."""

    def __init__(self, raw):
        assert len(json.dumps(raw)) <= LAMBDA_RESPONSE_BYTES_MAX
        self.raw = raw
        self.status = raw["statusCode"]
        self.document = json.loads(raw["body"])
        self.code = raw["headers"].get("x-amzn-ErrorType", "")
        assert (self.status >= 400) == bool(self.code)

    @property
    def message(self):
        return self.document["message"]


class Service:
    """A store and the handlers over it, with one bucket and one index.

    With a `store`, the handlers of containers that come cold to what it holds.
    """

    def __init__(
        self,
        dimension=2,
        metric="cosine",
        *,
        gate=None,
        non_filterable=(),
        store=None,
        clock=None,
    ):
        self.clock = clock or StoppedClock()
        self.store = store or MemoryStore(self.clock)
        self.database = Database(self.store, settings=Settings(), clock=self.clock, ids=SystemIds())
        self.faces = make_faces(
            self.database, gate=gate or OpenGate(), clock=self.clock, ids=SystemIds()
        )
        if store is not None:
            return
        self.must("CreateVectorBucket", vectorBucketName="bucket")
        hidden = {"metadataConfiguration": {"nonFilterableMetadataKeys": list(non_filterable)}}
        self.must(
            "CreateIndex",
            **PLACE,
            dataType="float32",
            dimension=dimension,
            distanceMetric=metric,
            **(hidden if non_filterable else {}),
        )

    def send(self, operation, body):
        """Post a body, text or anything that JSON can say."""
        path = f"/{operation}"
        http = {"method": "POST", "path": path}
        event = {
            "version": "2.0",
            "rawPath": path,
            "rawQueryString": "",
            "headers": {"content-type": "application/json"},
            "requestContext": {"http": http, "requestId": "r", "accountId": "123456789012"},
            "body": body if isinstance(body, str) else json.dumps(body),
            "isBase64Encoded": False,
        }
        return Answer(self.faces[function_of("POST", path)](event, None))

    def ask(self, operation, **members):
        """Ask about the one index, unless told otherwise."""
        return self.send(operation, {**PLACE, **members})

    def must(self, operation, **members):
        """Post an operation's members; it succeeds."""
        answer = self.send(operation, members)
        assert answer.status == 200, answer.document
        return answer.document

    def do(self, operation, **members):
        """Ask about the one index; it succeeds."""
        return self.must(operation, **PLACE, **members)

    @property
    def index(self):
        """The index, by the library."""
        return self.database.index("bucket/index")

    def put(self, rows, at_once=500):
        """Put (key, vector, metadata) rows, in as many requests as it takes."""
        rows = list(rows)
        for begin in range(0, len(rows), at_once):
            vectors = [
                {"key": key, "data": {"float32": vector}}
                | ({} if metadata is None else {"metadata": metadata})
                for key, vector, metadata in rows[begin : begin + at_once]
            ]
            self.do("PutVectors", vectors=vectors)

    def pages(self, operation, **members):
        """Ask for all pages, with the answer of each."""
        pages = [self.do(operation, **members)]
        while "nextToken" in pages[-1]:
            pages.append(self.do(operation, **members, nextToken=pages[-1]["nextToken"]))
        return pages

    def listed(self, operation, **members):
        """All vectors of all pages."""
        return [one for page in self.pages(operation, **members) for one in page["vectors"]]

    def query(self, vector, top_k, **members):
        """All matches of a query, of all its pages."""
        return self.listed("QueryVectors", queryVector={"float32": vector}, topK=top_k, **members)
