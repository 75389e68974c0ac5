"""Build the library layer, what Lambda lays into /opt: `python layer.py --help`.

It holds the package squash with its native kernels, and what `requirements.txt` names, without what
no function loads. Two builds from the same sources are the same to the byte. No Docker is needed,
and for another processor or another Python than this machine's pip takes wheels as they are, and
ziglang compiles the kernels.
"""

from __future__ import annotations

import argparse
import fcntl
import gzip
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parents[1]
CACHE: Final = ROOT / ".cache" / "layers"
SOURCES: Final = ("pyproject.toml", "README.md", "LICENSE", "MANIFEST.in", "layers/squash")
NOTE: Final = "BUILD.json"
MACHINES: Final = {"arm64": "aarch64", "x86_64": "x86_64"}
PYTHONS: Final = ("3.12", "3.13", "3.14")
EPOCH_S: Final = 315_619_200  # 1980-01-02, the first day that a zip file can tell everywhere

# What functions never load. Patterns are of paths below python/.
UNUSED: Final = (
    "**/tests",
    "**/*.pyi",
    "**/*.pxd",
    "**/*.a",
    "*.dist-info/RECORD",  # it would name what is gone
    "*.dist-info/INSTALLER",
    "*.dist-info/REQUESTED",
    "*.dist-info/direct_url.json",
    "bin",
    "botocore/data/*/*/examples-1.json*",
    "numpy/_core/include",
    "numpy/_core/lib",
    "numpy/_pyinstaller",
    "numpy/distutils",
    "numpy/f2py",
    "numpy/random/_examples",
    "numpy/random/lib",
)
# A sixth of NumPy's import goes into docstrings of what is compiled, which nobody reads in Lambda.
DOCUMENTATION: Final = (
    "numpy/_core/_add_newdocs.py",
    "numpy/_core/_add_newdocs_scalars.py",
)
# Of the 400 services that botocore describes (28 MB), those that functions speak to, and what they
# ask of them; sts is for roles, and stays whole.
SERVICES: Final = ("lambda", "s3", "sts")
OPERATIONS: Final = {
    "lambda": {"Invoke"},
    "s3": {"DeleteObjects", "GetObject", "HeadBucket", "ListObjectsV2", "PutObject"},
}


class LayerError(Exception):
    """The layer cannot be built; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Target:
    """For which Lambda, or for this machine, a layer is built."""

    architecture: str
    python: str
    here: bool

    @property
    def name(self) -> str:
        """What its folder in the cache is called."""
        return f"{'here' if self.here else 'lambda'}-{self.architecture}-{self.python}"

    @property
    def machine(self) -> str:
        """The architecture, as compilers and wheels call it."""
        return MACHINES.get(self.architecture, self.architecture)

    def pip_flags(self) -> list[str]:
        """Have pip take wheels for the target."""
        if self.here:
            return []
        return [
            f"--platform=manylinux_2_28_{self.machine}",
            f"--python-version={self.python}",
            "--implementation=cp",
        ]


def this_machine() -> Target:
    """Return the target that runs here."""
    names = {machine: architecture for architecture, machine in MACHINES.items()}
    machine = platform.machine().lower()
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return Target(names.get(machine, machine), version, here=True)


def build(target: Target, out: Path) -> None:
    """Lay the layer into a folder, built anew if its sources have changed since it was last built.

    Raises
    ------
    LayerError
        If it cannot be built.

    """
    with _alone(CACHE / f"{target.name}.lock"):
        interpreter = _interpreter(target.python)
        digest = _digest(target, interpreter)
        made = CACHE / target.name
        if _note(made).get("digest") != digest:
            _remove(made)
            CACHE.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=CACHE) as temporary:
                fresh = Path(temporary) / "layer"
                _make(target, interpreter, digest, fresh)
                fresh.rename(made)
        if _note(out).get("digest") != digest:
            _replace(made, out)
    if interpreter is None:
        print(
            f"There is no python{target.python} here, so the layer carries no bytecode, and every "
            f"cold start compiles what it imports. Install python{target.python}, or name one that "
            "is here: make build PY=3.12",
            file=sys.stderr,
        )


def _make(target: Target, interpreter: str | None, digest: str, layer: Path) -> None:
    site = layer / "python"
    _install_requirements(target, site)
    kernels = _install_squash(target, site)
    _strip(site)
    if interpreter is not None:
        _compile(interpreter, site)
    note = {
        "architecture": target.architecture,
        "python": target.python,
        "squash": _squash_version(site),
        "kernels": kernels,
        "bytecode": interpreter is not None,
        "digest": digest,
    }
    (layer / NOTE).write_text(json.dumps(note, indent=2) + "\n")
    for path in [layer, *layer.rglob("*")]:
        path.chmod(0o755 if path.is_dir() or path.suffix == ".so" else 0o644)
        os.utime(path, (EPOCH_S, EPOCH_S))


def _install_requirements(target: Target, site: Path) -> None:
    _pip(
        "install",
        "--quiet",
        "--no-deps",
        "--no-compile",
        "--only-binary=:all:",
        f"--target={site}",
        f"--requirement={HERE / 'requirements.txt'}",
        *target.pip_flags(),
    )


def _install_squash(target: Target, site: Path) -> bool:
    """Build the wheel in a clean folder, and lay it into the layer; say if it has kernels."""
    # The same folder every time: compiled objects are found again by the paths in their command.
    source = CACHE / f"{target.name}-source"
    _remove(source)
    for name in SOURCES:
        _copy_source(ROOT / name, source / name)
    objects = ROOT / ".cache" / "native"
    objects.mkdir(parents=True, exist_ok=True)
    (source / ".cache").mkdir()
    (source / ".cache" / "native").symlink_to(objects)
    with tempfile.TemporaryDirectory(dir=CACHE) as wheels:
        _pip("wheel", "--quiet", "--no-deps", f"--wheel-dir={wheels}", str(source), target=target)
        (wheel,) = Path(wheels).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)
    _remove(source)
    kernels = any((site / "squash" / "kernels" / "_native").glob("*.so"))
    if not target.here:
        _check_for_lambda(wheel.name, target, kernels=kernels)
    return kernels


def _check_for_lambda(wheel: str, target: Target, *, kernels: bool) -> None:
    if not kernels:
        raise LayerError(
            f"the native kernels were not compiled for {target.architecture}, and without them "
            "queries cost many times as much: `pip install ziglang`, or install a C compiler"
        )
    if f"manylinux_2_28_{target.machine}" not in wheel:
        raise LayerError(
            f"{wheel}: the C compiler here made kernels that want a newer glibc than Lambda has. "
            "Have ziglang make them: `pip install ziglang`, then "
            f"CC='{sys.executable} -m ziglang cc -target {target.machine}-linux-gnu.2.28'"
        )


def _copy_source(source: Path, copy: Path) -> None:
    if source.is_file():
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, copy)
    else:
        unwanted = shutil.ignore_patterns("__pycache__", "_native", "*.egg-info", ".*")
        shutil.copytree(source, copy, ignore=unwanted)


def _pip(*words: str, target: Target | None = None) -> None:
    environment = dict(os.environ)
    environment["SOURCE_DATE_EPOCH"] = str(EPOCH_S)
    if target is not None:
        environment["SQUASH_TARGET"] = target.machine
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *words]
    done = subprocess.run(
        [*command, "--root-user-action=ignore"] if words[0] == "install" else command,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise LayerError(f"pip {words[0]} failed:\n{done.stderr or done.stdout}")


def _strip(site: Path) -> None:
    for pattern in UNUSED:
        for path in sorted(site.glob(pattern)):
            _remove(path)
    for name in DOCUMENTATION:
        (site / name).write_text('"""Nothing: it attached manuals to what is compiled."""\n')
    for path in (site / "botocore" / "data").iterdir():
        if path.is_dir() and path.name not in SERVICES:
            _remove(path)
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
            _keep_operations(described, OPERATIONS.get(path.relative_to(data).parts[0]))
        if path.name == "endpoints.json":
            for partition in described["partitions"]:
                services = partition["services"]
                partition["services"] = {n: services[n] for n in SERVICES if n in services}
        _remove(path)
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


def _compile(interpreter: str, site: Path) -> None:
    """Add bytecode that is never held against its source: /opt is read-only, so none is kept there.

    Importing botocore takes more than twice as long without.
    """
    code = (
        "import compileall, py_compile, sys; "
        "sys.exit(not compileall.compile_dir(sys.argv[1], quiet=1, maxlevels=20, "
        "stripdir=sys.argv[1], prependdir='/opt/python', "
        "invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH))"
    )
    done = subprocess.run(
        [interpreter, "-I", "-c", code, str(site)], check=False, capture_output=True, text=True
    )
    if done.returncode != 0:
        raise LayerError(f"compiling to bytecode failed:\n{done.stdout}{done.stderr}")


def _interpreter(version: str) -> str | None:
    """Find a Python of a version, for its bytecode is its own."""
    for candidate in (sys.executable, shutil.which(f"python{version}")):
        if candidate is None:
            continue
        # A version manager has commands for Pythons that are not installed.
        asked = [candidate, "-I", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
        done = subprocess.run(asked, check=False, capture_output=True, text=True)
        if done.returncode == 0 and done.stdout.strip() == version:
            return candidate
    return None


def _digest(target: Target, interpreter: str | None) -> str:
    """Sum up all that the layer is made of."""
    compilers = [os.environ.get("CC"), *map(shutil.which, ("cc", "gcc", "clang"))]
    here = (sys.version, compilers) if target.here else ()
    found = hashlib.sha256(repr((target, interpreter is not None, here)).encode())
    for path in _source_files():
        found.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return found.hexdigest()


def _source_files() -> Iterator[Path]:
    for name in SOURCES:
        place = ROOT / name
        for path in [place] if place.is_file() else sorted(place.rglob("*")):
            parts = path.relative_to(ROOT).parts
            hidden = any(p in {"__pycache__", "_native"} or p.endswith(".egg-info") for p in parts)
            if path.is_file() and not hidden:
                yield path


def _squash_version(site: Path) -> str:
    (metadata,) = site.glob("squash_search-*.dist-info/METADATA")
    found = re.search(r"^Version: (.+)$", metadata.read_text(), re.MULTILINE)
    return found[1] if found else ""


def _note(layer: Path) -> dict[str, Any]:
    path = layer / NOTE
    note: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return note


def _replace(made: Path, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    note = out / NOTE
    note.unlink(missing_ok=True)  # so that half a copy is not taken for a whole one
    for path in out.iterdir():
        _remove(path)
    shutil.copytree(made / "python", out / "python")
    shutil.copystat(made / "python", out / "python")
    shutil.copy2(made / NOTE, note)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Hold a lock, so that builds of one target that run at once don't mix."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main() -> int:
    """Build what the command line asks for."""
    parser = argparse.ArgumentParser(description="Build the library layer of Squash's functions.")
    parser.add_argument("--out", type=Path, required=True, help="what becomes /opt")
    parser.add_argument("--architecture", choices=(*MACHINES, "here"), default="arm64")
    parser.add_argument("--python", choices=PYTHONS, default="3.13", help="without effect here")
    asked = parser.parse_args()
    target = (
        this_machine()
        if asked.architecture == "here"
        else Target(asked.architecture, asked.python, here=False)
    )
    try:
        build(target, asked.out.resolve())
    except LayerError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
