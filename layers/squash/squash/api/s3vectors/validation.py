"""Requests checked against the table of shapes, in the service's own words."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Any, Final

from squash.api.members import kind_of, shown
from squash.api.s3vectors.operations import Operation
from squash.api.s3vectors.problems import ServiceError, invalid
from squash.api.s3vectors.shapes import (
    REFUSED,
    SHAPES,
    TAG_PATTERN,
    Boolean,
    Document,
    Floats,
    Integer,
    ListOf,
    MapOf,
    Refused,
    Shape,
    String,
    Structure,
)
from squash.limits import VALIDATION_ERRORS_TOLD_MAX
from squash.values import dataclass

_TAG_CATEGORIES: Final = frozenset("LZN")
_TAG_MARKS: Final = frozenset("_.:/=+-@")


@dataclass(frozen=True, slots=True)
class Wrong:
    """A constraint that a value does not satisfy; `length` is told where that is what is wrong."""

    path: str
    constraint: str
    length: int | None = None

    @property
    def sentence(self) -> str:
        """The service's sentence for it."""
        value = "Value" if self.length is None else f"Value with length {self.length}"
        return f"{value} at '{self.path}' failed to satisfy constraint: {self.constraint}"


def checked(operation: Operation, members: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an operation's members as they are to be used: null is as good as not given.

    Raises
    ------
    ServiceError
        A ValidationException with every field that is wrong, or with the first that is refused.

    """
    wrong: list[Wrong] = []
    found: Mapping[str, Any] = _structure(SHAPES[operation.name], members, "", wrong)
    if wrong:
        raise _error(wrong)
    if operation.name == "UpdateMetadataConfiguration" and ("add" in found) == ("delete" in found):
        raise invalid("Must specify either add or delete but not both")
    for one in REFUSED:
        if one.operation == operation.name and _is_given(one, found):
            raise invalid(
                f"{one.member}: {one.reason}",
                fields=[("/" + one.member.replace(".", "/"), one.reason)],
            )
    return found


def _error(wrong: list[Wrong]) -> ServiceError:
    count = len(wrong)
    told = [(one.path, one.sentence) for one in wrong[:VALIDATION_ERRORS_TOLD_MAX]]
    more = f"; and {count - len(told)} more" if count > len(told) else ""
    said = "; ".join(sentence for _, sentence in told)
    plural = "s" if count > 1 else ""
    return invalid(f"{count} validation error{plural} detected. {said}{more}", fields=told)


def _is_given(refused: Refused, members: Mapping[str, Any]) -> bool:
    value: Any = members
    for name in refused.member.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return bool(value == refused.value if refused.value else value)


def _check(shape: Shape, value: Any, path: str, wrong: list[Wrong]) -> Any:
    """Return a value as it is to be used; what is wrong with it is added to `wrong`."""
    if value is None:
        wrong.append(Wrong(path, "Member must not be null"))
        return None
    match shape:
        case String():
            return _string(shape, value, path, wrong)
        case Integer():
            return _integer(shape, value, path, wrong)
        case Boolean():
            _is_of(value, bool, "true or false", path, wrong)
        case Floats():
            _is_of(value, list, "a list of numbers", path, wrong)
        case Document():
            pass
        case ListOf():
            return _list(shape, value, path, wrong)
        case MapOf():
            _map(shape, value, path, wrong)
        case Structure():
            return _structure(shape, value, path, wrong)
    return value


def _is_of(value: Any, kind: type, words: str, path: str, wrong: list[Wrong]) -> bool:
    if isinstance(value, kind):
        return True
    wrong.append(Wrong(path, f"Member must be {words}, not {kind_of(value)}"))
    return False


def _string(shape: String, value: Any, path: str, wrong: list[Wrong]) -> Any:
    if not _is_of(value, str, "a string", path, wrong):
        return value
    if shape.enum and value not in shape.enum:
        wrong.append(Wrong(path, f"Member must satisfy enum value set: [{', '.join(shape.enum)}]"))
    _length(value, shape.least, shape.most, path, wrong)
    if not _is_unicode(value):
        wrong.append(Wrong(path, "Member must be valid Unicode, without half of a surrogate pair"))
    elif shape.pattern and not _matches(shape.pattern, value):
        wrong.append(
            Wrong(path, f"Member must satisfy regular expression pattern: {shape.pattern}")
        )
    return value


def _integer(shape: Integer, value: Any, path: str, wrong: list[Wrong]) -> Any:
    # JSON has one kind of number: 4.0 is as whole as 4.
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        kind = "one with a fraction" if isinstance(value, float) else kind_of(value)
        wrong.append(Wrong(path, f"Member must be a whole number, not {kind}"))
    elif not shape.least <= value <= shape.most:
        wrong.append(
            Wrong(path, f"Member must be between {shape.least} and {shape.most}, inclusive")
        )
    return value


def _list(shape: ListOf, value: Any, path: str, wrong: list[Wrong]) -> Any:
    if not _is_of(value, list, "a list", path, wrong):
        return value
    _length(value, shape.least, shape.most, path, wrong)
    if shape.most is not None and len(value) > shape.most:
        return value  # of millions of elements, what is wrong with each takes a gigabyte
    return [_check(shape.of, one, f"{path}/{i}", wrong) for i, one in enumerate(value)]


def _map(shape: MapOf, value: Any, path: str, wrong: list[Wrong]) -> None:
    if not _is_of(value, dict, "an object", path, wrong):
        return
    _length(value, 0, shape.most, path, wrong)
    if shape.most is not None and len(value) > shape.most:
        return  # as of a list
    for name, one in value.items():
        place = f"{path}/{shown(name)}"
        _check(shape.key, name, place, wrong)
        _check(shape.value, one, place, wrong)


def _structure(shape: Structure, value: Any, path: str, wrong: list[Wrong]) -> Any:
    if not _is_of(value, dict, "an object", path, wrong):
        return value
    given = {name: one for name, one in value.items() if one is not None}
    known = f"Member must be one of: [{', '.join(shape.members)}]"  # once, for all there may be
    wrong.extend(
        Wrong(f"{path}/{shown(name)}", known) for name in value if name not in shape.members
    )
    wrong.extend(
        Wrong(f"{path}/{name}", "Member must not be null")
        for name in shape.required
        if name not in given
    )
    if shape.union and len(given) != 1:
        wrong.append(Wrong(path, f"Member must have exactly one of: [{', '.join(shape.members)}]"))
    return {
        name: _check(inner, given[name], f"{path}/{name}", wrong)
        for name, inner in shape.members.items()
        if name in given
    }


def _length(value: Any, least: int, most: int | None, path: str, wrong: list[Wrong]) -> None:
    length = len(value)
    if length >= least and (most is None or length <= most):
        return
    bounds = (
        f"greater than or equal to {least}"
        if most is None
        else f"less than or equal to {most}"
        if not least
        else f"between {least} and {most}, inclusive"
    )
    wrong.append(Wrong(path, f"Member must have length {bounds}", length))


def _is_unicode(value: str) -> bool:
    return value.isascii() or not any("\ud800" <= one <= "\udfff" for one in value)


def _matches(pattern: str, value: str) -> bool:
    if pattern == TAG_PATTERN:
        # Python's regular expressions know no Unicode categories.
        return all(
            one in _TAG_MARKS or unicodedata.category(one)[0] in _TAG_CATEGORIES for one in value
        )
    return re.fullmatch(pattern, value) is not None
