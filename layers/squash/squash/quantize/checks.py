"""Checks of options and of stored codecs, so that a wrong one is named before it is used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from squash.arrays import F32, I64, AnyArray
from squash.errors import DataError, InvalidArgumentError
from squash.limits import DIMENSION_MAX
from squash.quantize.protocol import Space


def checked_int(
    value: Any, *, name: str, least: int = 1, most: int = DIMENSION_MAX, stored: bool = False
) -> int:
    """Return `value` if it is an integer between `least` and `most`.

    Raises
    ------
    InvalidArgumentError
        If it is not; DataError if it was `stored`.

    """
    if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
        return value
    raise _wrong(name, f"{value!r}; it must be an integer from {least} to {most}", stored=stored)


def checked_bool(value: Any, *, name: str, stored: bool = False) -> bool:
    """Return `value` if it is true or false; raises as `checked_int` does."""
    if isinstance(value, bool):
        return value
    raise _wrong(name, f"{value!r}; it must be true or false", stored=stored)


def checked_space(value: Any, *, stored: bool = False) -> Space:
    """Return `value` if it is a space; raises as `checked_int` does."""
    if value == "l2":
        return "l2"
    if value == "dot":
        return "dot"
    raise _wrong("space", f"{value!r}; it must be 'l2' or 'dot'", stored=stored)


def checked_array(
    array: Callable[[str], AnyArray],
    name: str,
    shape: tuple[int, ...],
    *,
    dtype: type[np.generic] = np.float32,
) -> AnyArray:
    """Return the stored array `name` if it has the shape and dtype.

    Raises
    ------
    DataError
        If it has not.

    """
    values = array(name)
    if values.shape == shape and values.dtype == dtype:
        return values
    raise DataError(
        f"the codec's array {name!r} is {values.dtype} {values.shape}, not "
        f"{np.dtype(dtype)} {shape}: the object is damaged. Run `squash verify` and restore it "
        "from a copy."
    )


def check_clusters(rows: int, *, centers: F32, cluster_begins: I64) -> None:
    """Refuse clusters, int64 [c + 1] for centers float32 [c, D], that do not cover the rows.

    Raises
    ------
    InvalidArgumentError
        If `cluster_begins` does not ascend from 0 to `rows`, once for each center.

    """
    good = (
        len(cluster_begins) == len(centers) + 1
        and cluster_begins[0] == 0
        and cluster_begins[-1] == rows
        and bool((np.diff(cluster_begins) >= 0).all())
    )
    if not good:
        raise InvalidArgumentError(
            f"cluster_begins must ascend from 0 to {rows} in {len(centers) + 1} steps, one for "
            "each center and the end: sort the rows by cluster and count them"
        )


def _wrong(name: str, what: str, *, stored: bool) -> DataError | InvalidArgumentError:
    if stored:
        return DataError(
            f"the codec's header has {name} {what}: the object is damaged. Run `squash verify` "
            "and restore it from a copy."
        )
    return InvalidArgumentError(f"the codec option {name} is {what}", field=name)
