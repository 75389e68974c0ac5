"""What records and queries are made of: vectors, texts or images, and one kind of them a request.

An error of the library names an input by its place among all of its kind; the caller is told the
place in the body.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from squash.api import members
from squash.api.members import Check, wrong
from squash.errors import FilterError, InvalidArgumentError, SquashError
from squash.model import IndexConfig
from squash.values import dataclass

KINDS: Final[dict[str, Check]] = {
    "vector": members.vector,
    "text": members.text,
    "image": members.image,
}
"""The members of a record or a query that say what it is made of; one of them is given."""
_MANY: Final = {"vector": "vectors", "text": "texts", "image": "images"}
_PLACE: Final = re.compile(r"(?:vectors|texts|images)(?:\[(?P<place>\d+)\])?")
_METADATA: Final = re.compile(r"metadata\[\d+\]")


@dataclass(frozen=True, slots=True)
class Contents:
    """What records or queries are made of, all of one kind, and where in the body each stands.

    `kind` is one of `KINDS`; `places` end with it, as ``vectors[3].text``.
    """

    kind: str
    items: Sequence[Any]
    places: Sequence[str]

    def arguments(self) -> dict[str, Any]:
        """Return the library's argument for them: vectors, texts or images."""
        items = np.stack(self.items) if self.kind == "vector" else list(self.items)
        return {_MANY[self.kind]: items}

    def argument(self) -> dict[str, Any]:
        """Return the library's argument for the first: vector, text or image."""
        return {self.kind: self.items[0]}

    def locate(self, error: SquashError) -> bool:
        """Let an error about one of them name its place in the body; say whether it was one."""
        if isinstance(error, FilterError):
            return False
        if error.field in KINDS:
            error.field = self.places[0]
            return True
        found = _PLACE.fullmatch(error.field or "")
        if found is None:
            return False
        place = self.places[int(found["place"] or 0)]
        error.args = (str(error).replace(found[0], place), *error.args[1:])
        error.field = place
        return True


def one_kind(parts: Sequence[Mapping[str, Any]], places: Sequence[str]) -> Contents:
    """Take out what each record or query is made of.

    Parameters
    ----------
    parts:
        The members of each, checked.
    places:
        Where each stands in the body; empty for the body itself.

    Raises
    ------
    InvalidArgumentError
        If one has none of `KINDS`, or several, or another than the first has.

    """
    kind = ""
    for part, place in zip(parts, places, strict=True):
        given = [name for name in KINDS if name in part]
        if len(given) != 1:
            said = f"both {given[0]} and {given[1]}" if given else "none of them"
            raise InvalidArgumentError(
                f"{place or 'the body'} has one of {', '.join(KINDS)}, not {said}",
                field=members.under(place, given[1] if given else "vector"),
            )
        kind = kind or given[0]
        if given[0] != kind:
            raise wrong(
                members.under(place, given[0]),
                f"is {_with_article(given[0])}, where the first has {_with_article(kind)}: a "
                "request takes one kind, so make one of each",
            )
    return Contents(
        kind, [part[kind] for part in parts], [members.under(place, kind) for place in places]
    )


def check_dimensions(contents: Contents, config: IndexConfig) -> None:
    """Refuse vectors of another dimension than the index's.

    Raises
    ------
    InvalidArgumentError
        With the place of the first.

    """
    if contents.kind != "vector":
        return
    for vector, place in zip(contents.items, contents.places, strict=True):
        if len(vector) != config.dimension:
            raise InvalidArgumentError(
                f"the vector has {len(vector)} numbers; index {config.name!r} takes "
                f"{config.dimension}",
                index=config.name,
                field=place,
            )


def in_metadata(field: str) -> str:
    """Return the place of something in a record's metadata, without which of the records it is."""
    return _METADATA.sub("metadata", field, count=1)


def _with_article(kind: str) -> str:
    return f"{'an' if kind == 'image' else 'a'} {kind}"
