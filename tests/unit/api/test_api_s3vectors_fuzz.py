"""Whatever is sent to an operation, it never fails: it is answered, or refused with a known error.

Bodies are made from the service model: such as would be taken, with some of their parts replaced by
others of the model's shapes, near their bounds, or by something else.
"""

import copy
from functools import cache
from urllib.parse import quote, urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from s3vectors_world import BELOW_THE_MODEL, arn, live, service_model

from amounts import examples

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
# What is not taken, or seldom, comes by replacement alone.
SELDOM = {
    "queryTexts", "returnScores", "textSearchConfigurations", "nextToken", "queryMode",
    "encryptionConfiguration", "vectorBucketName", "vectorBucketArn", "indexName", "indexArn",
    "segmentCount", "segmentIndex", "add", "delete",
}  # fmt: skip
NEEDED = {"float32", "queryVector"}  # the model has them as optional
GOOD_TEXT = st.sampled_from(["a", "b", "key", "year", "é", "x" * 60])
FLOATS = st.lists(st.sampled_from([0.0, 1.0, -2.5, 3e38, 1e-45]), min_size=2, max_size=2)
METADATA = st.dictionaries(
    st.sampled_from(["year", "team", "text"]),
    st.booleans() | st.integers(-5, 5) | GOOD_TEXT | st.lists(GOOD_TEXT, max_size=2),
    max_size=3,
)
FILTER = st.dictionaries(
    st.sampled_from(["year", "team"]), st.integers(-5, 5) | GOOD_TEXT, max_size=2
)
REPLACEMENTS = JSON | st.sampled_from(
    [*BUCKETS, *INDEXES, *ARNS, [0.0, 1.0], [1.0], ["NaN", 1.0], [1e39, 0.0], {"float32": [1, 2]}]
)


def of_shape(shape, name=""):
    """Values of a shape of the model that would be taken."""
    meta = shape.metadata
    if meta.get("document"):
        return FILTER if name == "filter" else METADATA
    match shape.type_name:
        case "structure":
            return structure(shape)
        case "list":
            return (
                FLOATS
                if name == "float32"
                else st.lists(of_shape(shape.member), min_size=1, max_size=3)
            )
        case "map":
            return st.dictionaries(GOOD_TEXT, GOOD_TEXT, max_size=3)
        case "string":
            return st.sampled_from(meta["enum"]) if "enum" in meta else GOOD_TEXT
        case "integer":
            return st.integers(meta.get("min", 0), min(meta.get("max", 4), 4))
    return st.booleans()


@cache
def structure(shape):
    given = {name: one for name, one in shape.members.items() if name not in SELDOM}
    required = {name for name in given if name in shape.required_members or name in NEEDED}
    return st.fixed_dictionaries(
        {name: of_shape(given[name], name) for name in required},
        optional={name: of_shape(one, name) for name, one in given.items() if name not in required},
    )


def names(operation):
    """What an operation is about, as its members say it."""
    members = operation.input_shape.members
    if "resourceArn" in members:
        return st.sampled_from(
            [{"resourceArn": one} for one in (arn("media"), arn("media", "flat"))]
        )
    if operation.name in {"CreateIndex", "DeleteIndex", "CreateVectorBucket", "DeleteVectorBucket"}:
        # Of names that others do not need.
        names = {"vectorBucketName": st.sampled_from(["spare", "spare-2"])}
        return st.fixed_dictionaries(
            names | ({"indexName": st.just("new")} if "indexName" in members else {})
        )
    if "indexArn" in members:
        by_arn = st.sampled_from([{"indexArn": arn("media", one)} for one in ("papers", "flat")])
        return by_arn | st.just({"vectorBucketName": "media", "indexName": "flat"})
    return st.just({"vectorBucketName": "media"} if "vectorBucketName" in members else {})


def places(value, path=()):
    """Every place in a body, by its path."""
    inner = ()
    if isinstance(value, dict):
        inner = value.items()
    elif isinstance(value, list):
        inner = enumerate(value)
    for name, one in inner:
        yield (*path, name)
        yield from places(one, (*path, name))


@st.composite
def bodies(draw, operation):
    shape = operation.input_shape
    body = copy.deepcopy({**draw(structure(shape)), **draw(names(operation))})
    for _ in range(draw(st.integers(0, 2))):
        found = list(places(body)) + [(name,) for name in (*shape.members, "unknown")]
        *path, last = draw(st.sampled_from(found))
        part = body
        for name in path:
            part = part[name]
        part[last] = copy.deepcopy(draw(REPLACEMENTS))
    return body


@pytest.fixture(scope="module")
def served():
    with live() as running:
        for bucket in ("media", "spare"):
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
        max_examples=examples(80),
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(bodies(operation))
    def run(body):
        reply = send(served, operation, body)
        assert reply.status < 500, reply.document
        if reply.status == 200:
            assert set(operation.output_shape.required_members) <= set(reply.document)
            assert set(reply.document) <= set(operation.output_shape.members)
        else:
            assert reply.code in known
            assert reply.message

    run()
