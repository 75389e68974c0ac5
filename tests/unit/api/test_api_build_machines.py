"""Builds by the functions and the state machine: what begins, ends and is told."""

from __future__ import annotations

import json
from types import SimpleNamespace

import boto3
import pytest
from api_world import Answer
from moto import mock_aws

from squash.api import functions
from squash.api.environment import BuildMachine, read_build_machine
from squash.errors import BuildStoppedError, InvalidArgumentError, NotFoundError, UnavailableError
from squash.maintain.bulk import keys
from squash.runtime import state_machines
from templates import ROOT

BUILDS = "/v1/indexes/papers/builds"
ID = "0192f3a4b5c6d7e8f90a1b2c3d4e5f60"
REGION = "eu-central-1"
MEMORY_MB = 1769
MACHINE = f"arn:aws:states:{REGION}:123456789012:stateMachine:squash-build"
DEFINITION = {"StartAt": "Wait", "States": {"Wait": {"Type": "Wait", "Seconds": 99, "End": True}}}


@pytest.fixture
def machine(monkeypatch):
    """A state machine in AWS as moto mocks it; what begins it is not run."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    state_machines._client.cache_clear()
    with mock_aws():
        client = boto3.client("stepfunctions", region_name=REGION)
        made = client.create_state_machine(
            name="squash-build",
            definition=json.dumps(DEFINITION),
            roleArn="arn:aws:iam::123456789012:role/build",
        )
        assert made["stateMachineArn"] == MACHINE
        yield client
    state_machines._client.cache_clear()


@pytest.fixture
def deployed(machine, request):
    """The functions `indexes` and `builder`, as they are deployed, and an index."""
    environment = {
        "SQUASH_STORE": f"memory://builds-{request.node.name}",
        "SQUASH_AUTH": "none",
        "SQUASH_LOCAL": "1",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769",
        "SQUASH_BUILD_MACHINE": MACHINE,
        "SQUASH_BUILD_MEMORY": str(MEMORY_MB),
    }
    handlers = {name: getattr(functions, name)(environment) for name in ("indexes", "builder")}
    context = SimpleNamespace(aws_request_id="c0ffee", get_remaining_time_in_millis=lambda: 890_000)
    index = functions.open_database(environment).create_index("papers", dimension=2)

    def ask(name, method=None, path=None):
        made = json.loads((ROOT / "events" / f"{name}.json").read_text())
        if path is not None:
            made["rawPath"] = made["requestContext"]["http"]["path"] = path
            made["requestContext"]["http"]["method"] = method
            made.pop("body", None)
        found = handlers[name.partition("-")[0]](made, context)
        if "routeKey" not in made:
            return found
        return Answer(found, made["requestContext"]["requestId"])

    return SimpleNamespace(ask=ask, index=index, environment=environment)


def test_the_function_starts_looks_at_and_stops_the_machine(deployed, machine):
    """By the events of API Gateway; the execution's name is the build's and the attempt's."""
    begun = deployed.ask("indexes-start-build")
    assert begun.status == 202, begun.document
    assert (begun.document["executor"], begun.document["state"]) == ("states", "running")
    (execution,) = machine.list_executions(stateMachineArn=MACHINE)["executions"]
    assert execution["name"] == f"{ID}-1"
    told = machine.describe_execution(executionArn=execution["executionArn"])
    assert json.loads(told["input"]) == {"index": "papers", "build": ID}
    attempt = deployed.index.bulk_builds().attempt(ID)
    assert (attempt.execution, attempt.memory_mb) == (execution["executionArn"], MEMORY_MB)
    again = deployed.ask("indexes-start-build")
    assert again.status == 202
    assert len(machine.list_executions(stateMachineArn=MACHINE)["executions"]) == 1
    assert deployed.ask("indexes-describe-build").document["state"] == "running"
    path = f"{BUILDS}/{ID}/cancel"
    cancelled = deployed.ask("indexes-describe-build", "POST", path)
    assert (cancelled.status, cancelled.document["state"]) == (200, "cancelled")
    ended = machine.describe_execution(executionArn=execution["executionArn"])
    assert ended["status"] == "ABORTED"
    resumed = deployed.ask("indexes-describe-build", "POST", f"{BUILDS}/{ID}/resume")
    assert (resumed.status, resumed.document["attempt"]) == (202, 2)
    names = {e["name"] for e in machine.list_executions(stateMachineArn=MACHINE)["executions"]}
    assert names == {f"{ID}-1", f"{ID}-2"}


def test_the_function_tells_of_an_execution_that_somebody_else_ended(deployed, machine):
    """In the console, say: without a word to the build, which can then be resumed."""
    deployed.ask("indexes-start-build")
    arn = MACHINE.replace(":stateMachine:", ":execution:") + f":{ID}-1"
    machine.stop_execution(executionArn=arn, cause="enough")
    found = deployed.ask("indexes-describe-build").document
    assert found["state"] == "failed"
    assert "aborted" in found["problems"][0]["message"]


@pytest.mark.parametrize(
    ("ended", "told"),
    [
        (("FAILED", "States.Runtime", "no such state"), "failed: no such state"),
        (("FAILED", "States.TaskFailed", ""), "failed: States.TaskFailed"),
        (("TIMED_OUT", "", ""), "timed out"),
    ],
)
def test_what_ended_an_execution_is_told_as_far_as_it_is_known(deployed, monkeypatch, ended, told):
    """What timed out as a whole has neither cause nor error; others may have an error alone."""
    deployed.ask("indexes-start-build")
    found = state_machines.Execution(*ended)
    monkeypatch.setattr(state_machines.StateMachine, "describe", lambda *_: found)
    document = deployed.ask("indexes-describe-build").document
    assert document["problems"][0]["message"] == f"its execution {told}"


def test_the_function_reads_no_files_of_its_own_machine(deployed):
    """What a container's disk holds is nobody's input."""
    from squash.database import Index

    assert isinstance(deployed.index, Index)
    made = json.loads((ROOT / "events" / "indexes-start-build.json").read_text())
    made["body"] = json.dumps(
        {"inputs": ["file:///proc/self/environ"], "replace": True, "build": ID}
    )
    handle = functions.indexes(deployed.environment)
    answer = Answer(handle(made, None), made["requestContext"]["requestId"])
    assert (answer.status, answer.document["field"]) == (400, "inputs[0]")


def test_the_builder_answers_the_machine(deployed):
    """It lists a stage's tasks, raises what the machine knows by name, and notes failures once."""
    deployed.ask("indexes-start-build")
    opened = deployed.ask("builder-open")
    assert set(opened) == {"stage", "tasks", "bucket", "key", "next"}
    assert (opened["stage"], opened["tasks"], opened["next"]) == ("plan", 1, "encode")
    assert opened["key"].endswith(f"builds/{ID}/items/plan")
    assert deployed.ask("builder-failed") == {}
    assert deployed.ask("builder-failed") == {}
    found = deployed.ask("indexes-describe-build").document
    assert found["state"] == "failed"
    assert "timed out" in found["problems"][0]["message"]
    for name in ("builder-open", "builder-task"):
        with pytest.raises(BuildStoppedError):
            deployed.ask(name)


def test_the_builder_refuses_what_is_no_event_of_the_machine(deployed):
    handle = functions.builder(deployed.environment)
    context = SimpleNamespace(get_remaining_time_in_millis=lambda: 890_000)
    own = {"index": "papers", "build": ID}
    for bad in ({}, {"index": "papers"}, {"index": 5, "build": ID}, own | {"stage": "x"}, own):
        with pytest.raises((InvalidArgumentError, NotFoundError)):
            handle(bad, context)
    with pytest.raises(NotFoundError, match="other"):
        handle({"index": "other", "build": ID, "open": "plan"}, context)


def test_a_machine_that_is_not_there_or_not_named_is_told_of(machine):
    made = state_machines.StateMachine(MACHINE + "s")
    assert made.describe("x") is None
    assert not made.stop("x", reason="why")
    with pytest.raises(Exception, match="states:StartExecution"):
        made.start("x", {})
    for bad in ("", "squash-build", "arn:aws:lambda:eu-central-1:123456789012:function:x"):
        with pytest.raises(InvalidArgumentError, match="no ARN of a state machine"):
            state_machines.StateMachine(bad)
    assert read_build_machine({}) is None
    named = {"SQUASH_BUILD_MACHINE": MACHINE, "SQUASH_BUILD_MEMORY": "2048"}
    assert read_build_machine(named) == BuildMachine(MACHINE, 2048)
    with pytest.raises(InvalidArgumentError, match="SQUASH_BUILD_MEMORY"):
        read_build_machine(named | {"SQUASH_BUILD_MEMORY": "much"})


def test_a_machine_that_does_not_answer_may_be_asked_again(monkeypatch):
    """Nobody listens there: the call is safe to repeat, for an execution's name is chosen here."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_ENDPOINT_URL_SFN", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    state_machines._client.cache_clear()
    made = state_machines.StateMachine(MACHINE)
    for call in (
        lambda: made.start("x", {}),
        lambda: made.stop("x", reason=""),
        lambda: made.describe("x"),
    ):
        with pytest.raises(UnavailableError, match="did not answer"):
            call()
    state_machines._client.cache_clear()


def test_execution_names_are_those_that_attempts_are_noted_with():
    from squash.runtime.build_requests import execution_arn

    made = state_machines.StateMachine(MACHINE)
    assert made.execution_arn(f"{ID}-3") == execution_arn(MACHINE, ID, 3)
    assert keys.folder(ID) == f"builds/{ID}/"
