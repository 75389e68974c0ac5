"""How well answers serve: nDCG, average precision and recall on judged questions.

    python bench/quality.py                      # every judged set
    python bench/quality.py --data cranfield

Beside exact search with the same vectors stand search by words, vectors of the unquantised
encoder, and Squash with both codecs, without and with a filter. The figures go into a section of
`docs/benchmarks.md`. Vectors are kept in `.cache/quality`.
"""

from __future__ import annotations

import one_thread  # noqa: F401  # isort: skip - must come before NumPy

import argparse
import hashlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

import squash
from data import CACHE, plain_errors
from judged import SETS, Judged
from models import TITLES, Weights, minilm
from relevance import DEEP, TOP, Scores, scores
from report import command_line, conditions, table, told, write_section
from squash.database.arguments import RECALL_TARGET_ENCODED
from squash.encoders.encoder import open_encoder
from squash.limits import EXACT_ROWS_MAX
from squash.maintain import BuildOptions
from squash.model import Inputs, Modality, Purpose
from words import Words

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from forcing import codes_only

F32 = NDArray[np.float32]
LOW: Final = 0.95
CODECS: Final = ("residual", "osq")
# What an index with an encoder aims at, and one whose vectors are given.
TARGETS: Final = {RECALL_TARGET_ENCODED: "", LOW: f", recall_target {LOW}"}
LOSS_PERCENT_MAX: Final = 0.5
FUSED_RANK: Final = 60
PACKAGES: Final = ("numpy", "onnxruntime", "tokenizers", "bm25s")
REFERENCE: Final = "exact, {weights} vectors"
LEGEND: Final = """**{name}**: {documents:,} documents ({about}), {questions:,} questions. \
*All* asks without a filter; *half* with `{filter}`, which {rows:,} documents pass, and is judged \
on them alone ({asked:,} questions). *Change* is of nDCG@10, to exact search by the vectors of the \
unquantised encoder; *same* the share of the first ten that exact search by the w8 vectors has \
as well. {how} At the defaults, quantised weights and the search together change \
nDCG@10 by {change:+.2f} % on all and {change_half:+.2f} % on half; the search alone by \
{codes:+.2f} % and {codes_half:+.2f} %. {verdict} With recall_target {low_target} both together \
change it by {low:+.2f} % and {low_half:+.2f} %."""
FORCED: Final = """So few documents would be searched exactly: here they are made to be trained \
and ranked by their codes, however little that pays."""
PLAIN: Final = "The index is built and asked with the defaults."

Ranked = list[list[int]]


@dataclass(frozen=True, slots=True)
class Vectors:
    """float32 [n, d] of documents and [q, d] of questions, of length one."""

    documents: F32
    questions: F32


@dataclass(frozen=True, slots=True)
class Line:
    """A way to search, and how it was judged; the change is a share of nDCG@10."""

    title: str
    scores: Scores
    same: float
    """Of the first 10, the share that exact search by the same vectors has as well."""


def encoded(judged: Judged, weights: Weights) -> Vectors:
    """Encode a judged set, or read what was encoded before by the same model."""
    encoder = open_encoder(minilm(weights), threads=os.cpu_count() or 1)
    texts = "\0".join([encoder.digest, *judged.documents, "", *judged.questions])
    stamp = hashlib.sha256(texts.encode()).hexdigest()[:16]
    path = CACHE.parent / "quality" / f"{judged.name}-{TITLES[weights]}-{stamp}.npz"
    if not path.exists():
        told(f"{judged.name}: encoding with {TITLES[weights]} weights")
        made = {
            "documents": encoder.encode(
                Inputs(Modality.TEXT, list(judged.documents)), purpose=Purpose.DOCUMENT
            ).vectors,
            "questions": encoder.encode(
                Inputs(Modality.TEXT, list(judged.questions)), purpose=Purpose.QUERY
            ).vectors,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, **made)
    with np.load(path) as found:
        return Vectors(found["documents"], found["questions"])


def exact(vectors: Vectors, rows: Sequence[int] | None, k: int) -> Ranked:
    """Rank rows (None: all) by their distances in float64; of equal ones the lower row first."""
    among = np.arange(len(vectors.documents)) if rows is None else np.asarray(rows)
    near = vectors.questions.astype(np.float64) @ vectors.documents[among].astype(np.float64).T
    order = np.argsort(-near, axis=1, kind="stable")[:, :k]
    return [[int(row) for row in among[places]] for places in order]


class Searched:
    """A Squash index over the vectors of a judged set."""

    def __init__(self, judged: Judged, vectors: Vectors, codec: str) -> None:
        documents = vectors.documents
        self._forced = len(documents) <= EXACT_ROWS_MAX
        self._questions = vectors.questions
        self._index = squash.connect("memory://").create_index(
            f"{judged.name}-{codec}",
            dimension=documents.shape[1],
            metric="cosine",
            codec=codec,
        )
        self._index.put(
            keys=[str(row) for row in range(len(documents))],
            vectors=documents,
            metadata=[
                {} if value is None else {judged.attribute: value} for value in judged.number
            ],
        )
        self._index.optimize(options=BuildOptions(exact_rows_max=0) if self._forced else None)

    def ranked(self, k: int, condition: Mapping[str, Any] | None, target: float) -> Ranked:
        """Ask all questions, aiming at a recall."""
        with codes_only() if self._forced else nullcontext():
            answers = self._index.query_many(
                self._questions, top_k=k, filters=condition, include=(), recall_target=target
            )
        return [[int(match.key) for match in answer.matches] for answer in answers]


def fused(first: Ranked, second: Ranked) -> Ranked:
    """Join two rankings of each question by the reciprocals of ranks."""
    joined = []
    for lists in zip(first, second, strict=True):
        worth: dict[int, float] = {}
        for ranked in lists:
            for rank, row in enumerate(ranked, start=1):
                worth[row] = worth.get(row, 0.0) + 1 / (FUSED_RANK + rank)
        joined.append(sorted(worth, key=lambda row: (-worth[row], row)))
    return joined


def judged_lines(
    judged: Judged, asked: Sequence[int], ways: Mapping[str, Callable[[int], Ranked]]
) -> Iterator[Line]:
    """Judge each way to search; `asked` are the questions' places in what it is asked."""
    true = ways[REFERENCE.format(weights="w8")](TOP)
    for title, ranked in ways.items():
        tops, deeps = ranked(TOP), ranked(DEEP)
        shares = [
            len(set(tops[place][:TOP]) & set(true[place])) / len(true[place]) for place in asked
        ]
        yield Line(
            title,
            scores(
                [tops[place][:TOP] for place in asked],
                [deeps[place][:DEEP] for place in asked],
                judged.judgments,
            ),
            sum(shares) / len(shares),
        )


def measured(judged: Judged) -> str:
    """Return the part of the section that a judged set has."""
    by_weights = {weights: encoded(judged, weights) for weights in ("none", "w8")}
    indexes = {codec: Searched(judged, by_weights["w8"], codec) for codec in CODECS}
    condition, rows = judged.half()
    half = judged.among(rows)
    places = {text: place for place, text in enumerate(judged.questions)}
    words = Words(judged.documents)

    def ways(filtered: bool) -> dict[str, Callable[[int], Ranked]]:
        passing = rows if filtered else None
        found: dict[str, Callable[[int], Ranked]] = {
            REFERENCE.format(weights=TITLES[weights]): (
                lambda k, vectors=vectors: exact(vectors, passing, k)
            )
            for weights, vectors in by_weights.items()
        }
        for codec, index in indexes.items():
            for target, words_ in TARGETS.items():
                found[f"Squash, w8 vectors, {codec}{words_}"] = (
                    lambda k, index=index, target=target: index.ranked(
                        k, condition if filtered else None, target
                    )
                )
        return found

    plain = {"BM25": lambda k: words.nearest(judged.questions, k).tolist(), **ways(False)}
    default = f"Squash, w8 vectors, {CODECS[0]}"
    plain["BM25 and the same Squash, joined by rank"] = lambda _: fused(
        plain["BM25"](DEEP), plain[default](DEEP)
    )
    lines = {
        "all": list(judged_lines(judged, range(len(judged.questions)), plain)),
        "half": list(judged_lines(half, [places[text] for text in half.questions], ways(True))),
    }
    return described(judged, half, lines, condition=condition, rows=len(rows))


def described(
    judged: Judged,
    half: Judged,
    lines: Mapping[str, Sequence[Line]],
    *,
    condition: Mapping[str, Any],
    rows: int,
) -> str:
    """Return the legend and the table."""
    ndcg = {part: {line.title: line.scores.ndcg for line in found} for part, found in lines.items()}
    default = f"Squash, w8 vectors, {CODECS[0]}"

    def change(part: str, title: str, weights: str = "fp32") -> float:
        return 100 * (ndcg[part][title] / ndcg[part][REFERENCE.format(weights=weights)] - 1)

    changes = [change(part, default) for part in lines]
    least = -LOSS_PERCENT_MAX
    legend = LEGEND.format(
        name=judged.name,
        about=judged.about,
        documents=len(judged.documents),
        questions=len(judged.questions),
        filter=str(dict(condition)).replace("'", '"'),
        rows=rows,
        asked=len(half.questions),
        how=FORCED if len(judged.documents) <= EXACT_ROWS_MAX else PLAIN,
        change=changes[0],
        change_half=changes[1],
        low_target=LOW,
        low=change("all", default + TARGETS[LOW]),
        low_half=change("half", default + TARGETS[LOW]),
        codes=change("all", default, "w8"),
        codes_half=change("half", default, "w8"),
        verdict=(
            f"That is within the {LOSS_PERCENT_MAX} % that it may cost."
            if min(changes) >= least
            else f"That is more than the {LOSS_PERCENT_MAX} % that it may cost."
        ),
    )
    head = ("search", "asked", f"nDCG@{TOP}", f"MAP@{DEEP}", f"recall@{DEEP}", "same", "change")
    body = [
        (
            line.title,
            part,
            f"{line.scores.ndcg:.4f}",
            f"{line.scores.precision:.4f}",
            f"{line.scores.recall:.4f}",
            f"{line.same:.3f}",
            f"{change(part, line.title):+.2f} %",
        )
        for part, found in lines.items()
        for line in found
    ]
    return f"{legend}\n\n{table(head, body)}"


def main() -> None:
    """Judge the sets named and write the section."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", choices=sorted(SETS), default=list(SETS))
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks.md"))
    arguments = parser.parse_args()
    parts = ["## What is found: judged questions", conditions(command_line(), PACKAGES)]
    for name in arguments.data:
        with plain_errors():
            parts.append(measured(SETS[name]()))
        told(f"{name} judged")
    write_section(arguments.out, "quality", "\n\n".join(parts))
    told(f"section quality of {arguments.out}")


if __name__ == "__main__":
    main()
