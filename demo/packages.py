"""The demo's data: some thousands of programs, each with a text and what is known of it."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from squash.model import InputBatch, Inputs, Modality

PACKAGES: Final = Path(__file__).resolve().parent / "packages.jsonl.gz"
BATCH_ROWS: Final = 2_048
ATTRIBUTES: Final = {
    "section": "string",
    "priority": "string",
    "installed_kb": "number",
    "depends": "number",
    "interface": "string[]",
    "use": "string[]",
    "works_with": "string[]",
    "toolkit": "string[]",
    "field": "string[]",
    "written_in": "string[]",
}
# Facets of Debian's tags, and the attributes that hold what stands after `facet::`.
FACETS: Final = {
    "interface": "interface",
    "use": "use",
    "works-with": "works_with",
    "uitoolkit": "toolkit",
    "field": "field",
    "implemented-in": "written_in",
}


@dataclass(frozen=True, slots=True)
class Package:
    """A program: its name, its title, the first sentence that describes it, and what is known."""

    name: str
    title: str
    sentence: str
    tags: tuple[str, ...]
    known: Mapping[str, Any]

    @property
    def text(self) -> str:
        """What is encoded."""
        return f"{self.title}. {self.sentence}" if self.sentence else self.title

    def metadata(self) -> dict[str, Any]:
        """Return the attributes; one that is a list is left out where it is empty."""
        lists: dict[str, list[str]] = {}
        for tag in self.tags:
            facet, _, value = tag.partition("::")
            if facet in FACETS:
                lists.setdefault(FACETS[facet], []).append(value)
        return {**self.known, **lists, "title": self.title}


def read_packages() -> list[Package]:
    """Return all programs, by name."""
    packages = []
    with gzip.open(PACKAGES, mode="rt", encoding="utf-8") as lines:
        for line in lines:
            known = json.loads(line)
            name, title, sentence = known.pop("name"), known.pop("title"), known.pop("sentence")
            packages.append(Package(name, title, sentence, tuple(known.pop("tags")), known))
    return packages


def batches(packages: list[Package]) -> Iterator[InputBatch]:
    """Yield the programs as records that are still to be encoded; their keys are the names."""
    for start in range(0, len(packages), BATCH_ROWS):
        part = packages[start : start + BATCH_ROWS]
        yield InputBatch(
            [package.name for package in part],
            Inputs(Modality.TEXT, [package.text for package in part]),
            [package.metadata() for package in part],
        )


def fingerprint() -> str:
    """Return what the index is made from, in short: it is built anew when this changes."""
    digest = hashlib.sha256()
    for path in (Path(__file__), PACKAGES):
        digest.update(path.read_bytes())
    return digest.hexdigest()
