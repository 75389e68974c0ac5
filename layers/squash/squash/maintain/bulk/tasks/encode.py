"""Making vectors of texts, where files hold those."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

import numpy as np

from squash.arrays import F32
from squash.encoders.inputs import check_text
from squash.errors import InvalidArgumentError, SquashError, UnavailableError
from squash.index.checking import sound_vectors, text_differs, text_too_long
from squash.limits import BUILD_STOP_MS_MIN
from squash.maintain.bulk.context import BuildContext, TaskReport
from squash.maintain.bulk.encoded import encoded_key, write_encoded
from squash.maintain.bulk.files.chunks import Chunk
from squash.maintain.bulk.pieces import Pieces
from squash.maintain.bulk.records import read_plan
from squash.maintain.bulk.request import BuildRequest
from squash.maintain.bulk.rows import (
    GoodAndBad,
    RowsInHand,
    check_notes,
    divided,
    rows_in_hand,
)
from squash.model import IndexConfig, Metadata
from squash.reports import Progress

T = TypeVar("T")


def run(context: BuildContext, request: BuildRequest, batch: int) -> TaskReport:
    """Encode the texts of one batch of pieces; each part of a piece is stored as it is made.

    Encoding is by far what costs most, so a task that was cut off goes on where it stopped: parts
    that are there are left. Bad rows are stored with the others: `assign` lists and counts them.

    Raises
    ------
    UnavailableError
        If time runs out: what was made stays.
    InvalidArgumentError
        If a file is damaged, or there is no encoder.

    """
    plan = read_plan(context.store, request.build)
    pieces = Pieces(context, request, plan)
    mine = range(*plan.encode_batches[batch : batch + 2])
    total, rows, made = sum(plan.pieces[piece].rows for piece in mine), 0, 0
    for piece in mine:
        stored = _stored(context, request, piece)
        url = pieces.file(piece).url
        for part, (chunk, last) in enumerate(_with_last(pieces.read(piece))):
            rows += chunk.rows
            key = encoded_key(request.build, piece, part)
            if key not in stored:
                if made and context.remaining_ms() < BUILD_STOP_MS_MIN:
                    raise UnavailableError(
                        f"time ran out after {rows - chunk.rows:,} of {total:,} texts: what was "
                        "made stays, and the task goes on from there when it is repeated"
                    )
                some = encoded_texts(context, chunk, url=url)
                context.store.put(key, write_encoded(some, last=last))
                made += 1
            context.report(Progress("encode", rows, total, "texts"))
    return TaskReport(rows=rows)


def encoded_texts(context: BuildContext, chunk: Chunk, *, url: str) -> GoodAndBad:
    """Check the rows of a chunk of texts by the rules of a put, and encode the good ones.

    Raises
    ------
    InvalidArgumentError
        If nobody encodes here.

    """
    config = context.config
    if context.encode is None or config.encoder is None:
        raise InvalidArgumentError(
            f"{url} holds texts, and there is nobody to encode them here: install "
            "'squash-search[encoders]', or give vectors"
        )
    hand = rows_in_hand(chunk)
    texts = list(chunk.texts or ())
    _check_texts(texts, hand)
    _keep_texts(texts, hand, config)
    check_notes(hand, config, empty=False)
    places = [place for place in range(chunk.rows) if place not in hand.problems]
    vectors: F32 = np.zeros((chunk.rows, config.dimension), dtype=np.float32)
    if places:
        made, found = sound_vectors(context.encode([texts[place] for place in places]), config)
        vectors[places] = made
        for row, problem in found.items():
            hand.problems[places[row]] = f"the vector of its text {problem}"
    return divided(chunk, hand, vectors, url=url)


def _check_texts(texts: list[Any], hand: RowsInHand) -> None:
    for place, text in enumerate(texts):
        try:
            check_text(text, "its text")
        except SquashError as error:
            problem = "it has no text" if text is None else str(error)
            hand.problems.setdefault(place, problem)


def _keep_texts(texts: list[Any], hand: RowsInHand, config: IndexConfig) -> None:
    """Put each text into its record's metadata, where the index keeps them."""
    text_key = None if config.encoder is None else config.encoder.text_key
    if text_key is None:
        return
    kept: list[Metadata] = []
    for place, (text, metadata) in enumerate(zip(texts, hand.metadata, strict=True)):
        if place in hand.problems:
            kept.append(metadata)
            continue
        differs = text_differs(metadata, text, text_key=text_key)
        too_long = text_too_long(text, text_key=text_key)
        if differs or too_long:
            hand.problems[place] = f"its metadata {differs}" if differs else f"its text {too_long}"
        kept.append({**metadata, text_key: text})
    hand.metadata = kept


def _stored(context: BuildContext, request: BuildRequest, piece: int) -> frozenset[str]:
    prefix = encoded_key(request.build, piece, 0).rpartition("/")[0] + "/"
    return frozenset(info.key for info in context.store.list(prefix))


def _with_last(some: Iterator[T]) -> Iterator[tuple[T, bool]]:
    """Yield each with whether it is the last."""
    missing = object()
    before: Any = missing
    for one in some:
        if before is not missing:
            yield before, False
        before = one
    if before is not missing:
        yield before, True
