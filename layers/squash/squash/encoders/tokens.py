"""The tokenizer of an encoder: what of a text its model is run on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np

from squash.arrays import I32
from squash.encoders.contract import OverLong, TextPart
from squash.encoders.lazily import load
from squash.errors import InvalidArgumentError
from squash.model import Purpose
from squash.values import dataclass

_PROBES: Final = ("", "a", "two words")
_MESSAGE_CHARACTERS_MAX: Final = 300
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of a text.

    Parameters
    ----------
    windows:
        int32 [t] each, special tokens among them: what the model is run on. More than one only
        where a text is encoded part by part.
    over_long:
        Whether the text has more than the encoder takes.

    """

    windows: tuple[I32, ...]
    over_long: bool


class TextTokenizer:
    """A tokenizer as `encoder.json` wants it: what its file says of padding and length is dropped.

    Parameters
    ----------
    path:
        Its file.
    part:
        How texts are encoded.

    Raises
    ------
    InvalidArgumentError
        If the file cannot be read, or leaves no room for a text.

    """

    def __init__(self, path: Path, part: TextPart) -> None:
        library = load("tokenizers", extra="encoders")
        self._file = path.name
        self._chunked = part.over_long is OverLong.CHUNK
        self._prefixes = {
            Purpose.DOCUMENT: part.document_prefix,
            Purpose.QUERY: part.query_prefix,
        }
        self._tokenizer = self._asked(lambda: library.Tokenizer.from_file(str(path)))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._first, self._last = self._special_tokens()
        self._room = part.tokens_max - len(self._first) - len(self._last)
        for purpose, prefix in self._prefixes.items():
            if self._room <= len(self._encoded(prefix).ids):
                raise InvalidArgumentError(
                    f"text.tokens_max, {part.tokens_max}, leaves no room for a text after the "
                    f"special tokens and {purpose}_prefix",
                    field="text.tokens_max",
                )

    @property
    def largest(self) -> int:
        """The largest token that it knows."""
        known = self._asked(lambda: self._tokenizer.get_vocab(with_added_tokens=True).values())
        return int(self._ids([max(known, default=0)])[0])

    def tokens(self, text: str, purpose: Purpose) -> Tokens:
        """Return the tokens of a text, after the words that its purpose puts before it.

        Raises
        ------
        InvalidArgumentError
            If the tokenizer fails.

        """
        prefix = self._prefixes[purpose]
        encoded = self._encoded(prefix + text)
        ids = self._ids(encoded.ids)
        if len(ids) <= self._room:
            return Tokens((self._framed(ids),), over_long=False)
        if not self._chunked:
            return Tokens((self._framed(ids[: self._room]),), over_long=True)
        # A token that begins in the prefix and ends in the text is the prefix's.
        starts = [start for start, _ in encoded.offsets[: self._room]]
        lead = int(np.searchsorted(starts, len(prefix))) if prefix else 0
        lead = min(lead, self._room - 1)
        step = self._room - lead
        parts = (ids[first : first + step] for first in range(lead, len(ids), step))
        windows = tuple(self._framed(np.concatenate([ids[:lead], part])) for part in parts)
        return Tokens(windows, over_long=True)

    def _framed(self, ids: I32) -> I32:
        return np.concatenate([self._first, ids, self._last])

    def _special_tokens(self) -> tuple[I32, I32]:
        """Find the tokens that go before and after every text, whatever it is.

        They are put around what is left of a text once it has been cut, so a tokenizer that puts
        some elsewhere, or tells parts of a text apart, cannot be used.
        """
        around = self._encoded("", special=True).ids
        for first in range(len(around) + 1):
            lead, trail = around[:first], around[first:]
            if all(
                self._encoded(probe, special=True).ids == [*lead, *self._encoded(probe).ids, *trail]
                for probe in _PROBES
            ):
                return self._ids(lead), self._ids(trail)
        raise InvalidArgumentError(
            f"{self._file} does not put its special tokens before and after a text: {around} are "
            "those of an empty one"
        )

    def _encoded(self, text: str, *, special: bool = False) -> Any:
        return self._asked(lambda: self._tokenizer.encode(text, add_special_tokens=special))

    def _ids(self, ids: list[int]) -> I32:
        """Return tokens as models take them: the library's may be larger, and fit none."""
        return self._asked(lambda: np.asarray(ids, np.int32))

    def _asked(self, call: Callable[[], _T]) -> _T:
        """Ask the library for something.

        It raises Exception itself; and a tokenizer that contradicts itself makes it panic, which
        is an exception that is no Exception.
        """
        try:
            return call()
        except BaseException as error:
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            message = " ".join(str(error).split())[:_MESSAGE_CHARACTERS_MAX]
            raise InvalidArgumentError(
                f"{self._file} is no tokenizer that can be used here: {message}"
            ) from error
