"""Reads the tensors of a PyTorch file of the older form without running what is in it.

Such a file is five pickles and then the numbers. A pickle is a program that may call anything; here
its opcodes are only parsed (`pickletools.genops` runs nothing) and followed by hand, as far as a
dictionary of tensors needs: four names mean something, every other name or opcode is refused.
"""

from __future__ import annotations

import pickletools
from collections.abc import Iterator
from io import BytesIO
from typing import Any, BinaryIO, Final

import numpy as np

from squash.arrays import AnyArray
from squash.errors import DataError
from squash.values import dataclass

_MAGIC: Final = 0x1950A86A20F9469CFC6C
_PROTOCOL: Final = 1001
_DTYPES: Final = {"torch FloatStorage": "<f4", "torch LongStorage": "<i8"}
_DICTIONARY: Final = "collections OrderedDict"
_TENSOR: Final = "torch._utils _rebuild_tensor_v2"
_NAMES: Final = {*_DTYPES, _DICTIONARY, _TENSOR}
_CONSTANTS: Final[dict[str, Any]] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: Final[dict[str, type]] = {"EMPTY_TUPLE": tuple, "EMPTY_DICT": dict, "EMPTY_LIST": list}
_VALUES: Final = {"BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE"}
_MARK: Final = object()


@dataclass(frozen=True, slots=True)
class _Name:
    """A name that the pickle would have imported."""

    name: str


@dataclass(frozen=True, slots=True)
class _Storage:
    """A run of numbers further down in the file."""

    dtype: str
    key: str
    length: int


@dataclass(frozen=True, slots=True)
class _Tensor:
    """A view of a storage; `strides` count numbers."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_torch_file(data: bytes) -> dict[str, AnyArray]:
    """Return the tensors of a state dictionary by name: float32 and int64, as they were saved.

    Raises
    ------
    DataError
        If the file is cut short, of another form, or holds anything else.

    """
    file = BytesIO(data)
    try:
        if (_follow(file), _follow(file)) != (_MAGIC, _PROTOCOL):
            raise DataError("the file is not of PyTorch's older form, which alone is read here")
        _follow(file)  # sizes of C's types on the machine that wrote it
        tensors, keys = _follow(file), _follow(file)
        if not isinstance(tensors, dict) or not isinstance(keys, list):
            raise DataError("the file does not hold a dictionary of tensors")
        storages = _Storages(file, keys, tensors)
        return {name: storages.view(tensor) for name, tensor in tensors.items()}
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise DataError(f"the PyTorch file is cut short or damaged ({error})") from error


class _Storages:
    """The numbers behind the pickles: each run has its length before it."""

    def __init__(self, file: BinaryIO, keys: list[str], tensors: dict[str, _Tensor]) -> None:
        dtypes = {one.storage.key: one.storage.dtype for one in tensors.values()}
        self._runs: dict[str, AnyArray] = {}
        for key in keys:
            dtype = np.dtype(dtypes[key])
            length = int.from_bytes(file.read(8), "little")
            values = file.read(length * dtype.itemsize)
            if not length or len(values) != length * dtype.itemsize:
                raise DataError("the PyTorch file is cut short: its numbers are not all there")
            self._runs[key] = np.frombuffer(values, dtype=dtype)

    def view(self, tensor: _Tensor) -> AnyArray:
        run = self._runs[tensor.storage.key]
        reached = [
            (size - 1) * step for size, step in zip(tensor.shape, tensor.strides, strict=True)
        ]
        if min((tensor.offset, *tensor.shape, *tensor.strides)) < 0 or 0 in tensor.shape:
            raise DataError("the PyTorch file holds a tensor of an impossible shape")
        if tensor.offset + sum(reached) >= len(run):
            raise DataError("the PyTorch file holds a tensor that reaches past its numbers")
        steps = tuple(step * run.itemsize for step in tensor.strides)
        return np.ascontiguousarray(
            np.lib.stride_tricks.as_strided(run[tensor.offset :], tensor.shape, steps)
        ).reshape(tensor.shape)


def _follow(file: BinaryIO) -> Any:
    """Follow the next pickle of a file; return what it describes."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    for kind, argument in _opcodes(file):
        if kind in _CONSTANTS:
            stack.append(_CONSTANTS[kind])
        elif kind in _VALUES:
            stack.append(argument)
        elif kind in {"BINPUT", "LONG_BINPUT"}:
            memo[argument] = stack[-1]
        elif kind in {"BINGET", "LONG_BINGET"}:
            stack.append(memo[argument])
        elif kind == "GLOBAL":
            if argument not in _NAMES:
                raise DataError(
                    f"the PyTorch file asks for {argument!r:.80}, which is not a tensor"
                )
            stack.append(_Name(argument))
        elif kind == "MARK":
            stack.append(_MARK)
        elif kind != "STOP":
            _act(kind, stack)
    return stack.pop()


def _opcodes(file: BinaryIO) -> Iterator[tuple[str, Any]]:
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name != "PROTO":
            yield opcode.name, argument


def _act(kind: str, stack: list[Any]) -> None:
    """Carry out an opcode that makes or fills a value."""
    if kind in _EMPTY:
        stack.append(_EMPTY[kind]())
        return
    match kind:
        case "TUPLE":
            stack.append(tuple(_marked(stack)))
        case "TUPLE1" | "TUPLE2":
            count = int(kind[-1])
            stack[-count:] = [tuple(stack[-count:])]
        case "SETITEM":
            value, key = stack.pop(), stack.pop()
            stack[-1][key] = value
        case "SETITEMS":
            items = _marked(stack)
            stack[-1].update(zip(items[::2], items[1::2], strict=True))
        case "APPENDS":
            items = _marked(stack)
            stack[-1].extend(items)
        case "BINPERSID":
            stack.append(_storage(stack.pop()))
        case "REDUCE":
            arguments, name = stack.pop(), stack.pop()
            stack.append(_made(name, arguments))
        case "BUILD":
            stack.pop()  # the dictionary's own attributes: versions of modules
        case _:
            raise DataError(f"the PyTorch file holds more than tensors (opcode {kind})")


def _marked(stack: list[Any]) -> list[Any]:
    """Take off everything above the last mark, and the mark."""
    place = len(stack) - 1 - stack[::-1].index(_MARK)
    values = stack[place + 1 :]
    del stack[place:]
    return values


def _storage(description: Any) -> _Storage:
    word, kind, key, _, length, _ = description
    if word != "storage":
        raise DataError(f"the PyTorch file refers to {word!r:.40}, which is not a storage")
    return _Storage(_DTYPES[kind.name], key, length)


def _made(name: Any, arguments: Any) -> Any:
    if name == _Name(_DICTIONARY) and arguments == ():
        return {}
    if name == _Name(_TENSOR):
        storage, offset, shape, strides, *_ = arguments
        if not isinstance(storage, _Storage):
            raise DataError("the PyTorch file holds a tensor without numbers")
        return _Tensor(storage, offset, shape, strides)
    raise DataError("the PyTorch file calls something that makes no tensor")
