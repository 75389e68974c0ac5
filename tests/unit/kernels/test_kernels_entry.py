"""The C entry, and the objects that it makes: those that Python makes."""

import gc
import sys
from array import array
from dataclasses import replace
from itertools import count
from uuid import uuid4

import numpy as np
import pytest

import squash
from squash.drafts import make_bare_matches
from squash.kernels import Maker, native
from squash.maintain import BuildOptions
from squash.model import Match
from squash.search import at_once
from squash.values import dataclass

WITH_ENTRY = native.active() is not None and native.active().entry is not None


def made_by(kind):
    return lambda keys, distances: tuple(map(kind, keys, distances))


@pytest.mark.skipif(
    sys.platform != "linux" or sys.implementation.name != "cpython",
    reason="the entry is for CPython on Linux",
)
def test_it_serves_here():
    """Unless there are no kernels at all, this process has it."""
    assert (native.active() is not None) == WITH_ENTRY


def test_matches_are_understood():
    words = Maker(make_bare_matches)._form
    assert words[0] == id(Match)
    assert sorted((*words[1:3], *words[4:6])) == [
        object.__basicsize__ + 8 * place for place in range(4)
    ]
    assert words[3] == 2


class Plain:
    """Keeps its fields in a dict."""

    def __init__(self, key, distance):
        self.key, self.distance = key, distance


class Watched:
    """Is to be told when it goes."""

    __slots__ = ("distance", "key")

    def __init__(self, key, distance):
        self.key, self.distance = key, distance

    def __del__(self):
        return None


class Weak:
    """May be referred to weakly."""

    __slots__ = ("__weakref__", "distance", "key")

    def __init__(self, key, distance):
        self.key, self.distance = key, distance


@dataclass(frozen=True, slots=True)
class More:
    """Holds more than a key and a distance."""

    key: str
    distance: float
    more: int = 7


@dataclass(frozen=True, slots=True)
class Twice:
    """Holds its key twice."""

    key: str
    distance: float
    name: str


@pytest.mark.parametrize(
    "make",
    [
        made_by(Plain),
        made_by(Watched),
        made_by(Weak),
        made_by(More),
        made_by(lambda key, distance: Twice(key, distance, key)),
        made_by(lambda *fields: fields),
        made_by(lambda key, _: key),
    ],
)
def test_other_classes_are_left_to_python(make):
    maker = Maker(make)
    assert maker.at == 0
    assert len(maker.make(["k"], [1.0])) == 1


def an_index(keys):
    rng = np.random.default_rng(3)
    index = squash.connect(f"memory://{uuid4().hex}").create_index("x", dimension=5)
    rows = [{"n": i} for i in range(len(keys))]
    index.put(keys=keys, vectors=rng.normal(size=(len(keys), 5)), metadata=rows)
    index.optimize(options=BuildOptions(exact_rows_max=4))
    return index, rng.normal(size=(200, 5))


def ways(index, vector, **options):
    """Return the matches by the entry, and without it."""
    chosen = native.active()
    found = [index.query(vector, **options).matches]
    native._state.chosen = None if chosen is None else replace(chosen, entry=None)
    try:
        return [*found, index.query(vector, **options).matches]
    finally:
        native._state.chosen = chosen


FRESH = count(200.0, 0.001)
FILTERS = [None, {"n": {"$gte": 3, "$lt": 300}}, {"$or": [{"n": 5}, {"n": {"$gt": 20}}]}]


@pytest.mark.parametrize(
    "key", ["k{}", "ключ-{}", "🗝{}", '"{}"', "\\{}", "k" * 60 + "{}", "a\u2028{}"]
)
def test_objects_are_those_that_python_makes(key):
    index, vectors = an_index([key.format(i) for i in range(400)])
    for place, vector in enumerate(vectors[:30]):
        own, other = ways(index, vector, filter=FILTERS[place % 3], top_k=1 + place, include=())
        assert own == other
        assert repr(own) == repr(other)
        assert hash(own) == hash(other)
        for one in own:
            assert type(one) is Match
            assert type(one.key) is str
            assert type(one.distance) is float
            assert (one.metadata, one.vector) == (None, None)
            assert gc.is_tracked(one) == gc.is_tracked(other[0])
            with pytest.raises(AttributeError):
                one.key = "other"


@pytest.mark.skipif(not WITH_ENTRY, reason="this Python has no C entry")
@pytest.mark.parametrize("key", ["k{}", "ключ-{}", '"{}"', "}}],{}", "}}]][{}"])
def test_records_of_rows_on_all_pages_are_given_together(key, monkeypatch):
    keys = [key.format(i) for i in range(400)]
    index, _ = an_index(keys)
    vectors = {one.key: one.vector for one in index.get(keys=keys)}
    for _ in range(2):
        index.query(vectors[keys[0]], top_k=400)  # What is not loaded goes another way.
    given = []
    joined = at_once.read_joined
    monkeypatch.setattr(
        at_once, "read_joined", lambda text, count: given.append(count) or joined(text, count)
    )
    for place, one in enumerate(keys):
        own, other = ways(index, vectors[one], top_k=1)
        assert own == other
        assert [(m.key, m.metadata) for m in own] == [(one, {"n": place})]
    assert given == [1] * 400
    assert len(ways(index, vectors[keys[7]], top_k=400)[0]) == 400
    assert given[-1] == 400


@pytest.mark.parametrize("include", [(), ("metadata",)])
def test_objects_are_let_go(include):
    index, vectors = an_index([f"key {i}" for i in range(400)])

    def asked():
        for place, vector in enumerate(vectors):
            index.query(vector, filter=FILTERS[place % 3], include=include)

    asked()
    gc.collect()
    before = len(gc.get_objects()), sys.getrefcount(Match), sys.getrefcount(None)
    allocated = sys.getallocatedblocks()
    for _ in range(20):
        asked()
    gc.collect()
    after = len(gc.get_objects()), sys.getrefcount(Match), sys.getrefcount(None)
    # Some hundreds were made 20 times each: what stays is what filters and the system keep.
    assert np.abs(np.subtract(after, before)).max() < 300
    assert abs(sys.getallocatedblocks() - allocated) < 2_000


@pytest.mark.skipif(not WITH_ENTRY, reason="this Python has no C entry")
@pytest.mark.parametrize(
    "given",
    [
        (),
        (1, 2, 3),
        ("a",) * 8,
        (0, 0, 0, 0, np.zeros(3, np.float32), "least", 1.0, 0.0),
        (0, 0, 0, 0, np.zeros(3, np.float32), 0.0, 1.0, None),
    ],
)
def test_other_arguments_are_refused(given):
    with pytest.raises(TypeError):
        native.active().entry.call(*given)


@pytest.mark.skipif(not WITH_ENTRY, reason="this Python has no C entry")
@pytest.mark.parametrize(
    ("place", "given", "error"),
    [(8, "no bytes", TypeError), (9, array("d", [0.0] * 99), TypeError), (10, -8, TypeError),
     (10, 1 << 40, TypeError), (8, array("d"), MemoryError), (9, None, TypeError)],
)  # fmt: skip
def test_a_filter_that_does_not_fit_its_room_is_refused(monkeypatch, place, given, error):
    index, vectors = an_index([f"key {i}" for i in range(400)])
    asked = []
    entry = native.active().entry
    chosen = replace(
        native.active(),
        entry=replace(
            entry, call=lambda *arguments: asked.append(arguments) or entry.call(*arguments)
        ),
    )
    monkeypatch.setattr(native._state, "chosen", chosen)
    for vector in vectors[:4]:
        index.query(vector, filter={"n": {"$gte": 0, "$lt": next(FRESH)}}, include=())
    arguments = list(asked[-1])
    assert len(arguments) == 13
    arguments[place] = given
    with pytest.raises(error):
        entry.call(*arguments)
