"""The events for `sam local invoke` are what AWS sends, and the functions answer them."""

from __future__ import annotations

import base64
import importlib.util
import json
import re

import pytest
import yaml

from squash.errors import InvalidArgumentError
from templates import ROOT, functions, of_type, read

TEMPLATE = read("template.yaml")
FOLDER = ROOT / "events"
EVENTS = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*-*.json"))}
HTTP = {name: event for name, event in EVENTS.items() if "routeKey" in event}
# In this order each finds what it needs, from the creation of an index to its end.
STORY = {
    "indexes-health": 200,
    "indexes-create": 201,
    "indexes-list": 200,
    "documents-put": 200,
    "indexes-describe": 200,
    "indexes-stats": 200,
    "indexes-snapshots": 200,
    "documents-list": 200,
    "documents-get": 200,
    "coordinator-query": 200,
    "documents-patch": 200,
    "documents-delete": 200,
    "indexes-gc": 200,
    "indexes-delete": 200,
    "indexes-create-vector-bucket": 200,
    "indexes-create-vector-index": 200,
    "documents-put-vectors": 200,
    "coordinator-query-vectors": 200,
    "indexes-delete-vector-index": 200,
    "indexes-delete-vector-bucket": 200,
}


class Context:
    """What handlers are told of their call."""

    aws_request_id = "8f1c0f1e-6f3c-4c43-a3b2-6d1b1f0f5a10"
    function_name = "squash"
    memory_limit_in_mb = 1769
    invoked_function_arn = "arn:aws:lambda:eu-central-1:123456789012:function:squash"

    @staticmethod
    def get_remaining_time_in_millis():
        """Return more than any of it takes."""
        return 890_000


def test_events_are_there_for_every_function_but_those_with_packed_tasks():
    """Allocators, processors and the encoder take what only other functions can make up."""
    named = {name.partition("-")[0] for name in EVENTS}
    wanted = {name.lower() for name in functions(TEMPLATE) if "Slot" not in name}
    assert named == wanted - {"allocator", "encoder", "processor"}
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    for name in EVENTS:
        assert f"{name}.json" in page, name
    variables = json.loads((FOLDER / "environment.json").read_text())["Parameters"]
    assert set(variables) == {"SQUASH_STORE"}


@pytest.mark.parametrize("name", HTTP)
def test_events_of_http_lead_to_their_function(name):
    """The route is one of the template's, it leads to the function, and all parts agree."""
    event = HTTP[name]
    (target,) = [
        route["Properties"]["Target"]["Fn::Sub"]
        for route in of_type(TEMPLATE, "AWS::ApiGatewayV2::Route").values()
        if route["Properties"]["RouteKey"] == event["routeKey"]
    ]
    assert target.lower() == f"integrations/${{{name.partition('-')[0]}integration}}"
    http = event["requestContext"]["http"]
    method, path = event["routeKey"].split(" ")
    assert (event["version"], http["method"], http["path"]) == ("2.0", method, event["rawPath"])
    assert event["requestContext"]["routeKey"] == event["routeKey"]
    pattern = re.sub(r"\{(\w+)\+\}", r"(?P<\1>.+)", path)
    pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", pattern)
    parts = re.fullmatch(pattern, event["rawPath"]).groupdict()
    assert event.get("pathParameters", {}) == parts
    assert ("body" in event) == ("content-type" in event["headers"])
    assert all(header == header.lower() for header in event["headers"])
    if "body" in event:
        assert int(event["headers"]["content-length"]) == len(event["body"].encode())
    assert event["isBase64Encoded"] is False


def test_events_of_the_compactor_are_of_three_kinds():
    """EventBridge says when, or that garbage is to be collected; or somebody says which index."""
    schedule = EVENTS["compactor-schedule"]
    assert (schedule["source"], schedule["detail-type"]) == ("aws.events", "Scheduled Event")
    assert set(EVENTS["compactor-index"]) == {"index"}
    collect = TEMPLATE["Resources"]["Compactor"]["Properties"]["Events"]["Collect"]
    assert EVENTS["compactor-gc"] == json.loads(collect["Properties"]["Input"])


def test_events_of_the_builder_are_what_the_machine_sends():
    """Members of each are those that the state machine gives the builder."""
    machine = yaml.safe_load((ROOT / "infra" / "bulk_build.asl.yaml").read_text())
    states = machine["States"] | machine["States"]["Work"]["ItemProcessor"]["States"]
    for name, state in (
        ("builder-open", "Open"),
        ("builder-task", "Do"),
        ("builder-failed", "NoteTask"),
    ):
        payload = states[state]["Parameters"]["Payload"]
        assert {part.removesuffix(".$") for part in payload} == set(EVENTS[name]), name
    failed = {
        part.removesuffix(".$") for part in states["NoteTask"]["Parameters"]["Payload"]["failed"]
    }
    assert failed == set(EVENTS["builder-failed"]["failed"])


def test_events_are_answered(monkeypatch):
    """The handlers answer them one after the other, with the records that were put."""
    if importlib.util.find_spec("squash.api") is None:
        pytest.skip("the functions' factories are not there yet")
    pytest.importorskip("aws_lambda_powertools")
    from squash.api import functions as factories

    environment = {
        "SQUASH_STORE": "memory://events",
        "SQUASH_AUTH": "none",
        "SQUASH_LOCAL": "1",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769",
    }
    names = ("coordinator", "documents", "indexes", "compactor")
    handlers = {name: getattr(factories, name)(environment) for name in names}
    bodies = {}
    for name, status in STORY.items():
        if name == "documents-delete":
            for asked in ("compactor-index", "compactor-schedule", "compactor-gc"):
                folded = handlers["compactor"](EVENTS[asked], Context())["indexes"]
                assert [one["index"] for one in folded] == ["papers"]
        answer = handlers[name.partition("-")[0]](EVENTS[name], Context())
        body = answer.get("body") or ""
        text = base64.b64decode(body).decode() if answer.get("isBase64Encoded") else body
        assert answer["statusCode"] == status, (name, text)
        bodies[name] = json.loads(text) if text else None
    assert [match["key"] for match in bodies["coordinator-query"]["matches"]] == ["p2", "p3"]
    assert [one["key"] for one in bodies["coordinator-query-vectors"]["vectors"]] == ["p2", "p3"]
    # Of builds others tell: tests/unit/api/test_api_build_machines.py.
    assert set(HTTP) - set(STORY) == {
        "indexes-optimize",
        "indexes-list-tags",
        "indexes-start-build",
        "indexes-describe-build",
    }


def test_events_of_s3_vectors_are_nobodys_where_it_is_off():
    """Then there is no route for them, and a function that is asked all the same knows none."""
    pytest.importorskip("aws_lambda_powertools")
    from squash.api import functions as factories
    from squash.local.template import read_template

    routes = {
        turned: {one.key for one in read_template(ROOT / "template.yaml", parameters=given).routes}
        for turned, given in (("on", {}), ("off", {"S3Vectors": "off"}))
    }
    left_out = routes["on"] - routes["off"]
    assert len(left_out) == len(routes["on"]) - len(routes["off"]) == 22
    assert {event["routeKey"] for name, event in HTTP.items() if "vector" in name} <= left_out
    environment = {
        "SQUASH_STORE": "memory://events-off",
        "SQUASH_AUTH": "none",
        "SQUASH_LOCAL": "1",
        "SQUASH_S3VECTORS": "off",
    }
    indexes = factories.indexes(environment)
    answer = indexes(EVENTS["indexes-create-vector-bucket"], Context())
    assert answer["statusCode"] == 404
    assert answer["headers"]["content-type"] == "application/problem+json"
    with pytest.raises(InvalidArgumentError, match="on or off"):
        factories.indexes({**environment, "SQUASH_S3VECTORS": "perhaps"})
