"""Checks of what callers give, before it goes to a session."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from os import PathLike
from pathlib import Path
from typing import Any, Final

import numpy as np

from squash.arrays import is_iterable, is_whole_number
from squash.errors import InvalidArgumentError, shown
from squash.limits import (
    ID_PATTERN,
    QUERIES_PER_CALL_MAX,
    QUERY_TIMEOUT_MS_MAX,
    TOP_K_MAX,
    WHOLE_NUMBER_BITS_MAX,
)
from squash.model import INCLUDABLE
from squash.reports import Progress
from squash.search import Query

# What is aimed at where nothing is said. An encoder takes longer than any search: what the rest of
# the answers cost is little beside it, and missing them shows in judged answers.
RECALL_TARGET: Final = 0.95
RECALL_TARGET_ENCODED: Final = 0.99
_CONSISTENCIES: Final = ("strong", "eventual")
_OPTIONS_MAX: Final = 64
_KNOWN: Final = (str, tuple)  # kinds of `include` that can be kept
# Of what is asked before there are vectors.
_NO_VECTOR: Final = np.empty(0, np.float32)
_COMMIT_ID: Final = re.compile(ID_PATTERN)


def _silent(progress: Progress) -> None:
    del progress


def told(progress: Any) -> Callable[[Progress], None]:
    """Return whom a long job tells how far it is: nobody, if None."""
    if progress is None:
        return _silent
    if not callable(progress):
        raise InvalidArgumentError(
            f"progress is a function that is told of each step, not {shown(progress)}",
            field="progress",
        )
    teller: Callable[[Progress], None] = progress
    return teller


def scratch_of(folder: Any) -> Path | None:
    """Read where temporary files are made; None is the system's own folder."""
    if folder is None:
        return None
    if not isinstance(folder, (str, PathLike)):
        raise InvalidArgumentError(f"scratch is a folder, not {shown(folder)}", field="scratch")
    return Path(folder)


def whole_number(value: Any, field: str) -> int:
    """Refuse what is no whole number."""
    if not is_whole_number(value):
        raise InvalidArgumentError(f"{field} is a whole number, not {shown(value)}", field=field)
    number = int(value)
    if number.bit_length() > WHOLE_NUMBER_BITS_MAX:
        raise InvalidArgumentError(
            f"{field} is a whole number of at most {WHOLE_NUMBER_BITS_MAX} bits, not "
            f"{shown(number)}",
            field=field,
        )
    return number


def listed(value: Any, field: str) -> list[Any]:
    """Refuse what is no list, and a string, which Python takes for a list of characters."""
    if isinstance(value, str | bytes) or not is_iterable(value):
        raise InvalidArgumentError(f"{field} is {shown(value)}: give a list", field=field)
    return list(value)


def named(value: Any, field: str, what: str) -> Mapping[Any, Any]:
    """Refuse what is no object, which has of each name a type or a value; None is empty."""
    found = {} if value is None else value
    if not isinstance(found, Mapping):
        raise InvalidArgumentError(
            f"{field} is {shown(found)}: give an object with {what} of each", field=field
        )
    return found


def flag(value: Any, field: str) -> bool:
    """Refuse what is neither true nor false."""
    if not isinstance(value, (bool, np.bool_)):
        raise InvalidArgumentError(f"{field} is true or false, not {shown(value)}", field=field)
    return bool(value)


def snapshot_number(value: Any) -> int | None:
    """Refuse what can be no snapshot's number; None is none."""
    if value is None:
        return None
    number = whole_number(value, "if_snapshot")
    if number < 0:
        raise InvalidArgumentError(
            f"if_snapshot is the number of a snapshot, not {shown(number)}", field="if_snapshot"
        )
    return number


def one_of(kind: type[Any], value: Any, field: str) -> Any:
    """Read the name of a member of an enumeration."""
    try:
        return kind(value)
    except ValueError as error:
        known = ", ".join(member.value for member in kind)
        message = f"{field} is one of {known}, not {shown(value)}"
        raise InvalidArgumentError(message, field=field) from error


def commit_id_of(value: Any) -> str | None:
    """Refuse what can be no commit's id; None is none."""
    if value is not None and (not isinstance(value, str) or not _COMMIT_ID.fullmatch(value)):
        raise InvalidArgumentError(
            f"commit_id is 32 of 0-9 and a-f, not {shown(value)}", field="commit_id"
        )
    return value


def check_include(include: Iterable[str]) -> frozenset[str]:
    """Check what a reader wants to have with every record."""
    wanted = [include] if isinstance(include, str) else listed(include, "include")
    for one in wanted:
        if not isinstance(one, str) or one not in INCLUDABLE:
            raise InvalidArgumentError(
                f"include takes 'metadata' and 'vector', not {shown(one)}", field="include"
            )
    return frozenset(wanted)


def recall_target_of(given: Any, *, encoded: bool) -> float:
    """Return the share of the true nearest to aim at; None leaves it to the kind of index."""
    if given is None:
        return RECALL_TARGET_ENCODED if encoded else RECALL_TARGET
    if (
        isinstance(given, bool)
        or not isinstance(given, (int, float, np.floating))
        or not 0.0 < given <= 1.0
    ):
        raise InvalidArgumentError(
            f"recall_target is above 0 and at most 1, not {shown(given)}", field="recall_target"
        )
    return float(given)


def check_consistency(consistency: Any) -> None:
    """Check which snapshot is asked for; also where `as_of` says it, and this has no effect."""
    # An array is compared with a word value by value.
    if not isinstance(consistency, str) or consistency not in _CONSISTENCIES:
        raise InvalidArgumentError(
            f"consistency is 'strong' or 'eventual', not {shown(consistency)}", field="consistency"
        )


def check_limits(*, top_k: Any, timeout_ms: Any = None) -> None:
    """Check a query's numbers."""
    if not is_whole_number(top_k):
        raise InvalidArgumentError("top_k is a whole number", field="top_k")
    if not 1 <= top_k <= TOP_K_MAX:
        raise InvalidArgumentError(
            f"top_k is from 1 to {TOP_K_MAX}, not {shown(top_k)}", field="top_k"
        )
    if timeout_ms is not None and not (
        is_whole_number(timeout_ms) and 1 <= timeout_ms <= QUERY_TIMEOUT_MS_MAX
    ):
        raise InvalidArgumentError(
            f"timeout_ms is a whole number from 1 to {QUERY_TIMEOUT_MS_MAX}, "
            f"not {shown(timeout_ms)}",
            field="timeout_ms",
        )


def check_count(queries: int) -> None:
    """Check how many queries a call has."""
    if queries > QUERIES_PER_CALL_MAX:
        raise InvalidArgumentError(
            f"a call takes at most {QUERIES_PER_CALL_MAX} queries, not {queries}: send several",
            field="vectors",
        )


def matches_limit(matches_max: Any) -> int:
    """Check how many matches a call may have."""
    number = whole_number(matches_max, "matches_max")
    if number < 1:
        raise InvalidArgumentError(
            f"matches_max is at least 1, not {shown(number)}", field="matches_max"
        )
    return number


def query_options(include: Iterable[str], *given: Any) -> Query:
    """Check what queries of a call have in common: all but vectors, filters, and until when.

    Parameters
    ----------
    include:
        As in `IndexReads.query`.
    given:
        As there, `top_k`, `recall_target`, `exact`, `explain`, `allow_partial` and `timeout_ms`;
        and whether the index has an encoder.

    """
    known = isinstance(include, _KNOWN)
    wanted: Any = include if known else tuple(listed(include, "include"))
    try:
        return _known_options(wanted, *given)
    except (TypeError, ValueError):
        # What cannot be kept is checked each time; or is no argument, as will be said again.
        return _known_options.__wrapped__(wanted, *given)


# Told apart by their types, too: True is no number of answers, and yet equals 1.
@lru_cache(maxsize=_OPTIONS_MAX, typed=True)
def _known_options(  # noqa: PLR0917 - by their places they are found sooner
    include: str | tuple[str, ...],
    top_k: Any,
    recall_target: Any,
    exact: Any,
    explain: Any,
    allow_partial: Any,
    timeout_ms: Any,
    encoded: bool,
) -> Query:
    check_limits(top_k=top_k, timeout_ms=timeout_ms)
    target = recall_target_of(recall_target, encoded=encoded)
    wanted = check_include(include)
    return Query(
        vector=_NO_VECTOR,
        k=int(top_k),
        recall_target=target,
        exact=flag(exact, "exact") or target >= 1.0,
        include_metadata="metadata" in wanted,
        include_vector="vector" in wanted,
        explain=flag(explain, "explain"),
        allow_partial=flag(allow_partial, "allow_partial"),
    )
