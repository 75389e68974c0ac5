"""Write `packages.jsonl.gz`: programs of Debian 12, each with a short text and what is known of it.

A line holds a package's name, its title, the first sentence of its description, section,
priority, installed size in kB, number of dependencies and debtags. The same package index gives
the same bytes. The index comes from Debian by `apt-get update` into a folder of this script's own:
nothing is installed, and the machine's lists stay as they are.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).resolve().parent
SOURCE: Final = (
    "deb [arch=amd64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] "
    "http://deb.debian.org/debian bookworm main\n"
)
# Sections in which a package that is tagged as a program is one for people.
SECTIONS: Final = frozenset(
    """
    admin comm database devel editors education electronics games gnome gnustep graphics hamradio
    httpd interpreters kde mail math misc net news otherosfs science shells sound tex text utils
    vcs video web x11 xfce
    """.split()  # noqa: SIM905 - one name a word reads best
)
# Debtags were given until about 2018. Of what came later, these sections are taken.
UNTAGGED_SECTIONS: Final = SECTIONS - {"admin", "devel", "interpreters", "misc", "otherosfs", "tex"}
STANDS_FOR_ANOTHER: Final = re.compile(r"transition|dummy", re.IGNORECASE)
BELONGS_TO_ANOTHER: Final = re.compile(r".+-(common|data|dbg|dev|docs?|examples|plugins?)")
NO_PROGRAM_NAME: Final = re.compile(r"(lib|node-|python|ruby-|php|elpa-|vim-|dict-|sugar-|r-).*")
NO_PROGRAM_TITLE: Final = re.compile(
    r"meta-?package|librar|plug-?in|\bdata\b|\bfiles\b|modules?\b|themes?\b"
    r"|documentation|translations?\b|bindings?\b|mode\b|extension",
    re.IGNORECASE,
)
SENTENCE: Final = re.compile(r".{20,}?[.!?](?=\s+[A-Z(]|$)|.+")
SENTENCE_CHARACTERS_MAX: Final = 200


def stanzas(text: str) -> Iterator[dict[str, str]]:
    """Yield the fields of each stanza; a field's further lines stay lines."""
    for stanza in text.split("\n\n"):
        fields: dict[str, str] = {}
        name = ""
        for line in stanza.splitlines():
            if line.startswith(" "):
                fields[name] += f"\n{line[1:]}"
            else:
                name, _, value = line.partition(":")
                fields[name] = value.strip()
        if fields:
            yield fields


def first_sentence(description: str) -> str:
    """Return the first sentence of a description whose first line is the title; maybe empty."""
    lines = []
    for line in description.splitlines()[1:]:
        # A blank line is a full stop; what is indented is a list.
        if line == "." or line.startswith(" "):
            break
        lines.append(line.strip())
    found = SENTENCE.match(" ".join(" ".join(lines).split()))
    sentence = found[0] if found else ""
    if len(sentence) > SENTENCE_CHARACTERS_MAX:
        sentence = f"{sentence[:SENTENCE_CHARACTERS_MAX].rsplit(' ', 1)[0]} …"
    return sentence


def tags(listed: str) -> list[str]:
    """Return the tags in a list with commas, without those that say that one is yet to be given."""
    found = listed.replace("\n", " ").replace(",", " ").split()
    return sorted(tag for tag in found if not tag.endswith("::TODO"))


def is_program(fields: Mapping[str, str], title: str) -> bool:
    """Tell whether a package is a program, by its tags, or without any by what it is called."""
    if "role::dummy" in fields.get("Tag", "") or STANDS_FOR_ANOTHER.search(title):
        return False
    if BELONGS_TO_ANOTHER.fullmatch(fields["Package"]):
        return False
    if "Tag" in fields:
        return "role::program" in fields["Tag"] and fields["Section"] in SECTIONS
    return (
        fields["Section"] in UNTAGGED_SECTIONS
        and "Source" not in fields
        and not NO_PROGRAM_NAME.match(fields["Package"])
        and not NO_PROGRAM_TITLE.search(title)
    )


def packages(listed: str, translated: str) -> Iterator[dict[str, Any]]:
    """Yield the programs among the packages, by name; of those with the same words, the first."""
    descriptions = {fields["Package"]: fields["Description-en"] for fields in stanzas(translated)}
    seen = set()
    for fields in sorted(stanzas(listed), key=lambda fields: fields["Package"]):
        description = descriptions.get(fields["Package"], fields["Description"])
        title = description.splitlines()[0]
        sentence = first_sentence(description)
        if (title, sentence) in seen or not is_program(fields, title):
            continue
        seen.add((title, sentence))
        yield {
            "name": fields["Package"],
            "title": title,
            "sentence": sentence,
            "section": fields["Section"],
            "priority": fields["Priority"],
            "installed_kb": int(fields["Installed-Size"]),
            "depends": len(fields["Depends"].split(",")) if "Depends" in fields else 0,
            "tags": tags(fields.get("Tag", "")),
        }


def fetch_lists(folder: Path) -> None:
    """Let apt fetch the package index, in English, into a folder."""
    (folder / "partial").mkdir(parents=True)
    sources = folder.parent / "sources.list"
    sources.write_text(SOURCE, encoding="ascii")
    options = {
        "Dir::State::lists": folder,
        "Dir::Cache": folder.parent,
        "Dir::Etc::sourcelist": sources,
        "Dir::Etc::sourceparts": "-",
        "Acquire::Languages": "en",
        "APT::Sandbox::User": "root",
    }
    command = ["apt-get", "--quiet"]
    for name, value in options.items():
        command += ["-o", f"{name}={value}"]
    subprocess.run([*command, "update"], stdout=sys.stderr, check=True)  # noqa: S603


def read_list(folder: Path, pattern: str) -> str:
    """Return the text of the one list that a pattern names, however it is compressed."""
    (path,) = folder.glob(pattern)
    command = ["/usr/lib/apt/apt-helper", "cat-file", str(path)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)  # noqa: S603
    return done.stdout.decode("utf-8")


def main() -> None:
    """Fetch the index where no folder is given, and write the table beside this script."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lists", type=Path, help="a folder of apt's lists, fetched already")
    folder = parser.parse_args().lists
    with tempfile.TemporaryDirectory() as scratch:
        if folder is None:
            folder = Path(scratch) / "lists"
            fetch_lists(folder)
        listed = read_list(folder, "*_debian_dists_bookworm_main_binary-amd64_Packages*")
        translated = read_list(folder, "*_debian_dists_bookworm_main_i18n_Translation-en*")
    rows = list(packages(listed, translated))
    lines = (json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in rows)
    text = "".join(f"{line}\n" for line in lines).encode()
    # A gzip header without name and time keeps the bytes the same.
    (HERE / "packages.jsonl.gz").write_bytes(gzip.compress(text, compresslevel=9, mtime=0))
    print(f"packages.jsonl.gz: {len(rows):,} programs")


if __name__ == "__main__":
    main()
