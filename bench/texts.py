"""Real short texts, with what is known of each: WordNet's glosses and Debian's descriptions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PARTS_OF_SPEECH: Final = ("noun", "verb", "adj", "adv")


@dataclass(frozen=True, slots=True)
class Text:
    """A text, what it describes, and the part of its source that it stands in."""

    text: str
    kind: str
    section: str


def wordnet_texts(folder: Path) -> Iterator[Text]:
    """Yield the glosses of WordNet's `data.*` files, the section by lexicographer file."""
    for part in PARTS_OF_SPEECH:
        with (folder / f"data.{part}").open(encoding="ascii") as lines:
            for line in lines:
                # The licence heads the file, each of its lines indented by two blanks.
                if not line.startswith(" "):
                    fields, _, gloss = line.partition(" | ")
                    yield Text(gloss.strip(), part, f"wordnet.{fields.split(' ')[1]}")


def package_texts(listed: str) -> Iterator[Text]:
    """Yield the one-line descriptions in a list of packages, as apt-cache writes it."""
    for stanza in listed.split("\n\n"):
        fields = dict(
            line.split(": ", 1)
            for line in stanza.splitlines()
            if ": " in line and not line.startswith(" ")
        )
        text = fields.get("Description") or fields.get("Description-en")
        if text:
            yield Text(text.strip(), "package", f"debian.{fields.get('Section', 'none')}")


def distinct(texts: Iterable[Text]) -> list[Text]:
    """Return the first of each text."""
    kept: dict[str, Text] = {}
    for text in texts:
        kept.setdefault(text.text, text)
    return list(kept.values())
