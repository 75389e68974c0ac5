"""Whatever is sent to an operation, it never fails: it is answered, or refused with a known error.

Bodies are made from the service model: of its shapes, near their bounds, and now and then of
something else.
"""

from functools import cache
from urllib.parse import quote, urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from s3vectors_world import BELOW_THE_MODEL, arn, live, service_model

MODEL = service_model()
BUCKETS = ["media", "other", "no-such", "x", "under_score", ""]
INDEXES = ["papers", "flat", "no-such", "../..", "é"]
ARNS = [arn(bucket, index) for bucket in BUCKETS for index in ("", *INDEXES)]
TEXT = st.sampled_from(["a", "b", "key", "year", "$eq", "", "é", "\ud800", "a" * 1025, "NaN", "1"])
NUMBERS = st.sampled_from([0, 1, 2, 3, -1, 1.5, 500, 501, 10_001, 2**53 + 1, 1e300, -0.0, 10**40])
SCALARS = st.none() | st.booleans() | NUMBERS | TEXT
OPERATORS = ["$eq", "$ne", "$gt", "$in", "$nin", "$exists", "$and", "$or", "$startsWith", "$x"]
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["year", "team", *OPERATORS, "", "\ud800"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)
NAMED = {
    "vectorBucketName": st.sampled_from(BUCKETS),
    "indexName": st.sampled_from(INDEXES),
    "vectorBucketArn": st.sampled_from(ARNS),
    "indexArn": st.sampled_from(ARNS),
    "resourceArn": st.sampled_from(ARNS),
}


def mostly(strategy):
    """Something of a strategy, or, seldom, anything."""
    return st.integers(0, 9).flatmap(lambda chance: strategy if chance else JSON)


def of_shape(shape, name=""):
    """Values of a shape of the model, near its bounds or beyond."""
    if name in NAMED:
        return mostly(NAMED[name])
    meta = shape.metadata
    if meta.get("document"):
        return JSON
    match shape.type_name:
        case "structure":
            return mostly(structure(shape))
        case "list":
            return mostly(st.lists(of_shape(shape.member), max_size=3))
        case "map":
            return mostly(st.dictionaries(TEXT, of_shape(shape.value), max_size=3))
        case "string":
            return mostly(st.sampled_from(meta["enum"]) if "enum" in meta else TEXT)
        case "integer":
            return mostly(st.integers(meta.get("min", 0) - 1, meta.get("max", 10_000) + 1))
        case "float":
            return mostly(st.sampled_from([0.0, 1.0, -2.5, 1e39, 3e38]))
    return mostly(st.booleans())


@cache
def structure(shape):
    required = {name: of_shape(shape.members[name], name) for name in shape.required_members}
    optional = {
        name: of_shape(one, name) for name, one in shape.members.items() if name not in required
    }
    return st.fixed_dictionaries(required, optional=optional)


@pytest.fixture(scope="module")
def served():
    with live() as running:
        for bucket in ("media", "other"):
            running.call("CreateVectorBucket", {"vectorBucketName": bucket})
        for index, metric in (("papers", "cosine"), ("flat", "euclidean")):
            create(running, index, metric)
        yield running


def create(running, index, metric):
    running.call(
        "CreateIndex",
        {
            "vectorBucketName": "media",
            "indexName": index,
            "dataType": "float32",
            "dimension": 2,
            "distanceMetric": metric,
        },
    )


def send(running, operation, body):
    """Send members where the model has them: in the path, in the query, in the body."""
    http, path = operation.http, operation.http["requestUri"]
    if "{resourceArn}" in path:
        resource = body.pop("resourceArn", None)
        path = path.replace("{resourceArn}", quote(str(resource), safe="", errors="replace"))
    if http["method"] == "DELETE":
        keys = body.pop("tagKeys", None)
        pairs = [("tagKeys", str(key)) for key in keys] if isinstance(keys, list) else []
        path += "?" + urlencode(pairs, errors="replace")
    return running.send(http["method"], path, body if http["method"] == "POST" else None)


@pytest.mark.parametrize("name", MODEL.operation_names)
def test_fuzz_operations(served, name):
    """Every answer is a result of the model's, or an error that the operation names."""
    operation = MODEL.operation_model(name)
    known = {shape.name for shape in operation.error_shapes} | BELOW_THE_MODEL

    # One server for all examples, on purpose: they find what those before them left.
    @settings(
        max_examples=60,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(structure(operation.input_shape))
    def run(body):
        reply = send(served, operation, dict(body))
        assert reply.status < 500, reply.document
        if reply.status == 200:
            assert set(operation.output_shape.required_members) <= set(reply.document)
            assert set(reply.document) <= set(operation.output_shape.members)
        else:
            assert reply.code in known
            assert reply.message

    run()
