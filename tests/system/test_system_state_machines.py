"""State machines run in the local cloud as they do in Step Functions: tasks, maps, errors."""

from __future__ import annotations

import json
import time
from itertools import pairwise

import boto3
import pytest
import yaml

from squash.errors import InvalidArgumentError
from squash.local import Fault, FaultKind, LocalCloud
from waiting import until

TEMPLATE = """
Transform: AWS::Serverless-2016-10-31
Globals: {Function: {Runtime: python3.13, Handler: app.handler, MemorySize: 256, Timeout: 20}}
Resources:
  Bucket: {Type: AWS::S3::Bucket}
  Toy:
    Type: AWS::Serverless::Function
    Properties: {Environment: {Variables: {MACHINE: !Ref Main}}}
  Main:
    Type: AWS::Serverless::StateMachine
    Properties:
      DefinitionUri: main.asl.yaml
      DefinitionSubstitutions:
        Toy: !GetAtt Toy.Arn
        Bucket: !Ref Bucket
        Width: 3
"""
MAIN = """
StartAt: List
States:
  List:
    Type: Task
    Resource: ${Toy}
    Parameters: {do: list, items.$: $.items, bucket: "${Bucket}"}
    ResultPath: $.listed
    Next: Each
  Each:
    Type: Map
    MaxConcurrency: ${Width}
    ItemReader:
      Resource: arn:aws:states:::s3:getObject
      ReaderConfig: {InputType: JSON}
      Parameters: {Bucket: "${Bucket}", Key.$: $.listed.key}
    ItemProcessor:
      ProcessorConfig: {Mode: DISTRIBUTED, ExecutionType: STANDARD}
      StartAt: Do
      States:
        Do:
          Type: Task
          Resource: arn:aws:states:::lambda:invoke
          Parameters: {FunctionName: "${Toy}", Payload.$: $}
          OutputPath: $.Payload
          Retry:
            - {ErrorEquals: [NotYetError], IntervalSeconds: 1, MaxAttempts: 2, MaxDelaySeconds: 1}
            - ErrorEquals: [Runtime.ExitError, Lambda.TooManyRequestsException,
                Lambda.SdkClientException]
              IntervalSeconds: 1
          End: true
    ResultPath: $.done
    Catch:
      - {ErrorEquals: [States.ExceedToleratedFailureThreshold], ResultPath: $.error, Next: Note}
    End: true
  Note:
    Type: Task
    Resource: ${Toy}
    Parameters: {do: echo, noted.$: $.error.Error}
    End: true
"""
APP = '''
import json, os, time
import boto3

class NotYetError(Exception):
    """A named error."""

def listed(event):
    key = "items"
    boto3.client("s3").put_object(
        Bucket=event["bucket"], Key=key, Body=json.dumps(event["items"]).encode())
    return {"key": key}

def attempt(event):
    with open(event["path"], "a+") as stream:
        stream.write(f"{time.monotonic()}\\n")
        stream.seek(0)
        if len(stream.readlines()) < event["until"]:
            raise NotYetError("not yet")

def start(event):
    client = boto3.client("stepfunctions")
    return client.start_execution(
        stateMachineArn=os.environ["MACHINE"], name=event["name"], input=json.dumps(event["input"])
    )["executionArn"]

def sleep(event):
    time.sleep(event["s"])

DEEDS = {"list": listed, "attempt": attempt, "start": start, "echo": dict, "sleep": sleep}

def handler(event, context):
    return DEEDS[event["do"]](event)
'''
ONE = {"StartAt": "A", "States": {"A": {"Type": "Pass", "End": True}}}


class Machines:
    """A cloud with state machines, and short ways to run them."""

    def __init__(self, cloud):
        self.cloud = cloud
        self.client = boto3.client("stepfunctions", **cloud.client_arguments("stepfunctions"))
        (self.main,) = cloud.cloud.template.state_machines

    def start(self, document, machine=None):
        return self.client.start_execution(
            stateMachineArn=machine or self.main.arn, input=json.dumps(document)
        )["executionArn"]

    def wait(self, execution, seconds=60):
        deadline = time.monotonic() + seconds
        while True:
            found = self.client.describe_execution(executionArn=execution)
            if found["status"] != "RUNNING":
                return found
            assert time.monotonic() < deadline, found
            time.sleep(0.05)

    def run(self, document, machine=None):
        """Run an execution that is to succeed; returns its output."""
        found = self.wait(self.start(document, machine))
        assert found["status"] == "SUCCEEDED", found
        return json.loads(found["output"])


def opened(folder, template=TEMPLATE, definition=MAIN, app=APP, **options):
    (folder / "template.yaml").write_text(template)
    (folder / "main.asl.yaml").write_text(definition)
    (folder / "build" / "Toy").mkdir(parents=True)
    (folder / "build" / "Toy" / "app.py").write_text(app)
    return LocalCloud(
        template=folder / "template.yaml", build=folder / "build", s3_memory=True, **options
    )


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    with opened(tmp_path_factory.mktemp("machines")) as cloud:
        yield Machines(cloud)


@pytest.fixture
def machines(shared):
    """That cloud, with no fault in force."""
    shared.cloud.set_faults([])
    yield shared
    shared.cloud.set_faults([])


def echoes(count):
    return [{"do": "echo", "i": i} for i in range(count)]


def test_a_map_runs_every_item_that_a_function_listed(machines):
    items = echoes(120)
    output = machines.run({"items": items, "kept": 1})
    assert (output["done"], output["kept"]) == (items, 1)
    assert machines.run({"items": []})["done"] == []


def test_a_function_starts_the_machine_that_its_variable_names(machines):
    payload = {"do": "start", "name": "by-hand", "input": {"items": echoes(2)}}
    client = boto3.client("lambda", **machines.cloud.client_arguments("lambda"))
    answer = client.invoke(FunctionName="squash-Toy", Payload=json.dumps(payload).encode())
    execution = json.loads(answer["Payload"].read())
    assert execution == "arn:aws:states:us-east-1:000000000000:execution:squash-Main:by-hand"
    assert machines.wait(execution)["status"] == "SUCCEEDED"


def test_an_error_is_known_by_its_name_and_repeated_after_its_delay(machines, tmp_path):
    path = tmp_path / "attempts"
    machines.run({"items": [{"do": "attempt", "path": str(path), "until": 3}]})
    times = [float(line) for line in path.read_text().split()]
    assert len(times) == 3
    assert all(later - earlier >= 1 for earlier, later in pairwise(times))


def test_an_item_that_fails_for_good_fails_the_map_which_is_caught(machines, tmp_path):
    failing = {"do": "attempt", "path": str(tmp_path / "attempts"), "until": 9}
    output = machines.run({"items": [failing, *echoes(2)]})
    assert output == {"do": "echo", "noted": "States.ExceedToleratedFailureThreshold"}


@pytest.mark.parametrize("kind", [FaultKind.KILL, FaultKind.THROTTLE, FaultKind.DROP])
def test_functions_are_killed_throttled_and_lost_under_a_machine(machines, kind):
    machines.run({"items": []})
    before = machines.cloud.stats()["functions"]["squash-Toy"]
    # The map's first task: that of the list has no one to repeat it.
    client = boto3.client("s3", **machines.cloud.client_arguments("s3"))
    items = [{"do": "sleep", "s": 0.3}] * 4
    client.put_object(Bucket="squash-bucket", Key="slow", Body=json.dumps(items).encode())
    definition = yaml.safe_load(machines.main.definition)
    each = definition["States"]["Each"]
    each["ItemReader"]["Parameters"] = {"Bucket": "squash-bucket", "Key": "slow"}
    machine = machines.client.create_state_machine(
        name=f"only-{kind}",
        definition=json.dumps({"StartAt": "Each", "States": definition["States"]}),
        roleArn="arn:aws:iam::000000000000:role/anyone",
    )["stateMachineArn"]
    machines.cloud.set_faults([Fault(kind, count=1)])
    assert machines.run({}, machine)["done"] == [None] * 4
    after = machines.cloud.stats()["functions"]["squash-Toy"]
    refused = kind == FaultKind.THROTTLE
    assert after["calls"] - before["calls"] == 4 + (not refused)
    assert after["throttled"] - before["throttled"] == refused


def test_an_execution_that_is_stopped_is_over_at_once_and_calls_no_more(machines):
    execution = machines.start({"items": [{"do": "sleep", "s": 0.5}] * 40})
    until(lambda: sum(not one["idle"] for one in machines.cloud.containers()) == 3)
    machines.client.stop_execution(executionArn=execution)
    assert machines.wait(execution, seconds=0)["status"] == "ABORTED"
    until(lambda: all(one["idle"] for one in machines.cloud.containers()))
    calls = machines.cloud.stats()["functions"]["squash-Toy"]["calls"]
    time.sleep(1.0)
    assert machines.cloud.stats()["functions"]["squash-Toy"]["calls"] == calls
    assert machines.client.describe_execution(executionArn=execution)["status"] == "ABORTED"


def test_executions_without_a_name_do_not_meet_and_of_a_name_there_is_one(machines):
    first, second = (machines.start({"items": []}) for _ in range(2))
    assert first != second
    arguments = {"stateMachineArn": machines.main.arn, "name": "named", "input": '{"items": []}'}
    one = machines.client.start_execution(**arguments)["executionArn"]
    machines.wait(one)
    with pytest.raises(machines.client.exceptions.ExecutionAlreadyExists):
        machines.client.start_execution(**arguments)


def test_a_definition_that_is_not_understood_is_refused_at_the_start(tmp_path):
    broken = json.dumps({"StartAt": "A", "States": {"A": {"Type": "Pas"}}})
    with (
        pytest.raises(InvalidArgumentError, match="the state machine Main is not understood"),
        opened(tmp_path, definition=broken),
    ):
        pass


def test_without_a_state_machine_there_is_no_step_functions(tmp_path):
    template = TEMPLATE.partition("  Main:")[0].replace("!Ref Main", "none")
    with opened(tmp_path, template=template) as cloud:
        assert cloud.states_url is None
        assert not list((tmp_path / "build").glob("**/step-functions.log"))
