"""Quantised attributes: one byte a row and attribute that answers a filter with yes, no or maybe.

Numbers and strings are cut into intervals by cut points. A cut lies just before or just after a
value; so the place of a cut is (value, 0) or (value, 1), cuts are ordered as pairs, and a frequent
value between its own two cuts has a cell of its own. The cell codes of one attribute are

====================  ==============================================
code                  cell
====================  ==============================================
0                     the row lacks the attribute
1 ...                 numbers, by interval, ascending
then                  strings, by interval, ascending
then three            false; true; a list (of anything, or empty)
====================  ==============================================

The outermost intervals are open, so that every value has a cell, whether a sample held it or not.
A row that holds a list has a 64-bit signature besides: frequent elements own a bit, others share.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any, Final

import numpy as np

from squash.arrays import I64, U8, U64, AnyArray
from squash.attributes.attribute_cells import AttributeCells, Cut, identity
from squash.attributes.columns import Column, Columns
from squash.errors import DataError
from squash.limits import CELLS_MAX, SIGNATURE_BITS
from squash.model import Scalar

_FIXED_CELLS: Final = 3  # false, true, list
_OWNED_BITS_MAX: Final = 48
_ONE_CELL_A_TYPE: Final = AttributeCells()


class CellScheme:
    """The cells of all attributes of an index.

    Parameters
    ----------
    attributes:
        By name; an attribute that is not here has one cell for each type.

    """

    def __init__(self, attributes: Mapping[str, AttributeCells]) -> None:
        self._attributes = attributes

    @classmethod
    def fit(cls, sample: Columns) -> CellScheme:
        """Cut every attribute of a sample into cells of about equal weight."""
        fitted = {}
        for name in sample.names:
            column = sample.column(name)
            if column is not None:
                fitted[name] = _fit(column)
        return cls(fitted)

    def of(self, name: str) -> AttributeCells:
        """Return one attribute's cells."""
        return self._attributes.get(name, _ONE_CELL_A_TYPE)

    def encode(self, columns: Columns) -> CellTable:
        """Give every row of some columns its codes."""
        codes: dict[str, U8] = {}
        signatures: dict[str, U64] = {}
        for name in columns.names:
            column = columns.column(name)
            if column is None:
                continue
            cells = self.of(name)
            table = cells.value_codes(column)
            if column.offsets is None or column.listed is None:
                codes[name] = table[column.ids]
                continue
            codes[name], signatures[name] = _encode_lists(cells, column, table)
        return CellTable(columns.rows, codes, signatures)

    def to_arrays(self) -> tuple[dict[str, Any], dict[str, AnyArray]]:
        """Return a JSON header (JSON keeps every float64) and no arrays."""
        header = {
            name: {
                "number_cuts": [list(cut) for cut in cells.number_cuts],
                "string_cuts": [list(cut) for cut in cells.string_cuts],
                "owners": list(cells.owners),
            }
            for name, cells in self._attributes.items()
        }
        return {"attributes": header}, {}

    @classmethod
    def from_arrays(cls, header: Mapping[str, Any], array: Callable[[str], AnyArray]) -> CellScheme:
        """Read back what `to_arrays` gave.

        Raises
        ------
        DataError
            If it holds more cells than there are codes, more owners than bits, or cuts out of
            order: then codes and filters would disagree.

        """
        del array
        return cls({name: _checked(name, cells) for name, cells in header["attributes"].items()})


class CellTable:
    """The codes of n rows.

    Parameters
    ----------
    rows:
        n.
    codes:
        uint8 [n] by attribute; an attribute that is not here is missing in every row.
    signatures:
        uint64 [n] by attribute, for those of which some row holds a list.

    """

    def __init__(self, rows: int, codes: Mapping[str, U8], signatures: Mapping[str, U64]) -> None:
        self.rows = rows
        self._codes = codes
        self._signatures = signatures

    def codes(self, name: str) -> U8 | None:
        """Return the codes of an attribute, uint8 [n]; None if it is missing in every row."""
        return self._codes.get(name)

    def signatures(self, name: str) -> U64 | None:
        """Return the signatures of an attribute, uint64 [n]; None if no row holds a list."""
        return self._signatures.get(name)

    def to_arrays(self) -> tuple[dict[str, Any], dict[str, AnyArray]]:
        """Return a JSON header and arrays for a container."""
        names = list(self._codes)
        arrays: dict[str, AnyArray] = {f"{i}.codes": self._codes[n] for i, n in enumerate(names)}
        for i, name in enumerate(names):
            if name in self._signatures:
                arrays[f"{i}.signatures"] = self._signatures[name]
        lists = [name in self._signatures for name in names]
        return {"rows": self.rows, "names": names, "lists": lists}, arrays

    @classmethod
    def from_arrays(cls, header: Mapping[str, Any], array: Callable[[str], AnyArray]) -> CellTable:
        """Read back what `to_arrays` gave."""
        named = list(enumerate(zip(header["names"], header["lists"], strict=True)))
        rows = header["rows"]
        codes = {name: array(f"{i}.codes") for i, (name, _) in named}
        signatures = {name: array(f"{i}.signatures") for i, (name, lists) in named if lists}
        for dtype, arrays in ((np.uint8, codes), (np.uint64, signatures)):
            for name, values in arrays.items():
                if values.shape != (rows,) or values.dtype != dtype:
                    raise DataError(f"the cells of attribute {name!r} do not fit {rows} rows")
        return cls(rows, codes, signatures)


def _checked(name: str, stored: Mapping[str, Any]) -> AttributeCells:
    found = AttributeCells(
        tuple((float(value), side) for value, side in stored["number_cuts"]),
        tuple((value, side) for value, side in stored["string_cuts"]),
        tuple(stored["owners"]),
    )
    finite = all(math.isfinite(float(value)) for value, _ in found.number_cuts)
    texts = all(isinstance(value, str) for value, _ in found.string_cuts)
    scalars = all(isinstance(value, (str, int, float)) for value in found.owners)
    if (
        not (finite and texts and scalars)
        or found.list_code > CELLS_MAX
        or len(set(map(identity, found.owners))) < len(found.owners)
        or len(found.owners) >= SIGNATURE_BITS
        or not all(_ascends(cuts) for cuts in (found.number_cuts, found.string_cuts))
    ):
        raise DataError(
            f"the cells of attribute {name!r} do not fit together: the object is damaged. Run "
            "`squash verify` and restore it from a copy."
        )
    return found


def _ascends(cuts: tuple[Cut, ...]) -> bool:
    return all(side in (0, 1) for _, side in cuts) and all(a < b for a, b in pairwise(cuts))


def _encode_lists(cells: AttributeCells, column: Column, table: U8) -> tuple[U8, U64]:
    offsets = np.asarray(column.offsets).astype(np.int64)
    listed = np.asarray(column.listed) > 0
    codes = np.zeros(column.rows, dtype=np.uint8)
    single = np.flatnonzero(~listed & (np.diff(offsets) > 0))
    codes[single] = table[column.ids[offsets[single]]]
    codes[listed] = cells.list_code
    bits = cells.signature_bits(column)[column.ids]
    signatures = np.zeros(column.rows, dtype=np.uint64)
    filled = np.flatnonzero(listed & (np.diff(offsets) > 0))
    if len(filled):
        # Rows without elements own none of `bits`, so a row's run ends where the next one begins.
        owning = np.flatnonzero(np.diff(offsets) > 0)
        merged = np.bitwise_or.reduceat(bits, offsets[owning])
        signatures[owning] = merged
        signatures[single] = 0
    return codes, signatures


def _fit(column: Column) -> AttributeCells:
    weights = np.bincount(column.ids, minlength=column.value_count + 1)[: column.value_count]
    numbers = len(column.numbers)
    strings = column.string_count
    number_weight = int(weights[:numbers].sum())
    string_weight = int(weights[numbers : numbers + strings].sum())
    room = CELLS_MAX - _FIXED_CELLS - 2  # each type has one cell in any case
    total = max(number_weight + string_weight, 1)
    number_room = min(round(room * number_weight / total), 2 * numbers)
    string_room = min(room - number_room, 2 * strings)
    owners: tuple[Scalar, ...] = ()
    if column.offsets is not None:
        owners = _frequent(column, weights)
    return AttributeCells(
        _cuts(column.numbers.tolist(), weights[:numbers], number_room),
        _cuts(column.strings, weights[numbers : numbers + strings], string_room),
        owners,
    )


def _cuts(values: list[Any], weights: I64, room: int) -> tuple[Cut, ...]:
    """Place at most `room` cuts: both sides of frequent values, then at quantiles of the rest."""
    if room <= 0:
        return ()
    if 2 * len(values) <= room:
        return tuple((value, side) for value in values for side in (0, 1))
    total = int(weights.sum())
    heavy = np.flatnonzero(weights * room > 3 * total)
    cuts = {(values[i], side) for i in heavy for side in (0, 1)}
    light = weights.copy()
    light[heavy] = 0
    count = room - len(cuts)
    if count > 0 and light.any():
        sums = np.cumsum(light)
        wanted = np.linspace(0, sums[-1], count + 2)[1:-1]
        cuts |= {(values[i], 0) for i in np.searchsorted(sums, wanted, side="right")}
    return tuple(sorted(cuts))


def _frequent(column: Column, weights: I64) -> tuple[Scalar, ...]:
    values: list[Scalar] = [*column.numbers.tolist(), *column.strings, False, True]
    order = np.argsort(-weights, kind="stable")[:_OWNED_BITS_MAX]
    return tuple(values[i] for i in order if weights[i] > 0)
