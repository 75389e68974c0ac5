"""Exact attribute columns: each distinct value once, and for each row the number of its value.

A filter is evaluated once per distinct value and the result looked up by row, so that filtering
exactly costs a table look-up a row.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace  # noqa: TID251 - it keeps what its properties found
from functools import partial
from itertools import pairwise
from typing import Any, ClassVar, Literal

import numpy as np

from squash.arrays import F64, I64, U8, U32, U64, AnyArray, Mask
from squash.attributes.nodes import And, Exists, FilterNode, Not, OneOf, Or, Within
from squash.errors import DataError, InternalError
from squash.kernels.masks import ids_within
from squash.model import Metadata, Scalar
from squash.values import remembered

# Up to this many ranges of value numbers are compared one by one, more looked up in a table.
_RANGES_COMPARED_MAX = 4


@dataclass(frozen=True, eq=False)
class Column:
    """One attribute of n rows.

    Value numbers count the distinct numbers first, ascending, then the distinct strings, by code
    point, then false and true; one more stands for "none".

    Parameters
    ----------
    numbers:
        float64, ascending.
    string_bytes, string_offsets:
        uint8, and uint64 with one entry more than there are strings: UTF-8, ascending.
    ids:
        uint32: the value number of each row; or, where rows hold lists, of each element.
    offsets:
        uint64 [n + 1], where each row's elements begin in `ids`; None where no row holds a list.
    listed:
        uint8 [n], 1 where the row's value is a list; None likewise.

    """

    numbers: F64
    string_bytes: U8
    string_offsets: U64
    ids: U32
    offsets: U64 | None = None
    listed: U8 | None = None

    DTYPES: ClassVar = ("<f8", "|u1", "<u8", "<u4", "<u8", "|u1")
    """Of the arrays above, in their order."""

    @classmethod
    def checked(cls, arrays: Sequence[AnyArray], rows: int) -> Column:
        """Return the column of n rows that six arrays make; the last two are empty without lists.

        Raises
        ------
        DataError
            If they do not fit each other.

        """
        lists = arrays[4:] if len(arrays[4]) else (None, None)
        found = cls(*arrays[:4], *lists)
        if not _fits(found, rows):
            raise _damaged(f"does not fit its {rows} rows")
        return found

    def arrays(self) -> tuple[AnyArray, ...]:
        """Return the six arrays; the last two are empty where no row holds a list."""
        return (
            self.numbers,
            self.string_bytes,
            self.string_offsets,
            self.ids,
            np.empty(0, np.uint64) if self.offsets is None else self.offsets,
            np.empty(0, np.uint8) if self.listed is None else self.listed,
        )

    @remembered
    def strings(self) -> list[str]:
        """The distinct strings, ascending."""
        data = self.string_bytes.tobytes()
        ends = self.string_offsets.tolist()
        try:
            found = [data[a:b].decode() for a, b in pairwise(ends)]
        except UnicodeDecodeError as error:
            raise _damaged("holds a string that is not UTF-8") from error
        if not all(below < above for below, above in pairwise(found)):
            raise _damaged("holds strings out of order")
        return found

    @property
    def string_count(self) -> int:
        """How many distinct strings there are."""
        return len(self.string_offsets) - 1

    @property
    def value_count(self) -> int:
        """How many value numbers there are; this number itself means "none"."""
        return len(self.numbers) + self.string_count + 2

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self.ids) if self.offsets is None else len(self.offsets) - 1

    def reordered(self, order: I64) -> Column:
        """Return the column of the same rows in another order: of each place, which row comes."""
        if self.offsets is None or self.listed is None:
            return replace(self, ids=self.ids[order])
        ids, counts = self._elements_of(order)
        offsets = np.zeros(len(order) + 1, dtype=np.uint64)
        np.cumsum(counts, out=offsets[1:], dtype=np.uint64)
        return replace(self, ids=ids, offsets=offsets, listed=self.listed[order])

    def by_row(self, ranges: Sequence[tuple[int, int]], rows: I64 | None) -> Mask:
        """Tell which rows have a value whose number lies in one of the ranges [first, last).

        Bool [m] of rows int64 [m]; None are all rows.
        """
        if self.offsets is None:
            return self._inside(self.ids if rows is None else self.ids[rows], ranges)
        if rows is None:
            begins, ends = self.offsets[:-1].astype(np.int64), self.offsets[1:].astype(np.int64)
            passing = self._inside(self.ids, ranges)
        else:
            ids, counts = self._elements_of(rows)
            ends = np.cumsum(counts)
            begins = ends - counts
            passing = self._inside(ids, ranges)
        sums = np.zeros(len(passing) + 1, dtype=np.int64)
        np.cumsum(passing, out=sums[1:])
        return np.asarray(sums[ends] > sums[begins])

    def present(self, rows: I64 | None) -> Mask:
        """Return bool [m], which of rows int64 [m] have the attribute at all; None are all rows."""
        if self.offsets is None or self.listed is None:
            ids = self.ids if rows is None else self.ids[rows]
            return np.asarray(ids != self.value_count)
        chosen = slice(None) if rows is None else rows
        filled = self.offsets[1:][chosen] > self.offsets[:-1][chosen]
        return np.asarray(filled | (self.listed[chosen] > 0))

    def _inside(self, ids: U32, ranges: Sequence[tuple[int, int]]) -> Mask:
        if len(ranges) > _RANGES_COMPARED_MAX:
            table = np.zeros(self.value_count + 1, dtype=np.bool_)
            for first, last in ranges:
                table[first:last] = True
            return np.asarray(table[ids])
        if not ranges:
            return np.zeros(len(ids), dtype=np.bool_)
        inside = ids_within(ids, *ranges[0])
        for first, last in ranges[1:]:
            inside |= ids_within(ids, first, last)
        return inside

    def _elements_of(self, rows: I64) -> tuple[U32, I64]:
        """Return the elements' value numbers of some rows, row by row, and how many each has."""
        offsets = np.zeros(1, dtype=np.uint64) if self.offsets is None else self.offsets
        begins = offsets[:-1][rows].astype(np.int64)
        counts = offsets[1:][rows].astype(np.int64) - begins
        shift = np.repeat(begins - (np.cumsum(counts) - counts), counts)
        return self.ids[np.arange(len(shift)) + shift], counts


class Columns:
    """The exact attribute columns of n rows.

    Parameters
    ----------
    rows:
        n.
    load:
        Makes one column, by name; called once, when the column is first needed.

    """

    def __init__(self, rows: int, load: Mapping[str, Callable[[], Column]]) -> None:
        self.rows = rows
        self._load = load
        self._columns: dict[str, Column] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The attributes that some row has."""
        return tuple(self._load)

    def column(self, name: str) -> Column | None:
        """Return one attribute's column; None if no row has it."""
        if name not in self._columns and name in self._load:
            self._columns[name] = self._load[name]()
        return self._columns.get(name)

    @classmethod
    def from_metadata(
        cls, rows: Sequence[Metadata], *, non_filterable: Collection[str] = ()
    ) -> Columns:
        """Make columns of checked metadata."""
        found: dict[str, tuple[Sequence[int], list[Any]]] = {}
        names = rows[0].keys() if rows else ()
        if all(metadata.keys() == names for metadata in rows):
            for name in names - non_filterable if names else ():
                found[name] = range(len(rows)), [metadata[name] for metadata in rows]
        else:
            found = _by_name(rows, non_filterable)
        columns = {
            name: _column(len(rows), *found[name])
            for name in sorted(found)
        }  # fmt: skip
        return cls._of(len(rows), columns)

    @classmethod
    def _of(cls, rows: int, columns: Mapping[str, Column]) -> Columns:
        made = cls(rows, dict.fromkeys(columns, _never))
        made._columns.update(columns)
        return made

    def reordered(self, order: I64) -> Columns:
        """Return the columns of the same rows in another order: of each place, which row comes."""
        columns = {name: self.column(name) for name in self.names}
        return self._of(
            self.rows,
            {name: one.reordered(order) for name, one in columns.items() if one is not None},
        )

    def types(self) -> dict[str, str]:
        """Describe each attribute: "number", "string", "boolean", joined by "|", "[]" for lists."""
        described = {}
        for name in self.names:
            column = self.column(name)
            if column is None:
                continue
            used = np.zeros(column.value_count + 1, dtype=np.bool_)
            used[column.ids] = True
            kinds = [
                kind
                for kind, there in (
                    ("number", len(column.numbers) > 0),
                    ("string", column.string_count > 0),
                    ("boolean", bool(used[-3:-1].any())),
                )
                if there
            ]
            suffix = "[]" if column.listed is not None else ""
            described[name] = "|".join(kind + suffix for kind in kinds) or "[]"
        return described

    def evaluate(self, node: FilterNode | None, rows: I64 | None = None) -> Mask:
        """Return which rows pass, exactly as `matches` has it.

        Parameters
        ----------
        node:
            The filter.
        rows:
            int64 [m], the rows to ask about; None for all.

        Returns
        -------
        bool [m] or [n]

        """
        count = self.rows if rows is None else len(rows)
        if node is None:
            return np.ones(count, dtype=np.bool_)
        if isinstance(node, And):
            passing = self.evaluate(node.parts[0], rows)
            for part in node.parts[1:]:
                passing = passing & self.evaluate(part, rows)
            return passing
        if isinstance(node, Or):
            passing = self.evaluate(node.parts[0], rows)
            for part in node.parts[1:]:
                passing = passing | self.evaluate(part, rows)
            return passing
        if isinstance(node, Not):
            return ~self.evaluate(node.part, rows)
        column = self.column(node.attribute)
        if column is None:
            return np.zeros(count, dtype=np.bool_)
        if isinstance(node, Exists):
            return column.present(rows)
        return column.by_row(_passing(column, node), rows)

    def to_arrays(self) -> tuple[dict[str, Any], dict[str, AnyArray]]:
        """Return a JSON header and arrays for a container."""
        arrays: dict[str, AnyArray] = {}
        lists = []
        for i, name in enumerate(self.names):
            column = self.column(name)
            if column is None:
                continue
            lengths = [len(array) for array in column.arrays()]
            arrays[f"{i}.lengths"] = np.array(lengths, dtype=np.uint64)
            arrays[f"{i}.numbers"] = column.numbers
            arrays[f"{i}.string_bytes"] = column.string_bytes
            arrays[f"{i}.string_offsets"] = column.string_offsets
            arrays[f"{i}.ids"] = column.ids
            lists.append(column.offsets is not None)
            if column.offsets is not None and column.listed is not None:
                arrays[f"{i}.offsets"] = column.offsets
                arrays[f"{i}.listed"] = column.listed
        return {"rows": self.rows, "names": list(self.names), "lists": lists}, arrays

    @classmethod
    def from_arrays(cls, header: Mapping[str, Any], array: Callable[[str], AnyArray]) -> Columns:
        """Read back what `to_arrays` gave; each column when it is first needed."""
        pairs = enumerate(zip(header["names"], header["lists"], strict=True))
        rows = header["rows"]
        load = {name: partial(_load, array, i, lists, rows=rows) for i, (name, lists) in pairs}
        return cls(rows, load)


def value_range(column: Column, node: Within) -> tuple[int, int]:
    """Return the value numbers [first, last) that lie in an interval."""
    if node.kind is float:
        numbers = column.numbers
        first = 0
        if isinstance(node.low, float):
            first = int(np.searchsorted(numbers, node.low, _side(before=node.low_closed)))
        last = len(numbers)
        if isinstance(node.high, float):
            last = int(np.searchsorted(numbers, node.high, _side(before=not node.high_closed)))
        return first, max(first, last)
    strings = column.strings
    first = 0
    if isinstance(node.low, str):
        first = (bisect_left if node.low_closed else bisect_right)(strings, node.low)
    last = len(strings)
    if isinstance(node.high, str):
        last = (bisect_right if node.high_closed else bisect_left)(strings, node.high)
    shift = len(column.numbers)
    return first + shift, max(first, last) + shift


def _side(*, before: bool) -> Literal["left", "right"]:
    return "left" if before else "right"


def _load(array: Callable[[str], AnyArray], i: int, has_lists: bool, *, rows: int) -> Column:
    found = Column(
        array(f"{i}.numbers"),
        array(f"{i}.string_bytes"),
        array(f"{i}.string_offsets"),
        array(f"{i}.ids"),
        array(f"{i}.offsets") if has_lists else None,
        array(f"{i}.listed") if has_lists else None,
    )
    if not _fits(found, rows):
        raise _damaged(f"does not fit its {rows} rows")
    return found


def _damaged(what: str) -> DataError:
    return DataError(
        f"the column of an attribute {what}: the object is damaged. Run `squash verify` and "
        "restore it from a copy."
    )


def _fits(column: Column, rows: int) -> bool:
    """Tell whether the arrays fit each other, so that no look-up can fail."""
    ends = column.string_offsets
    arrays: list[AnyArray] = [column.numbers, column.string_bytes, ends, column.ids]
    if [array.dtype.str for array in arrays] != ["<f8", "|u1", "<u8", "<u4"]:
        return False
    if any(array.ndim != 1 for array in arrays):
        return False
    # Searched by bisection: unordered numbers (or NaN, of no order) would answer wrongly.
    good = bool(np.all(np.isfinite(column.numbers)))
    good = good and bool(np.all(column.numbers[1:] > column.numbers[:-1]))
    good = good and len(ends) > 0 and ends[0] == 0 and ends[-1] == len(column.string_bytes)
    good = good and bool(np.all(ends[1:] >= ends[:-1])) and column.rows == rows
    good = good and int(column.ids.max(initial=0)) <= column.value_count
    if column.offsets is not None and column.listed is not None:
        places = column.offsets
        good = good and places.dtype == np.uint64 and column.listed.shape == (rows,)
        good = good and len(places) > 0 and places[0] == 0 and places[-1] == len(column.ids)
        good = good and bool(np.all(places[1:] >= places[:-1]))
    return bool(good)


def _never() -> Column:
    raise InternalError("a column made in memory was asked for a second time")


def _passing(column: Column, node: OneOf | Within) -> list[tuple[int, int]]:
    """Return the ranges [first, last) of value numbers that pass, none of them empty."""
    if isinstance(node, Within):
        ranges = [value_range(column, node)]
    else:
        ranges = [_value_at(column, value) for value in node.values]
    return [(first, last) for first, last in ranges if first < last]


def _value_at(column: Column, value: Scalar) -> tuple[int, int]:
    if isinstance(value, bool):
        first = column.value_count - 2 + value
        return first, first + 1
    kind = str if isinstance(value, str) else float
    return value_range(column, Within("", kind, value, True, value, True))


def _by_name(
    rows: Sequence[Metadata], non_filterable: Collection[str]
) -> dict[str, tuple[Sequence[int], list[Any]]]:
    """Return, for each name, which rows have it and their values."""
    found: dict[str, tuple[list[int], list[Any]]] = {}
    for row, metadata in enumerate(rows):
        for name, value in metadata.items():
            if name not in non_filterable:
                places, values = found.setdefault(name, ([], []))
                places.append(row)
                values.append(value)
    return dict(found)


def _column(rows: int, places: Sequence[int], values: list[Any]) -> Column:
    lengths: list[int] | None = None
    flat = values
    if list in set(map(type, values)):
        lengths = [len(value) if type(value) is list else 1 for value in values]
        flat = [e for value in values for e in (value if type(value) is list else (value,))]
    numbers, texts, ids = _number(flat)
    encoded = [text.encode() for text in texts]
    string_offsets = np.zeros(len(encoded) + 1, dtype=np.uint64)
    string_offsets[1:] = np.cumsum([len(text) for text in encoded], dtype=np.uint64)
    string_bytes = np.frombuffer(b"".join(encoded), dtype=np.uint8)
    if lengths is None:
        by_row = np.full(rows, len(numbers) + len(texts) + 2, dtype=np.uint32)
        by_row[places] = ids
        return Column(numbers, string_bytes, string_offsets, by_row)
    counts = np.zeros(rows, dtype=np.uint64)
    counts[places] = lengths
    offsets = np.concatenate((np.zeros(1, np.uint64), np.cumsum(counts, dtype=np.uint64)))
    listed = np.zeros(rows, dtype=np.uint8)
    listed[places] = [type(value) is list for value in values]
    return Column(numbers, string_bytes, string_offsets, ids, offsets, listed)


def _number(values: list[Any]) -> tuple[F64, list[str], U32]:
    """Give each distinct value its number."""
    if set(map(type, values)) <= {float, int}:
        every, inverse = np.unique(np.array(values, dtype=np.float64), return_inverse=True)  # noqa: TID251 - with places
        return every, [], inverse.astype(np.uint32)
    is_text = np.array([type(value) is str for value in values], dtype=np.bool_)
    is_bool = np.array([type(value) is bool for value in values], dtype=np.bool_)
    is_number = ~is_text & ~is_bool
    ids = np.zeros(len(values), dtype=np.uint32)
    some = [float(value) for value, number in zip(values, is_number, strict=True) if number]
    numbers, inverse = np.unique(np.array(some, dtype=np.float64), return_inverse=True)  # noqa: TID251 - with places
    ids[is_number] = inverse
    words = [value for value, text in zip(values, is_text, strict=True) if text]
    texts = sorted(set(words))
    place = {text: len(numbers) + i for i, text in enumerate(texts)}
    ids[is_text] = [place[word] for word in words]
    flags = [value for value, flag in zip(values, is_bool, strict=True) if flag]
    ids[is_bool] = np.array(flags, dtype=np.uint32) + np.uint32(len(numbers) + len(texts))
    return numbers, texts, ids
