"""Build a layer, what Lambda lays into /opt: `python layers/layer.py --help`.

It holds what its `requirements.txt` names, without what no function loads; the library's also has
the package squash with its native kernels. Two builds from the same sources are the same to the
byte. No Docker is needed, and for another processor or another Python than this machine's pip takes
wheels as they are, and ziglang compiles the kernels.
"""

from __future__ import annotations

import argparse
import fcntl
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

from contents import LAYERS, Contents, remove, strip

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parent
CACHE: Final = ROOT / ".cache" / "layers"
NOTE: Final = "BUILD.json"
MACHINES: Final = {"arm64": "aarch64", "x86_64": "x86_64"}
PYTHONS: Final = ("3.12", "3.13", "3.14")
EPOCH_S: Final = 315_619_200  # 1980-01-02, the first day that a zip file can tell everywhere


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
        # pip takes no wheels for an older glibc than it is told of, though they run as well.
        systems = ("manylinux_2_28", "manylinux_2_24", "manylinux_2_17", "manylinux2014")
        return [
            *(f"--platform={system}_{self.machine}" for system in systems),
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


def build(contents: Contents, target: Target, out: Path) -> None:
    """Lay the layer into a folder, built anew if its sources have changed since it was last built.

    Raises
    ------
    LayerError
        If it cannot be built.

    """
    made = CACHE / f"{contents.name}-{target.name}"
    with _alone(made.with_name(f"{made.name}.lock")):
        interpreter = _interpreter(target.python)
        digest = _digest(contents, target, interpreter)
        if _note(made).get("digest") != digest:
            remove(made)
            CACHE.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=CACHE) as temporary:
                fresh = Path(temporary) / "layer"
                _make(contents, target, interpreter=interpreter, digest=digest, layer=fresh)
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


def _make(
    contents: Contents, target: Target, *, interpreter: str | None, digest: str, layer: Path
) -> None:
    site = layer / "python"
    note: dict[str, Any] = {"architecture": target.architecture, "python": target.python}
    _install_requirements(contents, target, site)
    if contents.squash:
        kernels = _install_squash(contents, target, site)
        note |= {"squash": _squash_version(site), "kernels": kernels}
    strip(contents, site)
    if interpreter is not None:
        _compile(interpreter, site)
    note |= {"bytecode": interpreter is not None, "digest": digest}
    (layer / NOTE).write_text(json.dumps(note, indent=2) + "\n")
    for path in [layer, *layer.rglob("*")]:
        path.chmod(0o755 if path.is_dir() or path.suffix == ".so" else 0o644)
        os.utime(path, (EPOCH_S, EPOCH_S))


def _install_requirements(contents: Contents, target: Target, site: Path) -> None:
    _pip(
        "install",
        "--quiet",
        "--no-deps",
        "--no-compile",
        "--only-binary=:all:",
        f"--target={site}",
        f"--requirement={ROOT / contents.folder / 'requirements.txt'}",
        *target.pip_flags(),
    )


def _install_squash(contents: Contents, target: Target, site: Path) -> bool:
    """Build the wheel in a clean folder, and lay it into the layer; say if it has kernels."""
    # The same folder every time: compiled objects are found again by the paths in their command.
    source = CACHE / f"{target.name}-source"
    remove(source)
    for name in contents.sources:
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
    remove(source)
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


def _digest(contents: Contents, target: Target, interpreter: str | None) -> str:
    """Sum up all that the layer is made of."""
    compilers = [os.environ.get("CC"), *map(shutil.which, ("cc", "gcc", "clang"))]
    here = (sys.version, compilers) if target.here else ()
    found = hashlib.sha256(repr((target, interpreter is not None, here)).encode())
    for path in _source_files(contents):
        found.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return found.hexdigest()


def _source_files(contents: Contents) -> Iterator[Path]:
    for name in contents.sources:
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
        remove(path)
    shutil.copytree(made / "python", out / "python")
    shutil.copystat(made / "python", out / "python")
    shutil.copy2(made / NOTE, note)


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Hold a lock, so that builds of one target that run at once don't mix."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main() -> int:
    """Build what the command line asks for."""
    parser = argparse.ArgumentParser(description="Build a layer of Squash's functions.")
    parser.add_argument("--layer", choices=tuple(LAYERS), required=True)
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
        build(LAYERS[asked.layer], target, asked.out.resolve())
    except LayerError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
