"""The parts of a segment's objects, each checked as it is loaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from squash.container import Buffer, Container
from squash.errors import DataError
from squash.index.loading import Loader
from squash.index.references import MALFORMED
from squash.model import ObjectRef, SegmentRef
from squash.segment import DOCUMENTS, HEAD, ROWS, VECTORS, Directory
from squash.segment.layout import VERSION

T = TypeVar("T")


class SegmentParts:
    """One segment's objects, and where the pages of its rows lie.

    Parameters
    ----------
    ref:
        The segment.
    loader:
        Gets and retains its objects.
    dimension:
        d, the index's: vectors of any other are refused.

    """

    def __init__(self, ref: SegmentRef, loader: Loader, *, dimension: int) -> None:
        self.ref = ref
        self.loader = loader
        self._dimension = dimension

    def directory(self, name: str | None = None) -> Directory:
        """Return where its pages lie, as the object `name` says, or the one that is read faster."""

        def decode(container: Container, where: str) -> Directory:
            found = Directory.from_container(container, where)
            shape = found.rows, found.dimension
            if shape != (self.ref.rows, self._dimension):
                raise ValueError(f"vectors {shape}, not {(self.ref.rows, self._dimension)}")
            pages = len(found.vector_crc32)
            if pages:
                # Before they are read: ranges far beyond an object's end would be planned for long.
                self._check_inside(VECTORS, found.vector_page(pages - 1)[1])
                self._check_inside(DOCUMENTS, found.document_page(pages - 1)[1])
            return found

        return self._part(name or self._directory_name(), "directory", decode)

    def _directory_name(self) -> str:
        """Return the object to read the directory from: a partition's `rows` are mostly keys."""
        whole = self._object(ROWS).bytes <= self.loader.whole_bytes_max
        return ROWS if whole or HEAD not in self.ref.objects else HEAD

    def _check_inside(self, name: str, end: int) -> None:
        ref = self.ref.objects.get(name)
        if ref is not None and end > ref.bytes:
            raise ValueError(f"pages of {name} up to byte {end} of {ref.bytes}")

    def whole(self, name: str) -> Buffer:
        """Return the bytes of an object of any name, length and checksum checked."""
        return self.loader.load(self._object(name), "bytes", lambda data: data)

    def _part(self, name: str, part: str, decode: Callable[[Container, str], T]) -> T:
        """Load an object and decode a part of it; what does not fit is a DataError of its key."""
        ref = self._object(name)

        def decode_all(data: Buffer) -> T:
            container = Container(data, kind=f"segment-{name}", versions=(VERSION,), where=ref.key)
            try:
                return decode(container, ref.key)
            except DataError as error:
                error.object_key = error.object_key or ref.key
                raise
            except MALFORMED as error:
                raise DataError(
                    f"{ref.key} has parts that do not fit ({error!r}): the object is damaged. Run "
                    "`squash verify` to see what else is, and restore it from a copy.",
                    object_key=ref.key,
                ) from error

        return self.loader.load(ref, part, decode_all)

    def _object(self, name: str) -> ObjectRef:
        ref = self.ref.objects.get(name)
        if ref is None:
            raise DataError(f"segment {self.ref.id} has no {name!r} object")
        return ref
