"""Texts to vectors: tokens, runs of the model that hold texts of one length, and pooling.

No text is padded: the texts of a run have as many tokens each, so that the vector of a text does
not depend on what else was in the call.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from squash.arrays import F32, I64
from squash.encoders.contract import OverLong, Pooling, TextPart
from squash.encoders.encoded import Encoded
from squash.encoders.images import Told
from squash.encoders.inputs import check_text
from squash.encoders.onnx_session import TextModel
from squash.encoders.tokens import TextTokenizer, Tokens
from squash.errors import InvalidArgumentError, SquashError
from squash.limits import ENCODE_BATCH_TOKENS
from squash.model import Purpose


def plan_runs(lengths: Sequence[int], *, rows_max: int | None = None) -> Iterator[I64]:
    """Divide rows among runs of a model: each holds rows of one length, the short ones first.

    Parameters
    ----------
    lengths:
        Tokens of each row, n of them.
    rows_max:
        Of a run; None if its tokens alone bound it.

    Yields
    ------
    int64 [b]
        The places of a run's rows, ascending: of `ENCODE_BATCH_TOKENS` tokens at most, unless it
        is one row that has more.

    """
    sizes = np.asarray(lengths, np.int64)
    order = np.argsort(sizes, kind="stable")
    bounds = np.flatnonzero(np.diff(sizes[order])) + 1
    for group in np.split(order, bounds):
        if len(group) == 0:
            continue
        rows = max(1, ENCODE_BATCH_TOKENS // max(1, int(sizes[group[0]])))
        rows = rows if rows_max is None else min(rows, rows_max)
        for first in range(0, len(group), rows):
            yield group[first : first + rows]


def pool(vectors: F32, pooling: Pooling) -> F32:
    """Return float32 [b, d] of vectors of tokens, [b, t, d]; what the model pooled, as it is."""
    if pooling is Pooling.MEAN:
        mean: F32 = vectors.mean(axis=1, dtype=np.float64).astype(np.float32)
        return mean
    if pooling is Pooling.CLS:
        return vectors[:, 0]
    if pooling is Pooling.LAST:
        return vectors[:, -1]
    return vectors


class TextEncoder:
    """The text part of an encoder, open.

    Parameters
    ----------
    folder, part, dimension:
        Where its files are, and what `encoder.json` says of it.
    threads:
        That one run of the model uses.

    Raises
    ------
    InvalidArgumentError
        If its model or its tokenizer is not what it must be.

    """

    def __init__(self, folder: Path, part: TextPart, *, dimension: int, threads: int) -> None:
        self._part = part
        self._dimension = dimension
        self._tokenizer = TextTokenizer(folder / part.tokenizer, part)
        self._model = TextModel(
            folder / part.model, threads=threads, pooling=part.pooling, dimension=dimension
        )
        self._rows_max = self._model.rows_max if part.batch else 1

    def encode(
        self, texts: Sequence[str], *, purpose: Purpose, told: Told | None = None
    ) -> Encoded:
        """Return vectors as the model makes them, neither cut nor normalised.

        Raises
        ------
        InvalidArgumentError
            If a text is not one, or the model or the tokenizer fails.
        TooLargeError
            If a text is too long; `field` is its place, ``texts[3]``.

        """
        for place, text in enumerate(texts):
            check_text(text, f"texts[{place}]")
        tokens = [self._tokens(text, place, purpose) for place, text in enumerate(texts)]
        over_long = tuple(place for place, found in enumerate(tokens) if found.over_long)
        chunked = self._part.over_long is OverLong.CHUNK
        return Encoded(
            self._vectors(tokens, told),
            tokens=sum(len(window) for found in tokens for window in found.windows),
            truncated=() if chunked else over_long,
            chunked=over_long if chunked else (),
        )

    def try_largest(self) -> None:
        """Run the model on the largest token of the tokenizer.

        Raises
        ------
        InvalidArgumentError
            If the model has no vector of it, since then the tokenizer is another model's.

        """
        largest = self._tokenizer.largest
        try:
            self._model.run(np.full((1, 3), largest, np.int64))
        except InvalidArgumentError as error:
            raise InvalidArgumentError(
                f"{self._part.tokenizer} has tokens up to {largest}, on which {self._part.model} "
                f"fails: they do not belong together ({error})",
                field="text.tokenizer",
            ) from error

    def _tokens(self, text: str, place: int, purpose: Purpose) -> Tokens:
        try:
            return self._tokenizer.tokens(text, purpose)
        except SquashError as error:
            error.field = f"texts[{place}]"
            raise

    def _vectors(self, tokens: Sequence[Tokens], told: Told | None) -> F32:
        """Run the model: the vector of a text is the mean of its windows', weighted by tokens."""
        rows = [(place, window) for place, found in enumerate(tokens) for window in found.windows]
        places = np.asarray([place for place, _ in rows], np.int64)
        lengths = np.asarray([len(window) for _, window in rows], np.int64)
        whole = np.bincount(places, weights=lengths, minlength=len(tokens))
        undone = np.bincount(places, minlength=len(tokens))
        vectors = np.zeros((len(tokens), self._dimension), np.float32)
        for run in plan_runs(lengths.tolist(), rows_max=self._rows_max):
            if lengths[run[0]] > 0:  # of no tokens at all no model makes anything: it stays zero
                found = self._model.run(np.stack([rows[row][1] for row in run]).astype(np.int64))
                weights = lengths[run] / whole[places[run]]
                pooled = pool(found, self._part.pooling) * weights[:, None].astype(np.float32)
                np.add.at(vectors, places[run], pooled)
            np.subtract.at(undone, places[run], 1)
            if told is not None:
                told(int(np.count_nonzero(undone == 0)))
        return vectors
