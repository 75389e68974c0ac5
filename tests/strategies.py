"""Random metadata, and filters that have something to do with it."""

from hypothesis import strategies as st

NAMES = ["a", "b", "year", "tags", "näme"]
NUMBERS = st.one_of(
    st.integers(-3, 3),
    st.sampled_from([0.0, -0.0, 0.5, 1.0, -2.5, 1e300, 5e-324, 2**53, -(2**53), 2**53 - 1]),
    st.sampled_from([1.7976931348623157e308, -1.7976931348623157e308, -5e-324]),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
)
STRINGS = st.one_of(
    st.sampled_from(["", "a", "ab", "abc", "b", "é", "\U0010ffff", "a\U0010ffff", "\ud7ff", "z"]),
    st.sampled_from(["a\0", "\ue000", "\uffff", "\U00010000", "2024-01-31", "2024-02-01"]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=4),
)
SCALARS = st.one_of(NUMBERS, STRINGS, st.booleans())
VALUES = st.one_of(SCALARS, SCALARS, st.lists(SCALARS, max_size=4))
KINDS = st.sampled_from(
    [
        NUMBERS, st.integers(-3, 3), STRINGS, st.booleans(), SCALARS, VALUES,
        st.lists(STRINGS, max_size=3), st.just([]),
    ]
)  # fmt: skip


@st.composite
def metadata_rows(draw, min_size=0, max_size=40):
    """Rows under a random schema: attributes of one type or of all, with and without lists."""
    schema = {name: draw(KINDS) for name in draw(st.sets(st.sampled_from(NAMES)))}
    row = st.fixed_dictionaries({}, optional=schema)
    return draw(st.lists(row, min_size=min_size, max_size=max_size))


def _picked(values):
    """Draw one of the values; unlike sampled_from, without a repr that grows with them."""

    def pick(place):
        return values[place]

    return st.integers(0, len(values) - 1).map(pick)


def filters_for(rows, max_leaves=8):
    """Filters whose operands are mostly values that occur in `rows`."""
    pool = []
    for row in rows:
        for value in row.values():
            pool.extend(value if isinstance(value, list) else [value])
    scalars = st.one_of(_picked(pool), SCALARS) if pool else SCALARS
    numbers = [v for v in pool if isinstance(v, (int, float)) and not isinstance(v, bool)]
    strings = [v for v in pool if isinstance(v, str)]
    number = st.one_of(_picked(numbers), NUMBERS) if numbers else NUMBERS
    string = st.one_of(_picked(strings), STRINGS) if strings else STRINGS
    ordered = st.one_of(number, string)
    prefix = string.map(lambda s: s[:2])
    listed = st.lists(scalars, min_size=1, max_size=4)
    between = st.one_of(
        st.tuples(number, number).map(sorted), st.tuples(string, string).map(sorted)
    )
    operator = st.one_of(
        st.fixed_dictionaries({"$eq": scalars}),
        st.fixed_dictionaries({"$ne": scalars}),
        st.fixed_dictionaries({"$in": listed}),
        st.fixed_dictionaries({"$nin": listed}),
        st.fixed_dictionaries({"$containsAny": listed}),
        st.fixed_dictionaries({"$containsAll": listed}),
        st.fixed_dictionaries({"$gt": ordered}),
        st.fixed_dictionaries({"$gte": ordered}),
        st.fixed_dictionaries({"$lt": ordered}),
        st.fixed_dictionaries({"$lte": ordered, "$gt": ordered}),
        st.fixed_dictionaries({"$between": between}),
        st.fixed_dictionaries({"$startsWith": prefix}),
        st.fixed_dictionaries({"$exists": st.booleans()}),
    )
    operator = st.one_of(operator, operator.map(lambda o: {"$not": o}), scalars)
    leaf = st.dictionaries(st.sampled_from([*NAMES, "absent"]), operator, min_size=1, max_size=2)
    return st.recursive(
        leaf,
        lambda inner: st.one_of(
            st.lists(inner, min_size=1, max_size=3).map(lambda parts: {"$and": parts}),
            st.lists(inner, min_size=1, max_size=3).map(lambda parts: {"$or": parts}),
            inner.map(lambda part: {"$not": part}),
        ),
        max_leaves=max_leaves,
    )


def passes(filter_, row):
    """Say whether a row passes, from the JSON alone: the second opinion on the parser."""

    def element(op, operand, value):
        same = isinstance(value, str) == isinstance(operand, str)
        same = same and isinstance(value, bool) == isinstance(operand, bool)
        if op == "$eq":
            return same and value == operand
        if op in ("$in", "$containsAny"):
            return any(element("$eq", o, value) for o in operand)
        if op == "$startsWith":
            return isinstance(value, str) and value.startswith(operand)
        if op == "$between":
            return element("$gte", operand[0], value) and element("$lte", operand[1], value)
        if isinstance(value, bool) or not same:
            return False
        return {
            "$gt": value > operand, "$gte": value >= operand,
            "$lt": value < operand, "$lte": value <= operand,
        }[op]  # fmt: skip

    def compare(name, op, operand):
        if op == "$not":
            return not all(compare(name, o, v) for o, v in operand.items())
        if op == "$exists":
            return (name in row) == operand
        if op == "$ne":
            return not compare(name, "$eq", operand)
        if op == "$nin":
            return not compare(name, "$in", operand)
        if op == "$containsAll":
            return all(compare(name, "$eq", value) for value in operand)
        if name not in row:
            return False
        value = row[name]
        return any(element(op, operand, v) for v in (value if isinstance(value, list) else [value]))

    def entry(key, value):
        if key == "$and":
            return all(passes(part, row) for part in value)
        if key == "$or":
            return any(passes(part, row) for part in value)
        if key == "$not":
            return not passes(value, row)
        operators = value if isinstance(value, dict) else {"$eq": value}
        return all(compare(key, op, operand) for op, operand in operators.items())

    return all(entry(key, value) for key, value in filter_.items())
