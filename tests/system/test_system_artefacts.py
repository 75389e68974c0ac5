"""The built artefacts: what is in them, how large they are, and what each function loads."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from templates import ROOT

# Lambda's limits, and ours: what is large is slow to start.
UNZIPPED_BYTES_MAX = 250 * 2**20
ZIPPED_BYTES_MAX = 50 * 2**20
OURS_BYTES_MAX = 100 * 2**20
ENCODER_BYTES_MAX = 160 * 2**20
BUILDER_BYTES_MAX = 190 * 2**20
HTTP = ["Coordinator", "Documents", "Indexes"]
NAMES = [*HTTP, "Allocator", "Processor", "Compactor", "Encoder", "Builder"]
SERVICES = ["lambda", "s3", "ssm", "stepfunctions", "sts"]
S3_NAMES = [
    "delete_object",
    "delete_objects",
    "get_object",
    "head_bucket",
    "head_object",
    "list_objects_v2",
    "put_object",
]

MORE_BYTES_MAX = {"Encoder": ENCODER_BYTES_MAX, "Builder": BUILDER_BYTES_MAX}
MACHINE_NAMES = ["DescribeExecution", "StartExecution", "StopExecution"]

# What no function loads to start, and what some do not: building and verifying are loaded by the
# call that wants them.
NEVER = {
    "aws_lambda_powertools.event_handler",
    "aws_lambda_powertools.metrics",
    "aws_lambda_powertools.tracing",
    "aws_xray_sdk",
    "boto3",
    "configparser",
    "dateutil.parser",
    "jmespath",
    "moto",
    "numpy._typing",
    "numpy.f2py",
    "pickle",
    "pyarrow",
    "rich",
    "s3transfer",
    "squash.cli",
    "squash.local",
    "squash.maintain",
    "squash.training",
    "unittest",
}
ROLES = {
    "aws_lambda_powertools",
    "squash.api.face",
    "squash.database",
    "squash.runtime.session",
}
CALLING = {"squash.api.calling", "squash.runtime.invokers", "squash.search.calls"}
MODELS = {"onnxruntime", "tokenizers", "PIL", "squash.encoders.encoder"}
# What writes to S3 and calls functions: loaded by the first write or call, save where most calls
# write.
CLIENTS = {"botocore.session", "urllib3", "squash.storage.s3_writes"}
NOT_IN = {
    "Allocator": ROLES | CLIENTS,
    "Processor": ROLES | CALLING | CLIENTS | {"squash.index.log", "squash.runtime.views"},
    "Coordinator": CLIENTS,
    "Documents": CALLING,
    "Indexes": CALLING | CLIENTS,
    "Compactor": CALLING | CLIENTS | {"squash.api.face"},
    "Encoder": ROLES | CALLING | CLIENTS | {"PIL", "squash.index.log", "squash.runtime.views"},
    "Builder": CALLING | CLIENTS | {"squash.api.face"},
}

# Prints what is loaded besides the standard library, and what it took.
PROBE = """
import resource, sys
def cpu_ms():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return 1000 * (used.ru_utime + used.ru_stime)
before, mine = cpu_ms(), set(sys.modules)
sys.path[:0] = {paths!r}
import app
took = cpu_ms() - before
import json
loaded = {{n: getattr(m, "__file__", None) for n, m in list(sys.modules.items())}}
standard = sys.stdlib_module_names
print(json.dumps({{
    "cpu_ms": took,
    "loaded": sorted(n for n in loaded if n not in mine),
    "places": sorted({{f for n, f in loaded.items() if f and n.partition(".")[0] not in standard}}),
}}))
"""
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769",
    "SQUASH_AFFINITY": "tenant",
    "SQUASH_ALLOCATOR": "squash-allocator",
    "SQUASH_COMPACTOR": "squash-compactor",
    "SQUASH_ENCODER": "squash-encoder",
    "SQUASH_PROCESSOR": "squash-processor-tenant",
    "SQUASH_STORE": "s3://bucket/prefix",
}


def size(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def probe(artefacts, name):
    """Import a function in a fresh process that sees the artefact and the standard library."""
    paths = [str(path) for path in artefacts.search_path(name)]
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-I", "-S", "-B", "-c", PROBE.format(paths=paths)],
        env=ENVIRONMENT | {"PATH": os.environ["PATH"]},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def within(module, rooms):
    return any(module == room or module.startswith(f"{room}.") for room in rooms)


def test_artefacts_say_what_they_are(artefacts):
    """The note tells for which Python and processor they are, and they have bytecode."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert artefacts.note["python"] == version
    assert artefacts.note["bytecode"]
    site = artefacts.layer / "python"
    cached = importlib.util.cache_from_source(str(site / "squash" / "errors.py"))
    # Flags 1: by hash, and never checked, since in /opt there is no one to change the source.
    assert Path(cached).read_bytes()[4:8] == (1).to_bytes(4, "little")


def test_artefacts_hold_nothing_but_what_functions_need(artefacts):
    """No tests, no path of this machine, no service that is not called, and the licences."""
    site = artefacts.layer / "python"
    assert not list(site.rglob("tests"))
    assert not list(site.rglob("direct_url.json"))
    assert not list(site.rglob("RECORD"))
    assert not list(site.glob("boto3*"))
    described = [path.name for path in (site / "botocore" / "data").iterdir() if path.is_dir()]
    assert sorted(described) == SERVICES
    assert list(site.glob("squash_search-*.dist-info/licenses/LICENSE"))
    assert list(site.glob("numpy-*.dist-info/**/LICENSE*"))
    # Who runs a function may leave bytecode beside its handler; the layer's was built.
    for path in artefacts.layer.rglob("*.pyc"):
        assert str(ROOT).encode() not in path.read_bytes(), path
    for folder in ("squash", "encoder", "builder"):
        requirements = (ROOT / f"layers/{folder}/requirements.txt").read_text()
        assert all("==" in line for line in requirements.splitlines() if line[0] != "#")


def test_artefacts_of_the_encoder_hold_what_models_run_on(artefacts):
    """Nothing of the library a second time, nothing that makes or changes models, and licences."""
    site, library = artefacts.encoder_layer / "python", artefacts.layer / "python"
    assert {path.name for path in site.iterdir()} & {
        path.name for path in library.iterdir()
    } == set()
    packages = {path.name for path in site.iterdir() if not path.name.endswith(".dist-info")}
    assert packages == {"PIL", "onnxruntime", "pillow.libs", "tokenizers"}
    assert not [p for p in site.rglob("*") if p.name in {"quantization", "transformers", "tools"}]
    assert list(site.glob("pillow-*.dist-info/**/LICENSE*"))
    assert (site / "onnxruntime/LICENSE").is_file()
    for path in artefacts.encoder_layer.rglob("*.pyc"):
        assert str(ROOT).encode() not in path.read_bytes(), path


# Reads a file of each compression with what the builder finds, and prints what that loaded.
READING = """
import io, json, sys
sys.path[:0] = {paths!r}
import numpy as np, pyarrow as pa
from pyarrow import parquet
rows = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(80, dtype="f4")), 8)
table = pa.table({{"vector": rows, "key": [str(n) for n in range(10)], "tags": [["a"]] * 10}})
for name in ("none", "snappy", "gzip", "zstd", "lz4", "brotli"):
    file = io.BytesIO()
    parquet.write_table(table, file, compression=name)
    with parquet.ParquetFile(pa.BufferReader(file.getvalue())) as opened:
        batches = list(opened.iter_batches(batch_size=3, row_groups=[0]))
    assert pa.Table.from_batches(batches).to_pylist() == table.to_pylist(), name
print(json.dumps(pa.__file__))
"""


def test_artefacts_of_the_builder_read_parquet(artefacts):
    """By what was left of pyarrow, in every compression; nothing of the library is there twice."""
    site, library = artefacts.builder_layer / "python", artefacts.layer / "python"
    assert {path.name for path in site.iterdir()} & {
        path.name for path in library.iterdir()
    } == set()
    assert not [path for path in site.rglob("*") if "flight" in path.name or "s3" in path.name]
    assert list(site.glob("pyarrow-*.dist-info/**/LICENSE*"))
    paths = [str(path) for path in artefacts.search_path("Builder")]
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-I", "-S", "-B", "-c", READING.format(paths=paths)],
        env=ENVIRONMENT | {"PATH": os.environ["PATH"]},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout).startswith(str(site))


def test_artefacts_fit(artefacts, tmp_path, record_property):
    """Each function with its layer is far below what Lambda takes, unzipped and zipped."""
    layer = size(artefacts.layer)
    record_property("layer_bytes", layer)
    for name in NAMES:
        whole = size(artefacts.function(name)) + sum(map(size, artefacts.layers(name)))
        most = MORE_BYTES_MAX.get(name, OURS_BYTES_MAX)
        record_property(f"{name}_bytes", whole)
        assert whole <= most < UNZIPPED_BYTES_MAX
    made = tmp_path / "layer.zip"
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for path in artefacts.layer.rglob("*"):
            archive.write(path, path.relative_to(artefacts.layer))
    record_property("layer_zip_bytes", made.stat().st_size)
    assert made.stat().st_size <= ZIPPED_BYTES_MAX


def test_artefacts_speak_to_s3_and_lambda(artefacts):
    """The botocore of the layer knows conditional puts and tenants, which the runtime's may not.

    Its descriptions of services are shortened: what is left still makes requests.
    """
    program = """
import sys
sys.path.insert(0, {path!r})
import botocore.session
client = botocore.session.Session().create_client
s3, functions = (client(s, region_name="us-east-1") for s in ("s3", "lambda"))
machines = client("stepfunctions", region_name="eu-west-1")
assert botocore.session.__file__.startswith({path!r})
assert "IfNoneMatch" in s3.meta.service_model.operation_model("PutObject").input_shape.members
assert "TenantId" in functions.meta.service_model.operation_model("Invoke").input_shape.members
assert s3.get_paginator("list_objects_v2")
assert all(hasattr(s3, name) for name in {s3_names}), dir(s3)
assert [name for name in functions.meta.service_model.operation_names] == ["Invoke"]
presigned = s3.generate_presigned_url("get_object", Params={{"Bucket": "bucket", "Key": "k/é"}})
assert presigned.startswith("https://bucket.s3.amazonaws.com/k/%C3%A9?"), presigned
elsewhere = client("s3", region_name="cn-north-1").meta.endpoint_url
assert elsewhere == "https://s3.cn-north-1.amazonaws.com.cn", elsewhere
assert functions.meta.endpoint_url == "https://lambda.us-east-1.amazonaws.com"
assert machines.meta.endpoint_url == "https://states.eu-west-1.amazonaws.com"
assert sorted(machines.meta.service_model.operation_names) == {machine_names}
"""
    path = str(artefacts.layer / "python")
    names = {"path": path, "s3_names": S3_NAMES, "machine_names": MACHINE_NAMES}
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-I", "-S", "-B", "-c", program.format(**names)],
        env=ENVIRONMENT,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_artefacts_load_what_they_run(artefacts, name, record_property):
    """A function imports from its artefact alone, and nothing that is another's."""
    if not (artefacts.layer / "python/squash/api/functions.py").exists():
        pytest.skip("the functions' factories are not there yet")
    found = probe(artefacts, name)
    record_property("import_cpu_ms", round(found["cpu_ms"]))
    folder = str(artefacts.folder)
    assert [place for place in found["places"] if not place.startswith(folder)] == []
    unwanted = NEVER | NOT_IN.get(name, set()) | (MODELS if name != "Encoder" else set())
    assert [module for module in found["loaded"] if within(module, unwanted)] == []


# What packages import later than they did: they do with it all that they did.
LATER = """
import io, sys
sys.path.insert(0, {path!r})
import aws_lambda_powertools.logging, botocore.session, numpy as np
from botocore import configloader, credentials, paginate, regions, tokens, utils, waiter
assert not {later} & set(sys.modules), {later} & set(sys.modules)
objects = np.array([None, "a"], dtype=object)
file = io.BytesIO()
np.save(file, objects)
file.seek(0)
assert np.load(file, allow_pickle=True).tolist() == [None, "a"]
assert objects.dumps()
q, r = np.linalg.qr(np.eye(2))
assert (q @ r == np.eye(2)).all()
from numpy.typing import ArrayLike, NDArray
assert utils.parse_timestamp("2026-01-02T03:04:05Z").year == 2026
assert credentials.parse("2026-01-02T03:04:05Z").minute == 4
assert paginate.jmespath.search("a.b", {{"a": {{"b": 7}}}}) == 7
open({config!r}, "w").write("[default]\\nregion = eu-west-1\\n")
assert configloader.load_config({config!r})["profiles"]["default"]["region"] == "eu-west-1"
import aws_lambda_powertools
from aws_lambda_powertools.logging import logger
assert logger.jmespath_utils.query(envelope="a.b", data={{"a": {{"b": 7}}}}) == 7
assert aws_lambda_powertools.Metrics.__name__ == "Metrics"
assert aws_lambda_powertools.Tracer.__name__ == "Tracer"
assert callable(aws_lambda_powertools.single_metric)
assert {later} <= set(sys.modules), {later} - set(sys.modules)
"""
PUT_OFF = {
    "aws_lambda_powertools.metrics",
    "aws_lambda_powertools.tracing",
    "aws_lambda_powertools.utilities.jmespath_utils",
    "configparser",
    "dateutil.parser",
    "jmespath",
    "numpy._typing",
    "pickle",
}


def test_artefacts_import_later_what_is_rarely_asked_for(artefacts, tmp_path):
    """What packages no longer load when they are imported is there when somebody asks for it."""
    path = str(artefacts.layer / "python")
    program = LATER.format(path=path, config=str(tmp_path / "config"), later=PUT_OFF)
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-I", "-S", "-B", "-c", program],
        env=ENVIRONMENT,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


SERVICE = "squash.api.s3vectors"
# Asks a function by each of its two interfaces, and prints what that loaded of the second.
SPEAKING = """
import json, sys
sys.path[:0] = {paths!r}
import app
from types import SimpleNamespace
def loaded():
    return sorted(name for name in sys.modules if name.startswith({service!r}))
def ask(name):
    event = json.loads(open(name).read())
    context = SimpleNamespace(aws_request_id="x", get_remaining_time_in_millis=lambda: 20_000)
    return app.handler(event, context)["statusCode"]
first = ask({native!r}), loaded()
print(json.dumps([first, (ask({other!r}), loaded())]))
"""
ASKED = {
    "Coordinator": ("coordinator-query", "coordinator-query-vectors"),
    "Documents": ("documents-get", "documents-put-vectors"),
    "Indexes": ("indexes-describe", "indexes-delete-vector-index"),
}
ENDPOINTS = {
    "Coordinator": {"querying"},
    "Documents": {"vectors"},
    "Indexes": {"buckets", "indexes"},
}


@pytest.mark.parametrize("name", [name for name in NAMES if name not in HTTP])
def test_artefacts_without_http_load_nothing_of_s3_vectors(artefacts, name):
    assert [one for one in probe(artefacts, name)["loaded"] if within(one, {SERVICE})] == []


@pytest.mark.parametrize("name", HTTP)
def test_artefacts_load_of_s3_vectors_what_is_asked_for(artefacts, name):
    """Our own requests wait for none of its endpoints; each function's has those of its own."""
    native, other = (str(ROOT / "events" / f"{one}.json") for one in ASKED[name])
    program = SPEAKING.format(
        paths=[str(path) for path in artefacts.search_path(name)],
        service=SERVICE,
        native=native,
        other=other,
    )
    variables = {"SQUASH_STORE": "memory://x", "SQUASH_AUTH": "none", "SQUASH_LOCAL": "1"}
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-I", "-S", "-B", "-c", program],
        env=ENVIRONMENT | variables | {"PATH": os.environ["PATH"]},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (native_status, before), (other_status, after) = json.loads(done.stdout.splitlines()[-1])
    assert (native_status, other_status) == (404, 404)  # nothing is there, and both say so
    # The table of its operations, and where policies would be remembered, which loads nothing.
    assert set(before) <= {SERVICE, f"{SERVICE}.operations", f"{SERVICE}.kept"}
    rooms = {one.rpartition(".")[2] for one in after}
    assert rooms & set.union(*ENDPOINTS.values()) == ENDPOINTS[name]


def build_layer(tmp_path, layer, architecture, python):
    """Build a layer for a Lambda, from a copy of the cache's absence: whole and anew."""
    done = subprocess.run(  # noqa: S603 - our own program
        [
            sys.executable,
            ROOT / "layers/layer.py",
            "--layer",
            layer,
            "--architecture",
            architecture,
            "--python",
            python,
            "--out",
            tmp_path,
        ],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("layer", ["library", "encoder", "builder"])
@pytest.mark.parametrize("architecture", ["arm64", "x86_64"])
def test_artefacts_are_the_same_twice(tmp_path, architecture, layer):
    """Two builds from the same sources are equal to the byte, names and times included."""
    places = [tmp_path / "one", tmp_path / "two"]
    for place in places:
        made = ROOT / ".cache" / "layers" / f"{layer}-lambda-{architecture}-3.13"
        shutil.rmtree(made, ignore_errors=True)
        build_layer(place, layer, architecture, "3.13")
    one, two = (
        {
            path.relative_to(place): (path.stat().st_mtime, path.is_file() and path.read_bytes())
            for path in place.rglob("*")
        }
        for place in places
    )
    assert one == two
    machine = {"arm64": "aarch64", "x86_64": "x86_64"}[architecture]
    libraries = [path.name for path in one if path.suffix == ".so"]
    own = {
        "library": f"libsquash-{machine}.so",
        "encoder": "tokenizers.abi3.so",
        "builder": f"_parquet.cpython-313-{machine}-linux-gnu.so",
    }
    assert own[layer] in libraries
    assert not [n for n in libraries if "cpython" in n and f"cpython-313-{machine}" not in n]


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["arm64", "x86_64"])
def test_artefacts_are_built_by_sam(architecture):
    """`make validate` has nothing to say; `make build` builds all, and pins what it built."""
    environment = {n: v for n, v in os.environ.items() if not n.startswith("AWS_")}
    for words in (["validate"], ["build", f"ARCH={architecture}", "PY=3.13"]):
        done = subprocess.run(  # noqa: S603 - our own makefile
            ["make", *words, f"PYTHON={sys.executable}"],  # noqa: S607
            cwd=ROOT,
            env=environment,
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    built = ROOT / ".aws-sam" / "build"
    for layer in ("LibraryLayer", "EncoderLayer", "BuilderLayer"):
        note = json.loads((built / layer / "BUILD.json").read_text())
        assert (note["architecture"], note["python"]) == (architecture, "3.13")
        assert note.get("kernels", True)
    template = (built / "template.yaml").read_text()
    assert f"    Default: {architecture}\n    AllowedValues:\n    - {architecture}\n" in template
    assert "    Default: python3.13\n    AllowedValues:\n    - python3.13\n" in template
    for name in NAMES:
        assert [path.name for path in (built / name).iterdir()] == ["app.py"]
