"""The rows of a piece, whether they come from a file or from what `encode` left."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from squash.maintain.bulk.context import BuildContext
from squash.maintain.bulk.encoded import read_encoded
from squash.maintain.bulk.files.choose import open_parquet
from squash.maintain.bulk.files.chunks import Chunk
from squash.maintain.bulk.files.npy import read_npy
from squash.maintain.bulk.plan import InputFile, Plan
from squash.maintain.bulk.request import BuildRequest
from squash.maintain.bulk.rows import GoodAndBad, good_and_bad
from squash.storage.inputs import InputInfo

if TYPE_CHECKING:
    from squash.maintain.bulk.files.parquet import ParquetPieces


class Pieces:
    """Reads pieces, best in ascending order: what the last one had open serves the next.

    The rows come in the same chunks whatever was read before.
    """

    def __init__(self, context: BuildContext, request: BuildRequest, plan: Plan) -> None:
        self._context = context
        self._request = request
        self._plan = plan
        self._open: tuple[str, ParquetPieces] | None = None

    def chunks(self, number: int) -> Iterator[GoodAndBad]:
        """Yield the rows of piece `number`, some MB at a time, in ascending order.

        Raises
        ------
        ConflictError
            If its file is another than when the build was planned.
        NotFoundError, PermissionDeniedError, UnavailableError
            If it cannot be read.
        InvalidArgumentError
            If it is damaged; it names the file and the row.

        """
        if self._plan.encodes:
            yield from read_encoded(self._context, self._request, self._plan, number)
            return
        url = self.file(number).url
        for chunk in self.read(number):
            yield good_and_bad(chunk, self._context.config, url=url)

    def read(self, number: int) -> Iterator[Chunk]:
        """Yield the rows of piece `number` as its file has them, vectors or texts; unchecked."""
        piece, file = self._plan.pieces[number], self.file(number)
        store, dimension = self._context.open_inputs(file.url), self._context.config.dimension
        if file.kind == "npy":
            yield from read_npy(store, file, piece, dimension=dimension)
            return
        if self._open is None or self._open[0] != file.url:
            info = InputInfo(file.url, file.etag, file.bytes)
            self._open = None
            opened = open_parquet(store, info, self._request, self._context.config)
            self._open = (file.url, opened)
        yield from self._open[1].read(file, piece)

    def file(self, number: int) -> InputFile:
        """Return the file that piece `number` is of."""
        return self._plan.files[self._plan.pieces[number].file]
