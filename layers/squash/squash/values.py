"""`dataclass` for the values of all rooms: what `dataclasses` makes, made when it is first used.

`dataclasses.dataclass` makes a class twice and compiles the source of five methods for it, most of
a millisecond that every cold start waits for, a hundred times and more; of those classes a query
uses few. Here a class is made with its slots at once, and its methods when the first of them is
called, or its fields are asked for. The fields are read by `dataclasses` itself, so that `fields`,
`replace` and `asdict` know these classes; only `__init__` is compiled at all.

There are no more options than are used: slots always, no order, no inheritance of fields.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import MISSING, Field, FrozenInstanceError
from operator import attrgetter
from reprlib import recursive_repr
from threading import RLock
from typing import TYPE_CHECKING, Any, Final, TypeVar

__all__ = ["dataclass"]

T = TypeVar("T")

_FIELDS: Final = "__dataclass_fields__"  # by which `dataclasses` knows its own
_METHODS: Final = ("__init__", "__eq__", "__hash__", "__repr__")
_lock = RLock()  # while one thread makes methods, others that ask for them wait


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
    compared = eq and "__eq__" not in own

    def completed() -> Any:
        _complete(made, cls, own=own, frozen=frozen, compared=compared, hashed=hashed)
        return made

    drafts = _drafts(completed)
    if not compared:
        del drafts["__eq__"], drafts["__hash__"]
    elif not hashed:
        drafts["__hash__"] = None
    if frozen:
        drafts |= _frozen(names)
    namespace |= {name: draft for name, draft in drafts.items() if name not in own}
    namespace |= {"__slots__": names, "__qualname__": cls.__qualname__, "__match_args__": names}
    namespace[_FIELDS] = _FieldsLater(completed)
    made = type(cls)(cls.__name__, cls.__bases__, namespace)
    return made


def _drafts(completed: Callable[[], Any]) -> dict[str, Any]:
    """Return what stands where methods will, and calls them when they are there."""

    # Of the class that was completed, not of `self`: that may be of a subclass.
    def __init__(self: Any, *values: Any, **named: Any) -> None:  # noqa: N807
        completed().__init__(self, *values, **named)

    def __eq__(self: Any, other: object) -> Any:  # noqa: N807
        return completed().__eq__(self, other)

    def __hash__(self: Any) -> Any:  # noqa: N807
        return completed().__hash__(self)

    def __repr__(self: Any) -> Any:  # noqa: N807
        return completed().__repr__(self)

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

    def __init__(self, completed: Callable[[], Any]) -> None:
        self._completed = completed

    def __get__(self, value: object, owner: type[Any]) -> Any:
        return getattr(self._completed(), _FIELDS)


def _complete(
    made: type[Any],
    cls: type[Any],
    *,
    own: set[str],
    frozen: bool,
    compared: bool,
    hashed: bool,
) -> None:
    """Put the real methods and fields of a class in the place of its drafts."""
    with _lock:
        if not isinstance(made.__dict__[_FIELDS], _FieldsLater):
            return
        dataclasses.dataclass(init=False, repr=False, eq=False)(cls)
        found: dict[str, Field[Any]] = getattr(cls, _FIELDS)
        fields = [found[name] for name in made.__match_args__]
        methods = {
            "__init__": _make_init(made, fields, frozen=frozen),
            "__repr__": _telling(fields),
        }
        if compared:
            methods["__eq__"], made_hash = _comparing([one.name for one in fields if one.compare])
            if hashed:
                methods["__hash__"] = made_hash
        for name, method in methods.items():
            if name not in own:
                method.__qualname__ = f"{made.__qualname__}.{name}"
                setattr(made, name, method)
        setattr(made, _FIELDS, found)  # last: now it is complete


def _make_init(made: type[Any], fields: list[Field[Any]], *, frozen: bool) -> Callable[..., None]:
    """Compile the method that fills the fields, as one would write it."""
    names: dict[str, Any] = {"_missing": MISSING, "_set": object.__setattr__}
    taken, body = ["self"], []
    for field in fields:
        name = value = field.name
        if field.default is not MISSING:
            names[f"_default_{name}"] = field.default
            taken.append(f"{name}=_default_{name}")
        elif field.default_factory is not MISSING:
            names[f"_make_{name}"] = field.default_factory
            taken.append(f"{name}=_missing")
            value = f"_make_{name}() if {name} is _missing else {name}"
        else:
            taken.append(name)
        body.append(f"_set(self, {name!r}, {value})" if frozen else f"self.{name} = {value}")
    if hasattr(made, "__post_init__"):
        body.append("self.__post_init__()")
    source = f"def __init__({', '.join(taken)}):\n " + "\n ".join(body or ["pass"])
    exec(source, names)  # noqa: S102 - of names in our own classes
    init: Callable[..., None] = names["__init__"]
    return init


def _telling(fields: list[Field[Any]]) -> Callable[..., Any]:
    names = [field.name for field in fields if field.repr]

    def __repr__(self: Any) -> str:  # noqa: N807
        told = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
        return f"{type(self).__qualname__}({told})"

    return recursive_repr()(__repr__)


def _comparing(names: list[str]) -> tuple[Callable[..., Any], Callable[..., int]]:
    """Return how values compare and hash: as the tuples of their fields."""
    if len(names) > 1:
        values: Callable[[Any], Any] = attrgetter(*names)
    else:  # an attrgetter of one name makes no tuple

        def values(value: Any) -> Any:
            return tuple(getattr(value, name) for name in names)

    def __eq__(self: Any, other: Any) -> Any:  # noqa: N807
        return values(self) == values(other) if type(other) is type(self) else NotImplemented

    def __hash__(self: Any) -> int:  # noqa: N807
        return hash(values(self))

    return __eq__, __hash__


if TYPE_CHECKING:
    from dataclasses import dataclass
else:
    dataclass = _value_class
