"""What a reader needs before it reads parts of a partition's objects: one small object of its own.

It says where the pages of vectors and documents lie, as `rows` does, and where the codes of each
cluster lie, with a checksum of each, so that what is read by range is checked by itself. It is read
whole, as its snapshot names it, in one request of known length.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final, Literal

import numpy as np

from squash.arrays import F32, I64, U32, AnyArray
from squash.container import Container
from squash.errors import DataError
from squash.kernels import block_begins
from squash.quantize import ArraySpec
from squash.values import dataclass

_CHECKSUMS: Final = "code_crc32."
_FIELDS: Final = ("start", "item_bytes")


@dataclass(frozen=True, slots=True)
class CodeArray:
    """One array of the `codes` object: cluster after cluster, items of so many bytes.

    `begins` is int64 [c + 1], the first item of each cluster and their number; `start` is the byte
    of the object at which the array begins; `crc32` is uint32 [c], of each cluster's bytes.
    """

    name: str
    per: Literal["row", "block"]
    start: int
    item_bytes: int
    begins: I64
    crc32: U32

    def range_of(self, cluster: int) -> tuple[int, int]:
        """Return [start, stop) of a cluster's bytes in the object."""
        first, last = self.begins.item(cluster), self.begins.item(cluster + 1)
        return self.start + first * self.item_bytes, self.start + last * self.item_bytes

    @property
    def stop(self) -> int:
        """The byte of the object at which the array ends."""
        return self.start + self.begins.item(-1) * self.item_bytes


@dataclass(frozen=True, slots=True)
class CodesHead:
    """The clusters of a partition, and where the codes of each lie.

    `cluster_begins` is int64 [c + 1]: cluster i is rows begins[i] to begins[i + 1]; `centers` is
    float32 [c, D]. `arrays` is None where codes are read whole.
    """

    cluster_begins: I64
    centers: F32
    codec: str
    codec_version: int
    arrays: tuple[CodeArray, ...] | None

    @classmethod
    def from_container(cls, container: Container, where: str, *, codes_bytes: int) -> CodesHead:
        """Read a segment's `head` object, whose `codes` object has so many bytes.

        Raises
        ------
        DataError
            If its parts do not fit each other.

        """
        header = container.header
        begins, centers = clusters_of(container, where)
        described = header.get("code_arrays")
        arrays = None
        if described is not None:
            arrays = tuple(
                _code_array(container, name, one, begins) for name, one in described.items()
            )
            _check_places(arrays, codes_bytes, where)
        return cls(begins, centers, header["codec"], header["codec_version"], arrays)

    def check_specs(self, specs: Sequence[ArraySpec], where: str) -> None:
        """Refuse arrays that are not those of a codec.

        Raises
        ------
        DataError
            With what differs.

        """
        found = {(one.name, one.per, one.item_bytes) for one in self.arrays or ()}
        wanted = {(s.name, s.per, s.item_bytes) for s in specs}
        if found != wanted or any(np.dtype(spec.dtype) != np.uint8 for spec in specs):
            raise DataError(
                f"{where} describes codes {sorted(found)}, its codec has {sorted(wanted)}",
                object_key=where,
            )


def clusters_of(container: Container, where: str) -> tuple[I64, F32]:
    """Return `cluster_begins`, int64 [c + 1], and `centers`, float32 [c, D].

    They are those of a partition's `codes` or `head` object.

    Raises
    ------
    DataError
        If the clusters do not cover the rows.

    """
    begins = container.array_of("cluster_begins", "<i8")
    centers = container.array_of("centers", "<f4", 2)
    fits = (
        len(begins) == len(centers) + 1
        and begins[0] == 0
        and begins[-1] == container.header["rows"]
        # Compared, not subtracted: a difference of two large numbers wraps.
        and bool(np.all(begins[1:] >= begins[:-1]))
    )
    if not fits:
        raise DataError(f"{where} has clusters that do not fit its rows", object_key=where)
    return begins, centers


def describe_codes(
    codes: Mapping[str, AnyArray],
    specs: Sequence[ArraySpec],
    *,
    starts: Mapping[str, int],
    cluster_begins: I64,
) -> tuple[dict[str, Any], dict[str, AnyArray]]:
    """Describe the arrays of codes for a `head` object.

    Parameters
    ----------
    codes, specs:
        The arrays of uint8, by row or block, and their specifications.
    starts:
        The byte of the `codes` object at which each begins.
    cluster_begins:
        int64 [c + 1].

    Returns
    -------
    Entries of the header, and arrays.

    """
    described: dict[str, Any] = {}
    arrays: dict[str, AnyArray] = {}
    for spec in specs:
        begins = _item_begins(spec.per, cluster_begins)
        described[spec.name] = {
            "per": spec.per, "start": starts[spec.name], "item_bytes": spec.item_bytes,
        }  # fmt: skip
        arrays[_CHECKSUMS + spec.name] = np.array(
            [
                zlib.crc32(np.ascontiguousarray(codes[spec.name][first:last]).data)
                for first, last in pairwise(begins.tolist())
            ],
            dtype=np.uint32,
        )
    return {"code_arrays": described}, arrays


def _code_array(
    container: Container, name: str, described: Mapping[str, Any], cluster_begins: I64
) -> CodeArray:
    if described["per"] not in {"row", "block"}:
        raise ValueError(f"codes {name!r:.80} per {described['per']!r:.80}")
    for field in _FIELDS:
        if type(described[field]) is not int or described[field] < 0:
            raise ValueError(f"codes {name!r:.80} have {field} {described[field]!r:.80}")
    crc32 = container.array_of(_CHECKSUMS + name, "<u4")
    if len(crc32) != len(cluster_begins) - 1:
        raise ValueError(f"{len(crc32)} checksums of {len(cluster_begins) - 1} clusters")
    return CodeArray(
        name=name,
        per=described["per"],
        start=described["start"],
        item_bytes=described["item_bytes"],
        begins=_item_begins(described["per"], cluster_begins),
        crc32=crc32,
    )


def _check_places(arrays: Sequence[CodeArray], codes_bytes: int, where: str) -> None:
    """Refuse arrays that overlap, or end beyond their object."""
    at = 0
    for one in sorted(arrays, key=lambda one: one.start):
        if one.start < at or one.stop > codes_bytes:
            raise DataError(
                f"{where} has codes {one.name!r:.80} at bytes {one.start} to {one.stop} of "
                f"{codes_bytes}, where others are or nothing is",
                object_key=where,
            )
        at = one.stop


def _item_begins(per: str, cluster_begins: I64) -> I64:
    return cluster_begins if per == "row" else block_begins(cluster_begins)
