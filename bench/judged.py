"""Questions with documents that people, or the data itself, judged to answer them.

- `cranfield`: 1,400 abstracts on aerodynamics, 225 questions, graded by their askers; it lies
  beside this module, and `bench/CRANFIELD` says where it is from.
- `tags`: the demo's programs; a question is the definition of one of Debian's tags, and what
  people gave the tag to is relevant.
- `titles`: the first sentence of each of the demo's programs; a question is a title, and the one
  sentence of the same program is relevant.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from data import CACHE, fetch_debian, fetch_whole
from relevance import Grades

HERE: Final = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "demo"))

from packages import Package, read_packages  # noqa: E402 - demo/ is a folder of scripts

CRANFIELD: Final = HERE / "cranfield.json.gz"
CRANFIELD_FILES: Final = {
    "cran.all.1400": "0feb1a64cd60d0d294b6a8c0864b9476dda2158d9964e7285c6b609d32d1ea7a",
    "cran.qry": "99578ceb88941ef89c14faf7c63c23776a376d8fba319b990f01d0c601d8b03f",
    "cranqrel": "92e54b58dac0b980152178f350d892fae66c8a239b8a11715b835fb8d2f6bc0e",
}
# Its codes go from 1, a complete answer, to 4, of minimum interest.
_GRADE_OF_CODE: Final = {1: 4, 2: 3, 3: 2, 4: 1}
_YEAR: Final = re.compile(r"\b19[0-6]\d\b")
TAGGED_MIN: Final = 5
TAGGED_SHARE_MAX: Final = 0.05
# They say what a package is made of or for whom, and not what it does.
FACETS_OF_FORM: Final = frozenset(
    """
    culture devel implemented-in interface made-of role scope special suite uitoolkit x11
    """.split()  # noqa: SIM905 - one name a word reads best
)
TITLES: Final = 1_000


@dataclass(frozen=True, slots=True)
class Judged:
    """Documents, questions to them, and what is relevant to each.

    `number` is a number that is known of each document (None where it is not): a filter's.
    """

    name: str
    about: str
    documents: Sequence[str]
    questions: Sequence[str]
    judgments: Sequence[Grades]
    attribute: str
    number: Sequence[int | None]

    def half(self) -> tuple[dict[str, Any], Sequence[int]]:
        """Return a filter that about half of the documents pass, and the rows that do."""
        known = [value for value in self.number if value is not None]
        middle = int(np.median(known))
        rows = [
            row for row, value in enumerate(self.number) if value is not None and value <= middle
        ]
        return {self.attribute: {"$lte": middle}}, rows

    def among(self, rows: Sequence[int]) -> Judged:
        """Return the questions to which some of these rows are relevant, judged on them alone."""
        kept = set(rows)
        judgments = [
            {row: grade for row, grade in grades.items() if row in kept}
            for grades in self.judgments
        ]
        asked = [place for place, grades in enumerate(judgments) if grades]
        return replace(
            self,
            questions=[self.questions[place] for place in asked],
            judgments=[judgments[place] for place in asked],
        )


def fields(text: str) -> Iterator[dict[str, str]]:
    """Yield the records of a file in SMART's format: `.I` begins one, `.T`, `.W` … its fields."""
    for record in re.split(r"^\.I .*\n", text, flags=re.MULTILINE)[1:]:
        parts = re.split(r"^\.([A-Z])\n", record, flags=re.MULTILINE)[1:]
        yield {
            name: " ".join(value.split())
            for name, value in zip(parts[::2], parts[1::2], strict=True)
        }


def pack_cranfield(folder: Path) -> bytes:
    """Return Cranfield's three files as one compressed JSON object; the same bytes every time."""
    texts = {}
    for name, sha256 in CRANFIELD_FILES.items():
        data = (folder / name).read_bytes()
        if hashlib.sha256(data).hexdigest() != sha256:
            raise SystemExit(f"error: {folder / name} is not the file that is known by this name")
        texts[name] = data.decode("ascii").replace("\r\n", "\n")
    documents = [
        {"title": one["T"], "source": one["B"], "text": one["W"]}
        for one in fields(texts["cran.all.1400"])
    ]
    # The judgments number questions by their order, and not as the questions do themselves.
    content = {
        "documents": documents,
        "questions": [one["W"] for one in fields(texts["cran.qry"])],
        "judgments": [
            [int(word) for word in line.split()] for line in texts["cranqrel"].splitlines()
        ],
    }
    text = json.dumps(content, separators=(",", ":"))
    return gzip.compress(text.encode("ascii"), compresslevel=9, mtime=0)


def cranfield() -> Judged:
    """Return the Cranfield collection; a document's number is its year of publication."""
    content = json.loads(gzip.decompress(CRANFIELD.read_bytes()))
    grades: list[dict[int, int]] = [{} for _ in content["questions"]]
    for question, document, code in content["judgments"]:
        if code in _GRADE_OF_CODE:
            grades[question - 1][document - 1] = _GRADE_OF_CODE[code]
    years = [_YEAR.findall(one["source"]) for one in content["documents"]]
    return Judged(
        name="cranfield",
        about="abstracts on aerodynamics, questions of engineers, graded by those who asked",
        documents=[one["text"] or one["title"] for one in content["documents"]],
        questions=content["questions"],
        judgments=grades,
        attribute="year",
        number=[int(found[-1]) if found else None for found in years],
    )


def definitions(vocabulary: str) -> dict[str, str]:
    """Return what debtags' vocabulary says of each tag: its title and its first paragraph."""
    found = {}
    for stanza in vocabulary.split("\n\n"):
        lines = stanza.splitlines()
        tag = next((line[5:] for line in lines if line.startswith("Tag: ")), None)
        title = next((line[13:] for line in lines if line.startswith("Description: ")), None)
        if tag and title:
            body = [line.strip() for line in lines if line.startswith(" ")]
            first = body[: body.index(".")] if "." in body else body
            found[tag] = ". ".join(part for part in (title, " ".join(first)) if part)
    return found


def fetch_vocabulary() -> str:
    """Return debtags' vocabulary, from the cache or out of Debian's package of that name."""
    folder = CACHE / "debtags"

    def fill(whole: Path) -> None:
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            unpacked = fetch_debian(["debtags"], Path(scratch))
            text = (unpacked / "usr/share/debtags/vocabulary").read_text(encoding="utf-8")
            (whole / "vocabulary").write_text(text, encoding="utf-8")

    if not folder.exists():
        fetch_whole(folder, fill)
    return (folder / "vocabulary").read_text(encoding="utf-8")


def tags() -> Judged:
    """Return the demo's programs with the definitions of those tags that say what they do."""
    packages = read_packages()
    counts = Counter(tag for package in packages for tag in package.tags)
    asked = {
        tag: text
        for tag, text in sorted(definitions(fetch_vocabulary()).items())
        if tag.partition("::")[0] not in FACETS_OF_FORM
        and TAGGED_MIN <= counts[tag] <= TAGGED_SHARE_MAX * len(packages)
    }
    return Judged(
        name="tags",
        about="programs of Debian, definitions of tags, relevant what people gave the tag to",
        documents=[package.text for package in packages],
        questions=list(asked.values()),
        judgments=[
            {row: 1 for row, package in enumerate(packages) if tag in package.tags} for tag in asked
        ],
        attribute="installed_kb",
        number=_sizes(packages),
    )


def titles() -> Judged:
    """Return first sentences, with titles for questions: those of every few packages."""
    packages = [package for package in read_packages() if package.sentence]
    rows = np.linspace(0, len(packages) - 1, TITLES).round().astype(int).tolist()
    return Judged(
        name="titles",
        about="first sentences of descriptions, titles for questions, relevant the title's own",
        documents=[package.sentence for package in packages],
        questions=[packages[row].title for row in rows],
        judgments=[{row: 1} for row in rows],
        attribute="installed_kb",
        number=_sizes(packages),
    )


def _sizes(packages: Sequence[Package]) -> list[int | None]:
    return [package.known["installed_kb"] for package in packages]


SETS: Final[Mapping[str, Callable[[], Judged]]] = {
    "cranfield": cranfield,
    "tags": tags,
    "titles": titles,
}


def main() -> None:
    """Pack Cranfield's three files into the one that lies beside this module."""
    parser = argparse.ArgumentParser(description="pack Cranfield's files into one")
    parser.add_argument("folder", type=Path, help=f"with {', '.join(CRANFIELD_FILES)}")
    CRANFIELD.write_bytes(pack_cranfield(parser.parse_args().folder))


if __name__ == "__main__":
    main()
