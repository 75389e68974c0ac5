"""The bulk build's state machine, as it stands, goes on until a gate says that nothing is left.

A toy stands for the builder: it keeps what is done among objects, as that does, and fails as told.
"""

from __future__ import annotations

import json
from pathlib import Path

import boto3
import pytest
from test_system_state_machines import Machines, opened

from squash.local import Fault, FaultKind

ASL = (Path(__file__).resolve().parents[2] / "infra" / "bulk_build.asl.yaml").read_text("utf-8")
TEMPLATE = """
Transform: AWS::Serverless-2016-10-31
Globals: {Function: {Runtime: python3.13, Handler: app.handler, MemorySize: 256, Timeout: 20}}
Resources:
  Bucket: {Type: AWS::S3::Bucket}
  Toy: {Type: AWS::Serverless::Function, Properties: {Environment: {Variables: {B: !Ref Bucket}}}}
  Main:
    Type: AWS::Serverless::StateMachine
    Properties:
      DefinitionUri: main.asl.yaml
      DefinitionSubstitutions:
        Partition: !Ref AWS::Partition
        Builder: !GetAtt Toy.Arn
        MaxConcurrency: 4
"""
APP = """
import json, os, time
import boto3

STAGES = ["plan", "assign", "publish"]
WIDTHS = {"plan": 1, "assign": 7, "publish": 1}
client = boto3.client("s3")

class UnavailableError(Exception): pass
class DataError(Exception): pass
class BuildStoppedError(Exception): pass

def keys(prefix):
    found = client.list_objects_v2(Bucket=os.environ["B"], Prefix=prefix)
    return [one["Key"] for one in found.get("Contents", [])]

def put(key, value):
    client.put_object(Bucket=os.environ["B"], Key=key, Body=json.dumps(value).encode())

def open_stage(event):
    build, stage = event["build"], event["open"]
    if keys(f"{build}/stops/"):
        raise BuildStoppedError("it was stopped")
    left = [batch for batch in range(WIDTHS[stage]) if not keys(f"{build}/done/{stage}-{batch}")]
    tasks = [{"index": event["index"], "build": build, "stage": stage, "batch": b} for b in left]
    put(f"{build}/items/{stage}", tasks)
    position = STAGES.index(stage) + 1
    return {
        "stage": stage, "tasks": len(left), "bucket": os.environ["B"],
        "key": f"{build}/items/{stage}",
        "next": STAGES[position] if position < len(STAGES) else None,
    }

def work(event, context):
    build, name = event["build"], f"{event['stage']}-{event['batch']}"
    tries = len(keys(f"{build}/tries/{name}/"))
    put(f"{build}/tries/{name}/{context.aws_request_id}", 1)
    time.sleep(0.2)
    told = json.loads(client.get_object(Bucket=os.environ["B"], Key="told")["Body"].read())
    what = (told.get(name) or [])[tries:][:1]
    if what == ["nothing"]:
        return {"stage": event["stage"], "batch": event["batch"], "rows": 0}
    if what:
        raise {"UnavailableError": UnavailableError, "DataError": DataError}[what[0]]("as told")
    put(f"{build}/done/{name}", 1)
    return {"stage": event["stage"], "batch": event["batch"], "rows": 1}

def handler(event, context):
    if "open" in event:
        return open_stage(event)
    if "failed" in event:
        if not keys(f"{event['build']}/stops/"):  # what stopped it first
            put(f"{event['build']}/stops/1", event["failed"])
        return {}
    return work(event, context)
"""


class Builds(Machines):
    """A cloud with the machine, and its objects."""

    def __init__(self, cloud):
        super().__init__(cloud)
        self.s3 = boto3.client("s3", **cloud.client_arguments("s3"))

    def build(self, build, told=None):
        """Run a build to its end; returns what became of the execution."""
        self.s3.put_object(Bucket="squash-bucket", Key="told", Body=json.dumps(told or {}).encode())
        return self.wait(self.start({"index": "i", "build": build}))

    def names(self, prefix):
        found = self.s3.list_objects_v2(Bucket="squash-bucket", Prefix=prefix)
        return [one["Key"].removeprefix(prefix) for one in found.get("Contents", [])]

    def tries(self, build, name):
        return len(self.names(f"{build}/tries/{name}/"))

    def stop(self, build):
        return json.loads(
            self.s3.get_object(Bucket="squash-bucket", Key=f"{build}/stops/1")["Body"].read()
        )


@pytest.fixture(scope="module")
def builds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bulk")
    with opened(folder, template=TEMPLATE, definition=ASL, app=APP) as cloud:
        yield Builds(cloud)


DONE = sorted(["plan-0", *(f"assign-{batch}" for batch in range(7)), "publish-0"])


def test_every_task_of_every_stage_is_done_once(builds):
    assert builds.build("whole")["status"] == "SUCCEEDED"
    assert builds.names("whole/done/") == DONE
    assert len(builds.names("whole/tries/")) == len(DONE)
    # Begun anew, as a resumption begins it, there is nothing left to do.
    assert builds.build("whole")["status"] == "SUCCEEDED"
    assert len(builds.names("whole/tries/")) == len(DONE)


def test_a_task_whose_container_is_killed_is_repeated(builds):
    builds.cloud.set_faults([Fault(FaultKind.KILL, count=3, delay_ms=60)])
    assert builds.build("killed")["status"] == "SUCCEEDED"
    assert builds.names("killed/done/") == DONE
    assert builds.cloud.stats()["functions"]["squash-Toy"]["killed"] >= 1


def test_a_task_that_says_to_repeat_it_is_repeated(builds):
    assert builds.build("later", {"assign-3": ["UnavailableError"]})["status"] == "SUCCEEDED"
    assert builds.tries("later", "assign-3") == 2


def test_a_map_that_takes_too_much_for_done_is_run_again_for_what_is_left(builds):
    told = {"assign-2": ["nothing"], "assign-5": ["nothing", "nothing"]}
    assert builds.build("again", told)["status"] == "SUCCEEDED"
    tries = [builds.tries("again", f"assign-{batch}") for batch in range(7)]
    assert tries == [1, 1, 2, 1, 1, 3, 1]


def test_a_task_that_fails_for_good_stops_the_build_and_says_why(builds):
    found = builds.build("stopped", {"assign-4": ["DataError"]})
    assert (found["status"], found["error"]) == ("FAILED", "BuildStoppedError")
    noted = builds.stop("stopped")
    assert (noted["stage"], noted["error"]) == ("assign", "DataError")
    assert json.loads(noted["cause"])["errorMessage"] == "as told"
    assert "publish-0" not in builds.names("stopped/done/")


def test_a_stage_that_never_gets_done_ends_the_build(builds):
    found = builds.build("stuck", {"assign-0": ["nothing"] * 9})
    assert found["status"] == "FAILED"
    assert builds.stop("stuck")["error"] == "UnavailableError"
    assert builds.tries("stuck", "assign-0") == 4
