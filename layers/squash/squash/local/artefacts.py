"""The built artefacts: where they lie, whether they can run here, and the runtime beside them."""

from __future__ import annotations

import importlib.metadata
import platform
import re
import struct
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from squash.errors import DataError, NotFoundError
from squash.local.template.values import Function, Template
from squash.values import dataclass

# What Lambda's Python runtime brings with it.
_RUNTIME_DISTRIBUTIONS: Final = ("awslambdaric", "boto3")
_REQUIREMENT_NAME: Final = re.compile(r"[A-Za-z0-9._-]+")
_EXTENSION: Final = re.compile(r"(?P<stem>[^.]+)\.(?P<tag>cpython-[^.]+|abi3)\.so")
_ELF_MACHINES: Final = {62: "x86_64", 183: "aarch64"}
_ELF_MACHINE_OFFSET: Final = 18


@dataclass(frozen=True, slots=True)
class Artefact:
    """A function as it was built: its folder, and those of its layers, the first found first."""

    folder: Path
    layers: tuple[Path, ...]

    @property
    def search_path(self) -> tuple[Path, ...]:
        """Where its modules are looked for."""
        return (self.folder, *self.layers)


def find_artefacts(template: Template, build: Path) -> dict[str, Artefact]:
    """Find what was built of every function, and check that this Python can run it.

    Parameters
    ----------
    template:
        The template that was built.
    build:
        The folder with a folder for each function and layer, by their logical ids.

    Raises
    ------
    NotFoundError
        If a function or a layer was not built.
    DataError
        If one was built for another Python or another processor.

    """
    checked: set[Path] = set()
    artefacts: dict[str, Artefact] = {}
    for function in template.functions.values():
        artefact = _artefact(function, build)
        for folder in artefact.search_path:
            if folder not in checked:
                check_extensions(folder)
                checked.add(folder)
        artefacts[function.name] = artefact
    return artefacts


def _artefact(function: Function, build: Path) -> Artefact:
    folder = build / function.logical_id
    module = PurePosixPath(function.handler.rpartition(".")[0].replace(".", "/"))
    if not (folder / module.with_suffix(".py")).is_file():
        raise NotFoundError(
            f"{folder / module}.py is not there: {function.logical_id} is not built. "
            "`make build-local` builds it; say where it lies with --build DIR"
        )
    # On Lambda all layers are laid over one another in /opt, the last on top.
    layers = []
    for layer in reversed(function.layers):
        if not (build / layer / "python").is_dir():
            raise NotFoundError(
                f"{build / layer / 'python'} is not there: the layer {layer} is not built. "
                "`make build-local` builds it"
            )
        layers.append(build / layer / "python")
    return Artefact(folder=folder.resolve(), layers=tuple(layer.resolve() for layer in layers))


def check_extensions(folder: Path) -> None:
    """Refuse a folder whose compiled modules are for another Python or another processor.

    Raises
    ------
    DataError
        With what it was built for, what is needed here, and how to build that.

    """
    ours = sysconfig.get_config_var("EXT_SUFFIX").removeprefix(".").removesuffix(".so")
    found: dict[Path, dict[str, Path]] = {}
    for path in folder.rglob("*.so"):
        match = _EXTENSION.fullmatch(path.name)
        if match:
            found.setdefault(path.parent / match["stem"], {})[match["tag"]] = path
    for tags in found.values():
        if ours in tags or ("abi3" in tags and _machine(tags["abi3"]) == platform.machine()):
            continue
        tag, path = next(iter(tags.items()))
        raise DataError(
            f"{path} is compiled for {tag if tag != 'abi3' else _machine(path)}, and squash local "
            f"runs functions with {ours}: `make build-local` builds for here, or start it "
            "with the Python, and on the processor, that was built for"
        )


def _machine(path: Path) -> str:
    """Return the processor that an ELF file is for."""
    with path.open("rb") as stream:
        head = stream.read(_ELF_MACHINE_OFFSET + 2)
    if len(head) < _ELF_MACHINE_OFFSET + 2:
        return "unknown"
    (code,) = struct.unpack_from("<H", head, _ELF_MACHINE_OFFSET)
    return _ELF_MACHINES.get(code, f"machine {code}")


def link_runtime(folder: Path) -> Path:
    """Gather what Lambda's runtime has, and nothing else of this environment, in one folder.

    Functions must find what they need in their artefact; if they ran on this environment, a
    package that the layer lacks would be found here and missed in the cloud.

    Parameters
    ----------
    folder:
        Where to make the links; it is made.

    Raises
    ------
    NotFoundError
        If the runtime client is not installed.

    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in _closure(_RUNTIME_DISTRIBUTIONS):
        distribution = importlib.metadata.distribution(name)
        tops = {PurePosixPath(str(file)).parts[0] for file in distribution.files or ()}
        for top in tops - {"..", "__pycache__"}:
            target = Path(str(distribution.locate_file(top))).resolve()
            link = folder / top
            if target.exists() and not link.exists():
                link.symlink_to(target)
    return folder


def _closure(names: tuple[str, ...]) -> Iterator[str]:
    """Walk distributions and what they require, extras left out."""
    waiting, seen = list(names), set[str]()
    while waiting:
        name = waiting.pop()
        key = name.lower().replace("_", "-")
        if key in seen:
            continue
        seen.add(key)
        try:
            requirements = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError as error:
            if name in _RUNTIME_DISTRIBUTIONS:
                raise NotFoundError(
                    f"{name} is not installed, which runs the functions: "
                    f"{sys.executable} -m pip install 'squash-search[local]'"
                ) from error
            continue  # asked for on another system or another Python
        yield name
        for requirement in requirements:
            match = _REQUIREMENT_NAME.match(requirement)
            if match and "extra ==" not in requirement:
                waiting.append(match[0])
