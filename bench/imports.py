"""What a processor's imports cost: CPU time of a fresh interpreter, and the installed size.

python bench/imports.py
"""

from __future__ import annotations

import argparse
import compileall
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import squash
from report import command_line, conditions, number, table, write_section

RUNS: Final = 7
MIB: Final = 1 << 20

NOTE: Final = """\
CPU time of a fresh interpreter, the least of seven; the aim for a processor is 250 ms. The \
package takes {size} MiB installed with its compiled modules, NumPy and botocore apart; the aim is \
30 MB."""

PROGRAMS: Final[Mapping[str, str]] = {
    "bare Python": "pass",
    "NumPy": "import numpy",
    "what a processor needs": (
        "import squash.search, squash.storage, squash.index.reader, squash.runtime.retained"
    ),
    "the whole face": "import squash.database",
}


def cpu_ms(program: str) -> float:
    """Return the least CPU time of some fresh interpreters that run a program."""
    seconds = []
    for _ in range(RUNS):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", program], check=True)  # noqa: S603 - ours
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    return 1000 * min(seconds)


def installed_bytes() -> int:
    """Return the size of the package with its compiled modules, as an installer leaves it."""
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder, "squash")
        source = Path(squash.__path__[0])
        shutil.copytree(source, package, ignore=shutil.ignore_patterns("__pycache__"))
        compileall.compile_dir(package, quiet=1)
        return sum(path.stat().st_size for path in package.rglob("*") if path.is_file())


def section() -> str:
    """Measure, and return the document's section."""
    lines = [(title, number(cpu_ms(program))) for title, program in PROGRAMS.items()]
    return "\n\n".join(
        [
            "## Imports",
            conditions(command_line(), ("numpy",)),
            NOTE.format(size=number(installed_bytes() / MIB)),
            table(("imported", "CPU ms"), lines),
        ]
    )


def main() -> None:
    """Print the section, and write it where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="write a section of this document")
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    text = section()
    print(text)
    if arguments.out is not None:
        write_section(arguments.out, "imports", text)


if __name__ == "__main__":
    main()
