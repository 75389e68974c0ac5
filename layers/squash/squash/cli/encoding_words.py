"""What the command line says of encoders, and what it must be told of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from squash.cli.output import counted
from squash.errors import InvalidArgumentError, SquashError
from squash.model import EncoderPin, EncodingReport, IndexConfig
from squash.runtime.encoder_names import encoder_label

_KEYS_SHOWN: Final = 5
_PLACE: Final = re.compile(r"(?:texts|images|metadata|vectors)\[([0-9]{1,9})\]")


def pin_label(pin: EncoderPin | None) -> str:
    """Return ``name@digest`` with the digest's first digits; nothing where there is none."""
    return "" if pin is None else encoder_label(pin.name, pin.digest)


def encoding_shown(report: EncodingReport | None, keys: Sequence[str] = ()) -> list[str]:
    """Say what an encoder had to do; texts that were too long by their keys, if they are known."""
    if report is None:
        return []
    tokens = f"Encoded {counted(report.tokens, 'token')}" if report.tokens else "Encoded"
    said = [f"{tokens} by {report.encoder}."]
    for places, became in (
        (report.truncated, "cut: of their ends their vectors know nothing"),
        (report.chunked, "encoded part by part"),
    ):
        if places:
            number = counted(len(places), "text")
            were = "was" if len(places) == 1 else "were"
            said.append(f"{number} {were} longer than it takes{_which(places, keys)}, {became}.")
    return said


def _which(places: Sequence[int], keys: Sequence[str]) -> str:
    if not keys:
        return ""
    shown = ", ".join(keys[place] for place in places[:_KEYS_SHOWN])
    return f" ({shown}{', ...' if len(places) > _KEYS_SHOWN else ''})"


def blamed_key(error: SquashError, keys: Sequence[str]) -> str | None:
    """Return the key of the record that an error is about, of those of one call."""
    if error.key is not None:
        return error.key
    place = _PLACE.match(error.field or "")
    if place is None or int(place[1]) >= len(keys):
        return None
    return keys[int(place[1])]


class VectorMaker:
    """Which encoder made the vectors of a file, where an index has to know.

    Parameters
    ----------
    config:
        Of the index.
    file:
        The file's name.
    told:
        What `--encoder` says.
    marked:
        What the file says of itself, as ``name@digest``.

    Raises
    ------
    InvalidArgumentError
        If the file says that its vectors are not of the index's encoder.

    """

    def __init__(
        self, config: IndexConfig, file: str, told: str | None, marked: str | None = None
    ) -> None:
        self._config = config
        self._file = file
        self._told = told
        pin = config.encoder
        known = None if pin is None else marked
        if pin is not None and marked is not None:
            name, _, digest = marked.rpartition("@")
            if digest != pin.digest:
                raise InvalidArgumentError(
                    f"{file} holds vectors of {encoder_label(name, digest)}, and the index "
                    f"{config.name} has the encoder {pin_label(pin)}: vectors of two encoders "
                    "cannot be compared. Import the texts (--text-column), or into an index with "
                    "that encoder",
                    index=config.name,
                )
        self.encoder = told if told is not None else known
        """Which encoder made the vectors, for the library to check; None if nobody told."""

    def check(self, *, of_inputs: bool) -> None:
        """Check that a word on the encoder was said where it has to be, and nowhere else.

        Raises
        ------
        InvalidArgumentError
            If not.

        """
        pin = self._config.encoder
        if of_inputs and self._told is not None:
            raise InvalidArgumentError(
                f"--encoder says what made vectors, and {self._file} has none: leave it out, "
                "since an index has one encoder"
            )
        if of_inputs and pin is None:
            raise InvalidArgumentError(
                f"the index {self._config.name} has no encoder, which makes vectors of texts and "
                "images: give vectors, or create an index with --encoder",
                index=self._config.name,
            )
        if not of_inputs and pin is not None and self.encoder is None:
            raise InvalidArgumentError(
                f"the index {self._config.name} has the encoder {pin_label(pin)}, and vectors "
                f"of another are not comparable: say which one made those of {self._file}, "
                f"--encoder {pin.name} if it was that, or give texts",
                index=self._config.name,
            )
