"""Builds over HTTP: who may, what is refused, and who runs them."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest
from api_world import World

from squash import limits
from squash.api.access import KeyGate
from squash.api.build_runners import BackgroundRunner
from squash.api.face import HttpFace
from squash.api.services import make_services
from squash.api.telemetry import LogTelemetry
from squash.clock import SystemIds
from squash.errors import BuildStoppedError
from squash.runtime import Settings
from squash.runtime.settings import StorePlace

BUILDS = "/v1/indexes/papers/builds"
ID = "0192f3a4b5c6d7e8f90a1b2c3d4e5f60"
INPUTS = {"inputs": ["s3://your-bucket/squash-inputs/papers/"], "replace": True, "build": ID}


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


def test_a_build_of_a_newer_release_hides_no_other(world):
    """It is named, so that it can be given up."""
    other = "f" * 32
    for one in (ID, other):
        assert world.ask("POST", BUILDS, INPUTS | {"build": one}).status == 202
        assert world.ask("POST", f"{BUILDS}/{one}/cancel").status == 200
    (key,) = (one for one in world.stored() if one.endswith(f"{other}/request"))
    newer = json.loads(world.store.get(key)) | {"version": 2}
    world.store.put(key, json.dumps(newer).encode())
    listed = world.ask("GET", BUILDS)
    assert listed.status == 200
    assert [one["build"] for one in listed.document["builds"]] == [ID]
    kind = "urn:squash:unsupported-format"
    assert listed.document["unreadable"] == [{"build": other, "type": kind}]


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
