"""Parquet files: one list column of vectors, or one of texts; one of keys, the rest is metadata.

Only the row group's pages that are decoded next are held, whatever its size: rows come in batches,
and each column's pages from a buffered stream of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from squash.arrays import AnyArray, Mask
from squash.errors import InvalidArgumentError
from squash.limits import BUILD_CHUNK_BYTES_MAX, BUILD_CHUNK_TEXTS_MAX, BUILD_READ_BYTES_MIN
from squash.maintain.bulk.files.chunks import (
    Chunk,
    check_file_dimension,
    chunk_rows,
    cuts,
    unusable,
)
from squash.maintain.bulk.files.columns import (
    METADATA_COLUMN,
    Unreadable,
    export_maker,
    is_list,
    is_numbers,
    is_plain,
    is_text,
    key_value,
    plain,
    python_values,
    told_by_export,
)
from squash.maintain.bulk.files.objects import parse_object
from squash.maintain.bulk.files.range_file import RangeFile
from squash.maintain.bulk.plan import InputFile, Piece
from squash.maintain.bulk.request import InputColumns
from squash.storage.inputs import InputInfo, InputStore
from squash.values import dataclass

_KEY: Final = "key"
_VECTOR: Final = "vector"
_FLOAT_BYTES: Final = 4
_TAIL_BYTES: Final = 8  # after the footer: its length, and the mark of a Parquet file
_ROWS_LOOKED_AT: Final = 64


@dataclass(frozen=True, slots=True)
class _Roles:
    """Which column of a file is what."""

    vector: str | None
    text: str | None
    """Of an export: a key of its metadata, if there is no such column."""
    key: str | None
    metadata: tuple[str, ...]
    exported: bool
    made_by: str | None

    @property
    def read(self) -> list[str]:
        """All columns that are read."""
        own = (self.vector, self.text, self.key)
        return [*(name for name in own if name is not None), *self.metadata]


class ParquetPieces:
    """An open file, which yields pieces; those that come in their order are read on.

    Parameters
    ----------
    store, info:
        The file.
    columns:
        What the request says of columns.
    dimension:
        d.

    Raises
    ------
    InvalidArgumentError
        If it is no Parquet file, or has not the columns.

    """

    def __init__(
        self, store: InputStore, info: InputInfo, columns: InputColumns, *, dimension: int
    ) -> None:
        self._url = info.url
        self._dimension = dimension
        self._source = RangeFile(store, info)
        with self._told(None):
            self._file = parquet.ParquetFile(
                self._source,
                pre_buffer=False,
                buffer_size=BUILD_READ_BYTES_MIN,
                page_checksum_verification=True,
            )
            self._schema = self._file.schema_arrow
            self._roles = _roles(self._schema, columns, url=info.url)
        self._groups: _GroupRows | None = None

    def probe(self, info: InputInfo) -> InputFile:
        """Return what the footer tells; its `first` is 0.

        Raises
        ------
        InvalidArgumentError
            If its vectors are not of the index's dimension, or it is cut short.

        """
        roles, footer = self._roles, self._file.metadata
        groups = [footer.row_group(group) for group in range(footer.num_row_groups)]
        data_stop = info.bytes - footer.serialized_size - _TAIL_BYTES
        for group in groups:
            for leaf in range(group.num_columns):
                column = group.column(leaf)
                begin = column.dictionary_page_offset or column.data_page_offset
                if begin + column.total_compressed_size > data_stop:
                    raise unusable(self._url, "it is cut short, or damaged: write it again")
        if roles.vector is not None:
            self._check_vectors(roles.vector, groups)
        return InputFile(
            url=info.url,
            kind="parquet",
            etag=info.etag,
            bytes=info.bytes,
            first=0,
            rows=footer.num_rows,
            row_groups=tuple(group.num_rows for group in groups),
            keyed=roles.key is not None,
            texts=roles.vector is None,
        )

    @property
    def made_by(self) -> str | None:
        """Which encoder made the vectors, if the file tells."""
        return self._roles.made_by

    def read(self, file: InputFile, piece: Piece) -> Iterator[Chunk]:
        """Yield the rows of a piece, some MB at a time.

        Raises
        ------
        InvalidArgumentError
            If a page does not decode; it names the file, and the row before which that was.

        """
        begin = piece.first - file.first
        number, group_first = _group_of(file.row_groups, begin)
        rows = self._groups
        if rows is None or not rows.has(number, begin):
            rows = self._opened(number, group_first)
        # What failed, or was left halfway, is not read on.
        self._groups = None
        reached = begin
        while reached < begin + piece.rows:
            with self._told(reached):
                table, step = rows.take(reached, begin + piece.rows)
                if not table.num_rows:
                    raise unusable(self._url, "it ends before its footer says", row=reached)
                for start, stop in cuts(reached, reached + table.num_rows, step):
                    part = table.slice(start - reached, stop - start)
                    yield self._chunk(part, start, file.first + start)
            reached += table.num_rows
        self._groups = rows

    def _opened(self, number: int, group_first: int) -> _GroupRows:
        group = self._file.metadata.row_group(number)
        roles = frozenset(self._roles.read)
        leaves = [group.column(leaf) for leaf in range(group.num_columns)]
        mine = [leaf for leaf in leaves if leaf.path_in_schema.partition(".")[0] in roles]
        self._source.shape(len(mine))
        row_bytes = sum(leaf.total_uncompressed_size for leaf in mine) / max(group.num_rows, 1)
        size = chunk_rows(max(row_bytes, _FLOAT_BYTES * self._dimension))
        if self._roles.vector is None:
            size = min(size, BUILD_CHUNK_TEXTS_MAX)
        batches = self._file.iter_batches(
            batch_size=size, row_groups=[number], columns=self._roles.read, use_threads=False
        )
        return _GroupRows(number, group_first, batches)

    @contextmanager
    def _told(self, row: int | None) -> Iterator[None]:
        """Tell in our words what pyarrow raises."""
        try:
            yield
        except pa.ArrowException as error:
            raise self._damaged(row, error) from error
        except OSError as error:
            if error.errno is not None:
                raise
            # What pyarrow calls an OSError without a number is a page that does not decode.
            raise self._damaged(row, error) from error

    def _damaged(self, row: int | None, error: Exception) -> InvalidArgumentError:
        if row is None:
            return unusable(self._url, f"not a Parquet file, or cut short: {error}")
        return unusable(
            self._url,
            f"from here on it does not decode ({error}): write the file again, or leave it out",
            row=row,
        )

    def _check_vectors(self, name: str, groups: list[Any]) -> None:
        kind = self._schema.field(name).type
        if not is_numbers(kind.value_type):
            raise unusable(
                self._url,
                f"the column {name!r} holds lists of {kind.value_type}: vectors are real numbers, "
                "best float32",
            )
        if pa.types.is_fixed_size_list(kind):
            check_file_dimension(kind.list_size, expected=self._dimension, url=self._url)
            return
        # Lists of any length. Some that are too long or short are bad rows; if so are all of the
        # first, the file is of another dimension.
        rows = sum(group.num_rows for group in groups)
        values = sum(
            column.num_values
            for group in groups
            for column in map(group.column, range(group.num_columns))
            if column.path_in_schema.partition(".")[0] == name
        )
        if rows and values != rows * self._dimension:
            with self._told(0):
                batches = self._file.iter_batches(_ROWS_LOOKED_AT, columns=[name])
                lengths = next(batches).column(name).value_lengths().drop_null().to_pylist()
            if lengths and self._dimension not in lengths:
                check_file_dimension(lengths[0], expected=self._dimension, url=self._url)

    def _chunk(self, table: Any, row: int, first: int) -> Chunk:
        roles, problems = self._roles, dict[int, str]()
        metadata = self._metadata(table, problems)
        keys = vectors = texts = None
        if roles.key is not None:
            keys = [key_value(value) for value in python_values(table.column(roles.key))]
            for place, key in enumerate(keys):
                if isinstance(key, Unreadable):
                    problems.setdefault(place, f"its key is unreadable: {key.problem}")
                elif not isinstance(key, str):
                    problems.setdefault(
                        place, f"its key is {key!r:.80}, where keys are strings or integers"
                    )
        if roles.vector is not None:
            vectors = self._vectors(table.column(roles.vector), problems)
        elif roles.text in table.schema.names:
            texts = python_values(table.column(roles.text))
        else:
            texts = [one.pop(str(roles.text), None) for one in metadata or ()]
        return Chunk(row, first, table.num_rows, keys, vectors, texts, metadata, problems)

    def _vectors(self, column: Any, problems: dict[int, str]) -> AnyArray:
        """Return [n, d] numbers, zeros where a row has no vector of the right length."""
        n, d = len(column), self._dimension
        good = ~_nulls(column)
        if not good.all():
            for place in np.flatnonzero(~good).tolist():
                problems.setdefault(place, "it has no vector")
        if not pa.types.is_fixed_size_list(column.type):
            lengths = column.value_lengths().fill_null(-1).to_numpy(zero_copy_only=False)
            for place in np.flatnonzero(good & (lengths != d)).tolist():
                problems.setdefault(
                    place,
                    f"a vector of dimension {lengths[place]}, but the index has dimension {d}",
                )
            good &= lengths == d
        kept = column if good.all() else column.filter(pa.array(good))
        values = kept.flatten()
        holes = _nulls(values).reshape(-1, d).any(axis=1) if values.null_count else None
        flat = (values.fill_null(0) if values.null_count else values).to_numpy(zero_copy_only=False)
        found: AnyArray = flat.reshape(-1, d)
        if len(found) < n:
            vectors = np.zeros((n, d), dtype=found.dtype)
            vectors[good] = found
        else:
            vectors = found
        if holes is not None:
            for place in np.flatnonzero(good)[holes].tolist():
                problems.setdefault(place, "its vector holds a null")
        return vectors

    def _metadata(self, table: Any, problems: dict[int, str]) -> list[dict[str, Any]] | None:
        if self._roles.exported:
            return _exported(python_values(table.column(METADATA_COLUMN)), problems)
        if not self._roles.metadata:
            return None
        rows: list[dict[str, Any]] = [{} for _ in range(table.num_rows)]
        for name in self._roles.metadata:
            column = table.column(name)
            values = python_values(column)
            if is_plain(column.type) and Unreadable not in set(map(type, values)):
                for row, value in zip(rows, values, strict=True):
                    if value is not None:
                        row[name] = value
                continue
            for place, value in enumerate(values):
                if value is None:
                    continue
                try:
                    rows[place][name] = plain(value)
                except TypeError as error:
                    problems.setdefault(place, f"its {name!r} is {error}, which is not JSON")
        return rows


class _GroupRows:
    """The rows of a row group from its first on, in batches; what is passed is forgotten."""

    def __init__(self, number: int, first: int, batches: Iterator[Any]) -> None:
        self._number = number
        self._batches = batches
        self._batch: Any = None
        self._from = first
        self._to = first

    def has(self, number: int, row: int) -> bool:
        """Tell if a row of a group is still to come."""
        return number == self._number and row >= self._from

    def take(self, row: int, stop: int) -> tuple[Any, int]:
        """Return rows from `row` on, at most to `stop`, and how many of them go together."""
        while row >= self._to:
            batch = next(self._batches, None)
            if batch is None:
                return pa.table({}), 1
            self._batch = batch
            self._from, self._to = self._to, self._to + batch.num_rows
        size = self._batch.num_rows
        step = max(1, size // max(1, -(-self._batch.nbytes // (2 * BUILD_CHUNK_BYTES_MAX))))
        start = row - self._from
        return self._batch.slice(start, min(stop, self._to) - row), step


def _group_of(row_groups: tuple[int, ...], row: int) -> tuple[int, int]:
    """Return which row group a row of the file is in, and that group's first."""
    first = 0
    for number, rows in enumerate(row_groups):
        if row < first + rows:
            return number, first
        first += rows
    raise InvalidArgumentError(f"the file has {first} rows, and no row {row}")


def _nulls(column: Any) -> Mask:
    if not column.null_count:
        return np.zeros(len(column), dtype=np.bool_)
    found: Mask = column.is_null().to_numpy(zero_copy_only=False)
    return found


def _exported(values: list[Any], problems: dict[int, str]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for place, value in enumerate(values):
        row: dict[str, Any] = {}
        try:
            if isinstance(value, Unreadable):
                problems.setdefault(place, f"its metadata is unreadable: {value.problem}")
            else:
                row = parse_object(value or "null", place="its metadata")
        except InvalidArgumentError as error:
            problems.setdefault(place, str(error))
        rows.append(row)
    return rows


def _roles(schema: Any, columns: InputColumns, *, url: str) -> _Roles:
    names = schema.names
    if len(set(names)) < len(names):
        raise unusable(
            url, f"two of its columns have the same name ({', '.join(names)}): rename one"
        )
    text = columns.text
    vector = None if text is not None else columns.vector or _VECTOR
    key = columns.key or (_KEY if _KEY in names else None)
    told = told_by_export(schema, place=url)
    exported = told is not None and is_text(schema, METADATA_COLUMN)
    if key is not None and key not in names:
        raise unusable(url, f"it has no column {key!r} ({', '.join(names)}): name that of the keys")
    if vector is not None and not is_list(schema, vector):
        lists = ", ".join(name for name in names if is_list(schema, name)) or "it has none"
        raise unusable(
            url,
            f"{vector!r} is not one of its list columns ({lists}): name that of the vectors, or, "
            "for an index with an encoder, that of the texts",
        )
    if text is not None and not is_text(schema, text) and not (exported and text not in names):
        held = f"holds {schema.field(text).type}" if text in names else "is not there"
        raise unusable(
            url,
            f"the column {text!r} {held} ({', '.join(names)}): name that of the texts, which are "
            "strings",
        )
    left_out = {vector, text, key}
    if text is not None and is_list(schema, columns.vector or _VECTOR):
        left_out.add(columns.vector or _VECTOR)  # texts are encoded anew, whoever did before
    metadata = tuple(name for name in names if name not in left_out)
    return _Roles(
        vector=vector,
        text=text,
        key=key,
        metadata=(METADATA_COLUMN,) if exported else metadata,
        exported=exported,
        made_by=export_maker(told, place=url) if vector is not None else None,
    )
