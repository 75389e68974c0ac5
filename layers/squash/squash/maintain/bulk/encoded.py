"""What `encode` leaves of a piece of texts: its rows with vectors, in parts, as they were read.

The parts of piece 12 are ``encoded/00000012/00000000`` and so on; each says whether another comes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from squash.arrays import F32, I64, AnyArray
from squash.container import Container, pack
from squash.errors import DataError, UnavailableError
from squash.index.references import MALFORMED
from squash.maintain.bulk import keys
from squash.maintain.bulk.context import BuildContext
from squash.maintain.bulk.plan import Plan
from squash.maintain.bulk.request import BuildRequest
from squash.maintain.bulk.rows import BadRow, GoodAndBad
from squash.model import RowBatch

_KIND: Final = "build-encoded"
_VERSION: Final = 1
_LAST: Final = "last"


def encoded_key(build: str, piece: int, part: int) -> str:
    """Return the key of a part of what `encode` made of a piece."""
    return keys.part_key(build, f"encoded/{piece:08d}", part)


def write_encoded(some: GoodAndBad, *, last: bool) -> bytes:
    """Pack a part; the same rows give the same bytes."""
    # Of bad rows the plan knows the file.
    bad = [[one.row, one.key, one.problem] for one in some.bad]
    arrays: dict[str, AnyArray] = {
        "vectors": some.rows.vectors.astype("<f4", copy=False),
        "numbers": some.numbers.astype("<i8", copy=False),
        "documents": _json([list(some.rows.keys), [dict(one) for one in some.rows.metadata]]),
        "bad": _json(bad),
    }
    return pack(_KIND, _VERSION, header={_LAST: last}, arrays=arrays)


def read_encoded(
    context: BuildContext, request: BuildRequest, plan: Plan, piece: int
) -> Iterator[GoodAndBad]:
    """Yield what `encode` left of a piece.

    Raises
    ------
    UnavailableError
        If it left nothing yet.
    DataError
        If what it left cannot be read.

    """
    url = plan.files[plan.pieces[piece].file].url
    part, last = 0, False
    while not last:
        key = encoded_key(request.build, piece, part)
        data = context.store.get(key)
        if data is None:
            raise UnavailableError(
                f"piece {piece} of build {request.build} is not encoded yet: {key} is not there",
                object_key=key,
            )
        found = Container(data, kind=_KIND, versions=(_VERSION,), where=key)
        yield _rows(found, url, key, dimension=context.config.dimension)
        last = found.header.get(_LAST) is not False
        part += 1


def _rows(found: Container, url: str, key: str, *, dimension: int) -> GoodAndBad:
    vectors: F32 = found.array_of("vectors", "<f4", 2)
    numbers: I64 = found.array_of("numbers", "<i8")
    try:
        names, metadata = json.loads(found.array_of("documents", "<u1").tobytes())
        bad = tuple(
            BadRow(url, int(row), name, str(problem))
            for row, name, problem in json.loads(found.array_of("bad", "<u1").tobytes())
        )
        rows = RowBatch(names, vectors, metadata)
        fits = len(names) == len(metadata) == len(numbers) == len(vectors)
    except MALFORMED as error:
        raise DataError(
            f"{key} cannot be read ({error!r}): start the build anew", object_key=key
        ) from error
    if not fits or vectors.shape[1] != dimension:
        raise DataError(f"{key} does not fit together: start the build anew", object_key=key)
    return GoodAndBad(rows, numbers, bad)


def _json(value: Any) -> AnyArray:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return np.frombuffer(text.encode(), dtype=np.uint8)
