"""A template and toy functions that do what they are told, built as `sam build` leaves them."""

from __future__ import annotations

import http.client
import json
import socket
from contextlib import contextmanager
from threading import Thread
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from squash.local import LocalCloud

TEMPLATE = """
Transform: AWS::Serverless-2016-10-31
Globals:
  Function: {Runtime: python3.13, Handler: app.handler, MemorySize: 256, Timeout: 20}
Resources:
  Bucket: {Type: AWS::S3::Bucket}
  Library: {Type: AWS::Serverless::LayerVersion}
  Toy:
    Type: AWS::Serverless::Function
    Properties:
      Layers: [!Ref Library]
      Environment: {Variables: {BUCKET: !Ref Bucket}}
      Events:
        Echo: {Type: HttpApi, Properties: {Method: ANY, Path: "/echo/{name}/{rest+}"}}
        Answer: {Type: HttpApi, Properties: {Method: POST, Path: /answer}}
        Guarded:
          Type: HttpApi
          Properties: {Method: GET, Path: /guarded, Auth: {Authorizer: AWS_IAM}}
        Hourly: {Type: Schedule, Properties: {Schedule: rate(1 hour)}}
  Hasty: {Type: AWS::Serverless::Function, Properties: {Timeout: 1}}
  Single: {Type: AWS::Serverless::Function, Properties: {ReservedConcurrentExecutions: 1}}
  Tenants:
    Type: AWS::Serverless::Function
    Properties: {TenancyConfig: {TenantIsolationMode: PER_TENANT}}
  Broken: {Type: AWS::Serverless::Function}
"""
LAYER = "WORD = 'from the layer'\n"
BROKEN = "import a_module_that_nobody_has\n"
APP = '''
import json, os, socket, tempfile, time
import boto3  # the runtime has it

calls = 0

def meet(event, context):
    """Say that we are here, then wait to be let go."""
    with socket.create_connection(("127.0.0.1", event["port"])) as connection:
        return connection.recv(1).decode()

def fill(event, context):
    held = bytearray(event["mb"] << 20)
    held[::4096] = b"x" * len(held[::4096])
    time.sleep(event["hold_s"])
    return len(held)

def write(event, context):
    path = os.path.join(tempfile.gettempdir(), "file")
    with open(path, "wb") as stream:
        stream.write(bytes(event["mb"] << 20))
    return path

def attempt(event, context):
    with open(event["path"], "a+") as stream:
        stream.write(context.aws_request_id + "\\n")
        stream.seek(0)
        attempts = len(stream.readlines())
    if attempts < event["until"]:
        raise ValueError("not yet")

def s3(event, context):
    client = boto3.client("s3")
    client.put_object(Bucket=os.environ["BUCKET"], Key="k", Body=b"stored")
    return client.get_object(Bucket=os.environ["BUCKET"], Key="k")["Body"].read().decode()

def found(event, context):
    def importable(name):
        try:
            __import__(name)
        except ImportError:
            return False
        return True
    import layer_module
    return {"word": layer_module.WORD, **{name: importable(name) for name in event["names"]}}

DEEDS = {
    "echo": lambda event, context: event,
    "about": lambda event, context: {
        "pid": os.getpid(), "calls": calls, "tmp": tempfile.gettempdir(),
        "home": os.environ["HOME"], "memory": context.memory_limit_in_mb,
        "tenant": context.tenant_id, "arn": context.invoked_function_arn,
        "remaining_ms": context.get_remaining_time_in_millis(),
        "custom": context.client_context and context.client_context.custom,
        "environment": dict(os.environ), "cwd": os.getcwd(),
    },
    "print": lambda event, context: print(event["text"]),
    "raise": lambda event, context: 1 / 0,
    "exit": lambda event, context: os._exit(3),
    "sleep": lambda event, context: time.sleep(event["s"]),
    "large": lambda event, context: "x" * event["size"],
    "meet": meet, "fill": fill, "write": write, "attempt": attempt, "s3": s3, "found": found,
}

def handler(event, context):
    global calls
    calls += 1
    if event.get("version") == "2.0":
        if event["rawPath"] == "/answer":
            return json.loads(event["body"])
        return {"statusCode": 200, "body": json.dumps(event)}
    if event.get("source") == "aws.events":
        return print("scheduled", event["detail-type"])
    return DEEDS[event["do"]](event, context)
'''


def build(folder):
    """Write the template and what is built of it; returns their paths."""
    (folder / "template.yaml").write_text(TEMPLATE)
    for name in ("Toy", "Hasty", "Single", "Tenants", "Broken"):
        (folder / "build" / name).mkdir(parents=True)
        (folder / "build" / name / "app.py").write_text(BROKEN if name == "Broken" else APP)
    (folder / "build" / "Library" / "python").mkdir(parents=True)
    (folder / "build" / "Library" / "python" / "layer_module.py").write_text(LAYER)
    return folder / "template.yaml", folder / "build"


class Toys:
    """A cloud with the toys, and short ways to call them."""

    def __init__(self, cloud, client):
        self.cloud = cloud
        self.client = client

    def call(self, function="Toy", *, tenant=None, **event):
        """Invoke a function; returns its answer, or raises what AWS's client raises."""
        response = self.answer(function, tenant=tenant, **event)
        assert "FunctionError" not in response, response["Payload"].read()
        return json.loads(response["Payload"].read())

    def error(self, function="Toy", **event):
        """Invoke a function that is to fail; returns its error."""
        response = self.answer(function, **event)
        assert response["FunctionError"] == "Unhandled"
        return json.loads(response["Payload"].read())

    def answer(self, function="Toy", *, tenant=None, options=None, **event):
        arguments = {} if tenant is None else {"TenantId": tenant}
        return self.client.invoke(
            FunctionName=f"squash-{function}",
            Payload=json.dumps(event).encode(),
            **arguments,
            **(options or {}),
        )

    @contextmanager
    def running(self, function="Toy", *, tenant=None, **event):
        """Have a call run while the block does; its answer, or why there is none, is listed."""
        answers = []

        def run(**event):
            try:
                answers.append(self.answer(function, tenant=tenant, **event))
            except (BotoCoreError, ClientError) as error:
                answers.append(error)

        with socket.create_server(("127.0.0.1", 0)) as server:
            event = {"do": "meet"} | event | {"port": server.getsockname()[1]}
            thread = Thread(target=run, kwargs=event)
            thread.start()
            connection, _ = server.accept()
        with connection:
            yield answers
        thread.join()


NO_RETRIES = Config(retries={"total_max_attempts": 1}, read_timeout=60)


def opened(built, **options):
    template, artefacts = built
    return LocalCloud(template=template, build=artefacts, s3_memory=True, **options)


def toys_of(cloud):
    return Toys(
        cloud, boto3.client("lambda", config=NO_RETRIES, **cloud.client_arguments("lambda"))
    )


def request(url, method, path, body=None, headers=None):
    """Send one request; returns the status, the headers and the body."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    try:
        connection.request(method, path, body=body, headers=headers or {})
        response = connection.getresponse()
        return response.status, response.msg, response.read()
    finally:
        connection.close()


def refused(toys, *arguments, **event):
    """Invoke a function that is not to run; returns the code and the status."""
    with pytest.raises(ClientError) as caught:
        toys.answer(*arguments, **event)
    response = caught.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]
