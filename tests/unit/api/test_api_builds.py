"""Builds over HTTP: who may, what is refused, who runs them, and what the builder is told."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from types import SimpleNamespace

import boto3
import pytest
from api_world import Answer, World
from moto import mock_aws

from squash import limits
from squash.api import functions
from squash.api.access import KeyGate
from squash.api.build_runners import BackgroundRunner
from squash.api.environment import BuildMachine, read_build_machine
from squash.api.face import HttpFace
from squash.api.services import make_services
from squash.api.telemetry import LogTelemetry
from squash.clock import SystemIds
from squash.errors import BuildStoppedError, InvalidArgumentError, NotFoundError, UnavailableError
from squash.maintain.bulk import keys
from squash.runtime import Settings, state_machines
from squash.runtime.settings import StorePlace
from templates import ROOT

BUILDS = "/v1/indexes/papers/builds"
ID = "0192f3a4b5c6d7e8f90a1b2c3d4e5f60"
REGION = "eu-central-1"
INPUTS = {"inputs": ["s3://your-bucket/squash-inputs/papers/"], "replace": True, "build": ID}
MEMORY_MB = 1769


class Parked:
    """Notes what is to run, and runs nothing."""

    def __init__(self):
        self.begun, self.ended, self.became = [], [], None
        self._real = BackgroundRunner()

    def runner(self):
        return self._real.runner()

    def begin(self, builds, status):
        self.begun.append((status.build, status.attempt))

    def end(self, status):
        self.ended.append((status.build, status.attempt))

    def running(self, status):
        return (status.build, status.attempt) in self.begun

    def lost(self, status):
        return self.became


class BuildWorld(World):
    """A world whose builds are run by somebody else."""

    def __init__(self, runner=None, **more):
        super().__init__(**more)
        self.runner = runner or Parked()
        services = replace(make_services(self.database, self.clock), build_runner=self.runner)
        from squash.api import builds, indexes

        self.faces = self.faces | {
            "indexes": HttpFace(
                "indexes",
                {**indexes.ENDPOINTS, **builds.ENDPOINTS},
                services,
                gate=KeyGate(self.store, self.clock),
                telemetry=LogTelemetry(),
                clock=self.clock,
                ids=SystemIds(),
            )
        }

    def build(self, what="", method="GET", body=None, **more):
        return self.ask(method, f"{BUILDS}/{ID}{what}", body, **more)

    def build_store(self):
        """The keys of the build's objects, below the index's prefix."""
        return {key.partition("/builds/")[2] for key in self.stored() if "/builds/" in key}


@pytest.fixture
def world():
    return BuildWorld().papers()


def test_a_build_is_noted_begun_and_told_of(world):
    """202, with where to ask; the attempt has the limits that were given."""
    body = INPUTS | {
        "columns": {"vector": "embedding", "key": None},
        "bad_rows_max": 3,
        "dollars_max": 1.5,
    }
    answer = world.ask("POST", BUILDS, body)
    assert answer.status == 202, answer.document
    assert answer.headers["location"] == f"{BUILDS}/{ID}"
    assert (answer.document["build"], answer.document["state"]) == (ID, "running")
    assert world.runner.begun == [(ID, 1)]
    assert world.build().document == answer.document
    assert world.ask("GET", BUILDS).document == {"builds": [answer.document]}
    noted = {key: json.loads(bytes(data)) for key, data in world.stored().items() if ID in key}
    (request,) = (value for key, value in noted.items() if key.endswith("/request"))
    (attempt,) = (value for key, value in noted.items() if "/attempts/" in key)
    assert request["inputs"] == body["inputs"]
    assert request["columns"] == {"vector": "embedding", "text": None, "key": None}
    assert request["replaces"]
    assert attempt["limits"] == {"bad_rows_max": 3, "dollars_max": 1.5}


def test_a_build_without_an_id_gets_one_of_its_own(world):
    body = {"inputs": ["file:///nowhere/"], "replace": True}
    first = world.ask("POST", BUILDS, body)
    assert world.runner.begun == [(first.document["build"], 1)]
    # Two at once would each take the other's place.
    other = world.ask("POST", BUILDS, body)
    assert (other.status, other.kind) == (409, "conflict")
    assert first.document["build"] in other.document["detail"]


def test_asking_again_begins_nothing_new(world):
    """The same id and request tell of the same build; another request of that id is refused."""
    first = world.ask("POST", BUILDS, INPUTS)
    before = world.stored()
    again = world.ask("POST", BUILDS, INPUTS)
    assert (again.status, again.document) == (202, first.document)
    assert world.stored() == before
    other = world.ask("POST", BUILDS, INPUTS | {"inputs": ["s3://another/"]})
    assert (other.status, other.kind, other.document["field"]) == (409, "conflict", "build")
    assert world.stored() == before


def test_asking_again_does_not_begin_what_was_cancelled(world):
    world.ask("POST", BUILDS, INPUTS)
    cancelled = world.build("/cancel", "POST")
    assert cancelled.status == 200
    world.runner.begun.clear()
    again = world.ask("POST", BUILDS, INPUTS)
    assert (again.status, again.document["state"]) == (202, "cancelled")
    assert world.runner.begun == []


def test_what_is_in_the_index_gives_way_only_if_it_is_said(world):
    before = world.stored()
    answer = world.ask("POST", BUILDS, {k: v for k, v in INPUTS.items() if k != "replace"})
    assert (answer.status, answer.kind) == (409, "conflict")
    assert world.stored() == before


def test_cancel_stops_and_resume_goes_on_with_other_limits(world):
    world.ask("POST", BUILDS, INPUTS | {"bad_rows_max": 2})
    running = world.build("/resume", "POST")
    assert (running.status, running.kind) == (409, "conflict")
    cancelled = world.build("/cancel", "POST")
    assert (cancelled.status, cancelled.document["state"]) == (200, "cancelled")
    assert world.runner.ended == [(ID, 1)]
    resumed = world.build("/resume", "POST", {"dollars_max": 7})
    assert resumed.status == 202
    assert (resumed.document["state"], resumed.document["attempt"]) == ("running", 2)
    assert resumed.headers["location"] == f"{BUILDS}/{ID}"
    assert world.runner.begun == [(ID, 1), (ID, 2)]
    (attempt,) = (v for k, v in world.stored().items() if k.endswith("attempts/000002"))
    assert json.loads(bytes(attempt))["limits"] == {"bad_rows_max": 2, "dollars_max": 7.0}


def test_a_resumption_that_is_about_to_begin_is_not_taken_for_lost(world, monkeypatch):
    """Who looks on just then, long after the build was first noted, does not end it."""
    world.ask("POST", BUILDS, INPUTS)
    world.clock.ms += 2 * limits.BUILD_UNBEGUN_MS_MAX
    world.build("/cancel", "POST")
    world.runner.became = ""
    seen = []
    monkeypatch.setattr(
        world.runner, "begin", lambda *_: seen.append(world.build().document["state"])
    )
    assert world.build("/resume", "POST").document["state"] == "running"
    assert seen == ["running"]
    assert world.build().document["state"] == "running"
    world.clock.ms += limits.BUILD_UNBEGUN_MS_MAX
    assert world.build().document["state"] == "failed"


def test_a_build_that_nothing_runs_any_more_is_told_so(world):
    """At once, if what ran it ended; where nothing began it, after the time that takes."""
    world.ask("POST", BUILDS, INPUTS)
    world.runner.became = ""
    assert world.build().document["state"] == "running"
    world.clock.ms += limits.BUILD_UNBEGUN_MS_MAX
    found = world.build().document
    assert found["state"] == "failed"
    assert "nothing ever ran it" in found["problems"][0]["message"]
    assert world.build("/resume", "POST").status == 202
    world.runner.became = "its execution timed out: 3 days"
    assert "timed out" in world.build().document["problems"][-1]["message"]


@pytest.mark.parametrize(
    ("body", "status", "kind", "field"),
    [
        ({}, 400, "invalid-argument", "inputs"),
        ({"inputs": []}, 400, "invalid-argument", "inputs"),
        ({"inputs": "s3://b/k"}, 400, "invalid-argument", "inputs"),
        ({"inputs": [5]}, 400, "invalid-argument", "inputs[0]"),
        ({"inputs": [""]}, 400, "invalid-argument", "inputs[0]"),
        ({"inputs": ["s3://b/" + "k" * 2_048]}, 400, "invalid-argument", "inputs[0]"),
        ({"inputs": ["s3://b/k", "http://b/k"]}, 400, "invalid-argument", "inputs[1]"),
        ({"inputs": ["/etc/passwd"]}, 400, "invalid-argument", "inputs[0]"),
        ({"inputs": ["s3://b/k"] * 1_001}, 413, "too-large", "inputs"),
        ({**INPUTS, "columns": []}, 400, "invalid-argument", "columns"),
        ({**INPUTS, "columns": {"id": "x"}}, 400, "invalid-argument", "columns.id"),
        ({**INPUTS, "columns": {"key": ""}}, 400, "invalid-argument", "columns.key"),
        ({**INPUTS, "columns": {"key": "x" * 1_025}}, 400, "invalid-argument", "columns.key"),
        ({**INPUTS, "columns": {"vector": "a", "text": "b"}}, 400, "invalid-argument",
         "columns.text"),
        ({**INPUTS, "columns": {"text": "b"}}, 400, "invalid-argument", None),
        ({**INPUTS, "encoder": ""}, 400, "invalid-argument", "encoder"),
        ({**INPUTS, "encoder": "minilm"}, 400, "invalid-argument", "encoder"),
        ({**INPUTS, "replace": 1}, 400, "invalid-argument", "replace"),
        ({**INPUTS, "replaces": True}, 400, "invalid-argument", "replaces"),
        ({**INPUTS, "bad_rows_max": -1}, 400, "invalid-argument", "bad_rows_max"),
        ({**INPUTS, "bad_rows_max": 1.5}, 400, "invalid-argument", "bad_rows_max"),
        ({**INPUTS, "bad_rows_max": None}, 400, "invalid-argument", "bad_rows_max"),
        ({**INPUTS, "dollars_max": 0}, 400, "invalid-argument", "dollars_max"),
        ({**INPUTS, "dollars_max": "5"}, 400, "invalid-argument", "dollars_max"),
        ({**INPUTS, "dollars_max": 1e300}, 400, "invalid-argument", "dollars_max"),
        ({**INPUTS, "build": "x"}, 400, "invalid-argument", "build"),
        ({**INPUTS, "build": ID.upper()}, 400, "invalid-argument", "build"),
        ({**INPUTS, "build": ID + "0"}, 400, "invalid-argument", "build"),
    ],
)  # fmt: skip
def test_bad_bodies_are_refused_and_leave_nothing(world, body, status, kind, field):
    before = world.stored()
    answer = world.ask("POST", BUILDS, body)
    found = (answer.status, answer.kind, answer.document.get("field"))
    assert found[:2] == (status, kind), answer.document
    assert field is None or found[2] == field
    assert world.stored() == before
    assert world.runner.begun == []


@pytest.mark.parametrize(
    "url",
    [
        "s3://your-bucket/squash/",
        "s3://your-bucket/squash/others/index.json",
        "s3://your-bucket/squash/_keys/",
        "s3://your-bucket/",
    ],
)
def test_what_the_store_holds_is_no_input(url):
    """Which files a build found would tell a key of indexes and keys that it is not for."""
    world = BuildWorld(settings=Settings(place=StorePlace("s3://your-bucket/squash"))).papers()
    before = world.stored()
    answer = world.ask("POST", BUILDS, INPUTS | {"inputs": [*INPUTS["inputs"], url]})
    assert (answer.status, answer.document["field"]) == (400, "inputs[1]")
    assert "lie elsewhere" in answer.document["detail"]
    assert (world.stored(), world.runner.begun) == (before, [])


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"bad_rows_max": -1}, "bad_rows_max"),
        ({"dollars_max": 0}, "dollars_max"),
        ({"inputs": []}, "inputs"),
    ],
)
def test_bad_bodies_of_resumptions_are_refused(world, body, field):
    world.ask("POST", BUILDS, INPUTS)
    world.build("/cancel", "POST")
    before = world.stored()
    answer = world.build("/resume", "POST", body)
    assert (answer.status, answer.document["field"]) == (400, field)
    assert world.stored() == before


@pytest.mark.parametrize("build", [ID, "x", "..", "%2e%2e", ID.upper(), "{build}", ID + "%00"])
def test_builds_that_are_not_there_are_not_found(world, build):
    before = world.stored()
    for method, what in (("GET", ""), ("POST", "/cancel"), ("POST", "/resume")):
        answer = world.ask(method, f"{BUILDS}/{build}{what}")
        assert (answer.status, answer.kind) == (404, "not-found")
    assert world.stored() == before


def test_who_writes_begins_and_who_reads_looks(world):
    """A scope allows its own, and a key that sees some rows only is for none of it."""
    reader, writer = world.key("read"), world.key("write")
    assert world.ask("POST", BUILDS, INPUTS, key=reader).status == 403
    assert world.ask("POST", BUILDS, INPUTS, key=writer).status == 202
    for what in ("/cancel", "/resume"):
        assert world.build(what, "POST", key=reader).status == 403
        assert world.build(what, "POST", key=writer).status in {200, 202}
    some = world.key("read", row_filter={"team": "red"})
    for path in (BUILDS, f"{BUILDS}/{ID}"):
        assert world.ask("GET", path, key=reader).status == 200
        assert world.ask("GET", path, key=writer).status == 403
        refused = world.ask("GET", path, key=some)
        assert (refused.status, refused.kind) == (403, "permission-denied")
    assert world.ask("GET", BUILDS, key=world.key("read", indexes=["other"])).status == 403


def test_this_process_runs_what_no_machine_does(tmp_path):
    """In the background, once, and what is wrong with the input is in the build's status."""
    runner = BackgroundRunner()
    world = BuildWorld(runner).papers()
    body = INPUTS | {"inputs": [(tmp_path / "nothing.npy").as_uri()]}
    assert world.ask("POST", BUILDS, body).status == 202
    runner.join()
    found = world.build().document
    assert (found["executor"], found["state"]) == ("local", "failed")
    assert "nothing.npy" in found["problems"][0]["message"]
    assert world.build("/resume", "POST").status == 202
    runner.join()


def test_an_attempt_that_is_resumed_while_the_one_before_ends_is_run():
    """It would be shown running with nobody at work."""
    at_work, goes_on, ran = threading.Event(), threading.Event(), []

    class Builds:
        def run(self, build, **_):
            ran.append(build)
            at_work.set()
            goes_on.wait(10)
            if len(ran) == 1:
                raise BuildStoppedError("cancelled")

    runner, first = BackgroundRunner(), SimpleNamespace(index="papers", build=ID, attempt=1)
    runner.begin(Builds(), first)
    at_work.wait(10)
    runner.begin(Builds(), first)
    runner.begin(Builds(), SimpleNamespace(index="papers", build=ID, attempt=2))
    assert runner.running(first)
    goes_on.set()
    runner.join()
    assert ran == [ID, ID]
    assert not runner.running(first)


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


def test_the_function_reads_no_files_of_its_own_machine(deployed):
    """What a container's disk holds is nobody's input."""
    from squash.database import Index

    assert isinstance(deployed.index, Index)
    made = json.loads((ROOT / "events" / "indexes-start-build.json").read_text())
    made["body"] = json.dumps(INPUTS | {"inputs": ["file:///proc/self/environ"]})
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
