"""The PEP 517 backend: setuptools, with the native kernels compiled first.

`SQUASH_TARGET=aarch64` in the environment, or `--config-setting target=aarch64`, makes a wheel for
the other architecture. `SQUASH_NATIVE=0` leaves the native kernels out.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

from setuptools import build_meta
from setuptools.build_meta import (
    build_sdist,
    get_requires_for_build_sdist,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)
from setuptools.command.build_py import build_py

__all__ = [
    "BuildPy",
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

ConfigSettings: TypeAlias = Mapping[str, Any] | None


def _load_build() -> ModuleType:
    # By its place: PyPI has a package of the name too, and setuptools makes a folder of it.
    place = Path(__file__).with_name("build.py")
    spec = importlib.util.spec_from_file_location("squash_native_build", place)
    if spec is None or spec.loader is None:
        raise ImportError(f"{place} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


native = _load_build()
_made: list[Path] = []  # the library that goes into the wheel being built


class BuildPy(build_py):
    """Begins with an empty folder, since setuptools keeps modules deleted long ago in it.

    Of the libraries in the source tree it copies the one of the wheel's architecture.
    """

    def run(self) -> None:
        """Copy the package, then the library."""
        if self.editable_mode:
            super().run()
            return
        shutil.rmtree(Path(self.build_lib, "squash"), ignore_errors=True)
        super().run()
        folder = Path(self.build_lib, "squash", "kernels", native.OUTPUT.name)
        for library in _made:
            folder.mkdir(parents=True)
            shutil.copyfile(library, folder / library.name)


def get_requires_for_build_wheel(config_settings: ConfigSettings = None) -> list[str]:
    """Ask for ziglang where the system has no compiler for the target, and it can be had."""
    asked = build_meta.get_requires_for_build_wheel(config_settings)
    return [*asked, *_compiler_wanted(config_settings)]


def get_requires_for_build_editable(config_settings: ConfigSettings = None) -> list[str]:
    """Ask for ziglang where the system has no compiler, and it can be had."""
    asked = build_meta.get_requires_for_build_editable(config_settings)
    return [*asked, *_compiler_wanted(config_settings)]


def build_wheel(
    wheel_directory: str,
    config_settings: ConfigSettings = None,
    metadata_directory: str | None = None,
) -> str:
    """Build the native kernels, and a wheel whose tag says for which platform they are."""
    target = _target(config_settings)
    library = _build(target)
    _made[:] = [] if library is None else [library]
    settings = {key: value for key, value in (config_settings or {}).items() if key != "target"}
    tag = "" if library is None else native.platform_tag(library, target)
    if tag:
        options = settings.get("--build-option", [])
        options = [options] if isinstance(options, str) else options
        settings["--build-option"] = [*options, f"--plat-name={tag}"]
    made: str = build_meta.build_wheel(wheel_directory, settings, metadata_directory)
    return made


def build_editable(
    wheel_directory: str,
    config_settings: ConfigSettings = None,
    metadata_directory: str | None = None,
) -> str:
    """Build the native kernels into the source tree, which stays where it is."""
    _build(native.machine())
    made: str = build_meta.build_editable(wheel_directory, config_settings, metadata_directory)
    return made


def _target(config_settings: ConfigSettings) -> str:
    asked = (config_settings or {}).get("target") or os.environ.get("SQUASH_TARGET")
    return str(asked or native.machine())


def _wanted() -> bool:
    return os.environ.get("SQUASH_NATIVE") != "0"


def _compiler_wanted(config_settings: ConfigSettings) -> list[str]:
    target = _target(config_settings)
    # Elsewhere than on Linux, ziglang's libraries would serve the Lambda layers alone.
    if not _wanted() or target not in native.TARGETS:
        return []
    if target == native.machine() and not sys.platform.startswith("linux"):
        return []
    try:
        native.find_compiler(target)
    except native.NoCompilerError:
        # A requirement that can't be met would end the install; without it, it ends with a warning.
        return ["ziglang"] if _can_be_had("ziglang") else []
    return []


def _can_be_had(package: str) -> bool:
    """Ask pip whether it finds a package; where there is no pip, it is left to who installs."""
    asking = [sys.executable, "-m", "pip", "index", "versions", package]
    # Pip builds in an environment of its own, whose path hides pip.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [*asking, "--retries", "0", "--timeout", "10", "--disable-pip-version-check"],
        env=environment,
        check=False,
        capture_output=True,
    )
    return done.returncode == 0 or b"No module named pip" in done.stderr


def _build(target: str) -> Path | None:
    if not _wanted():
        return None
    try:
        made: Path = native.build(target)
    except native.BuildError as error:
        print(f"warning: no native kernels, NumPy's serve instead: {error}", file=sys.stderr)
        return None
    return made
