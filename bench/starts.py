"""What a cold start costs each function: CPU time to import, and to answer for the first time.

    make build-local && python bench/starts.py

Every run is a fresh interpreter that sees the built artefact and the standard library. S3 is
moto's; a small server stands for Lambda, and calls the roles in this process.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import numpy as np

import squash
from deployment import s3_server
from models import NAME, minilm
from report import command_line, conditions, number, table, told, write_section
from squash.api.functions import coordinator
from squash.encoders.encoder import read_folder
from squash.runtime.functions import make_allocator, make_encoder, make_processor

ROOT: Final = Path(__file__).resolve().parents[1]
ROWS: Final = 20_000
FUNCTIONS: Final[Mapping[str, tuple[str, str]]] = {
    # function: its event, and the shape that SQUASH_SHAPE names
    "Processor": ("process", "fan-out"),
    "Allocator": ("allocate", "1,1"),
    "Coordinator": ("coordinator-query", "fan-out"),
    "Coordinator, alone": ("coordinator-query", "none"),
    "Documents": ("documents-put", "none"),
    "Indexes": ("indexes-list", "none"),
    "Compactor": ("compactor-schedule", "none"),
    "Encoder": ("encode", "none"),
}
# The kinds of event that functions send one another, and to which.
CALLED: Final = {"process": "processor", "allocate": "allocator", "encode": "encoder"}
PROGRAM: Final = """
import json, resource, sys
def spent():
    used = resource.getrusage(resource.RUSAGE_SELF)
    peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    return 1000 * (used.ru_utime + used.ru_stime), int(peak.split()[1]) / 1024
bare, _ = spent()
sys.path[:0] = {paths!r}
import app
imported, imported_mib = spent()
modules = len(sys.modules)
event = json.loads(open({event!r}).read())
class Context:
    aws_request_id = function_name = invoked_function_arn = "x"
    function_version, memory_limit_in_mb = "1", "1769"
    def get_remaining_time_in_millis(self):
        return 29000
begun, _ = spent()
sys.stdout = sys.stderr
answer = app.handler(event, Context())
done, mib = spent()
assert answer.get("statusCode", 200) < 300 and "error" not in answer, str(answer)[:500]
print(json.dumps({{"bare": bare, "import": imported - bare, "answer": done - begun,
                  "imported_mib": imported_mib, "mib": mib, "modules": modules}}),
      file=sys.__stdout__)
"""
NOTE: Final = """\
CPU milliseconds of a fresh interpreter, the least and the median of {runs} runs; \
load averages over the runs from {low:.0f} to {high:.0f} on two cores that others used too, which \
makes the same work take up to twice as long: the least is the better guide, and better still how \
it compares with NumPy's own import, {numpy} ms in the same rounds. \
*Import* is all that \
the artefact does before its first event, components made; Python itself takes {bare} ms before \
that. *First answer*: a query for two of {rows:,} rows with a filter, which reads the index from \
S3 (the allocator's and the coordinator's calls others); a put; a list; a look of the compactor; \
and the encoder's vector of one question, for which it first reads its model, {model_mb:.0f} MB, \
from S3, checks and opens it."""
NUMPY: Final = """
import resource, sys
def spent():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return 1000 * (used.ru_utime + used.ru_stime)
bare = spent()
sys.path[:0] = {paths!r}
import numpy
print(spent() - bare)
"""


@contextmanager
def lambda_server(roles: Mapping[str, Any], seen: dict[str, bytes]) -> Iterator[str]:
    """Answer Lambda's invoke API by roles of this process; keep the first event of each."""

    class Answering(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            name = self.path.split("/")[3].removesuffix("-tenant")
            event = self.rfile.read(int(self.headers["Content-Length"]))
            seen.setdefault(name, event)
            answer = json.dumps(roles[name](json.loads(event))).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def make_index(location: str, endpoint: str) -> None:
    """Make what the events ask for."""
    index = squash.connect(location, endpoint_url=endpoint).create_index("papers", dimension=4)
    generator = np.random.default_rng(0)
    vectors = generator.standard_normal((ROWS, 4)).astype(np.float32)
    for first in range(0, ROWS, 5_000):
        keys = [f"k{row}" for row in range(first, first + 5_000)]
        metadata = [{"year": 2000 + row % 25} for row in range(first, first + 5_000)]
        index.put(keys=keys, vectors=vectors[first : first + 5_000], metadata=metadata)
    index.optimize()


def make_notes(location: str, endpoint: str) -> None:
    """Make an index with an encoder; who asks it has the encoder called."""
    database = squash.connect(location, endpoint_url=endpoint)
    database.encoders.add(minilm("w8"))
    database.create_index("notes", encoder=NAME)


def about_texts(query: Mapping[str, Any]) -> dict[str, Any]:
    """Return the event of a question in words, made of one that has a vector."""
    asked = json.dumps(dict(query)).replace("indexes/papers/", "indexes/notes/")
    event: dict[str, Any] = json.loads(asked)
    event["pathParameters"]["index"] = "notes"
    event["body"] = json.dumps({"text": "how do birds find their way over the sea"})
    return event


def environment(s3: str, functions: str, shape: str) -> dict[str, str]:
    """Return a function's variables."""
    return {
        "AWS_ACCESS_KEY_ID": os.environ["AWS_ACCESS_KEY_ID"],
        "AWS_SECRET_ACCESS_KEY": os.environ["AWS_SECRET_ACCESS_KEY"],
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL_LAMBDA": functions,
        "AWS_ENDPOINT_URL_S3": s3,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769",
        "PATH": os.environ["PATH"],
        "SQUASH_ALLOCATOR": "allocator",
        "SQUASH_AUTH": "none",
        "SQUASH_COMPACTOR": "compactor",
        "SQUASH_ENCODER": "encoder",
        "SQUASH_LOCAL": "1",
        "SQUASH_PROCESSOR": "processor",
        "SQUASH_SHAPE": shape,
        "SQUASH_STORE": "s3://starts/x",
    }


def numpy_ms(artefacts: Path) -> float:
    """Return what NumPy's import took this time: how slow the machine is."""
    program = NUMPY.format(paths=[str(artefacts / "LibraryLayer" / "python")])
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-I", "-S", "-B", "-c", program],
        check=True,
        capture_output=True,
        text=True,
    )
    return float(done.stdout)


def start(artefacts: Path, function: str, event: Path, variables: dict[str, str]) -> dict[str, Any]:
    """Return what one start took."""
    layers = ["LibraryLayer", *(["EncoderLayer"] if function == "Encoder" else [])]
    paths = [str(artefacts / function), *(str(artefacts / one / "python") for one in layers)]
    with tempfile.TemporaryDirectory(prefix="squash-starts-") as empty:
        done = subprocess.run(  # noqa: S603 - our own program
            [sys.executable, "-I", "-S", "-B", "-c", PROGRAM.format(paths=paths, event=str(event))],
            env=variables | {"SQUASH_ENCODER_CACHE": empty},
            check=False,
            capture_output=True,
            text=True,
        )
    if done.returncode:
        raise RuntimeError(f"{function}: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(artefacts: Path, runs: int, folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Start every function many times, one after the other, so that all see the same load."""
    import botocore.session

    folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in FUNCTIONS}
    with s3_server() as s3:
        client = botocore.session.Session().create_client("s3", endpoint_url=s3)
        client.create_bucket(Bucket="starts")
        make_index("s3://starts/x", s3)
        make_notes("s3://starts/x", s3)
        roles: dict[str, Any] = {}
        seen: dict[str, bytes] = {}
        with lambda_server(roles, seen) as functions:
            for name, value in environment(s3, functions, "1,1").items():
                os.environ[name] = value
            roles["processor"] = make_processor(os.environ).handle
            roles["allocator"] = make_allocator(os.environ).handle
            roles["encoder"] = make_encoder(os.environ).handle
            query = json.loads((ROOT / "events" / "coordinator-query.json").read_text())
            answer = coordinator(os.environ)(query, None)
            assert answer["statusCode"] == 200, answer
            answer = coordinator(os.environ)(about_texts(query), None)
            assert answer["statusCode"] == 200, answer
            for kind, role in CALLED.items():
                event = json.loads(seen[role]) | {"deadline_ms": 1 << 42}
                (folder / f"{kind}.json").write_text(json.dumps(event))
            for run in range(runs):
                numpy = numpy_ms(artefacts)
                for name, (event_name, shape) in FUNCTIONS.items():
                    event = folder / f"{event_name}.json"
                    if not event.exists():
                        event = ROOT / "events" / f"{event_name}.json"
                    variables = environment(s3, functions, shape)
                    function = name.partition(",")[0]
                    took = start(artefacts, function, event, variables)
                    found[name].append(took | {"numpy": numpy})
                told(f"run {run + 1}: {os.getloadavg()[0]:.0f}")
    return found


def section(found: Mapping[str, list[dict[str, Any]]], loads: tuple[float, float]) -> str:
    """Return the document's section."""

    def two(runs: list[dict[str, Any]], name: str) -> list[str]:
        values = [run[name] for run in runs]
        return [number(min(values)), number(statistics.median(values))]

    rows = [
        [
            name,
            *two(runs, "import"),
            *two(runs, "answer"),
            number(statistics.median(run["imported_mib"] for run in runs)),
            number(statistics.median(run["mib"] for run in runs)),
            str(runs[0]["modules"]),
        ]
        for name, runs in found.items()
    ]
    every = [run for runs in found.values() for run in runs]
    note = NOTE.format(
        runs=len(next(iter(found.values()))),
        low=loads[0],
        high=loads[1],
        bare=number(min(run["bare"] for run in every)),
        rows=ROWS,
        model_mb=sum(ref.bytes for ref in read_folder(minilm("w8"))[0].files.values()) / 1e6,
        numpy=number(min(run["numpy"] for run in every)),
    )
    head = (
        "function", "import, least", "median", "first answer, least", "median",
        "MiB imported", "MiB answered", "modules",
    )  # fmt: skip
    return "\n\n".join(
        [
            "## Cold starts",
            conditions(command_line(), ("numpy", "botocore", "aws-lambda-powertools")),
            note,
            table(head, rows),
        ]
    )


def main() -> None:
    """Print the section, and write it where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--artefacts", type=Path, default=ROOT / ".aws-sam" / "local")
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--out", type=Path, help="write a section of this document")
    arguments = parser.parse_args()
    before = os.getloadavg()[0]
    folder = ROOT / ".cache" / "bench" / "starts"
    found = measure(arguments.artefacts, arguments.runs, folder)
    loads = sorted((before, os.getloadavg()[0]))
    text = section(found, (loads[0], loads[1]))
    print(text)
    if arguments.out is not None:
        write_section(arguments.out, "starts", text)


if __name__ == "__main__":
    main()
