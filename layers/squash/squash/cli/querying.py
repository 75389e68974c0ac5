"""`squash query`."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from squash import limits, strict_json
from squash.api.documents import answer_document
from squash.arrays import F32
from squash.cli.encoding_words import encoding_shown
from squash.cli.importers.inputs import read_image
from squash.cli.importers.npy import open_array
from squash.cli.importers.rows import as_float32, check_dimension
from squash.cli.output import Output, Table, summary
from squash.cli.problems import UsageError
from squash.cli.statuses import SUCCEEDED
from squash.errors import InvalidArgumentError, NotFoundError
from squash.model import Answer, Explanation, Level

if TYPE_CHECKING:
    from squash.database import Database, Index


def query(arguments: Namespace, database: Database, output: Output) -> int:
    """Find the nearest records of one vector, or of each row of a file."""
    index = database.index(arguments.index)
    options = {
        "recall_target": arguments.recall_target,
        "exact": arguments.exact,
        "as_of": arguments.as_of,
        "include": arguments.include,
        "explain": arguments.explain,
    }
    if arguments.text is not None or arguments.image is not None:
        return _query_encoded(arguments, index, options, output)
    # One more is asked for than is shown, since the record itself is left out.
    top_k = arguments.top_k + (arguments.like is not None)
    if top_k > limits.TOP_K_MAX:
        raise UsageError(
            f"--like leaves the record itself out: --top-k is at most {limits.TOP_K_MAX - 1:,} "
            "with it"
        )
    vectors = _query_vectors(arguments, index)
    if len(vectors) > 1:
        answers = index.query_many(
            vectors, top_k=arguments.top_k, filters=arguments.filter, **options
        )
        documents = [answer_document(answer) for answer in answers]
        shown: list[Table | str] = []
        for number, answer in enumerate(answers):
            shown += _answer_shown(answer, title=f"row {number:,}")
        output.result({"answers": documents}, *shown)
        return SUCCEEDED
    answer = index.query(vectors[0], top_k=top_k, filter=arguments.filter, **options)
    answer = _without(answer, arguments.like, top_k=arguments.top_k)
    output.result(answer_document(answer), *_answer_shown(answer))
    return SUCCEEDED


def _query_encoded(
    arguments: Namespace, index: Index, options: Mapping[str, Any], output: Output
) -> int:
    """Find the nearest records of a text or an image, by the index's encoder."""
    what: dict[str, Any] = {"text": arguments.text}
    if arguments.image is not None:
        what = {"image": read_image(arguments.image, place=arguments.image.name)}
    answer = index.query(**what, top_k=arguments.top_k, filter=arguments.filter, **options)
    shown = _answer_shown(answer)
    if answer.encoding is not None and (answer.encoding.truncated or answer.encoding.chunked):
        shown += encoding_shown(answer.encoding)
    output.result(answer_document(answer), *shown)
    return SUCCEEDED


def _query_vectors(arguments: Namespace, index: Index) -> F32:
    """Return the query vectors, float32 [q, d]."""
    dimension = index.config.dimension
    if arguments.like is not None:
        records = index.get(keys=[arguments.like], include=["vector"], as_of=arguments.as_of)
        if not records or records[0].vector is None:
            raise NotFoundError(
                f"the index {arguments.index} has no record {arguments.like!r}: "
                "see `squash list` for its keys",
                index=arguments.index,
                key=arguments.like,
            )
        return records[0].vector[np.newaxis]
    if arguments.vector.startswith("@"):
        path = Path(arguments.vector[1:])
        values = np.atleast_2d(open_array(path))
        if values.ndim != 2 or not len(values):  # noqa: PLR2004 - rows and dimensions
            raise InvalidArgumentError(
                f"{path.name}: an array of shape {values.shape}, where a query is one vector, "
                "or one a row"
            )
        check_dimension(values.shape[1], expected=dimension, place=path.name)
        return as_float32(values, place=path.name)
    try:
        value = strict_json.loads(arguments.vector)
    except ValueError as error:
        raise UsageError(f"the query vector is not JSON: {error}") from error
    if not isinstance(value, list) or not value or not set(map(type, value)) <= {int, float}:
        raise UsageError("the query vector is to be a JSON list of numbers, or @file.npy")
    check_dimension(len(value), expected=dimension, place="the query vector")
    try:
        numbers = np.array([value], dtype=np.float64)
    except OverflowError as error:
        raise UsageError("the query vector holds a number beyond what a float can be") from error
    return as_float32(numbers, place="the query vector")


def _without(answer: Answer, key: str | None, *, top_k: int) -> Answer:
    """Leave one key out of an answer, and keep at most `top_k` matches."""
    matches = tuple(match for match in answer.matches if match.key != key)[:top_k]
    return replace(answer, matches=matches)


def _answer_shown(answer: Answer, *, title: str = "") -> list[Table | str]:
    rows = [
        (
            match.key,
            float(match.distance),
            summary(shown_of(match.metadata, match.vector)),
        )
        for match in answer.matches
    ]
    parts: list[Table | str] = [Table(("key", "distance", "metadata"), rows, title=title)]
    if answer.explain is not None:
        explain = answer.explain
        parts.append(_levels(explain.levels))
        parts.append(
            f"plan: {explain.plan}; partitions {explain.partitions_visited:,} of "
            f"{explain.partitions_total:,}, clusters {explain.clusters_visited:,} of "
            f"{explain.clusters_total:,}; selectivity {explain.selectivity_actual:.4g} "
            f"(predicted {explain.selectivity_predicted:.4g}); "
            f"{'certified' if explain.certified else 'not certified'} within these clusters"
        )
        if explain.costs_us:
            parts.append(_expected(explain))
    return parts


def _expected(explain: Explanation) -> str:
    """Say what the plans were expected to cost; the one taken begins with the same word."""
    taken = explain.plan.partition(" ")[0].rstrip(",")
    plans = (
        f"{name} {cost_us:,.0f} µs{' (taken)' if name.startswith(taken) else ''}"
        for name, cost_us in explain.costs_us.items()
    )
    return f"expected: {', '.join(plans)}"


def _levels(levels: tuple[Level, ...]) -> Table:
    rows = [(level.name, level.candidates, level.survivors) for level in levels]
    return Table(("level", "candidates", "survivors"), rows)


def shown_of(metadata: Mapping[str, object] | None, vector: F32 | None) -> dict[str, object]:
    """Return what is shown of a record beside its key."""
    shown: dict[str, object] = dict(metadata or {})
    if vector is not None:
        shown["(vector)"] = vector.tolist()
    return shown
