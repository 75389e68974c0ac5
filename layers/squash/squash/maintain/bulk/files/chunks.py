"""What every reader of input files gives, and the words they share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from typing import Any

from squash.arrays import AnyArray
from squash.errors import InvalidArgumentError
from squash.limits import BUILD_CHUNK_BYTES_MAX, BUILD_CHUNK_ROWS_MAX
from squash.values import dataclass


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some rows of a piece as its file has them: nothing of them is checked that needs an index.

    Parameters
    ----------
    row:
        Which row of the file the first is.
    first:
        And its number through all files.
    rows:
        n.
    keys:
        n values, strings where they are as they should be; None where numbers are the keys.
    vectors:
        Numbers [n, d] of whatever width; None where there are texts.
    texts:
        n values; None where there are vectors.
    metadata:
        n JSON objects; None where no row has any.
    problems:
        Why a row cannot be taken, by its place in the chunk, where the reader saw that already; its
        vector is zeros then.

    """

    row: int
    first: int
    rows: int
    keys: Sequence[Any] | None = None
    vectors: AnyArray | None = None
    texts: Sequence[Any] | None = None
    metadata: Sequence[Mapping[str, Any]] | None = None
    problems: Mapping[int, str] = field(default_factory=dict)


def chunk_rows(row_bytes: float) -> int:
    """How many rows go into a chunk, if one has about so many bytes."""
    return max(1, min(BUILD_CHUNK_ROWS_MAX, int(BUILD_CHUNK_BYTES_MAX / max(row_bytes, 1))))


def cuts(start: int, stop: int, step: int) -> Iterator[tuple[int, int]]:
    """Yield [start, stop) in steps; the places of the cuts do not depend on `start`."""
    while start < stop:
        end = min(stop, (start // step + 1) * step)
        yield start, end
        start = end


def unusable(url: str, problem: str, *, row: int | None = None) -> InvalidArgumentError:
    """Make the error for a file, or a row of it from 0, that stops a build."""
    place = url if row is None else f"{url} row {row:,}"
    return InvalidArgumentError(
        f"{place}: {problem}",
        object_key=url,
        field=None if row is None else f"row {row}",
    )


def check_file_dimension(found: int, *, expected: int, url: str) -> None:
    """Refuse a file of vectors of another dimension than the index's."""
    if found != expected:
        raise unusable(
            url,
            f"vectors of dimension {found}, but the index has dimension {expected}: leave the file "
            "out, or build another index of it",
        )
