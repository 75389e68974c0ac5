"""Values do what classes of `dataclasses` do, whichever of their methods is asked for first."""

import copy
import dataclasses
import pickle
import sys
from collections.abc import Callable, Mapping
from dataclasses import field
from threading import Barrier, Event, Thread
from typing import Any, ClassVar, Generic, TypeVar

import pytest

from squash.values import dataclass, remembered

T = TypeVar("T")
ORIGINAL = dataclasses.dataclass


def make(decorate, **options):
    """Return a class of each shape that the library has, made by one of the two decorators."""

    @decorate(slots=True, **options)
    class Made(Generic[T]):
        first: int
        second: T
        kind: ClassVar[str] = "made"
        third: float = 1.5
        many: Mapping[str, int] = field(default_factory=dict)
        hidden: bytes = field(default=b"", repr=False)
        aside: int = field(default=0, compare=False)
        later: object = field(default=None, init=False)
        more: list[int] = field(default_factory=list, init=False)

        def __post_init__(self):
            if self.first < 0:
                raise ValueError("negative")

    return Made


def outcome(call):
    """Return what a call gives, or the kind of its error."""
    try:
        return call()
    except Exception as error:  # noqa: BLE001 - the two are compared
        return type(error)


ASKED: list[Callable[[Any], Any]] = [
    lambda cls: repr(cls(1, "a", hidden=b"x")).rpartition("<locals>.")[2],
    lambda cls: cls(1, "a") == cls(1, "a", aside=7),
    lambda cls: cls(1, "a") == cls(1, "b"),
    lambda cls: cls(1, "a") == (1, "a", 1.5, {}, b"", 0),
    lambda cls: len({cls(1, "a", many=()), cls(1, "a", many=(), aside=7)}),
    lambda cls: cls(second="a", first=1).third,
    lambda cls: cls(1, "a").many is cls(1, "a").many,
    lambda cls: cls(1),
    lambda cls: cls(1, "a", other=2),
    lambda cls: cls(-1, "a"),
    lambda cls: setattr(cls(1, "a"), "first", 2),
    lambda cls: delattr(cls(1, "a"), "third"),
    lambda cls: cls(1, "a").__dict__,
    lambda cls: dataclasses.asdict(cls(1, "a", many={"x": 1})),
    lambda cls: dataclasses.replace(cls(1, "a"), second="b").second,
    lambda cls: [one.name for one in dataclasses.fields(cls)],
    lambda cls: dataclasses.is_dataclass(cls),
    lambda cls: (cls.__match_args__, cls.__slots__, cls.kind),
    lambda cls: copy.deepcopy(cls(1, "a", many={"x": [1]})).many,
    lambda cls: copy.copy(cls(1, "a", third=2.0)).third,
]


@pytest.mark.parametrize("ask", ASKED)
@pytest.mark.parametrize(
    "options",
    [{"frozen": True}, {"frozen": True, "eq": False}, {}, {"eq": False}, {"unsafe_hash": True}],
)
def test_values_do_what_dataclasses_do(ask, options):
    """Asked for the first time and again, of a class of every shape."""
    theirs, ours = make(ORIGINAL, **options), make(dataclass, **options)
    expected = outcome(lambda: ask(theirs))
    for _ in range(2):
        assert outcome(lambda: ask(ours)) == expected


@dataclass(frozen=True, slots=True)
class Own:
    """A value that compares by a method of its own."""

    name: str

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Own) and other.name.lower() == self.name.lower()

    def __hash__(self) -> int:
        return hash(self.name.lower())


def test_values_keep_methods_of_their_own():
    """A method that a class has is not replaced."""
    assert Own("A") == Own("a")
    assert len({Own("A"), Own("a")}) == 1


def test_values_are_pickled():
    """A frozen value comes back as it was."""
    value = Own("A")
    assert pickle.loads(pickle.dumps(value)).name == "A"  # noqa: S301 - our own


def test_values_have_subclasses():
    """A class that adds methods to a value may be used before the value is."""

    class More(make(dataclass, frozen=True)):
        def twice(self):
            return 2 * self.first

    assert More(2, "a").twice() == 4


def test_values_inherit_no_fields():
    """A value of another's fields is refused, and so is one without slots."""
    with pytest.raises(TypeError, match="inherit no fields"):
        dataclass(frozen=True, slots=True)(type("More", (Own,), {"__annotations__": {"b": int}}))
    with pytest.raises(TypeError, match="slots"):
        dataclass(frozen=True, slots=False)


def test_values_are_completed_once_by_many_threads():
    """Threads that use a class for the first time at once all get a whole one."""
    made = [make(dataclass, frozen=True) for _ in range(20)]
    barrier, found = Barrier(4), []

    def ask():
        barrier.wait()
        found.extend(repr(cls(1, "a")) == repr(cls(1, "a")) for cls in made)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert found == [True] * 80


class Slow:
    """Works something out that takes until it is told."""

    def __init__(self, begun: Event, go_on: Event) -> None:
        self.begun, self.go_on = begun, go_on
        self.asked = 0

    @remembered
    def answer(self) -> int:
        """The answer."""
        self.asked += 1
        self.begun.set()
        assert self.go_on.wait(30)
        return self.asked


def test_who_works_something_out_keeps_no_other_object_waiting():
    """As the lock of `functools.cached_property` does before Python 3.12."""
    begun, go_on, free = Event(), Event(), Event()
    free.set()
    slow, other = Slow(begun, go_on), Slow(Event(), free)
    first = Thread(target=lambda: slow.answer)
    first.start()
    assert begun.wait(30)
    second = Thread(target=lambda: other.answer)
    second.start()
    second.join(30)
    found = dict(vars(other))
    go_on.set()
    first.join()
    second.join()
    assert found["answer"] == other.answer == slow.answer == slow.asked == other.asked == 1
    assert Slow.answer.__doc__ == "The answer."


def test_threads_that_ask_at_once_get_the_same():
    """One works it out; the others wait for that one, and take what it found."""
    begun, go_on = Event(), Event()
    slow = Slow(begun, go_on)
    found: list[int] = []
    threads = [Thread(target=lambda: found.append(slow.answer)) for _ in range(5)]
    for thread in threads:
        thread.start()
    assert begun.wait(30)
    go_on.set()
    for thread in threads:
        thread.join()
    assert found == [1] * 5
    assert slow.asked == 1
