"""The filter language, from JSON to the nodes of `squash.attributes.nodes`."""

from __future__ import annotations

import math
from array import array
from collections.abc import Collection, Mapping
from itertools import chain
from math import inf, nextafter
from typing import Any, Final

import numpy as np

from squash.attributes.nodes import (
    And,
    Exists,
    FilterNode,
    Not,
    OneOf,
    Or,
    Ordered,
    Plain,
    Within,
    all_of,
    compared,
    parts_of,
)
from squash.errors import FilterError
from squash.limits import (
    FILTER_CLAUSES_MAX,
    FILTER_DEPTH_MAX,
    FILTER_LIST_VALUES_MAX,
    FILTER_NODES_KEPT,
    FILTER_STRING_BYTES_MAX,
    INTEGER_MAGNITUDE_MAX,
)
from squash.model import Scalar

_COMBINING = ("$and", "$or", "$not")
_COMPARING = (
    "$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin", "$exists", "$between",
    "$startsWith", "$containsAny", "$containsAll", "$not",
)  # fmt: skip
_NAME_CHARACTERS_SHOWN_MAX = 80
_PLAIN_CLAUSES_MAX: Final = 16
_PLAIN_CHARACTERS_MAX: Final = 128
_ONE_CLAUSE: Final = 3  # a name, an operator and an operand
_NUMBERS: Final = (float, int)
_LEAST: Final = -float(INTEGER_MAGNITUDE_MAX)
_MOST: Final = float(INTEGER_MAGNITUDE_MAX)
_NO_ATTRIBUTE: Final = ("", "$")  # how a key begins that is none

# The last plain filters, and names of attributes. Threads may put in the same at once: each has
# what says the same then.
_kept: Final[dict[Plain, FilterNode]] = {}
_names: Final[set[str]] = set()


def parse_filter(
    filter: Mapping[str, Any] | None,  # noqa: A002 - the word of the public interface
    *,
    non_filterable: Collection[str] = (),
) -> FilterNode | None:
    """Read a filter.

    Parameters
    ----------
    filter:
        JSON, in the language of `matches`; None or {} passes everything.
    non_filterable:
        Metadata keys that were declared not to be attributes.

    Raises
    ------
    FilterError
        If it is not well formed, or could be misread; `field` names the place.

    """
    if filter is None:
        return None
    plain = filter
    if type(filter) is dict and "$and" in filter:
        plain = _joined(filter)
    node = _plain(plain, non_filterable)
    return _Parser(non_filterable).other(filter, "", 1) if node is None else node


def _joined(filter_: dict[Any, Any]) -> dict[Any, Any]:
    """Return what `$and` joins as one object, if that has the same nodes.

    So it is where each filter is one entry, and no two have the same name.
    """
    parts = filter_["$and"]
    if len(filter_) != 1 or type(parts) is not list or len(parts) > _PLAIN_CLAUSES_MAX:
        return filter_
    joined: dict[Any, Any] = {}
    for part in parts:
        if type(part) is not dict or len(part) != 1:
            return filter_
        joined |= part
    return joined if len(joined) == len(parts) else filter_


def _plain(filter_: Any, non_filterable: Collection[str]) -> FilterNode | None:
    """Read what most filters are: ends of intervals of numbers, and single values.

    None where it is anything else, or something is wrong with it: that has a place to name. The
    nodes are those that `_Parser` makes of it.
    """
    if type(filter_) is not dict or not 0 < len(filter_) <= _PLAIN_CLAUSES_MAX:
        return None
    found: list[tuple[Any, ...]] = []
    ends: list[float] = []
    for name, value in filter_.items():
        if type(name) is not str or (name not in _names and not _is_name(name)):
            return None
        if name in non_filterable:
            return None
        if type(value) is dict and len(value) == 2:  # noqa: PLR2004
            (first, low), (second, high) = value.items()
            if (
                first == "$gte"
                and second == "$lt"
                and type(low) in _NUMBERS
                and type(high) in _NUMBERS
                and _LEAST <= low <= _MOST
                and _LEAST <= high <= _MOST
            ):
                # Most that is asked of numbers is this, and `_entry_of` says the same of it.
                found.append((name, "$gte", low, "$lt", high))
                ends += (low, high)
                continue
        entry = _entry_of(name, value, ends)
        if entry is None:
            return None
        found.append(entry)
    return _node_of(tuple(found), tuple(filter_), array("d", ends))


def _node_of(plain: Plain, names: tuple[str, ...], ends: array[float]) -> FilterNode:
    """Return the nodes of a plain filter.

    `ends` are those of each attribute's interval; where there are fewer, it asks for other things.
    """
    # Services ask the same again and again: one object then, by which its program is found. What is
    # the same by `==` means the same.
    node = _kept.get(plain)
    if node is not None:
        if type(node) is And:
            node.again = True
    else:
        if len(plain) == 1 and len(plain[0]) == _ONE_CLAUSE:
            node = compared(*plain[0])
        elif len(ends) == 2 * len(names):
            node = And(None, (names, ends), plain)
        else:
            node = And(parts_of(plain))
        if len(_kept) >= FILTER_NODES_KEPT:
            _forget()
        _kept[plain] = node
    return node


def _forget() -> None:
    """Keep no filters but those that were asked again since the last time, if they are few."""
    kept = _kept.copy().items()  # of a copy, since other threads put in theirs
    again = [(plain, node) for plain, node in kept if type(node) is And and node.again]
    _kept.clear()
    if len(again) <= FILTER_NODES_KEPT // 2:
        for plain, node in again:
            node.again = False
            _kept[plain] = node


def _entry_of(name: str, value: Any, ends: list[float]) -> tuple[Any, ...] | None:
    """Return what a plain filter asks of one attribute; None where it is not plain.

    The ends of its interval are appended, if it asks for one.
    """
    if type(value) is dict:
        interval = _interval_of(value)
        if interval is None:
            return None
        ends += interval
        return (name, *chain.from_iterable(value.items()))
    if type(value) in _NUMBERS and _LEAST <= value <= _MOST:
        ends += (value, nextafter(value, inf))
    elif not _is_short(value):
        return None
    return name, "$eq", value


def _interval_of(asked: dict[Any, Any]) -> tuple[float, ...] | None:
    """Return the interval [low, high) of numbers that is asked of one attribute.

    It may ask for one number, or for an interval; not for both. Where it asks for anything else
    that is plain there is none, (); where for what is not plain, None.
    """
    if not 0 < len(asked) <= _PLAIN_CLAUSES_MAX:
        return None
    low, high = -inf, inf
    numbers = True
    for operator, operand in asked.items():
        if type(operand) not in _NUMBERS or not _LEAST <= operand <= _MOST:
            if operator != "$eq" or not _is_short(operand):
                return None
            numbers = False
        elif operator == "$gte":
            low = max(low, operand)
        elif operator == "$lt":
            high = min(high, operand)
        # An end that is none of [low, high) itself has the next number for it.
        elif operator == "$gt":
            low = max(low, nextafter(operand, inf))
        elif operator == "$lte":
            high = min(high, nextafter(operand, inf))
        elif operator != "$eq":
            return None
        else:
            low, high = operand, nextafter(operand, inf)
            numbers = numbers and len(asked) == 1
    return (low, high) if numbers else ()


def _is_name(name: str) -> bool:
    """Tell whether an attribute of a plain filter may have a name; those that may are kept."""
    if not _is_short(name) or name[:1] in _NO_ATTRIBUTE:
        return False
    if len(_names) >= FILTER_NODES_KEPT:
        _names.clear()
    _names.add(name)
    return True


def _is_short(text: Any) -> bool:
    return type(text) is str and len(text) <= _PLAIN_CHARACTERS_MAX and text.isascii()


class _Parser:
    def __init__(self, non_filterable: Collection[str]) -> None:
        self._non_filterable = non_filterable
        self._clauses = 0

    def filter(self, value: Any, place: str, depth: int) -> FilterNode | None:
        if depth > FILTER_DEPTH_MAX:
            return self.other(value, place, depth)
        known = _plain(value, self._non_filterable)
        if known is not None:
            asked = [len(one) if type(one) is dict else 1 for one in value.values()]
            clauses = self._clauses + sum(asked)
            if clauses <= FILTER_CLAUSES_MAX:
                self._clauses = clauses
                return known
        return self.other(value, place, depth)

    def other(self, value: Any, place: str, depth: int) -> FilterNode | None:
        """Read what is not plain."""
        if not _is_object(value):
            raise _error(place, f"expected an object, found {_show(value)}")
        if depth > FILTER_DEPTH_MAX:
            raise _error(place, f"filters nest at most {FILTER_DEPTH_MAX} deep")
        parts = [self._entry(key, part, place, depth) for key, part in value.items()]
        said = [part for part in parts if part is not None]
        return all_of(said) if said else None

    def _entry(self, key: Any, value: Any, place: str, depth: int) -> FilterNode | None:
        if not isinstance(key, str) or not key:
            raise _error(place, f"attribute names are non-empty strings, found {_show(key)}")
        here = f"{place}.{_name(key)}" if place else _name(key)
        if not _is_text(key):
            raise _error(here, "the name holds half of a surrogate pair")
        if key in ("$and", "$or"):
            return self._combined(key, value, here, depth)
        if key == "$not":
            part = self.filter(value, here, depth + 1)
            if part is None:
                raise _error(here, "$not needs a filter that says something")
            return Not(part)
        if key.startswith("$"):
            hint = (
                "it compares an attribute: write it as {attribute: {operator: value}}"
                if key in _COMPARING
                else _suggest(key, _COMBINING)
            )
            raise _error(here, f"{_name(key)} cannot stand here; {hint}")
        if key in self._non_filterable:
            raise _error(
                here,
                f"{key!r} was declared non-filterable when the index was created; filter by "
                "another attribute, or create an index that keeps it filterable",
            )
        return self._attribute(key, value, here, depth)

    def _combined(self, key: str, value: Any, here: str, depth: int) -> FilterNode:
        if not isinstance(value, (list, tuple)) or not value:
            raise _error(here, f"{key} takes a non-empty list of filters, found {_show(value)}")
        parts = []
        for i, item in enumerate(value):
            part = self.filter(item, f"{here}[{i}]", depth + 1)
            if part is None:
                raise _error(f"{here}[{i}]", "an empty filter says nothing here; leave it out")
            parts.append(part)
        return all_of(parts) if key == "$and" else Or(tuple(parts))

    def _attribute(self, name: str, value: Any, here: str, depth: int) -> FilterNode:
        if not _is_object(value):
            if isinstance(value, (list, tuple)):
                raise _error(here, "a list is no value; write {$in: [..]} or {$containsAll: [..]}")
            return self._compare(name, "$eq", value, here, depth)
        if not value:
            raise _error(here, f"expected a value or an operator; one of {', '.join(_COMPARING)}")
        parts = []
        for operator, operand in value.items():
            if operator not in _COMPARING:
                raise _error(
                    f"{here}.{_name(operator)}",
                    f"{_show(operator)} is no operator; {_suggest(_name(operator), _COMPARING)}",
                )
            parts.append(self._compare(name, operator, operand, f"{here}.{operator}", depth))
        return all_of(parts)

    def _compare(self, name: str, operator: str, operand: Any, here: str, depth: int) -> FilterNode:
        if operator == "$not":
            if depth >= FILTER_DEPTH_MAX:
                raise _error(here, f"filters nest at most {FILTER_DEPTH_MAX} deep")
            if not _is_object(operand):
                raise _error(here, f"$not takes an object of operators, found {_show(operand)}")
            return Not(self._attribute(name, operand, here, depth + 1))
        self._clauses += 1
        if self._clauses > FILTER_CLAUSES_MAX:
            raise _error(here, f"a filter has at most {FILTER_CLAUSES_MAX} clauses")
        if isinstance(operand, np.generic):
            operand = operand.item()
        if operator == "$exists":
            if not isinstance(operand, bool):
                raise _error(here, f"$exists takes true or false, found {_show(operand)}")
            return Exists(name) if operand else Not(Exists(name))
        if operator in ("$eq", "$ne"):
            found = OneOf(name, (_scalar(operand, here),))
            return found if operator == "$eq" else Not(found)
        if operator in ("$in", "$nin", "$containsAny", "$containsAll"):
            return self._listed(name, operator, operand, here)
        return _interval(name, operator, operand, here)

    def _listed(self, name: str, operator: str, operand: Any, here: str) -> FilterNode:
        if not isinstance(operand, (list, tuple)) or not operand:
            raise _error(here, f"{operator} takes a non-empty list, found {_show(operand)}")
        if len(operand) > FILTER_LIST_VALUES_MAX:
            raise _error(here, f"{operator} takes at most {FILTER_LIST_VALUES_MAX} values")
        # A short string is what it is: only for others a place to name is put together.
        values = [
            value if _is_short(value) else _scalar(value, f"{here}[{i}]")
            for i, value in enumerate(operand)
        ]
        # A value given twice says nothing new; true and 1 are two, though Python has them equal.
        values = list({(type(value), value): value for value in values}.values())
        if operator == "$containsAll":
            return all_of([OneOf(name, (value,)) for value in values])
        found = OneOf(name, tuple(values))
        return Not(found) if operator == "$nin" else found


def _interval(name: str, operator: str, operand: Any, here: str) -> FilterNode:
    if operator == "$startsWith":
        if not isinstance(operand, str):
            raise _error(here, f"$startsWith takes a string, found {_show(operand)}")
        prefix = _string(operand, here)
        return Within(name, str, prefix, True, _after_prefix(prefix), False)
    if operator == "$between":
        if not isinstance(operand, (list, tuple)) or len(operand) != 2:  # noqa: PLR2004
            raise _error(here, f"$between takes [low, high], found {_show(operand)}")
        low, high = (_ordered(value, f"{here}[{i}]") for i, value in enumerate(operand))
        if type(low) is not type(high):
            raise _error(here, "$between takes two numbers or two strings")
        if low > high:  # type: ignore[operator]
            raise _error(here, f"$between takes the lower end first; {low!r} is above {high!r}")
        return Within(name, type(low), low, True, high, True)
    value = _ordered(operand, here)
    if operator in ("$gt", "$gte"):
        return Within(name, type(value), value, operator == "$gte", None, False)
    return Within(name, type(value), None, False, value, operator == "$lte")


def _is_object(value: Any) -> bool:
    # To ask an abstract class takes longer than to parse a clause.
    return type(value) is dict or isinstance(value, Mapping)


def _scalar(value: Any, here: str) -> Scalar:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool):
        return value
    return _ordered(value, here, "a string, a number, true or false")


def _ordered(value: Any, here: str, expected: str = "a number or a string") -> Ordered:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str):
        return _string(value, here)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        hint = "; use $exists to ask whether it is there" if value is None else ""
        raise _error(here, f"expected {expected}, found {_show(value)}{hint}")
    if isinstance(value, int) and abs(value) > INTEGER_MAGNITUDE_MAX:
        raise _error(here, "the integer is beyond 2^53, where numbers are no longer exact")
    if not math.isfinite(value):
        raise _error(here, f"{value} is not a finite number")
    return float(value)


def _string(value: str, here: str) -> str:
    if type(value) is str and len(value) <= FILTER_STRING_BYTES_MAX and value.isascii():
        return value
    try:
        size = len(value.encode())
    except UnicodeEncodeError as error:
        raise _error(here, "the string holds half of a surrogate pair") from error
    if size > FILTER_STRING_BYTES_MAX:
        raise _error(here, f"strings in filters have at most {FILTER_STRING_BYTES_MAX} bytes")
    # A plain string, also where the caller gave a member of an enumeration.
    return str.__str__(value)


def _after_prefix(prefix: str) -> str | None:
    """Return the least string above all that start with `prefix`; None if there is none."""
    kept = prefix.rstrip("\U0010ffff")
    if not kept:
        return None
    following = ord(kept[-1]) + 1
    # The surrogates are no characters: after U+D7FF comes U+E000.
    return kept[:-1] + chr(0xE000 if following == 0xD800 else following)  # noqa: PLR2004


def _suggest(word: str, known: tuple[str, ...]) -> str:
    from difflib import get_close_matches  # noqa: PLC0415 - for messages alone

    near = get_close_matches(word, known, n=1)
    return f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"


def _show(value: Any) -> str:
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        # Python refuses to write out integers of thousands of digits, and what nests too deeply.
        return f"a value of type {type(value).__name__} too large to show"
    return text if len(text) <= 60 else text[:57] + "..."  # noqa: PLR2004


def _name(name: Any) -> str:
    """Return a name as part of a place: printable, and no longer than needed to find it."""
    if type(name) is str and len(name) <= _NAME_CHARACTERS_SHOWN_MAX and name.isascii():
        return name
    text = str(name).encode(errors="backslashreplace").decode()
    return text if len(text) <= _NAME_CHARACTERS_SHOWN_MAX else text[:60] + "..."


def _is_text(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def _error(place: str, what: str) -> FilterError:
    where = f"at {place}" if place else "at the top"
    return FilterError(f"the filter is not well formed {where}: {what}", field=place)
