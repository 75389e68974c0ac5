"""Tables in Markdown, and a document of named sections of which a run replaces its own."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

_HEAD: Final = """# Benchmarks

Figures of this machine and this day; `make bench` makes them anew. Each section is written by the
command that stands in it. Recall is judged by brute force; speed means something only as a ratio
within one run.
"""
_ORDER: Final = (
    "notes",
    "glove",
    "fashion",
    "sift",
    "text",
    "growth",
    "costs",
    "rotations",
    "threads",
    "quality",
    "encoding",
    "codecs-glove",
    "codecs-sift",
    "bulk",
    "memory",
    "churn",
    "imports",
    "starts",
    "deployment",
    "waiting",
    "cost",
    "commits",
    "s3vectors",
    "scale",
)


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table, the first column left-aligned and the others right."""
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def number(value: float) -> str:
    """Return a positive figure with about three digits that matter."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


def dollars(value: float) -> str:
    """Return an amount."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def told(line: str) -> None:
    """Tell a person how far it is, on standard error."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def conditions(command: str, packages: Sequence[str]) -> str:
    """Say when, on what, with which versions and how a section was measured."""
    return machine(command, {name: _version(name) for name in packages})


def machine(command: str, versions: Mapping[str, str]) -> str:
    """Say the same of versions that are known."""
    listed = ", ".join(f"{name} {version_}" for name, version_ in versions.items())
    day = datetime.now(UTC).date().isoformat()
    return (
        f"`{command}`, {day}; {processor()}, {os.cpu_count()} cores, one thread used; "
        f"Python {platform.python_version()}, {listed}."
    )


def command_line() -> str:
    """Return how this program was called, but for where it writes: that moves no figure."""
    words = ["python", f"bench/{Path(sys.argv[0]).name}", *sys.argv[1:]]
    return re.sub(r" --out[ =]\S+", "", " ".join(words))


def write_section(path: Path, name: str, text: str, *, head: str = _HEAD) -> None:
    """Put a section into the document, in place of the one of the same name; `head` begins it."""
    found = read_sections(path) if path.exists() else {}
    found[name] = text.strip()
    ordered = sorted(found, key=lambda key: (_place(key), key))
    parts = [f"<!-- {key} -->\n{found[key]}\n<!-- /{key} -->\n" for key in ordered]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([head, *parts]), encoding="utf-8")


def replace_section(path: Path, name: str, text: str) -> None:
    """Put a section into a document that has one of this name, and leave all else as it is."""
    before, begin, rest = path.read_text(encoding="utf-8").partition(f"<!-- {name} -->\n")
    _, end, after = rest.partition(f"<!-- /{name} -->")
    if not (begin and end):
        raise LookupError(f"{path} has no section {name}")
    path.write_text(f"{before}{begin}{text.strip()}\n{end}{after}", encoding="utf-8")


def _place(name: str) -> int:
    """Return where a section stands; one of a part of a data set stands by the data set's."""
    for place, known in enumerate(_ORDER):
        if name == known or name.startswith(f"{known}-"):
            return place
    return len(_ORDER)


def read_sections(path: Path) -> dict[str, str]:
    """Return a document's sections by name."""
    text = path.read_text(encoding="utf-8")
    return {
        match[1]: match[2].strip()
        for match in re.finditer(r"<!-- ([\w-]+) -->\n(.*?)<!-- /\1 -->", text, re.DOTALL)
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "(uninstalled)"


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
