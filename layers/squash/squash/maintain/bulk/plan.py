"""What a build has planned: which rows lie where, and how they are dealt out to tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal, Self, TypeAlias

from squash.values import dataclass

FileKind: TypeAlias = Literal["npy", "parquet"]


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file as it was when the build was planned; another ETag later is another file."""

    url: str
    kind: FileKind
    etag: str
    bytes: int
    first: int
    """How many rows the files before it have."""
    rows: int
    data_start: int = 0
    """Of .npy: where the rows begin, in bytes."""
    dtype: str = ""
    """Of .npy: NumPy's name of the elements' type."""
    row_groups: tuple[int, ...] = ()
    """Of Parquet: the rows of each row group."""
    keyed: bool = False
    """Whether its rows have keys of their own."""
    texts: bool = False
    """Whether it holds texts, of which vectors are still to be made."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows that lie side by side in one file, and become one run.

    `first` counts through all files: a row's number, by which later rows replace earlier ones of
    the same key.
    """

    file: int
    first: int
    rows: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What `plan` decided; the same for the same inputs and request.

    Parameters
    ----------
    files, pieces:
        In the order of the rows.
    rows:
        All of them, bad ones and doubles among them.
    encodes:
        Whether texts are encoded first.
    keyed:
        Whether rows have keys of their own; else their numbers are their keys, and none repeats.
    encode_batches, assign_batches:
        Where each batch begins among `pieces`, and one more: their number.
    sample_batches:
        The pieces that each task of `sample` looks at, by number.
    sample_rows:
        How many rows training wants.
    key_ranges:
        Into how many ranges hashes of keys are dealt; 0 where not `keyed`.
    flat:
        Whether the rows are so few that they become one flat segment.

    """

    files: tuple[InputFile, ...]
    pieces: tuple[Piece, ...]
    rows: int
    encodes: bool
    keyed: bool
    encode_batches: tuple[int, ...]
    sample_batches: tuple[tuple[int, ...], ...]
    assign_batches: tuple[int, ...]
    sample_rows: int
    key_ranges: int
    flat: bool

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {"version": 1, **asdict(self)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read what `to_json` gave; what `MALFORMED` lists if it did not."""
        known = {name: item for name, item in value.items() if name != "version"}
        files = (
            InputFile(**{**file, "row_groups": tuple(file["row_groups"])})
            for file in known["files"]
        )
        return cls(
            **{
                **known,
                "files": tuple(files),
                "pieces": tuple(Piece(**piece) for piece in known["pieces"]),
                "encode_batches": tuple(known["encode_batches"]),
                "sample_batches": tuple(tuple(some) for some in known["sample_batches"]),
                "assign_batches": tuple(known["assign_batches"]),
            }
        )
