"""The table of shapes against the service model that botocore ships."""

import botocore.session
import pytest
from s3vectors_world import SERVICE, service_model

from squash.api.s3vectors import shapes
from squash.api.s3vectors.operations import OPERATIONS
from squash.api.s3vectors.problems import STATUS
from squash.limits import LISTED_MAX

MODEL = service_model()
# Constraints that the service's documentation has and its model has not.
NARROWER = {("QueryVectors", "topK"): {"max": 10_000}}


def described(shape):
    """What the model's shapes and ours have in common, of ours."""
    match shape:
        case shapes.String():
            said = {"type": "string", "enum": list(shape.enum), "pattern": shape.pattern}
            return said | {"min": shape.least, "max": shape.most}
        case shapes.Integer():
            return {"type": "integer", "min": shape.least, "max": shape.most}
        case shapes.Boolean():
            return {"type": "boolean"}
        case shapes.Floats():
            return {"type": "list", "min": 0, "max": None, "of": {"type": "float"}}
        case shapes.Document():
            return {"type": "document"}
        case shapes.ListOf():
            of = described(shape.of)
            return {"type": "list", "min": shape.least, "max": shape.most, "of": of}
        case shapes.MapOf():
            key, value = described(shape.key), described(shape.value)
            return {"type": "map", "key": key, "value": value}
        case shapes.Structure():
            return {
                "type": "structure",
                "required": sorted(shape.required),
                "union": shape.union,
                "members": {name: described(one) for name, one in shape.members.items()},
            }


def described_model(shape):
    """The same, of the model's."""
    meta = shape.metadata
    if shape.type_name == "structure":
        if meta.get("document"):
            return {"type": "document"}
        return {
            "type": "structure",
            "required": sorted(shape.required_members),
            "union": bool(meta.get("union")),
            "members": {name: described_model(one) for name, one in shape.members.items()},
        }
    bounds = {"min": meta.get("min", 0), "max": meta.get("max")}
    match shape.type_name:
        case "string":
            said = {"type": "string", "enum": meta.get("enum", [])}
            return said | bounds | {"pattern": meta.get("pattern", "")}
        case "integer":
            return {"type": "integer", "min": meta["min"], "max": meta.get("max")}
        case "list":
            return {"type": "list", "of": described_model(shape.member)} | bounds
        case "map":
            key, value = described_model(shape.key), described_model(shape.value)
            return {"type": "map", "key": key, "value": value}
    return {"type": shape.type_name}


def test_model_operations():
    """Every operation of the newest model is here, and none besides."""
    assert set(OPERATIONS) == set(MODEL.operation_names)
    assert set(shapes.SHAPES) == set(MODEL.operation_names)


@pytest.mark.parametrize("name", MODEL.operation_names)
def test_model_members(name):
    """Every member of an operation has the model's type, constraints, words and shape."""
    model = MODEL.operation_model(name).input_shape
    for member, shape in model.members.items():
        ours = shapes.SHAPES[name].members.get(member)
        assert ours is not None, f"{name} has a new member {member}"
        expected = described_model(shape) | NARROWER.get((name, member), {})
        assert described(ours) == expected, f"{name}.{member}"
    assert set(shapes.SHAPES[name].members) == set(model.members)
    assert sorted(shapes.SHAPES[name].required) == sorted(model.required_members)


@pytest.mark.parametrize("name", MODEL.operation_names)
def test_model_requests(name):
    """Every operation is asked with the model's method, at its path."""
    http = MODEL.operation_model(name).http
    operation = OPERATIONS[name]
    assert operation.method == http["method"]
    assert operation.path == http["requestUri"].replace("{resourceArn}", "")


def test_model_members_elsewhere():
    """What does not stand in the body stands where the face looks for it."""
    found = {
        (name, member): shape.serialization["location"]
        for name in MODEL.operation_names
        for member, shape in MODEL.operation_model(name).input_shape.members.items()
        if "location" in shape.serialization
    }
    tags = ("ListTagsForResource", "TagResource", "UntagResource")
    assert found == {(name, "resourceArn"): "uri" for name in tags} | {
        ("UntagResource", "tagKeys"): "querystring"
    }


def test_model_errors():
    """Every error of the model has its status, and conflicts are told where they are known."""
    for shape in MODEL.error_shapes:
        status = shape.metadata.get("error", {}).get("httpStatusCode", 400)
        assert STATUS[shape.name] == status, shape.name
    for name, operation in OPERATIONS.items():
        errors = {shape.name for shape in MODEL.operation_model(name).error_shapes}
        assert operation.names_conflict == ("ConflictException" in errors), name


def member_at(structure, path):
    shape = structure
    for part in path.split("."):
        shape = shape.members[part]
    return shape


def test_model_refused():
    """What is refused is a member of the model, or one of its words."""
    for one in shapes.REFUSED:
        shape = member_at(shapes.SHAPES[one.operation], one.member)
        assert not one.value or one.value in shape.enum
        assert one.reason


def test_model_differs():
    """What differs is a member of the model's requests or answers."""
    for one in shapes.DIFFERS:
        model = MODEL.operation_model(one.operation)
        assert one.member in {**model.input_shape.members, **model.output_shape.members}


def test_model_pages():
    """Without a number asked for, a page has as many as the most that can be asked for."""
    for name in ("ListVectorBuckets", "ListIndexes"):
        assert shapes.SHAPES[name].members["maxResults"].most == LISTED_MAX


def test_model_is_the_newest_of_botocore():
    """The model has one version: the table is held against all that there is."""
    loader = botocore.session.Session().get_component("data_loader")
    assert len(loader.list_api_versions(SERVICE, "service-2")) == 1
