"""`dataclass` for the values of all rooms: what `dataclasses` makes, made when it is first used.

`dataclasses.dataclass` makes a class twice and compiles the source of five methods for it, most of
a millisecond that every cold start waits for, a hundred times and more; of those classes a query
uses few. Here a class is made with its slots at once, and each of its methods when it is first
called; only `__init__` is compiled at all. Fields are read by `dataclasses` itself, when somebody
asks for them: `fields`, `replace` and `asdict` know these classes.

There are no more options than are used: slots always, no order, no inheritance of fields.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import MISSING, Field, FrozenInstanceError, field
from functools import cached_property, partial
from operator import attrgetter
from reprlib import recursive_repr
from threading import RLock
from typing import TYPE_CHECKING, Any, Final, TypeVar

__all__ = ["dataclass", "maker_of", "remembered"]

T = TypeVar("T")

_FIELDS: Final = "__dataclass_fields__"  # by which `dataclasses` knows its own
_METHODS: Final = ("__init__", "__eq__", "__hash__", "__repr__")
_lock = RLock()  # while one thread makes methods, others that ask for them wait


def maker_of(cls: type[T]) -> Callable[[tuple[Any, ...]], T]:
    """Return what makes a named tuple of all its fields at once.

    Its own maker is a Python function, which takes three times as long: a thing to avoid where
    every query makes one.
    """
    new: Any = tuple.__new__
    return partial(new, cls)


def _value_class(
    *, slots: bool, frozen: bool = False, eq: bool = True, unsafe_hash: bool = False
) -> Callable[[type[T]], type[T]]:
    """Return a decorator that does as that of `dataclasses` with the same options."""
    if not slots:
        raise TypeError("values have slots: a class without is one for `dataclasses`")
    return lambda cls: _drafted(cls, frozen=frozen, eq=eq, hashed=frozen or unsafe_hash)


def _drafted(cls: Any, *, frozen: bool, eq: bool, hashed: bool) -> Any:
    """Return a class like another with slots for its fields, and methods that are still to come."""
    if any(hasattr(base, _FIELDS) for base in cls.__bases__):
        raise TypeError(f"{cls.__qualname__}: values inherit no fields")
    names = tuple(
        name
        for name, kind in cls.__annotations__.items()
        if not str(kind).partition("[")[0].endswith("ClassVar")
    )
    left_out = {*names, "__dict__", "__weakref__"}
    namespace = {name: it for name, it in cls.__dict__.items() if name not in left_out}
    own = {name for name in _METHODS if namespace.get(name) is not None}
    making = _Making(cls, names, frozen=frozen)
    drafts = _drafts(making.method)
    if not eq or "__eq__" in own:
        del drafts["__eq__"], drafts["__hash__"]
    elif not hashed:
        drafts["__hash__"] = None
    if frozen:
        drafts |= _frozen(names)
    namespace |= {name: draft for name, draft in drafts.items() if name not in own}
    taken = tuple(name for name in names if _is_taken(cls.__dict__.get(name)))
    namespace |= {"__slots__": names, "__qualname__": cls.__qualname__, "__match_args__": taken}
    namespace[_FIELDS] = _FieldsLater(making)
    making.made = type(cls)(cls.__name__, cls.__bases__, namespace)
    return making.made


def _is_taken(given: object) -> bool:
    """Tell whether a class is given a field when one of it is made."""
    return not isinstance(given, Field) or given.init


class _Making:
    """Makes what a class is still without, each part when it is first asked for."""

    made: Any

    def __init__(self, cls: Any, names: tuple[str, ...], *, frozen: bool) -> None:
        self._cls = cls
        self._names = names
        self._frozen = frozen
        self._done: dict[str, Any] = {}

    def method(self, name: str) -> Callable[..., Any]:
        """Put a real method in the place of its draft, and return it."""
        with _lock:
            if name not in self._done:
                method = self._make(name)
                method.__qualname__ = f"{self.made.__qualname__}.{name}"
                setattr(self.made, name, method)
                self._done[name] = method
            found: Callable[..., Any] = self._done[name]
            return found

    def fields(self) -> Any:
        """Have `dataclasses` read the fields."""
        with _lock:
            if _FIELDS not in self._done:
                _ = self._fields  # before they are taken from the class
                dataclasses.dataclass(init=False, repr=False, eq=False)(self._cls)
                self._done[_FIELDS] = getattr(self._cls, _FIELDS)
                setattr(self.made, _FIELDS, self._done[_FIELDS])
            return self._done[_FIELDS]

    @cached_property
    def _fields(self) -> dict[str, Field[Any]]:
        found = {}
        for name in self._names:
            given = self._cls.__dict__.get(name, MISSING)
            found[name] = given if isinstance(given, Field) else field(default=given)
        return found

    def _make(self, name: str) -> Callable[..., Any]:
        fields = self._fields
        if name == "__init__":
            return _make_init(self.made, fields, frozen=self._frozen)
        if name == "__repr__":
            return _telling([name for name, one in fields.items() if one.repr])
        values = _values_of([name for name, one in fields.items() if one.compare])
        return _comparing(values) if name == "__eq__" else _hashing(values)


def _drafts(method: Callable[[str], Callable[..., Any]]) -> dict[str, Any]:
    """Return what stands where methods will, and calls them when they are there."""

    # Of the class that was made, not of `self`: that may be of a subclass.
    def __init__(self: Any, *values: Any, **named: Any) -> None:  # noqa: N807
        method("__init__")(self, *values, **named)

    def __eq__(self: Any, other: object) -> Any:  # noqa: N807
        return method("__eq__")(self, other)

    def __hash__(self: Any) -> Any:  # noqa: N807
        return method("__hash__")(self)

    def __repr__(self: Any) -> Any:  # noqa: N807
        return method("__repr__")(self)

    methods = (__init__, __eq__, __hash__, __repr__)
    return {method.__name__: method for method in methods}


def _frozen(names: tuple[str, ...]) -> dict[str, Any]:
    """Return what keeps a value as it is, and yet lets it be pickled and copied."""

    def __setattr__(self: Any, name: str, value: Any) -> None:  # noqa: N807
        if name in names:
            raise FrozenInstanceError(f"cannot assign to field {name!r}")
        object.__setattr__(self, name, value)

    def __delattr__(self: Any, name: str) -> None:  # noqa: N807
        if name in names:
            raise FrozenInstanceError(f"cannot delete field {name!r}")
        object.__delattr__(self, name)

    def __getstate__(self: Any) -> list[Any]:  # noqa: N807
        return [getattr(self, name) for name in names]

    def __setstate__(self: Any, state: list[Any]) -> None:  # noqa: N807
        for name, value in zip(names, state, strict=True):
            object.__setattr__(self, name, value)

    methods = (__setattr__, __delattr__, __getstate__, __setstate__)
    return {method.__name__: method for method in methods}


class _FieldsLater:
    """Stands for a class's fields until somebody asks for them."""

    def __init__(self, making: _Making) -> None:
        self._making = making

    def __get__(self, value: object, owner: type[Any]) -> Any:
        return self._making.fields()


def _make_init(
    made: type[Any], fields: dict[str, Field[Any]], *, frozen: bool
) -> Callable[..., None]:
    """Compile the method that fills the fields, as one would write it."""
    names: dict[str, Any] = {"_missing": MISSING, "_set": object.__setattr__}
    taken, body = ["self"], []
    for name, one in fields.items():
        value = name
        if one.default is not MISSING:
            names[f"_default_{name}"] = one.default
            given, otherwise = f"{name}=_default_{name}", f"_default_{name}"
        elif one.default_factory is not MISSING:
            names[f"_make_{name}"] = one.default_factory
            given, otherwise = f"{name}=_missing", f"_make_{name}()"
            value = f"{otherwise} if {name} is _missing else {name}"
        else:
            given, otherwise = name, ""
        if one.init:
            taken.append(given)
        elif otherwise:
            value = otherwise
        else:
            continue
        body.append(f"_set(self, {name!r}, {value})" if frozen else f"self.{name} = {value}")
    if hasattr(made, "__post_init__"):
        body.append("self.__post_init__()")
    source = f"def __init__({', '.join(taken)}):\n " + "\n ".join(body or ["pass"])
    exec(source, names)  # noqa: S102 - of names in our own classes
    init: Callable[..., None] = names["__init__"]
    return init


def _telling(names: list[str]) -> Callable[..., Any]:
    def __repr__(self: Any) -> str:  # noqa: N807
        told = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
        return f"{type(self).__qualname__}({told})"

    return recursive_repr()(__repr__)


def _values_of(names: list[str]) -> Callable[[Any], Any]:
    """Return what takes a value's fields as a tuple: as that it compares and hashes."""
    if len(names) > 1:
        return attrgetter(*names)
    # An attrgetter of one name makes no tuple.
    return lambda value: tuple(getattr(value, name) for name in names)


def _comparing(values: Callable[[Any], Any]) -> Callable[..., Any]:
    def __eq__(self: Any, other: Any) -> Any:  # noqa: N807
        return values(self) == values(other) if type(other) is type(self) else NotImplemented

    return __eq__


def _hashing(values: Callable[[Any], Any]) -> Callable[..., int]:
    def __hash__(self: Any) -> int:  # noqa: N807
        return hash(values(self))

    return __hash__


class _Remembered:
    """Gives an attribute that is worked out when it is first asked for, once, and then kept.

    `functools.cached_property` has one lock for all objects of a class before Python 3.12, so that
    who reads for one of them keeps all others waiting, and none from then on, so that of two
    threads that ask at once one may go on with a value that the other one's has taken the place of.
    Here each object has a lock for each of them.
    """

    def __init__(self, work_out: Callable[[Any], Any]) -> None:
        self._work_out = work_out
        self._name = work_out.__name__
        self._lock = f"{self._name} lock"  # no attribute is called so
        self.__doc__ = work_out.__doc__

    def __get__(self, of: Any, owner: type | None = None) -> Any:
        if of is None:
            return self
        kept = of.__dict__  # where it is found before this, once it is there
        with kept.setdefault(self._lock, RLock()):
            if self._name not in kept:
                kept[self._name] = self._work_out(of)
            return kept[self._name]


if TYPE_CHECKING:
    from dataclasses import dataclass
    from functools import cached_property as remembered
else:
    dataclass = _value_class
    remembered = _Remembered
