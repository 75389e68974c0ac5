"""What every answer is made of, made sooner than by its own classes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from squash.arrays import F32
from squash.model import Answer, Explanation, Level, Match, Metadata, Usage


def draft_of(of: type[Any]) -> type[Any]:
    """Return a class of the same slots, in which nothing forbids to fill them.

    A frozen class sets its fields by a call each. What every answer is made of is filled in as a
    draft, and becomes one of the frozen class then: that takes a fifth of the time.
    """
    return type(f"_{of.__name__}Draft", of.__bases__, {"__slots__": of.__slots__})


_MatchDraft: Final = draft_of(Match)


def make_matches(
    keys: Iterable[str],
    distances: Iterable[float],
    metadata: Iterable[Metadata | None],
    vectors: Iterable[F32 | None],
) -> tuple[Match, ...]:
    """Make matches from their fields, each given for all of them, in their order.

    They are what `Match(...)` makes, at less than half of its time.
    """
    made: list[Match] = []
    for key, distance, meta, vector in zip(keys, distances, metadata, vectors, strict=True):
        match: Any = _MatchDraft()
        match.key = key
        match.distance = distance
        match.metadata = meta
        match.vector = vector
        match.__class__ = Match
        made.append(match)
    return tuple(made)


def make_bare_matches(keys: Iterable[str], distances: Iterable[float]) -> tuple[Match, ...]:
    """Make matches of which only key and distance are wanted; there may be thousands."""
    made: list[Match] = []
    for key, distance in zip(keys, distances, strict=True):
        match: Any = _MatchDraft()
        match.key = key
        match.distance = distance
        match.metadata = None
        match.vector = None
        match.__class__ = Match
        made.append(match)
    return tuple(made)


_LevelDraft: Final = draft_of(Level)


def make_level(name: str, candidates: int, survivors: int) -> Level:
    """Make what `Level(...)` makes, sooner."""
    level: Any = _LevelDraft()
    level.name = name
    level.candidates = candidates
    level.survivors = survivors
    level.__class__ = Level
    made: Level = level
    return made


_UsageDraft: Final = draft_of(Usage)


def make_usage_here(
    searched: tuple[int, int],
    store: tuple[int, int, int],
    parts: tuple[int, int, int],
    cost_usd: float,
    levels: tuple[Level, ...],
) -> Usage:
    """Make what `Usage(...)` makes of an answer that called no functions, sooner.

    `searched` are its first two fields, `store` those of the store, `parts` those of parts.
    """
    usage: Any = _UsageDraft()
    usage.rows_scanned, usage.vectors_read = searched
    usage.store_requests, usage.store_rounds, usage.store_bytes = store
    usage.parts_from_memory, usage.parts_from_tmp, usage.parts_from_store = parts
    usage.invocations = 0
    usage.invocations_cold = 0
    usage.gb_seconds = 0.0
    usage.cost_usd = cost_usd
    usage.levels = levels
    usage.__class__ = Usage
    made: Usage = usage
    return made


_AnswerDraft: Final = draft_of(Answer)


def make_answer(
    matches: tuple[Match, ...],
    usage_of: Callable[[], Usage],
    snapshot: int,
    explain: Explanation | None,
    missing: tuple[str, ...],
) -> Answer:
    """Make what `Answer(...)` makes of a vector's matches, sooner; its usage when looked at."""
    answer: Any = _AnswerDraft()
    answer.matches = matches
    answer._usage_of = usage_of  # noqa: SLF001 - a draft is filled by who makes it
    answer.snapshot = snapshot
    answer.explain = explain
    answer.missing = missing
    answer.encoding = None
    answer.__class__ = Answer
    made: Answer = answer
    return made
