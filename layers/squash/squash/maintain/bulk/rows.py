"""Rows of a piece, divided into those that the index takes and those that it cannot keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from squash.arrays import F32, I64
from squash.attributes import check_metadata
from squash.errors import InternalError, InvalidArgumentError, SquashError, TooLargeError
from squash.index.checking import key_problems, sound_vectors
from squash.maintain.bulk.files.chunks import Chunk
from squash.model import IndexConfig, Metadata, RowBatch
from squash.values import dataclass


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that is left out, and why."""

    input: str
    """The URL of its file."""
    row: int
    """Of that file, from 0."""
    key: str | None
    """None where the row has none, or none that can be told."""
    problem: str


@dataclass(frozen=True, slots=True)
class GoodAndBad:
    """Some rows of a piece, in their order: those that are kept, and those that are not."""

    rows: RowBatch
    numbers: I64
    """int64 [n], ascending: each kept row's number through all files."""
    bad: tuple[BadRow, ...] = ()

    @property
    def passed(self) -> int:
        """How many rows these are, with those that are not kept."""
        return len(self.rows) + len(self.bad)


@dataclass(slots=True)
class RowsInHand:
    """A chunk's rows while they are checked; of one row the first problem found is told."""

    keys: list[Any]
    metadata: Sequence[Mapping[str, Any]]
    problems: dict[int, str]


def good_and_bad(chunk: Chunk, config: IndexConfig, *, url: str) -> GoodAndBad:
    """Check rows that have vectors, by the rules of a put.

    Parameters
    ----------
    chunk:
        As its file has it.
    config:
        The index's.
    url:
        The file, for the list of bad rows.

    """
    if chunk.vectors is None:
        raise InternalError(f"{url}: its rows are texts, and were not encoded")
    hand = rows_in_hand(chunk)
    vectors, found = sound_vectors(chunk.vectors, config)
    for place, problem in found.items():
        hand.problems.setdefault(place, f"its vector {problem}")
    check_notes(hand, config, empty=chunk.metadata is None)
    return divided(chunk, hand, vectors, url=url)


def rows_in_hand(chunk: Chunk) -> RowsInHand:
    """Return the keys and metadata of a chunk, with what is wrong with the keys."""
    problems = dict(chunk.problems)
    if chunk.keys is None:
        keys: list[Any] = list(map(str, range(chunk.first, chunk.first + chunk.rows)))
    else:
        keys = list(chunk.keys)
        for place, problem in key_problems(keys).items():
            problems.setdefault(place, f"its key {problem}")
    metadata = chunk.metadata
    if metadata is None:
        metadata = [{} for _ in range(chunk.rows)]
    return RowsInHand(keys, metadata, problems)


def check_notes(hand: RowsInHand, config: IndexConfig, *, empty: bool) -> None:
    """Check metadata, unless all of it is known to be empty."""
    if empty:
        return
    checked: list[Metadata] = []
    for place, (key, metadata) in enumerate(zip(hand.keys, hand.metadata, strict=True)):
        made: Metadata = {}
        if place not in hand.problems:
            try:
                made = check_metadata(
                    metadata,
                    key=key,
                    non_filterable=config.non_filterable,
                    declared=config.attributes,
                )
            except (InvalidArgumentError, TooLargeError) as error:
                hand.problems[place] = reason(error, key)
        checked.append(made)
    hand.metadata = checked


def reason(error: SquashError, key: str) -> str:
    """Return an error's message without the record's key, which is told beside it."""
    return str(error).removeprefix(f"record {key!r}: ")


def divided(chunk: Chunk, hand: RowsInHand, vectors: F32, *, url: str) -> GoodAndBad:
    """Divide rows by whether a problem was found."""
    numbers = np.arange(chunk.first, chunk.first + chunk.rows, dtype=np.int64)
    if not hand.problems:
        return GoodAndBad(RowBatch(hand.keys, vectors, hand.metadata), numbers)
    kept = np.ones(chunk.rows, dtype=np.bool_)
    kept[list(hand.problems)] = False
    places = np.flatnonzero(kept)
    rows = RowBatch(
        [hand.keys[place] for place in places.tolist()],
        vectors[places],
        [hand.metadata[place] for place in places.tolist()],
    )
    bad = (
        BadRow(url, chunk.row + place, _key_shown(hand.keys[place]), problem)
        for place, problem in sorted(hand.problems.items())
    )
    return GoodAndBad(rows, numbers[places], tuple(bad))


def _key_shown(key: Any) -> str | None:
    """Return a key as it can be listed."""
    if not isinstance(key, str):
        return None
    return key.encode(errors="replace").decode()
