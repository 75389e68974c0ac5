"""Every error has a status and one base; messages say what happened, where, and what to do."""

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest

import squash
from squash import errors
from squash.errors import HTTP_STATUS, SquashError


def every_class(base=SquashError):
    yield base
    for child in base.__subclasses__():
        yield from every_class(child)


CLASSES = [one for one in every_class() if one.__module__ == errors.__name__]


def test_every_class_has_a_status():
    """The table of statuses holds each class but the base, and nothing else."""
    assert set(HTTP_STATUS) == set(CLASSES) - {SquashError}
    assert set(HTTP_STATUS.values()) <= {400, 401, 403, 404, 409, 413, 429, 500, 503}


def test_a_status_fits_its_base():
    """A narrower class has the status of the broader one: catching either leads to the same."""
    for one in set(CLASSES) - {SquashError}:
        (base,) = one.__bases__
        assert base is SquashError or HTTP_STATUS[one] == HTTP_STATUS[base]


def test_every_class_says_what_it_is():
    """Each has a docstring of its own, and all derive from the one base."""
    for one in CLASSES:
        assert one.__doc__
        assert one is SquashError or one.__doc__ != SquashError.__doc__
        assert issubclass(one, Exception)


@pytest.mark.parametrize("kind", CLASSES)
def test_where(kind):
    """What an error knows of the place is there to be asked, and else None."""
    more = {
        errors.ThrottledError: {"retry_after_ms": 5},
        errors.CommitUnknownError: {"commit_id": "abc"},
    }.get(kind, {})
    error = kind("what", **more)
    assert str(error) == "what"
    assert (error.index, error.key, error.field, error.object_key) == (None,) * 4
    assert {name: getattr(error, name) for name in more} == more
    assert kind("what", index="papers", **more).index == "papers"


@pytest.fixture
def database(request):
    return squash.connect(f"memory://{abs(hash(request.node.nodeid))}")


@pytest.fixture
def index(database):
    return database.create_index("papers", dimension=2, attributes={"year": "number"})


def put(index, **changes):
    index.put(**{"keys": ["a"], "vectors": [[1, 2]], **changes})


# What is done; the error; words for what happened and for what to do.
FAILURES = [
    (lambda d, i: squash.connect("gs://x"), "InvalidArgumentError", ["gs://x", "s3://"]),
    (lambda d, i: d.index("paper"), "NotFoundError", ["'paper'", "Did you mean 'papers'"]),
    (lambda d, i: d.index("zzzz"), "NotFoundError", ["'zzzz'", "Create it first"]),
    (lambda d, i: d.drop_index("zzzz"), "NotFoundError", ["'zzzz'"]),
    (
        lambda d, i: d.create_index("papers", dimension=2),
        "ConflictError",
        ["'papers' already", "open it"],
    ),
    (
        lambda d, i: d.create_index("A b", dimension=2),
        "InvalidArgumentError",
        ["'A b'", "use 1 to 63"],
    ),
    (
        lambda d, i: d.create_index("x", dimension=0),
        "InvalidArgumentError",
        ["dimension 0", "use 1 to 4096"],
    ),
    (
        lambda d, i: d.create_index("x", dimension=2, metric="l1"),
        "InvalidArgumentError",
        ["l1", "cosine"],
    ),
    (
        lambda d, i: d.create_index("x", dimension=2, codec="pq"),
        "InvalidArgumentError",
        ["'pq'", "take one of residual"],
    ),
    (
        lambda d, i: squash.connect(Path("x")),
        "InvalidArgumentError",
        ["no string but PosixPath", "file://"],
    ),
    (
        lambda d, i: d.create_index("x", dimension=2, codec=["pq"]),
        "InvalidArgumentError",
        ["['pq']", "take one of residual"],
    ),
    (
        lambda d, i: d.create_index("x", dimension=2, seed=-1),
        "InvalidArgumentError",
        ["seed", "from 0, not -1"],
    ),
    (
        lambda d, i: d.create_index("x", dimension=2, non_filterable="text"),
        "InvalidArgumentError",
        ["non_filterable is 'text'", "give a list"],
    ),
    *(
        (
            lambda d, i, name=name: d.create_index("x", dimension=2, non_filterable=[name]),
            "InvalidArgumentError",
            ["non_filterable", repr(name), "1 to 63 bytes"],
        )
        for name in (5, "", "$a", "a" * 64, "\ud800")
    ),
    *(
        (
            lambda d, i, name=name: d.create_index("x", dimension=2, attributes={name: "number"}),
            "InvalidArgumentError",
            ["attributes", repr(name), "1 to 63 bytes"],
        )
        for name in (5, "", "$a", "a" * 64, "\ud800")
    ),
    (
        lambda d, i: d.create_index("x", dimension=2, attributes=["year"]),
        "InvalidArgumentError",
        ["['year']", "the type of each"],
    ),
    (
        lambda d, i: d.create_index(
            "x", dimension=2, attributes={f"a{i}": "number" for i in range(51)}
        ),
        "InvalidArgumentError",
        ["51 attributes", "at most 50"],
    ),
    (lambda d, i: put(i, keys=5), "InvalidArgumentError", ["keys is 5", "give a list"]),
    (lambda d, i: i.get(keys=None), "InvalidArgumentError", ["keys is None", "give a list"]),
    (lambda d, i: put(i, metadata=5), "InvalidArgumentError", ["metadata", "give a list"]),
    (
        lambda d, i: i.patch(keys=["a"], metadata=5),
        "InvalidArgumentError",
        ["metadata", "give a list"],
    ),
    (lambda d, i: i.import_batches(5), "InvalidArgumentError", ["batches is 5", "RowBatch"]),
    (lambda d, i: i.import_batches(["a"]), "InvalidArgumentError", ["not str", "RowBatch"]),
    (lambda d, i: i.query_many([[1, 2]], filters=5), "InvalidArgumentError", ["filters is 5"]),
    (lambda d, i: i.query([1, 2], include=None), "InvalidArgumentError", ["include is None"]),
    (lambda d, i: i.get(keys=["a"], include=5), "InvalidArgumentError", ["include is 5"]),
    (lambda d, i: i.list(include=[["vector"]]), "InvalidArgumentError", ["include takes"]),
    (lambda d, i: put(i, keys=["a", "a"], vectors=[[1, 2]] * 2), "InvalidArgumentError", ["once"]),
    (lambda d, i: put(i, keys=[""]), "InvalidArgumentError", ["keys[0]", "1 to 1024 bytes"]),
    (lambda d, i: put(i, keys="a"), "InvalidArgumentError", ["single string", "give a list"]),
    (lambda d, i: put(i, vectors=[[1, 2, 3]]), "InvalidArgumentError", ["[1, 3]", "[rows, 2]"]),
    (lambda d, i: put(i, vectors=[[0, 0]]), "InvalidArgumentError", ["'a'", "another vector"]),
    (lambda d, i: put(i, vectors=[[np.nan, 1]]), "InvalidArgumentError", ["'a'", "finite"]),
    (lambda d, i: put(i, metadata=[{"year": "x"}]), "InvalidArgumentError", ["'a'", "number"]),
    (
        lambda d, i: put(i, metadata=[{"x": None}]),
        "InvalidArgumentError",
        ["null", "leave the key"],
    ),
    (
        lambda d, i: put(i, metadata=[{"x": "y" * 3000}]),
        "TooLargeError",
        ["3008 bytes", "at most 2048", "Declare long texts"],
    ),
    (lambda d, i: i.query([1, 2, 3]), "InvalidArgumentError", ["[3]", "takes [2]"]),
    (lambda d, i: i.query([1, 2], top_k=0), "InvalidArgumentError", ["top_k", "1 to 10000"]),
    (
        lambda d, i: i.query([1, 2], filter={"year": {"$gtt": 1}}),
        "FilterError",
        ["year.$gtt", "did you mean $gt"],
    ),
    (
        lambda d, i: i.query([1, 2], consistency="weak"),
        "InvalidArgumentError",
        ["'weak'", "'strong' or 'eventual'"],
    ),
    (lambda d, i: i.query([1, 2], include=["key"]), "InvalidArgumentError", ["'key'", "takes"]),
    (lambda d, i: i.list(cursor="x"), "InvalidArgumentError", ["cursor", "begin again"]),
    (lambda d, i: i.delete(), "InvalidArgumentError", ["either keys or a filter"]),
    (lambda d, i: i.delete(filter={}), "InvalidArgumentError", ["every record", "drop the index"]),
]


@pytest.mark.parametrize(("do", "kind", "words"), FAILURES)
def test_common_failures(database, index, do, kind, words):
    """The error is of the class one would catch, and its message holds the way out."""
    with pytest.raises(SquashError) as caught:
        do(database, index)
    assert type(caught.value).__name__ == kind
    for word in words:
        assert word in str(caught.value), str(caught.value)


@pytest.mark.parametrize(
    "error",
    [
        errors.SquashError("m", index="i", key="k", field="f", object_key="o"),
        errors.FilterError("m", field="f"),
        errors.ThrottledError("m", retry_after_ms=5, index="i", limit="L"),
        errors.CommitUnknownError("m", commit_id="0" * 32),
        errors.PartialAnswerError("m", missing=("p",)),
        errors.UnavailableError("m", unchanged=True),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("through", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))])  # noqa: S301 - ours
def test_errors_come_whole_from_another_process(error, through):
    """A pool of processes sends what its workers raise; what cannot be read breaks the pool."""
    made = through(error)
    assert type(made) is type(error)
    assert str(made) == str(error)
    assert vars(made) == vars(error)
