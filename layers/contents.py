"""What each layer holds: its sources, and what of its packages no function loads."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from imports import shorten_imports

BUILDER: Final = ("layers/contents.py", "layers/imports.py", "layers/layer.py")


@dataclass(frozen=True, slots=True)
class Contents:
    """A layer.

    Parameters
    ----------
    name:
        What it is called on the command line, and in the cache.
    folder:
        Where its `requirements.txt` is, below the root.
    sources:
        All that it is made of, below the root.
    unused:
        What no function loads: patterns of paths below python/.
    shorten:
        Shortens more of what is in python/.
    squash:
        Whether it holds the package squash.

    """

    name: str
    folder: str
    sources: tuple[str, ...]
    unused: tuple[str, ...]
    shorten: Callable[[Path], None] = lambda site: None  # noqa: ARG005 - nothing is shortened
    squash: bool = False


def strip(contents: Contents, site: Path) -> None:
    """Take out what no function loads."""
    for pattern in (*_UNUSED_EVERYWHERE, *contents.unused):
        for path in sorted(site.glob(pattern)):
            remove(path)
    contents.shorten(site)


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


_UNUSED_EVERYWHERE: Final = (
    "**/tests",
    "**/*.pyi",
    "**/*.pxd",
    "**/*.a",
    "*.dist-info/RECORD",  # it would name what is gone
    "*.dist-info/INSTALLER",
    "*.dist-info/REQUESTED",
    "*.dist-info/direct_url.json",
    "bin",
)
_UNUSED_LIBRARY: Final = (
    "botocore/data/*/*/examples-1.json*",
    "botocore/docs/bcdoc",
    *(f"botocore/docs/{name}.py" for name in (
        "client", "example", "method", "paginator", "params", "service", "shape",
        "sharedexample", "translator", "waiter",
    )),
    "numpy/_core/include",
    "numpy/_core/lib",
    "numpy/_pyinstaller",
    "numpy/distutils",
    "numpy/f2py",
    "numpy/random/_examples",
    "numpy/random/lib",
    "obstore/auth",
    "obstore/fsspec.py",
    "squash/encoders/export",
)  # fmt: skip
_UNUSED_ENCODER: Final = (
    "onnxruntime/backend",
    "onnxruntime/capi/libonnxruntime.so.*",  # for C programs: Python's module holds all of it
    "onnxruntime/capi/libonnxruntime_providers_shared.so",  # for other processors than the CPU
    "onnxruntime/datasets",
    "onnxruntime/quantization",
    "onnxruntime/tools",
    "onnxruntime/transformers",
    "tokenizers/tools",
)
_UNUSED_PYARROW: Final = (
    # Other formats than Parquet, other stores than memory, and what programs in C++ are made with.
    *(f"pyarrow/_{name}*" for name in (
        "acero", "azurefs", "csv", "cuda", "dataset", "dlpack", "feather", "flight", "gcsfs",
        "hdfs", "json", "orc", "parquet_encryption", "pyarrow_cpp_tests", "s3fs", "substrait",
    )),
    *(f"pyarrow/{name}.py" for name in (
        "acero", "benchmark", "cffi", "conftest", "csv", "cuda", "dataset", "feather", "flight",
        "json", "jvm", "orc", "pandas_compat", "substrait",
    )),
    "pyarrow/include",
    "pyarrow/includes",
    "pyarrow/interchange",
    "pyarrow/src",
    "pyarrow/*.h",
    "pyarrow/*.pxi",
    "pyarrow/*.pyx",
    "pyarrow/libarrow_flight.*",
    "pyarrow/libarrow_python_flight.*",
    "pyarrow/libarrow_python_parquet_encryption.*",
    "pyarrow/libarrow_s3.*",
    # The same three times, by three names; the loader asks for that with one number.
    "pyarrow/libarrow_python.so",
    "pyarrow/libarrow_python.so.*.*.*",
)  # fmt: skip
# Of the 400 services that botocore describes (28 MB), those that functions speak to, and what they
# ask of them; sts is for roles, and stays whole.
_SERVICES: Final = ("lambda", "s3", "ssm", "stepfunctions", "sts")
_OPERATIONS: Final = {
    "lambda": {"Invoke"},
    "s3": {
        "DeleteObject",  # on a condition
        "DeleteObjects",
        "GetObject",
        "HeadBucket",
        "HeadObject",
        "ListObjectsV2",
        "PutObject",
    },
    "ssm": {"GetParameter"},
    "stepfunctions": {"DescribeExecution", "StartExecution", "StopExecution"},
}


def _shorten_library(site: Path) -> None:
    shorten_imports(site)
    for path in (site / "botocore" / "data").iterdir():
        if path.is_dir() and path.name not in _SERVICES:
            remove(path)
    _shorten_descriptions(site / "botocore" / "data")


def _shorten_descriptions(data: Path) -> None:
    """Leave of botocore's descriptions what makes requests: no manuals, no other services.

    Making a client reads them, and of the processor's time for it this leaves a third.
    """
    for path in [*data.rglob("*.json"), *data.rglob("*.json.gz")]:
        packed = path.suffix == ".gz"
        content = path.read_bytes()
        described = _without_manual(json.loads(gzip.decompress(content) if packed else content))
        if path.name.startswith("service-2.json"):
            _keep_operations(described, _OPERATIONS.get(path.relative_to(data).parts[0]))
        if path.name == "endpoints.json":
            for partition in described["partitions"]:
                services = partition["services"]
                named = (*_SERVICES, "states")  # what Step Functions is called there
                partition["services"] = {n: services[n] for n in named if n in services}
        remove(path)
        short = json.dumps(described, separators=(",", ":"))
        path.with_name(path.name.removesuffix(".gz")).write_text(short)


def _keep_operations(described: dict[str, Any], names: set[str] | None) -> None:
    """Leave of a service some operations, and the shapes that they are made of."""
    if names is None:
        return
    operations = described["operations"]
    described["operations"] = {name: operations[name] for name in sorted(names & set(operations))}
    shapes, kept = described["shapes"], {}
    wanted = list(_shapes_in(list(described["operations"].values())))
    while wanted:
        name = wanted.pop()
        if name not in kept:
            kept[name] = shapes[name]
            wanted += _shapes_in(shapes[name])
    described["shapes"] = {name: kept[name] for name in sorted(kept)}


def _shapes_in(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("shape"), str):
            yield value["shape"]
        for part in value.values():
            yield from _shapes_in(part)
    elif isinstance(value, list):
        for part in value:
            yield from _shapes_in(part)


def _without_manual(value: Any) -> Any:
    if isinstance(value, dict):
        # Emptied, not taken out: botocore looks some of them up.
        return {
            name: "" if name == "documentation" and isinstance(part, str) else _without_manual(part)
            for name, part in value.items()
        }
    return [_without_manual(part) for part in value] if isinstance(value, list) else value


LIBRARY: Final = Contents(
    name="library",
    folder="layers/squash",
    sources=(*BUILDER, "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in", "layers/squash"),
    unused=_UNUSED_LIBRARY,
    shorten=_shorten_library,
    squash=True,
)
ENCODER: Final = Contents(
    name="encoder",
    folder="layers/encoder",
    sources=(*BUILDER, "layers/encoder"),
    unused=_UNUSED_ENCODER,
)
PARQUET: Final = Contents(
    name="builder",
    folder="layers/builder",
    sources=(*BUILDER, "layers/builder"),
    unused=_UNUSED_PYARROW,
)
LAYERS: Final = {one.name: one for one in (LIBRARY, ENCODER, PARQUET)}
