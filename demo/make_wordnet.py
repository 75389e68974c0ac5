"""Write `wordnet.tsv.gz`: what WordNet 3.0 knows of each single word, and its licence beside it.

A line holds the word, the letters of its parts of speech (n, v, a, r) and the numbers of the
lexicographer files of its senses, the most usual sense first within a part of speech. The same
input gives the same bytes. WordNet comes from Debian's `wordnet-base`, or from `--wordnet FOLDER`.
"""

from __future__ import annotations

import argparse
import gzip
import io
import re
import sys
import tempfile
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "bench"))

import data  # noqa: E402 - bench/ is a folder of scripts, not a package

PACKAGE: Final = "wordnet-base"
PARTS_OF_SPEECH: Final = (("n", "noun"), ("v", "verb"), ("a", "adj"), ("r", "adv"))


def synset_files(path: Path) -> dict[str, int]:
    """Map the offset of each synset in a `data.*` file to its lexicographer file's number."""
    numbers = {}
    with path.open(encoding="ascii") as lines:
        for line in lines:
            # The licence heads the file, each of its lines indented by two blanks.
            if not line.startswith(" "):
                offset, number, _ = line.split(" ", 2)
                numbers[offset] = int(number)
    return numbers


def read_wordnet(folder: Path) -> dict[str, tuple[str, list[int]]]:
    """Map each lemma of one word to its parts of speech and its lexicographer files."""
    words: dict[str, tuple[str, list[int]]] = {}
    for letter, name in PARTS_OF_SPEECH:
        numbers = synset_files(folder / f"data.{name}")
        with (folder / f"index.{name}").open(encoding="ascii") as lines:
            for line in lines:
                parts = line.split()
                if line.startswith(" ") or "_" in parts[0]:
                    continue
                senses = int(parts[2])
                letters, files = words.setdefault(parts[0], ("", []))
                files += [numbers[offset] for offset in parts[-senses:]]
                words[parts[0]] = (letters + letter, files)
    return words


def licence_text(folder: Path) -> str:
    """Return the licence that heads WordNet's own files, without the line numbers."""
    with (folder / "data.noun").open(encoding="ascii") as lines:
        header = [re.sub(r"^ +\d+ ?", "", line) for line in lines if line.startswith(" ")]
    return "\n".join(line.rstrip() for line in header).strip() + "\n"


def write_table(words: dict[str, tuple[str, list[int]]], path: Path) -> None:
    """Write the table; a gzip header without name and time keeps the bytes the same."""
    text = io.StringIO()
    for word, (letters, files) in sorted(words.items()):
        numbers = " ".join(str(number) for number in dict.fromkeys(files))
        text.write(f"{word}\t{letters}\t{numbers}\n")
    path.write_bytes(gzip.compress(text.getvalue().encode("ascii"), compresslevel=9, mtime=0))


def main() -> None:
    """Fetch WordNet where no folder is given, and write the two files beside this script."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wordnet", type=Path, help="a folder with data.noun, index.noun, ...")
    folder = parser.parse_args().wordnet
    with tempfile.TemporaryDirectory() as scratch, data.plain_errors():
        if folder is None:
            unpacked = data.fetch_debian([PACKAGE], Path(scratch) / PACKAGE)
            folder = unpacked / "usr/share/wordnet"
        words = read_wordnet(folder)
        write_table(words, HERE / "wordnet.tsv.gz")
        (HERE / "WORDNET-LICENSE").write_text(licence_text(folder), encoding="ascii")
    print(f"wordnet.tsv.gz: {len(words):,} words")


if __name__ == "__main__":
    main()
