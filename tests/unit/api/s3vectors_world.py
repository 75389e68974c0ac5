"""The wire API of S3 Vectors, served in this process, and asked by botocore's own client."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.client import HTTPConnection

import botocore.session
from botocore import UNSIGNED
from botocore.client import Config

from squash.api.access import OpenGate
from squash.api.serving import make_faces, make_server
from squash.clock import SystemClock, SystemIds
from squash.database import Database
from squash.runtime import Settings
from squash.storage import MemoryStore

SERVICE = "s3vectors"
REGION = "us-east-1"
ACCOUNT = "000000000000"
# Of protocols below the service model: any operation may answer these.
BELOW_THE_MODEL = frozenset(
    {
        "AccessDeniedException",
        "IncompleteSignatureException",
        "InvalidSignatureException",
        "MethodNotAllowedException",
        "MissingAuthenticationTokenException",
        "RequestTooLargeException",
        "UnknownOperationException",
        "UnrecognizedClientException",
    }
)


def service_model():
    return botocore.session.Session().get_service_model(SERVICE)


def arn(bucket, index=""):
    rest = f"/index/{index}" if index else ""
    return f"arn:aws:s3vectors:{REGION}:{ACCOUNT}:bucket/{bucket}{rest}"


class Reply:
    """An answer as it came, with its body parsed."""

    def __init__(self, status, headers, text):
        self.status = status
        self.headers = {name.lower(): value for name, value in headers.items()}
        self.document = json.loads(text) if text else None

    @property
    def code(self):
        return self.headers.get("x-amzn-errortype")

    @property
    def message(self):
        return self.document["message"]


class Live:
    """A server on a port of its own, over a store in memory."""

    def __init__(self, port, database):
        self.port = port
        self.database = database
        self.client = self.make_client(parameter_validation=True)

    def make_client(self, **config):
        return botocore.session.Session().create_client(
            SERVICE,
            region_name=REGION,
            endpoint_url=f"http://127.0.0.1:{self.port}",
            config=Config(signature_version=UNSIGNED, retries={"total_max_attempts": 1}, **config),
        )

    def send(self, method, path, body=None, headers=None):
        """Send a request as it is, without a client that would know better."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            data = body if isinstance(body, (str, bytes, type(None))) else json.dumps(body)
            connection.request(method, path, data, headers or {"content-type": "application/json"})
            answer = connection.getresponse()
            return Reply(answer.status, dict(answer.headers), answer.read())
        finally:
            connection.close()

    def call(self, operation, body):
        return self.send("POST", f"/{operation}", body)


@contextmanager
def live(gate=None, clock=None, database=None, s3vectors=None):
    """Serve until the block ends."""
    clock = clock or SystemClock()
    database = database or Database(
        MemoryStore(), settings=Settings(), clock=clock, ids=SystemIds()
    )
    faces = make_faces(
        database, gate=gate or OpenGate(), clock=clock, ids=SystemIds(), s3vectors=s3vectors
    )
    server = make_server(faces, port=0, ids=SystemIds(), clock=clock)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield Live(server.server_port, database)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
