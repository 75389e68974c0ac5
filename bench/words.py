"""Search by words: BM25 of the package bm25s, plurals taken off."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import bm25s
import numpy as np
from numpy.typing import NDArray


def singular(word: str) -> str:
    """Take an English plural's ending off, as Harman's S-stemmer does."""
    if word.endswith("ies") and not word.endswith(("eies", "aies")):
        return f"{word[:-3]}y"
    if word.endswith("es") and not word.endswith(("aes", "ees", "oes")):
        return word[:-1]
    if word.endswith("s") and not word.endswith(("us", "ss")):
        return word[:-1]
    return word


class Words:
    """Documents, found by the words that they share with a question."""

    def __init__(self, documents: Sequence[str]) -> None:
        self._rows = len(documents)
        self._index = bm25s.BM25()
        self._index.index(_tokens(documents), show_progress=False)

    def nearest(self, questions: Sequence[str], k: int) -> NDArray[np.int64]:
        """Return int64 [q, k], the rows that fit best."""
        k = min(k, self._rows)
        rows, _ = self._index.retrieve(_tokens(questions), k=k, show_progress=False)
        return np.asarray(rows, dtype=np.int64)


def _tokens(texts: Sequence[str]) -> Any:
    def stems(words: Sequence[str]) -> list[str]:
        return [singular(word) for word in words]

    return bm25s.tokenize(list(texts), stopwords="en", stemmer=stems, show_progress=False)
