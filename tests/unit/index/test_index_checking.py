"""What comes from outside is refused by the right error at the right place, or taken whole."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from squash.errors import InvalidArgumentError, TooLargeError
from squash.index import checking
from squash.index.checking import check_keys, check_rows, check_vector, check_vectors
from squash.model import AttributeType, IndexConfig, Metric

COSINE = IndexConfig("i", 3, Metric.COSINE, attributes={"y": AttributeType.NUMBER},
                     non_filterable=("text",))  # fmt: skip
DOT = IndexConfig("i", 3, Metric.DOT)
GOOD = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]


def keep(metadata, *, key, non_filterable, declared):
    return dict(metadata) | {"key": key, "nf": non_filterable, "declared": declared}


def rows(keys=("a", "b"), vectors=GOOD, metadata=None, config=COSINE):
    return check_rows(keys, vectors, metadata, config, check_metadata=keep)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i1", "u1", "i4", "u8", "i8", ">f4", "g"])
def test_numbers_of_all_widths_become_float32(dtype):
    """Floats and integers are converted; the rows are a copy of their own, in C order."""
    given = np.asfortranarray(np.array(GOOD, dtype=dtype))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        batch = rows(vectors=given)
        one = check_vector(given[0], COSINE)
    assert batch.vectors.dtype == np.float32
    assert batch.vectors.flags.c_contiguous
    assert batch.vectors.flags.owndata
    assert batch.vectors.tolist() == GOOD
    assert one.tolist() == GOOD[0]
    given[:] = 0
    assert batch.vectors.tolist() == GOOD
    assert one.tolist() == GOOD[0]


def test_lists_and_metadata():
    """Lists are taken; metadata goes through the checker with its key and declarations."""
    batch = rows(metadata=[{"x": 1}, None])
    assert batch.keys == ["a", "b"]
    assert batch.metadata[0] == {"x": 1, "key": "a", "nf": ("text",), "declared": COSINE.attributes}
    assert batch.metadata[1]["key"] == "b"
    assert len(rows([], [])) == 0
    assert rows([], []).vectors.shape == (0, 3)
    assert rows([], np.empty((0, 3))).vectors.shape == (0, 3)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (float("nan"), "nan at position 1"),
        (float("inf"), "inf at position 1"),
        (float("-inf"), "-inf"),
        (1.1e15, "finite and at most"),
        (-1e300, "finite and at most"),
    ],
)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_values_out_of_range(bad, says, dtype):
    """NaN, infinity and what is too large are refused with the record's key and position."""
    with np.errstate(over="ignore"):
        vectors = np.array([[1, 2, 3], [4, bad, 6]], dtype=dtype)
    with pytest.raises(InvalidArgumentError, match=r"'b'.*") as caught:
        rows(vectors=vectors)
    assert (caught.value.key, caught.value.field) == ("b", "vectors[1]")
    if dtype == "f8":
        assert says in str(caught.value)
    with pytest.raises(InvalidArgumentError) as caught:
        check_vector(vectors[1], DOT)
    assert caught.value.field == "vector"


@pytest.mark.parametrize("metric", [Metric.COSINE, Metric.DOT])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize(
    "value",
    [0.0, 1e-300, 1e-40, 1e-16, 1e-15, 1e-11, 1e-9, 1.0, 1e13, 1e14, 9.9e14, 1.1e15, 1e30, 3e38,
     1e200, np.nan, np.inf, -np.inf],
)  # fmt: skip
def test_a_query_is_checked_as_a_row_is(value, dtype, metric):
    """The short way of a query's vector takes and refuses exactly what the way of rows does.

    So does that of several at once.
    """
    config = IndexConfig("i", 3, metric)
    with np.errstate(over="ignore"):
        vector = np.array([0, value, 0], dtype=dtype)

    def outcome(check):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                return check().tolist()
        except InvalidArgumentError as error:
            return str(error).partition(" has ")[2]

    one = outcome(lambda: check_vector(vector, config))
    several = np.stack([np.ones(3, dtype=dtype), vector])
    assert outcome(lambda: check_vectors(several, config)[1]) == one
    row = outcome(lambda: rows(["a"], vector[None, :], config=config).vectors[0])
    assert one == row or (np.isnan(value) and "nan" in one)


def test_the_largest_values_are_taken():
    """What is at the limit is inside it, integers too, and half floats raise no warning."""
    assert rows(["a"], [[1e15, -1e15, 0]]).vectors.shape == (1, 3)
    assert rows(["a"], [[10**15, -(10**15), 0]]).vectors.shape == (1, 3)
    with pytest.raises(InvalidArgumentError, match="finite"):
        rows(["a"], [[2**62, 0, 0]])
    with pytest.raises(InvalidArgumentError, match="inf"):
        rows(["a"], np.array([[np.inf, 0, 0]], dtype=np.float16))


@pytest.mark.parametrize(
    "vectors",
    [
        [["1", "2", "3"]],
        [[1j, 2, 3]],
        [[True, False, True]],
        [[None, 1, 2]],
        [[{}, 1, 2]],
        [[10**30, 1, 2]],
        np.array([[1, 2, 3]], dtype=object),
        np.array([["2020-01-01"] * 3], dtype="M8[D]"),
        "abc",
        None,
        [[1, 2, 3], [1, 2]],
        b"123",
        {"a": 1},
    ],
)
def test_what_is_no_numbers(vectors):
    """Strings, complex, objects, booleans, dates and ragged rows are refused."""
    with pytest.raises(InvalidArgumentError) as caught:
        rows(["a"], vectors)
    assert caught.value.field == "vectors"
    with pytest.raises(InvalidArgumentError):
        check_vector(vectors, DOT)


@pytest.mark.parametrize("shape", [(2, 2), (2, 4), (2,), (2, 3, 1), (3,), ()])
def test_wrong_shapes(shape):
    """Another shape than [rows, dimension] is refused with both."""
    with pytest.raises(InvalidArgumentError, match=r"takes \[rows, 3\]") as caught:
        rows(vectors=np.ones(shape))
    assert (caught.value.index, caught.value.field) == ("i", "vectors")


@pytest.mark.parametrize("shape", [(2,), (4,), (1, 3), (0,), ()])
def test_wrong_query_shapes(shape):
    """A query's vector has exactly one dimension, the index's."""
    with pytest.raises(InvalidArgumentError, match=r"takes \[3\]"):
        check_vector(np.ones(shape), COSINE)


def test_zero_vectors():
    """Length zero is refused under cosine, and only there."""
    tiny = [[1, 0, 0], [1e-16, 0, 0]]
    with pytest.raises(InvalidArgumentError, match="length zero") as caught:
        rows(vectors=tiny)
    assert caught.value.key == "b"
    assert "length 1e-16" in str(caught.value)
    with pytest.raises(InvalidArgumentError, match="length zero"):
        check_vector([0, 0, 0], COSINE)
    assert rows(vectors=tiny, config=DOT).vectors.shape == (2, 3)
    assert check_vector([0, 0, 0], DOT).tolist() == [0, 0, 0]
    assert rows(["a"], [[1e-14, 0, 0]]).vectors.shape == (1, 3)


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("", "is empty"),
        ("x" * 1025, "1025 bytes"),
        ("é" * 513, "1026 bytes"),
        (1, "is no string but int"),
        (None, "is no string but NoneType"),
        (b"a", "is no string but bytes"),
        ("a\ud800", "surrogate"),
    ],
)
def test_bad_keys(key, says):
    """A key that cannot be is refused with its place."""
    with pytest.raises(InvalidArgumentError, match=says) as caught:
        rows(["a", key])
    assert caught.value.field == "keys[1]"
    assert len(str(caught.value)) < 400


def test_keys_at_the_edge():
    """Keys of 1 and 1,024 bytes are taken, whatever they hold."""
    for key in ("x", "x" * 1024, "é" * 512, " ", "\0", "../..", "\U0001f600"):
        assert rows([key], [[1, 2, 3]]).keys == [key]


def test_number_and_repetition_of_keys(monkeypatch):
    """Repeated keys, a lone string, too many keys and unequal lengths are refused."""
    with pytest.raises(InvalidArgumentError, match=r"keys\[0\] and keys\[1\]") as caught:
        rows(["a", "a"])
    assert (caught.value.key, caught.value.field) == ("a", "keys[1]")
    assert check_keys(["a", "a"]) == ["a", "a"]
    with pytest.raises(InvalidArgumentError, match="single string"):
        rows("ab")
    for keys, vectors, metadata in (
        (["a"], GOOD, None),
        (["a", "b"], GOOD[:1], None),
        (["a", "b"], GOOD, [{}]),
        (["a", "b"], GOOD, []),
        ([], GOOD, None),
        (["a"], np.empty((0, 3)), None),
    ):
        with pytest.raises(InvalidArgumentError, match="as many of each"):
            rows(keys, vectors, metadata)
    monkeypatch.setattr(checking, "KEYS_PER_CALL_MAX", 1)
    with pytest.raises(TooLargeError, match="several calls"):
        rows()


class Tensor:
    """What cannot be made an array without being asked to, as a tensor that is trained."""

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("call detach() first")


def test_what_refuses_to_be_an_array_is_told():
    """Its own words are in the error."""
    for check in (lambda: rows(vectors=Tensor()), lambda: check_vector(Tensor(), COSINE)):
        with pytest.raises(InvalidArgumentError, match=r"detach\(\) first"):
            check()


def test_masked_values_are_refused():
    """What is masked is not known, whatever lies below; a mask of nothing hides nothing."""
    masked = np.ma.masked_greater(np.array(GOOD), 5)
    with pytest.raises(InvalidArgumentError, match="vectors has masked values"):
        rows(vectors=masked)
    with pytest.raises(InvalidArgumentError, match="vector has masked values"):
        check_vector(masked[1], COSINE)
    with pytest.raises(InvalidArgumentError, match="masked values"):
        check_vectors(masked, COSINE)
    assert rows(vectors=np.ma.array(GOOD)).vectors.tolist() == GOOD


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ([1, np.nan, 0], "has nan at position 1"),
        ([0, 0, 0], "length zero"),
        ([1, 0], "the shape [2]"),
        (["a", "b", "c"], "the element type <U1"),
    ],
)
def test_of_several_queries_the_bad_one_is_named(bad, says):
    """Each is checked as a single one is, and is told by its place; an array's rows as well."""
    good = [1.0, 2.0, 3.0]
    several: list[Any] = [[good, good, bad]]
    if len(bad) == len(good) and not isinstance(bad[0], str):
        several.append(np.array([good, good, bad], np.float32))
    for vectors in several:
        with pytest.raises(InvalidArgumentError) as caught:
            check_vectors(vectors, COSINE)
        assert caught.value.field == "vectors[2]"
        assert str(caught.value).startswith("vectors[2] has ")
        assert says in str(caught.value)
    with pytest.raises(InvalidArgumentError, match=r"^vector has ") as caught:
        check_vectors([bad], COSINE)
    assert caught.value.field == "vector"
