"""The state machine of bulk builds: its definition as it is written, and what it does of it."""

from __future__ import annotations

import json
import re
import time
from types import SimpleNamespace

import boto3
import pytest
import yaml
from moto import mock_aws
from moto.awslambda_simple.models import LambdaSimpleBackend

from permissions import allowed
from squash import errors
from squash.maintain.bulk.stages import STAGES
from templates import ROOT, functions, read

TEMPLATE = read("template.yaml")
MACHINE = TEMPLATE["Resources"]["BulkBuild"]["Properties"]
PATH = ROOT / MACHINE["DefinitionUri"]
TEXT = PATH.read_text(encoding="utf-8")
GIVEN = {"Partition": "aws", "Builder": "squash-builder", "MaxConcurrency": "7"}
# What Lambda and Step Functions call what is not an error of ours.
THEIRS = {
    "Lambda.ServiceException",
    "Lambda.AWSLambdaException",
    "Lambda.SdkClientException",
    "Lambda.ClientExecutionTimeoutException",
    "Lambda.TooManyRequestsException",
    "Lambda.Unknown",
    "Runtime.ExitError",
    "Runtime.OutOfMemory",
    "Sandbox.Timedout",
    "States.Timeout",
    "States.ALL",
}
# What is not the same in emulators, or not there: batches, results written by the map, JSONata.
UNUSED = {
    "ItemBatcher",
    "ResultWriter",
    "QueryLanguage",
    "Assign",
    "ToleratedFailurePercentage",
    "ToleratedFailureCount",
}
DEFINITION_BYTES_MAX = 1 << 20


def definition():
    text = TEXT
    for name, value in GIVEN.items():
        text = text.replace(f"${{{name}}}", value)
    return yaml.safe_load(text)


def machines(machine):
    """Walk a machine and those of its maps."""
    yield machine
    for state in machine["States"].values():
        if "ItemProcessor" in state:
            yield from machines(state["ItemProcessor"])


def states():
    return {n: s for one in machines(definition()) for n, s in one["States"].items()}


def followers(state):
    """Walk the names of the states that can come after one."""
    for part in (state, *state.get("Choices", ()), *state.get("Catch", ())):
        yield from (part[name] for name in ("Next", "Default") if name in part)


def members(value):
    """Walk the names of all members of what is nested."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield name
            yield from members(part)
    elif isinstance(value, list):
        for part in value:
            yield from members(part)


def test_machine_reaches_every_state_and_no_other():
    """From its beginning, by what follows, by choices and by failures; each path has an end."""
    for machine in machines(definition()):
        found, waiting = set(), [machine["StartAt"]]
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                waiting += followers(machine["States"][name])
        assert found == set(machine["States"])
        for name, state in machine["States"].items():
            ends = state["Type"] in {"Fail", "Succeed"} or state.get("End", False)
            assert ends != bool({"Next", "Default"} & set(state)), name


def test_machine_names_errors_that_there_are():
    """Ours by the names of their classes, as Lambda tells them; and Lambda's own."""
    ours = {name for name, kind in vars(errors).items() if isinstance(kind, type)}
    named = {
        error
        for state in states().values()
        for rule in (*state.get("Retry", ()), *state.get("Catch", ()))
        for error in rule["ErrorEquals"]
    }
    assert named <= ours | THEIRS
    # Names are compared whole: a subclass of what is retried is named itself.
    retried = {rule for rule in named if isinstance(getattr(errors, rule, None), type)}
    again = (errors.UnavailableError, errors.ThrottledError)
    assert {name for name in ours if issubclass(getattr(errors, name), again)} <= retried
    assert {"BuildStoppedError", "InvalidArgumentError", "DataError"} & named == set()


def test_machine_does_again_what_ended_with_its_container():
    """Killed for its memory, as Lambda says in two ways, crashed, or out of time."""
    ends = {"Runtime.ExitError", "Runtime.OutOfMemory", "Sandbox.Timedout", "States.Timeout"}
    tasks = [states()["Open"], states()["Do"]]
    assert [ends in [set(rule["ErrorEquals"]) for rule in one["Retry"]] for one in tasks] == [
        True,
        True,
    ]


def test_machine_gives_every_task_longer_than_the_function_has():
    """So that it is the function's own time-out that ends it, by its own name; each is retried."""
    timeout_s = functions(TEMPLATE)["Builder"]["Timeout"]
    tasks = {name: state for name, state in states().items() if state["Type"] == "Task"}
    assert {"Open", "Do", "Note", "NoteTask"} == set(tasks)
    for name, state in tasks.items():
        assert state["TimeoutSeconds"] > timeout_s, name
        assert state["Retry"], name
        assert state["Parameters"]["FunctionName"] == GIVEN["Builder"]
    # Both commit: the one renews the build's claim, the other publishes.
    assert tasks["Open"]["Retry"] == tasks["Do"]["Retry"]


def test_machine_takes_what_it_is_given_and_nothing_else():
    """Every substitution is made, and every one that is made is used."""
    used = set(re.findall(r"\$\{(\w+)\}", TEXT))
    assert used == set(MACHINE["DefinitionSubstitutions"]) == set(GIVEN)
    builder = functions(TEMPLATE)["Builder"]["FunctionName"]
    assert MACHINE["DefinitionSubstitutions"]["Builder"] == builder
    assert states()["Work"]["MaxConcurrency"] == int(GIVEN["MaxConcurrency"])


def test_machine_is_one_that_emulators_run_too():
    """No batches, no results written by the map; CloudFormation's parser knows no anchors."""
    assert set(members(definition())) & UNUSED == set()
    tokens = [type(token) for token in yaml.scan(TEXT)]
    assert yaml.AnchorToken not in tokens
    assert yaml.AliasToken not in tokens
    assert len(TEXT.encode()) < DEFINITION_BYTES_MAX


def test_machine_has_a_role_that_may_run_its_maps():
    """It invokes the builder alone, reads lists of tasks alone, and sees its own executions."""
    policies = TEMPLATE["Resources"]["BulkBuildRole"]["Properties"]["Policies"]
    statements = {
        one["Sid"]: one for one in policies[0]["PolicyDocument"]["Statement"] if "Sid" in one
    }
    assert set(statements) == {"Invoke", "ReadItems", "StartChildren", "WatchChildren", "Log"}
    own = functions(TEMPLATE)["Builder"]["FunctionName"]["Fn::Sub"].rpartition("-")[2]
    assert statements["Invoke"]["Resource"]["Fn::Sub"].endswith(f"-{own}")
    assert statements["ReadItems"]["Resource"][0]["Fn::Sub"][0].endswith("/*/builds/*/items/*")
    name = MACHINE["Name"]["Fn::Sub"]
    for sid, kind, more in (
        ("StartChildren", "stateMachine", ""),
        ("WatchChildren", "execution", "/*"),
    ):
        assert statements[sid]["Resource"]["Fn::Sub"].endswith(f":{kind}:{name}{more}")
    known_no_resources = [sid for sid, one in statements.items() if one["Resource"] == "*"]
    assert known_no_resources == ["Log"]


def test_machine_may_send_traces_if_it_is_asked_to():
    """AWS asks for four actions: a machine reads the sampling rules itself, a function does not."""
    found = {action for action, _ in allowed(TEMPLATE, "BulkBuildRole")}
    assert {one for one in found if one.startswith("xray:")} == {
        "xray:PutTraceSegments",
        "xray:PutTelemetryRecords",
        "xray:GetSamplingRules",
        "xray:GetSamplingTargets",
    }


TASKS = {"plan": 1, "encode": 0, "sample": 2, "assign": 3, "keys": 2, "assemble": 2}
BUCKET = "squash-data"


class Builder:
    """Does as the builder's events ask, and remembers them; `failing` are tasks with an error."""

    def __init__(self, failing):
        self.failing = failing
        self.events, self.done, self.stopped = [], set(), False

    def answer(self, event):
        """Return an answer, or the name of an error."""
        self.events.append(event)
        if "failed" in event:
            self.stopped = True
            return {}
        if self.stopped:
            return "BuildStoppedError"
        if "open" in event:
            return self._open(event)
        task = (event["stage"], event["batch"])
        if self.failing.get(task):
            return self.failing[task].pop(0)
        self.done.add(task)
        return {"stage": task[0], "batch": task[1], "rows": 1}

    def _open(self, event):
        names = [one.value for one in STAGES]
        stage = event["open"]
        own = {"index": event["index"], "build": event["build"], "stage": stage}
        left = [n for n in range(TASKS.get(stage, 1)) if (stage, n) not in self.done]
        body = json.dumps([own | {"batch": n} for n in left])
        boto3.client("s3").put_object(Bucket=BUCKET, Key=f"x/items/{stage}", Body=body)
        after = names[names.index(stage) + 1 :]
        where = {"bucket": BUCKET, "key": f"x/items/{stage}", "tasks": len(left)}
        return {"stage": stage, "next": after[0] if after else None} | where


@pytest.fixture
def run(monkeypatch):
    """Run the machine in moto's interpreter; return how it ended, and what the builder saw."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")

    def made(**failing):
        builder = Builder({(stage, n): list(e) for stage, (n, e) in failing.items()})

        def invoke(self, function_name, qualifier, body, headers, response_headers):
            answer = builder.answer(json.loads(body))
            if isinstance(answer, str):
                response_headers["X-Amz-Function-Error"] = "Unhandled"
                answer = {"errorType": answer, "errorMessage": "it went wrong"}
            return json.dumps(answer).encode()

        monkeypatch.setattr(LambdaSimpleBackend, "invoke", invoke)
        with mock_aws(
            config={
                "stepfunctions": {"execute_state_machine": True},
                "lambda": {"use_docker": False},
            }
        ):
            boto3.client("s3").create_bucket(Bucket=BUCKET)
            ended = _execute(boto3.client("stepfunctions"))
        return SimpleNamespace(status=ended["status"], error=ended.get("error"), builder=builder)

    return made


def _execute(client):
    role = boto3.client("iam").create_role(RoleName="r", AssumeRolePolicyDocument="{}")
    boto3.client("lambda").create_function(
        FunctionName=GIVEN["Builder"],
        Runtime="python3.13",
        Role=role["Role"]["Arn"],
        Handler="app.handler",
        Code={"ZipFile": b"PK\5\6" + bytes(18)},
    )
    machine = client.create_state_machine(
        name="squash-build", definition=json.dumps(definition()), roleArn=role["Role"]["Arn"]
    )
    begun = client.start_execution(
        stateMachineArn=machine["stateMachineArn"],
        name="one",
        input=json.dumps({"index": "papers", "build": "b" * 32}),
    )
    while True:
        found = client.describe_execution(executionArn=begun["executionArn"])
        if found["status"] != "RUNNING":
            return found
        time.sleep(0.05)  # the interpreter is a thread of this process


def all_tasks():
    return {(stage.value, n) for stage in STAGES for n in range(TASKS.get(stage.value, 1))}


@pytest.mark.slow
def test_machine_does_every_stage_in_order_and_every_task_once(run):
    ended = run()
    assert ended.status == "SUCCEEDED"
    seen = [(e["stage"], e["batch"]) for e in ended.builder.events if "stage" in e]
    assert len(seen) == len(set(seen))
    assert set(seen) == all_tasks()
    opened = [e["open"] for e in ended.builder.events if "open" in e]
    assert list(dict.fromkeys(opened)) == [stage.value for stage in STAGES]
    places = [[one.value for one in STAGES].index(stage) for stage, _ in seen]
    assert places == sorted(places)


@pytest.mark.slow
def test_machine_does_a_task_again_whose_service_did_not_answer(run):
    ended = run(assign=(1, ["UnavailableError"]))
    assert ended.status == "SUCCEEDED"
    assert ended.builder.done == all_tasks()
    assert not [e for e in ended.builder.events if "failed" in e]


def test_machine_notes_what_failed_and_ends(run):
    """The stage, the task and the error, before anything later is begun."""
    ended = run(assign=(1, ["DataError"] * 9))
    assert (ended.status, ended.error) == ("FAILED", "BuildStoppedError")
    noted = [e["failed"] for e in ended.builder.events if "failed" in e]
    assert (noted[0]["stage"], noted[0]["batch"], noted[0]["error"]) == ("assign", 1, "DataError")
    assert json.loads(noted[0]["cause"])["errorMessage"] == "it went wrong"
    assert not [e for e in ended.builder.events if e.get("open") == "keys"]
    # A task's failure, too, is of the execution that began it: another may go on by then.
    assert {e["execution"] for e in ended.builder.events if "failed" in e} == {"one"}
