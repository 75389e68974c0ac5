"""The rows of a piece, whether they come from a file or from what `encode` left."""

from __future__ import annotations

from collections.abc import Iterator

from squash.maintain.bulk.context import BuildContext
from squash.maintain.bulk.plan import Plan
from squash.maintain.bulk.request import BuildRequest
from squash.maintain.bulk.rows import GoodAndBad


class Pieces:
    """Reads pieces, best in ascending order: what the last one had open serves the next.

    The rows come in the same chunks whatever was read before.
    """

    def __init__(self, context: BuildContext, request: BuildRequest, plan: Plan) -> None:
        self._context = context
        self._request = request
        self._plan = plan

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
        raise NotImplementedError


def piece_chunks(
    context: BuildContext, request: BuildRequest, plan: Plan, number: int
) -> Iterator[GoodAndBad]:
    """Yield the rows of one piece; see `Pieces.chunks`, which is for several."""
    yield from Pieces(context, request, plan).chunks(number)
