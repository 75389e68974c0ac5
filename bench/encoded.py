"""Texts through the local cloud: what putting and asking cost with the encoder as a function.

The built artefacts answer HTTP with the default encoder and the demo's descriptions; the same
questions are asked as vectors and as texts, new ones and ones asked before.

    make build-local && python bench/encoded.py
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import numpy as np
import urllib3

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "demo"))

from deployed import Deployed, deployed
from models import NAME, minilm
from packages import ATTRIBUTES, Package, read_packages
from report import command_line, conditions, number, table, told, write_section
from squash.encoders.encoder import open_encoder
from squash.model import Inputs, Modality, Purpose

BATCH: Final = 200
QUESTIONS: Final = 100
K: Final = 10
NOTE: Final = """\
{rows:,} descriptions of programs, {tokens:.0f} tokens each on average, put over HTTP, {batch} a \
request, as texts: {put_s:.0f} s, {rate:.0f} a second, beside {alone:.0f} a second of one process \
that puts the same on one thread, and {vectors:.0f} where vectors are put. The encoder's \
containers run on the same two cores as all else. Then {questions} titles are asked, warm, ten \
matches each, one after the other: as vectors, as texts that nobody has asked before, and as the \
same texts again. Answers to texts and to vectors had the same keys in {same} of {questions}."""


class Asking:
    """Asks over HTTP."""

    def __init__(self, place: Deployed) -> None:
        self._http = urllib3.PoolManager(retries=False, timeout=120.0)
        self._url = f"{place.url}/v1/indexes"

    def post(self, path: str, body: Any) -> dict[str, Any]:
        """Return the answer to a request that must succeed."""
        answer = self._http.request("POST", self._url + path, json=body)
        document: dict[str, Any] = answer.json()
        if answer.status >= HTTPStatus.MULTIPLE_CHOICES:
            raise RuntimeError(document)
        return document

    def query(self, index: str, body: dict[str, Any]) -> tuple[dict[str, Any], float]:
        """Return the answer, and the milliseconds it took."""
        began = time.perf_counter()
        answer = self.post(f"/{index}/query", {"top_k": K, **body})
        return answer, 1e3 * (time.perf_counter() - began)


def put(asking: Asking, index: str, packages: Sequence[Package], inputs: Any, kind: str) -> float:
    """Put records by HTTP; return the seconds."""
    began = time.perf_counter()
    for first in range(0, len(packages), BATCH):
        rows = range(first, min(first + BATCH, len(packages)))
        records = [
            {"key": packages[i].name, kind: inputs[i], "metadata": packages[i].metadata()}
            for i in rows
        ]
        more = {"encoder": NAME} if kind == "vector" else {}
        asking.post(f"/{index}/vectors", {"vectors": records, **more})
        told(f"{index}: {rows.stop:,} of {len(packages):,}")
    return time.perf_counter() - began


def alone(place: Deployed, packages: Sequence[Package]) -> float:
    """Return how many texts a second one process puts, on one thread."""
    index = place.database().index("vectors")
    encoder = open_encoder(minilm("w8"), threads=1)
    began = time.perf_counter()
    for first in range(0, len(packages), BATCH):
        part = packages[first : first + BATCH]
        inputs = Inputs(Modality.TEXT, [one.text for one in part])
        index.put(
            keys=[one.name for one in part],
            vectors=encoder.encode(inputs, purpose=Purpose.DOCUMENT).vectors,
            metadata=[one.metadata() for one in part],
            encoder=NAME,
        )
    return len(packages) / (time.perf_counter() - began)


def measure(place: Deployed, packages: Sequence[Package]) -> str:
    """Return the section."""
    asking = Asking(place)
    database = place.database()
    database.encoders.add(minilm("w8"))
    for name in ("texts", "vectors"):
        asking.post("", {"name": name, "encoder": NAME, "attributes": ATTRIBUTES, "text_key": None})
    put_s = put(asking, "texts", packages, [one.text for one in packages], "text")
    records = database.index("texts").get(keys=[one.name for one in packages])
    by_key = {record.key: record.vector.tolist() for record in records if record.vector is not None}
    vectors_s = put(asking, "vectors", packages, [by_key[one.name] for one in packages], "vector")
    here = alone(place, packages[: len(packages) // 4])
    database.index("texts").optimize()

    chosen = np.linspace(0, len(packages) - 1, QUESTIONS + 3).astype(int).tolist()
    titles = [packages[i].title for i in chosen]
    warmed, titles = titles[:3], titles[3:]
    vectors = encoded(titles)
    for title in warmed:
        asking.query("texts", {"text": title})
    ways: dict[str, Callable[[int], dict[str, Any]]] = {
        "vector": lambda i: {"vector": vectors[i]},
        "text, new": lambda i: {"text": titles[i]},
        "text, asked before": lambda i: {"text": titles[i]},
    }
    asking.query("texts", {"vector": vectors[0]})
    found = {
        name: [asking.query("texts", way(i)) for i in range(len(titles))]
        for name, way in ways.items()
    }
    same = sum(
        keys(one) == keys(other)
        for one, other in zip(found["vector"], found["text, new"], strict=True)
    )
    note = NOTE.format(
        rows=len(packages),
        tokens=mean_tokens(packages),
        batch=BATCH,
        put_s=put_s,
        rate=len(packages) / put_s,
        alone=here,
        vectors=len(packages) / vectors_s,
        questions=len(titles),
        same=same,
    )
    rows = [line(name, answers) for name, answers in found.items()]
    head = ("asked by", "p50 ms", "p99", "invocations", "S3 requests", "GB-s x 1,000")
    return "\n\n".join(
        ["## Texts through the deployment", conditions(command_line(), ("numpy", "onnxruntime")),
         note, table(head, rows)]
    )  # fmt: skip


def line(name: str, answers: Sequence[tuple[dict[str, Any], float]]) -> list[str]:
    """Return a row of the table."""
    times = [took for _, took in answers]
    usage = [answer["usage"] for answer, _ in answers]

    def mean(what: str) -> float:
        return float(np.mean([one[what] for one in usage]))

    return [
        name,
        number(float(np.median(times))),
        number(float(np.quantile(times, 0.99))),
        number(mean("invocations")),
        number(mean("store_requests")),
        number(1e3 * mean("gb_seconds")),
    ]


def keys(found: tuple[dict[str, Any], float]) -> list[str]:
    """Return the keys of an answer."""
    return [match["key"] for match in found[0]["matches"]]


def encoded(titles: Sequence[str]) -> list[list[float]]:
    """Return the vectors of questions, as this process makes them."""
    inputs = Inputs(Modality.TEXT, list(titles))
    vectors = open_encoder(minilm("w8")).encode(inputs, purpose=Purpose.QUERY).vectors
    return [vector.tolist() for vector in vectors]


def mean_tokens(packages: Sequence[Package]) -> float:
    """Return how many tokens a description has."""
    part = packages[:: max(1, len(packages) // 200)]
    inputs = Inputs(Modality.TEXT, [one.text for one in part])
    found = open_encoder(minilm("w8")).encode(inputs, purpose=Purpose.DOCUMENT)
    return found.tokens / len(part)


def main() -> None:
    """Print the section, and write it where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=4_200, help="at most")
    parser.add_argument("--out", type=Path, help="write a section of this document")
    arguments = parser.parse_args()
    every = read_packages()
    packages = every[:: max(1, math.ceil(len(every) / arguments.rows))]
    with (
        tempfile.TemporaryDirectory(prefix="squash-encoded-") as fetched,
        deployed(environment={"SQUASH_ENCODER_CACHE": fetched}, s3_memory=True) as place,
    ):
        text = measure(place, packages)
    print(text)
    if arguments.out is not None:
        write_section(arguments.out, "deployment-text", text)


if __name__ == "__main__":
    main()
