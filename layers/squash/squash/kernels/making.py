"""What rows that were found are given as.

They are objects, made by a function, or by the C entry as that makes them; or, by the entry alone,
the text of their records.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeAlias

from squash.kernels.native import word_at

Make: TypeAlias = Callable[[Iterable[str], Iterable[float]], tuple[Any, ...]]

_WORD_BYTES: Final = 8
_NONES_MAX: Final = 6  # SQ_FORM_NONES_MAX
_FORM_WORDS: Final = 4 + _NONES_MAX
_HEAP_TYPE: Final = 1 << 9  # Py_TPFLAGS_HEAPTYPE: an object holds a reference to its class


class Maker:
    """Makes an object of each row's key and distance.

    Parameters
    ----------
    make:
        Makes a tuple of them, all of one class. What else they hold is None. Without it, the rows
        are a text, their records as a list of JSON, and a tuple of their distances.

    """

    __slots__ = ("_form", "at", "make")

    def __init__(self, make: Make | None) -> None:
        self.make: Final = make
        self._form = array("q", [0] * _FORM_WORDS) if make is None else _form_of(make)
        self.at: Final = 0 if self._form is None else self._form.buffer_info()[0]
        """Where the `sq_form` of their class lies; 0 where the entry cannot make them."""


def _form_of(make: Make) -> array[int] | None:
    """Return an `sq_form`, in words, after a look into an object; None if that is not understood.

    As long as its class has nothing but slots, each word behind Python's own is a reference. What
    the probe was made of, and None, must be all that they refer to.
    """
    key, distance = "a key", 0.5
    (probe,) = make((key,), (distance,))
    kind = type(probe)
    begin, end = object.__basicsize__, kind.__basicsize__
    if kind.__itemsize__ or not kind.__flags__ & _HEAP_TYPE or hasattr(kind, "__del__"):
        return None
    held = {place: word_at(id(probe) + place).value for place in range(begin, end, _WORD_BYTES)}
    keys, distances, nones = (
        [place for place, word in held.items() if word == id(one)] for one in (key, distance, None)
    )
    if len(keys) != 1 or len(distances) != 1 or not len(held) - 2 == len(nones) <= _NONES_MAX:
        return None
    return array("q", (id(kind), *keys, *distances, len(nones), *nones, *[0] * _NONES_MAX))
