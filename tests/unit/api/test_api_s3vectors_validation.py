"""What is wrong with a request is told before anything is done, in the service's words."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amounts import examples
from squash.api.s3vectors import shapes
from squash.api.s3vectors.operations import OPERATIONS
from squash.api.s3vectors.problems import ServiceError
from squash.api.s3vectors.validation import checked
from squash.limits import VALIDATION_ERRORS_TOLD_MAX

ONE = "1 validation error detected. "
FAILED = "failed to satisfy constraint: "
NEW_INDEX = {
    "vectorBucketName": "media",
    "indexName": "papers",
    "dataType": "float32",
    "dimension": 4,
    "distanceMetric": "cosine",
}


def refused(operation, members):
    with pytest.raises(ServiceError) as caught:
        checked(OPERATIONS[operation], members)
    assert caught.value.code == "ValidationException"
    return caught.value


@pytest.mark.parametrize("name", ["sh", "x" * 64, ""])
def test_validation_length(name):
    """A name's length is told with what it may be."""
    error = refused("CreateVectorBucket", {"vectorBucketName": name})
    said = (
        f"Value with length {len(name)} at '/vectorBucketName' {FAILED}"
        "Member must have length between 3 and 63, inclusive"
    )
    assert str(error) == ONE + said
    assert error.fields == [("/vectorBucketName", said)]


@pytest.mark.parametrize(
    ("member", "value", "said"),
    [
        ("dataType", "int", "Member must satisfy enum value set: [float32]"),
        ("dimension", 0, "Member must be between 1 and 4096, inclusive"),
        ("dimension", 4097, "Member must be between 1 and 4096, inclusive"),
        ("dimension", 99999, "Member must be between 1 and 4096, inclusive"),
        ("distanceMetric", "what", "Member must satisfy enum value set: [euclidean, cosine]"),
        ("dimension", None, "Member must not be null"),
        ("dimension", "4", "Member must be a whole number, not a string"),
        ("dimension", True, "Member must be a whole number, not true or false"),
        ("dimension", 1.5, "Member must be a whole number, not one with a fraction"),
        ("indexName", 12345, "Member must be a string, not a number"),
        ("tags", [], "Member must be an object, not a list"),
        ("metadataConfiguration", "x", "Member must be an object, not a string"),
    ],
)
def test_validation_words(member, value, said):
    """Each constraint is told in words that were seen of the service, or like them."""
    error = refused("CreateIndex", NEW_INDEX | {member: value})
    assert str(error) == f"{ONE}Value at '/{member}' {FAILED}{said}"


def test_validation_several():
    """Several errors are counted, and joined by semicolons; each is a field."""
    error = refused("CreateIndex", NEW_INDEX | {"dimension": 0, "dataType": "int"})
    first, second = (said for _, said in error.fields)
    assert str(error) == f"2 validation errors detected. {first}; {second}"
    assert [path for path, _ in error.fields] == ["/dataType", "/dimension"]


def test_validation_missing():
    """All that is missing is told at once."""
    error = refused("CreateIndex", {"vectorBucketName": "media"})
    assert str(error).startswith("4 validation errors detected. ")
    assert all(said.endswith("Member must not be null") for _, said in error.fields)


def test_validation_many():
    """Of very many errors some are told, and all are counted."""
    error = refused("DeleteVectors", {"keys": [""] * 500})
    assert str(error).startswith("500 validation errors detected. ")
    assert len(error.fields) == VALIDATION_ERRORS_TOLD_MAX
    assert str(error).endswith(f"; and {500 - VALIDATION_ERRORS_TOLD_MAX} more")


def test_validation_unknown():
    """A member that the operation does not have is refused, with its path, wherever it is."""
    error = refused("GetVectorBucket", {"vectorBucketName": "media", "colour": None})
    assert "'/colour'" in str(error)
    vector = {"key": "a", "data": {"float32": [1]}, "vector": [1]}
    error = refused("PutVectors", {"vectors": [vector]})
    assert [path for path, _ in error.fields] == ["/vectors/0/vector"]


@pytest.mark.parametrize("data", [{}, {"float64": [1]}, {"float32": [1], "int8": [1]}])
def test_validation_union(data):
    """Of a union exactly one member is given, and one that is known."""
    vectors = [{"key": "a", "data": data}]
    assert "/vectors/0/data" in str(refused("PutVectors", {"vectors": vectors}))
    query = {"topK": 1, "queryVector": data}
    assert "/queryVector" in str(refused("QueryVectors", query))


@pytest.mark.parametrize(
    ("operation", "least", "most"),
    [("PutVectors", 1, 500), ("GetVectors", 1, 100), ("DeleteVectors", 1, 500)],
)
def test_validation_lists(operation, least, most):
    """Lists have as many elements as the service takes, and not one more."""
    member = "vectors" if operation == "PutVectors" else "keys"
    one = {"key": "a", "data": {"float32": [1]}} if member == "vectors" else "a"
    for length in (least, most):
        checked(OPERATIONS[operation], {member: [one] * length})
    for length in (0, most + 1):
        assert str(refused(operation, {member: [one] * length})) == (
            f"{ONE}Value with length {length} at '/{member}' {FAILED}"
            f"Member must have length between {least} and {most}, inclusive"
        )


def test_validation_of_too_long_a_list_says_that_alone():
    """What a body has room for are millions, and of each there is something wrong."""
    error = refused("GetVectors", {"keys": [0] * 101})
    assert [path for path, _ in error.fields] == ["/keys"]
    assert "Value with length 101 at '/keys'" in str(error)
    error = refused("CreateIndex", NEW_INDEX | {"tags": {f"!{i}": 0 for i in range(51)}})
    assert [path for path, _ in error.fields] == ["/tags"]
    assert "Value with length 51 at '/tags'" in str(error)


@pytest.mark.parametrize("top_k", [0, 10_001, -1, 10**30])
def test_validation_top_k(top_k):
    """Top K is from 1 to 10,000."""
    error = refused("QueryVectors", {"topK": top_k, "queryVector": {"float32": [1]}})
    assert str(error).endswith("Member must be between 1 and 10000, inclusive")


def test_validation_null_is_absent():
    """Null is as good as not given, at any depth; and a number without a fraction is whole."""
    found = checked(
        OPERATIONS["CreateIndex"],
        NEW_INDEX
        | {
            "tags": None,
            "dimension": 4.0,
            "metadataConfiguration": {"textSearchConfigurations": None},
        },
    )
    assert found == NEW_INDEX | {"metadataConfiguration": {}}
    assert isinstance(found["dimension"], int)


def test_validation_half_characters():
    """A string with half of a surrogate pair can be stored nowhere, and is refused."""
    error = refused("GetVectors", {"keys": ["a", "\ud800"]})
    assert [path for path, _ in error.fields] == ["/keys/1"]


@pytest.mark.parametrize(
    ("key", "good"),
    [("team", True), ("Größe 1:/=+-@._", True), ("a\u00a0b", True), ("a;b", False), ("😀", False)],
)
def test_validation_tag_characters(key, good):
    """Tags have letters, digits, spaces and some marks, of any script."""
    members = {"vectorBucketName": "media", "tags": {key: key}}
    if good:
        checked(OPERATIONS["CreateVectorBucket"], members)
    else:
        assert "regular expression" in str(refused("CreateVectorBucket", members))


def nested(path, value):
    for part in reversed(path.split(".")):
        value = {part: value}
    return value


TEXTS = [{"metadataKey": "body", "text": "words"}]
NEEDED = {
    "CreateIndex": NEW_INDEX,
    "QueryVectors": {"topK": 1, "queryVector": {"float32": [1]}},
}


@pytest.mark.parametrize("one", shapes.REFUSED, ids=lambda one: f"{one.operation}.{one.member}")
def test_validation_refused(one):
    """What is not done here is refused with its reason, if it asks for something."""
    value = one.value or (TEXTS if one.member == "queryTexts" else [{"metadataKey": "body"}])
    members = NEEDED.get(one.operation, {}) | nested(one.member, value)
    error = refused(one.operation, members)
    assert str(error) == f"{one.member}: {one.reason}"
    assert error.fields == [("/" + one.member.replace(".", "/"), one.reason)]


def test_validation_refused_asks_nothing():
    """What is refused may be given if it asks for nothing."""
    query = NEEDED["QueryVectors"] | {"returnScores": True, "queryMode": "ENHANCED"}
    checked(OPERATIONS["QueryVectors"], query)
    empty = {"metadataConfiguration": {"textSearchConfigurations": []}}
    checked(OPERATIONS["CreateIndex"], NEW_INDEX | empty)


TEXTS_TRIED = st.text("ab1é/$ \ud800", max_size=4)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS_TRIED,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS_TRIED, inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("name", list(OPERATIONS))
def test_validation_never_fails(name):
    """Whatever JSON an operation's members hold, they are taken or refused: nothing else."""
    known = st.sampled_from([*shapes.SHAPES[name].members, "other"])

    @settings(max_examples=examples(100), deadline=None)
    @given(st.dictionaries(known, JSON, max_size=6))
    def run(members):
        try:
            found = checked(OPERATIONS[name], members)
        except ServiceError as error:
            assert error.code == "ValidationException"
        else:
            assert set(found) <= set(members)

    run()
