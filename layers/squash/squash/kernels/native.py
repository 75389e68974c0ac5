"""The native kernels: loaded when they are first asked for, and which of them serve.

Without the shared object, or on a machine it is not made for, the NumPy twins serve: `active` then
gives None. `layers/squash/native/` holds the sources.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeAlias

import numpy as np

from squash.arrays import AnyArray
from squash.errors import InternalError
from squash.values import dataclass

INTERFACE: Final = 19
"""SQ_INTERFACE of squash_kernels.h: a library that says another number is not used."""

NUMPY: Final = "numpy"
"""The name of the twins."""

_VARIANT_BITS: Final = {"portable": 1, "avx2": 2, "avx512": 4, "neon": 8, "neondot": 16}
_ARCHITECTURES: Final = ("x86_64", "aarch64")

Operation: TypeAlias = Callable[..., Any]
Counting: TypeAlias = Callable[..., int]

# Argument types: addresses and whole numbers.
_A: Final = ctypes.c_void_p
_N: Final = ctypes.c_int64

_SIGNATURES: Final[dict[str, tuple[Any, tuple[Any, ...]]]] = {
    "filter": (None, (_A, _A, _N, _A, _A, _A, _A, _A, _A)),
    "filter_sample": (None, (_A, _A, _A, _A)),
    "filter_listed": (_N, (_A, _A, _A, _N, _A, _A, _A, _A, _A)),
    "bind": (None, (_A, _N, _A, _A)),
    "expect": (None, (_A, _A, _A)),
    "coarsen": (_N, (_A, _A, _A)),
    "prepare": (None, (_A, _A, _A, _N, _N, _A, _A, _A, _A, _A)),
    "rotate_rows": (None, (_A, _A, _N, _N, _A, _A)),
    "walk": (_N, (_A, _A, _A, _A, _A, _A, _A)),
    "top_k_f32": (None, (_A, _N, _N, _A)),
    "top_k_f64": (None, (_A, _N, _N, _A, _A)),
    "scan": (_N, (_A, _A)),
    "exact_distances": (None, (_N, _A, _N, _A, _N, _A, _N, _A)),
    "row_distances": (_N, (_A, _N, _A, _A, _A, _N, _A)),
    "refine": (_N, (_A, _N, _A, _A, _A, _A, _N, _N, _A, _A)),
    "gather_rows": (_N, (_A, _A, _N, _A, _A, _A)),
    "gather_keys": (_N, (_A, _N, _A, _A, _N, _A, _N)),
    "search": (_N, (_A, _A)),
    "search_all": (_N, (_A, _A)),
    "ask": (_N, (_A, _A, _A, _A, _A)),
    "search_many": (None, (_A, _A, _A)),
}


@dataclass(frozen=True, slots=True)
class Entry:
    """The C entry, see native/src/entry.c, and where the operations lie that it calls."""

    call: Callable[..., Any]
    search: int
    search_all: int
    ask: int


@dataclass(frozen=True, slots=True)
class Native:
    """The operations of one variant, as squash_kernels.h declares them.

    `entry` is None where searches are called through ctypes.
    """

    name: str
    filter: Operation
    filter_sample: Operation
    filter_listed: Counting
    bind: Operation
    expect: Operation
    coarsen: Counting
    prepare: Operation
    rotate_rows: Operation
    walk: Operation
    top_k_f32: Operation
    top_k_f64: Operation
    scan: Counting
    exact_distances: Operation
    row_distances: Counting
    refine: Counting
    gather_rows: Counting
    gather_keys: Counting
    search: Counting
    search_all: Counting
    ask: Counting
    search_many: Operation
    entry: Entry | None = None


@dataclass(slots=True)
class _State:
    """What this process has loaded and chosen."""

    loaded: bool = False
    found: dict[str, Native] | None = None
    chosen: Native | None = None


_state: Final = _State()


def variants() -> tuple[str, ...]:
    """Return what this machine can run, the best last; `numpy`, the twins, is always first."""
    return (NUMPY, *_found())


def active() -> Native | None:
    """Return the operations that serve, or None for the twins."""
    if not _state.loaded:
        _found()
    return _state.chosen


def choose(name: str) -> None:
    """Let one of `variants` serve this whole process.

    Raises
    ------
    ValueError
        If this machine cannot run it.

    """
    found = _found()
    if name != NUMPY and name not in found:
        raise ValueError(
            f"this machine has no kernels {name!r}: choose one of {', '.join(variants())}"
        )
    _state.chosen = found.get(name)


@contextmanager
def timed(clock: Callable[[], int]) -> Iterator[Callable[[], int]]:
    """Count the time that native operations take within a block; for measurements.

    All of them are called through ctypes there.

    Parameters
    ----------
    clock:
        Gives nanoseconds.

    Yields
    ------
    What returns the nanoseconds counted so far; the twins are not counted.

    """
    before = active()
    spent = 0

    def counted(operation: Operation) -> Operation:
        def call(*arguments: Any) -> Any:
            nonlocal spent
            start = clock()
            result = operation(*arguments)
            spent += clock() - start
            return result

        return call

    if before is not None:
        operations: dict[str, Any] = {name: counted(getattr(before, name)) for name in _SIGNATURES}
        _state.chosen = Native(before.name, **operations)
    try:
        yield lambda: spent
    finally:
        _state.chosen = before


@contextmanager
def use(name: str) -> Iterator[None]:
    """Let one of `variants` serve within a block; for tests and measurements.

    Raises
    ------
    ValueError
        If this machine cannot run it.

    """
    before = active()
    choose(name)
    try:
        yield
    finally:
        _state.chosen = before


# An array's object begins with Python's own header, then the address of its data: extension modules
# are compiled to rely on that. Every public way to the address takes ten times as long, a
# microsecond, and a query needs dozens. `_load` makes sure of it once.
_DATA_PLACE: Final = object.__basicsize__
word_at: Final = ctypes.c_uint64.from_address
"""What gives the word at an address, its `value`."""


def address(array: AnyArray) -> int:
    """Return where an array's first element lies; the array must outlive the number."""
    return word_at(id(array) + _DATA_PLACE).value


def checked_address(array: AnyArray, dtype: Any, name: str) -> int:
    """Return the address of an array that an operation reads.

    Raises
    ------
    InternalError
        If it is not C-contiguous, or of another dtype.

    """
    if array.dtype != dtype or not array.flags.c_contiguous:
        raise InternalError(
            f"the native kernels want {name} as C-contiguous {np.dtype(dtype)}, not {array.dtype}"
        )
    return address(array)


def aligned_address(array: AnyArray, dtype: Any, name: str) -> int:
    """Return the same of an array that has to be aligned; raises as `checked_address` does."""
    if not array.flags.aligned:
        raise InternalError(f"the native kernels want {name} aligned to its {array.dtype}")
    return checked_address(array, dtype, name)


def _found() -> dict[str, Native]:
    if _state.found is None:
        _state.found = _load()
        _state.chosen = next(reversed(_state.found.values()), None)
        _state.loaded = True
    return _state.found


def _load() -> dict[str, Native]:
    probe = np.zeros(1)
    if address(probe) != probe.__array_interface__["data"][0]:
        return {}
    folder = __file__.rpartition("/")[0]
    for architecture in _ARCHITECTURES:
        try:
            path = f"{folder}/_native/libsquash-{architecture}.so"
            library = ctypes.CDLL(path)
            if library.sq_interface() != INTERFACE:
                continue
        except (OSError, AttributeError):  # not there, of another architecture, or another's
            continue
        runnable = library.sq_variants()
        entry = _entry_of(path)
        return {
            name: _bind(library, name, entry)
            for name, bit in _VARIANT_BITS.items()
            if runnable & bit
        }
    return {}


def _entry_of(path: str) -> Callable[..., Any] | None:
    """Return the C entry; None where Python's objects may not be what it takes them for."""
    locked = getattr(sys, "_is_gil_enabled", lambda: True)
    if sys.implementation.name != "cpython" or not locked():
        return None
    make = ctypes.PyDLL(path).sq_entry
    make.restype = ctypes.py_object
    try:
        made: Callable[..., Any] = make()
    except ValueError:  # The library finds nothing of Python.
        return None
    return made


def _bind(library: ctypes.CDLL, variant: str, entry: Callable[..., Any] | None) -> Native:
    operations = {}
    for name, (result, arguments) in _SIGNATURES.items():
        operation = getattr(library, f"sq_{name}_{variant}")
        operation.restype = result
        operation.argtypes = arguments
        operations[name] = operation
    if entry is None:
        return Native(variant, **operations)
    called = (operations["search"], operations["search_all"], operations["ask"])
    at = [word_at(ctypes.addressof(operation)).value for operation in called]
    return Native(variant, **operations, entry=Entry(entry, *at))
