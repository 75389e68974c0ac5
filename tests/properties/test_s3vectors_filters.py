"""Filters of `QueryVectors` against what the service documents of them, read from the JSON.

The evaluator here knows the documented operators alone, and shares nothing with the library.
"""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from s3vectors_face import Service
from strategies import NAMES, NUMBERS, SCALARS, STRINGS, metadata_rows

_CLAUSES_MAX = 100
_NAMES = st.sampled_from([*NAMES, "absent"])


def alike(value, operand):
    """Strings, numbers and booleans are three kinds; only within one are values equal."""
    kinds = [
        "boolean" if isinstance(one, bool) else "string" if isinstance(one, str) else "number"
        for one in (value, operand)
    ]
    return kinds[0] == kinds[1] and value == operand


def holds(operator, operand, value):
    """Whether a comparison holds for one value; of a list, for each element."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    match operator:
        case "$eq":
            return alike(value, operand)
        case "$in":
            return any(alike(value, one) for one in operand)
        case "$gt":
            return number and value > operand
        case "$gte":
            return number and value >= operand
        case "$lt":
            return number and value < operand
        case "$lte":
            return number and value <= operand
        case "$startsWith":
            return isinstance(value, str) and value.startswith(operand)
    raise AssertionError(operator)


def compares(operator, operand, name, metadata):
    if operator == "$exists":
        return (name in metadata) == operand
    if operator in ("$ne", "$nin"):
        return not compares({"$ne": "$eq", "$nin": "$in"}[operator], operand, name, metadata)
    if name not in metadata:
        return False
    value = metadata[name]
    values = value if isinstance(value, list) else [value]
    return any(holds(operator, operand, one) for one in values)


def passes(filter_, metadata):
    """Whether a record passes; several members of one object must all hold."""
    for name, value in filter_.items():
        if name == "$and":
            good = all(passes(part, metadata) for part in value)
        elif name == "$or":
            good = any(passes(part, metadata) for part in value)
        elif isinstance(value, dict):
            good = all(compares(op, operand, name, metadata) for op, operand in value.items())
        else:
            good = compares("$eq", value, name, metadata)
        if not good:
            return False
    return True


def clauses(filter_):
    return sum(
        sum(map(clauses, value)) if name in ("$and", "$or")
        else len(value) if isinstance(value, dict)
        else 1
        for name, value in filter_.items()
    )  # fmt: skip


def filters(rows):
    """Filters with operands that mostly occur in the rows."""
    pool = [
        one
        for row in rows
        for value in row.values()
        for one in (value if isinstance(value, list) else [value])
    ]
    known = st.one_of(st.sampled_from(pool), SCALARS) if pool else SCALARS
    number = known.filter(lambda one: not isinstance(one, (bool, str)))
    string = known.filter(lambda one: isinstance(one, str))
    number, string = st.one_of(number, NUMBERS), st.one_of(string, STRINGS)
    listed = st.lists(known, min_size=1, max_size=4)
    operators = {
        "$eq": known, "$ne": known, "$in": listed, "$nin": listed, "$gt": number, "$gte": number,
        "$lt": number, "$lte": number, "$exists": st.booleans(),
        "$startsWith": string.map(lambda one: one[:2]),
    }  # fmt: skip
    comparison = st.one_of(
        *(st.fixed_dictionaries({name: operand}) for name, operand in operators.items())
    )
    several = st.fixed_dictionaries({}, optional=operators).filter(bool)
    leaf = st.dictionaries(_NAMES, st.one_of(comparison, several, known), min_size=1, max_size=2)
    tree = st.recursive(
        leaf,
        lambda inner: st.one_of(
            st.lists(inner, min_size=1, max_size=4).map(lambda parts: {"$and": parts}),
            st.lists(inner, min_size=1, max_size=4).map(lambda parts: {"$or": parts}),
        ),
        max_leaves=12,
    )
    many = st.lists(leaf, min_size=20, max_size=60).map(lambda parts: {"$or": parts})
    return st.one_of(tree, many).filter(lambda one: clauses(one) <= _CLAUSES_MAX)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(data=st.data())
def test_a_query_finds_the_nearest_of_those_that_pass_its_filter(data):
    """All of them, if they are no more than asked for; in order, and equally near ones by key."""
    rows = data.draw(metadata_rows(min_size=1))
    places = data.draw(st.lists(st.integers(-4, 4), min_size=len(rows), max_size=len(rows)))
    metric = data.draw(st.sampled_from(["euclidean", "cosine"]))
    service = Service(dimension=2, metric=metric)
    # Of whole numbers on a line distances are exact; of cosine there are three directions, whose
    # vectors are the same, so that equally near ones are equally near in any arithmetic.
    vectors = [
        [x, 0] if metric == "euclidean" else [[1, 0], [0, 1], [-1, 0]][x % 3] for x in places
    ]
    keys = [f"k{i}" for i in range(len(rows))]
    service.put(zip(keys, vectors, rows, strict=True))
    distances = [
        float(abs(x - 1)) if metric == "euclidean" else [0.0, 1.0, 2.0][x % 3] for x in places
    ]
    for filter_ in data.draw(st.lists(filters(rows), min_size=1, max_size=6)):
        wanted = sorted(
            (distance, key)
            for distance, key, row in zip(distances, keys, rows, strict=True)
            if passes(filter_, row)
        )
        top_k = data.draw(st.integers(1, len(rows) + 2))
        found = service.query(
            [1, 0], top_k, filter=filter_, returnDistance=True, returnMetadata=True
        )
        assert [(one["distance"], one["key"]) for one in found] == wanted[:top_k]
        by_key = dict(zip(keys, rows, strict=True))
        assert all(one["metadata"] == by_key[one["key"]] for one in found)
