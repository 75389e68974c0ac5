"""Names for the array types that rooms hand each other, and what all do with them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, TypeAlias, TypeVar

import numpy as np

T = TypeVar("T", bound=np.generic)

LINE_BYTES: Final = 64
"""Of a line of the processor's cache."""

# What `numpy.typing` calls so: to import it takes about a tenth of what NumPy does.
NDArray: TypeAlias = np.ndarray[tuple[Any, ...], np.dtype[T]]

F16: TypeAlias = NDArray[np.float16]
F32: TypeAlias = NDArray[np.float32]
F64: TypeAlias = NDArray[np.float64]
I8: TypeAlias = NDArray[np.int8]
U8: TypeAlias = NDArray[np.uint8]
U32: TypeAlias = NDArray[np.uint32]
U64: TypeAlias = NDArray[np.uint64]
I32: TypeAlias = NDArray[np.int32]
I64: TypeAlias = NDArray[np.int64]
Mask: TypeAlias = NDArray[np.bool_]
AnyArray: TypeAlias = NDArray[Any]


def distinct(values: NDArray[T]) -> NDArray[T]:
    """Return each value once, ascending, as `numpy.unique` does.

    That asks first whether it was given a masked array, and so imports them: a tenth and more of
    what a cold start takes.
    """
    ordered = np.sort(values, axis=None)
    first = np.empty(len(ordered), dtype=np.bool_)
    first[:1] = True
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    return ordered[first]


def by_lines(shape: int | tuple[int, ...], dtype: type[np.generic]) -> AnyArray:
    """Return a new array that begins with a line of the processor's cache.

    NumPy's own begin anywhere in one, and where it is loaded from line by line, every load is two.
    """
    kind = np.dtype(dtype)
    count = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
    memory = np.empty(count + LINE_BYTES, dtype=np.uint8)
    begin = -memory.ctypes.data % LINE_BYTES
    return memory[begin : begin + count].view(kind).reshape(shape)


def is_whole_number(value: object) -> bool:
    """Tell if a value is a whole number; NumPy's spans of time say so, and are none."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool | np.timedelta64)


def is_iterable(value: object) -> bool:
    """Tell if there is something to go through; an array of no dimension says so, and has none."""
    return isinstance(value, Iterable) and not (isinstance(value, np.ndarray) and not value.ndim)
