"""infra/openapi.yaml says what the code does: its paths, limits, words and problems."""

from __future__ import annotations

import base64
import re
from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest
import yaml

from squash import limits
from squash.api import bodies, build_bodies, problems
from squash.api.routes import ROUTES, Body
from squash.maintain.bulk.request import Executor, InputColumns
from squash.maintain.bulk.stages import STAGES
from squash.model import AttributeType, Metric
from squash.reports import BuildEstimate, BuildProblem, BuildState, BuildStatus, StageProgress

PAGE = Path(__file__).resolve().parents[3] / "infra" / "openapi.yaml"
SPEC = yaml.safe_load(PAGE.read_text(encoding="utf-8"))
SCHEMAS = SPEC["components"]["schemas"]


def operation(route):
    return SPEC["paths"][route.path][route.method.lower()]


def resolve(schema):
    while "$ref" in schema:
        schema = SCHEMAS[schema["$ref"].rpartition("/")[2]]
    return schema


def test_it_is_a_valid_description():
    from openapi_spec_validator import validate

    validate(SPEC)


def test_it_has_every_route_and_no_other():
    told = {
        (method.upper(), path)
        for path, item in SPEC["paths"].items()
        for method in item
        if method != "parameters"
    }
    assert told == {(route.method, route.path) for route in ROUTES}


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_every_route_tells_its_scope_body_and_problems(route):
    """What every route with a credential, a body or an index can answer, it names."""
    told = operation(route)
    assert told["operationId"] == route.name
    statuses = set(told["responses"])
    assert "500" in statuses
    if route.scope is None:
        assert told["security"] == []
        return
    assert "security" not in told
    assert f"Scope `{route.scope}`" in told["description"]
    assert {"400", "401", "403", "429", "500", "503"} <= statuses
    assert ("404" in statuses) == ("{index}" in route.path or route.name == "create")
    assert ("415" in statuses) == (route.body is not Body.NONE)
    if route.body is Body.NONE:
        assert "requestBody" not in told
    else:
        assert told["requestBody"]["required"] == (route.body is Body.REQUIRED)
        assert list(told["requestBody"]["content"]) == ["application/json"]
        assert "413" in statuses


def test_its_limits_are_those_of_the_code():
    query, put = SCHEMAS["QueryBody"]["properties"], SCHEMAS["PutBody"]["properties"]
    create = SCHEMAS["CreateBody"]["properties"]
    page = {one["name"]: one["schema"] for one in operation(ROUTES[2])["parameters"]}
    assert query["top_k"]["maximum"] == limits.TOP_K_MAX
    assert query["timeout_ms"]["maximum"] == limits.TIMEOUT_MS_MAX
    assert query["queries"]["maxItems"] == limits.QUERIES_PER_REQUEST_MAX
    assert put["vectors"]["maxItems"] == limits.VECTORS_PER_REQUEST_MAX
    patches = SCHEMAS["PatchBody"]["properties"]["patches"]
    assert patches["maxItems"] == limits.VECTORS_PER_REQUEST_MAX
    retention = SCHEMAS["GcBody"]["properties"]["retention_s"]
    assert retention["minimum"] == limits.GC_RETENTION_S_MIN
    for number in (retention, SCHEMAS["IfSnapshot"], SCHEMAS["AsOf"]["oneOf"][0]):
        assert number["maximum"] == limits.INTEGER_MAGNITUDE_MAX
    (snapshots,) = (route for route in ROUTES if route.name == "snapshots")
    told = {one["name"]: one["schema"] for one in operation(snapshots)["parameters"]}
    assert told["limit"] == {
        "type": "integer", "minimum": 1,
        "maximum": limits.LIST_PAGE_MAX, "default": limits.LIST_PAGE_DEFAULT,
    }  # fmt: skip
    assert SCHEMAS["Keys"]["maxItems"] == limits.KEYS_PER_REQUEST_MAX
    assert SCHEMAS["Vector"]["oneOf"][0]["maxItems"] == limits.DIMENSION_MAX
    assert SCHEMAS["Text"]["maxLength"] == limits.TEXT_BYTES_MAX
    image = SCHEMAS["Image"]["properties"]["base64"]
    assert image["maxLength"] == len(base64.b64encode(bytes(limits.IMAGE_BYTES_MAX)))
    assert create["text_key"]["maxLength"] == limits.ATTRIBUTE_NAME_BYTES_MAX
    assert create["dimension"]["maximum"] == limits.DIMENSION_MAX
    assert create["attributes"]["maxProperties"] == limits.DECLARED_ATTRIBUTES_MAX
    assert create["non_filterable"]["maxItems"] == limits.NON_FILTERABLE_KEYS_MAX
    assert SCHEMAS["AttributeName"]["maxLength"] == limits.ATTRIBUTE_NAME_BYTES_MAX
    assert SCHEMAS["Metadata"]["maxProperties"] == limits.METADATA_KEYS_MAX
    assert SCHEMAS["RecordKey"]["maxLength"] == limits.KEY_BYTES_MAX
    assert SCHEMAS["IndexName"]["pattern"] == f"^{limits.INDEX_NAME_PATTERN}$"
    assert SCHEMAS["IndexName"]["maxLength"] == limits.INDEX_NAME_CHARACTERS_MAX
    assert page["limit"]["maximum"] == limits.LIST_PAGE_MAX
    assert page["limit"]["default"] == limits.LIST_PAGE_DEFAULT


def test_its_limits_of_builds_are_those_of_the_code():
    build = SCHEMAS["BuildBody"]["properties"]
    assert build["inputs"]["maxItems"] == limits.BUILD_INPUTS_PER_REQUEST_MAX
    assert build["inputs"]["items"]["maxLength"] == limits.BUILD_URL_BYTES_MAX
    assert SCHEMAS["ColumnName"]["maxLength"] == limits.BUILD_COLUMN_BYTES_MAX
    assert set(build["columns"]["properties"]) == {one.name for one in fields(InputColumns)}
    for number in (build, SCHEMAS["ResumeBody"]["properties"]):
        assert number["bad_rows_max"]["maximum"] == limits.INTEGER_MAGNITUDE_MAX


@pytest.mark.parametrize("kind", [BuildStatus, BuildEstimate, StageProgress, BuildProblem])
def test_its_members_of_answers_about_builds_are_those_of_the_code(kind):
    told = SCHEMAS[kind.__name__]
    names = [one.name for one in fields(kind)]
    assert (told["required"], list(told["properties"])) == (names, names)


def test_its_words_are_those_of_the_code():
    status = SCHEMAS["BuildStatus"]["properties"]
    assert status["state"]["enum"] == list(get_args(BuildState))
    assert status["executor"]["enum"] == list(get_args(Executor))
    stages = SCHEMAS["StageProgress"]["properties"]["stage"]["enum"]
    assert stages == [one.value for one in STAGES]
    assert SCHEMAS["Metric"]["enum"] == list(Metric)
    assert SCHEMAS["AttributeType"]["enum"] == list(AttributeType)
    assert SCHEMAS["CreateBody"]["properties"]["codec"]["enum"] == list(bodies.CODECS)
    assert SCHEMAS["Include"]["items"]["enum"] == list(bodies.INCLUDABLE)


@pytest.mark.parametrize(
    ("read", "schema", "smallest"),
    [
        (bodies.create_body, "CreateBody", {"name": "x", "dimension": 1}),
        (bodies.put_body, "PutBody", {"vectors": [{"key": "a", "vector": [1]}]}),
        (bodies.get_body, "GetBody", {"keys": ["a"]}),
        (bodies.patch_body, "PatchBody", {"patches": [{"key": "a", "metadata": {}}]}),
        (bodies.delete_body, "DeleteBody", {"keys": ["a"]}),
        (bodies.optimize_body, "OptimizeBody", {}),
        (bodies.gc_body, "GcBody", {}),
        (bodies.query_body, "QueryBody", {"vector": [1]}),
        (build_bodies.build_body, "BuildBody", {"inputs": ["s3://b/"]}),
        (build_bodies.resume_body, "ResumeBody", {}),
    ],
)
def test_its_members_and_defaults_are_those_of_the_code(read, schema, smallest):
    """The members that are known are told by what an unknown one is answered."""
    with pytest.raises(Exception, match="known are") as caught:
        read({**smallest, "0": 1})
    known = set(re.search("known are (.*)", str(caught.value)).group(1).split(", "))
    assert known == set(SCHEMAS[schema]["properties"])
    found = read(smallest)
    for name, member in SCHEMAS[schema]["properties"].items():
        if "default" in member:
            default = getattr(found, name)
            assert member["default"] == (list(default) if isinstance(default, tuple) else default)


def test_it_names_every_problem_and_no_other():
    titles = (problems.TITLES | problems.HTTP_TITLES).values()
    assert set(SCHEMAS["Problem"]["properties"]["type"]["enum"]) == {
        problems.type_of(title) for title in titles
    }
