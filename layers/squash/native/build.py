"""Compile the native kernels into one shared object: `python build.py --help`.

A C compiler of the system serves its own architecture; ziglang (PyPI) serves where there is none,
and for the other architecture. What is there already is compiled again only if a source, a header
or the command has changed.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).resolve().parent
OUTPUT: Final = HERE.parent / "squash" / "kernels" / "_native"
OBJECTS: Final = HERE.parents[2] / ".cache" / "native"
GLIBC_MINOR: Final = 28  # what Lambda's python3.12 and manylinux_2_28 have
TARGETS: Final = ("x86_64", "aarch64")
STALE_SECONDS: Final = 24 * 3600  # so long an object is kept after its last use

FLAGS: Final = (
    "-std=c11",
    "-O3",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fPIC",
    "-fvisibility=hidden",
    "-Wall",
    "-Wextra",
)
_AVX2: Final = ("-DSQ_USE_AVX2", "-mavx2", "-mf16c", "-mbmi", "-mbmi2", "-mpopcnt", "-mlzcnt")
_AVX512: Final = tuple(f"-mavx512{part}" for part in ("f", "bw", "vl", "dq", "vnni", "vbmi"))
VARIANTS: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "x86_64": {
        "portable": (),
        "avx2": _AVX2,
        "avx512": (*_AVX2, *_AVX512, "-DSQ_USE_AVX512", "-mprefer-vector-width=512"),
    },
    "aarch64": {
        "portable": (),
        "neon": ("-DSQ_USE_NEON",),
        "neondot": ("-DSQ_USE_NEON", "-DSQ_USE_DOT", "-march=armv8.2-a+dotprod"),
    },
}
_ZIG_FLAGS: Final = {"-march=armv8.2-a+dotprod": "-mcpu=generic+dotprod"}
COMMON: Final = ("entry.c", "variants.c")  # compiled once, for all variants
SANITIZE: Final = (
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
    "-fno-omit-frame-pointer",
    "-g",
)


class BuildError(Exception):
    """There is no compiler, or it failed; the message says which and what to do."""


class NoCompilerError(BuildError):
    """Neither the system nor ziglang has a compiler for the target."""


@dataclass(frozen=True, slots=True)
class Compiler:
    """A C compiler's command, and whether it is ziglang."""

    command: tuple[str, ...]
    zig: bool


def machine() -> str:
    """Return this machine's architecture as targets are called."""
    name = platform.machine().lower()
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(name, name)


def find_compiler(target: str, cc: str | None = None, *, static: bool = False) -> Compiler:
    """Return the compiler for a target, or the one for programs that need no library.

    Raises
    ------
    NoCompilerError
        If there is none.

    """
    if cc:
        words = tuple(shlex.split(cc))
        return Compiler(words, zig="zig" in cc)
    if target == machine():
        for name in (os.environ.get("CC"), "cc", "gcc", "clang"):
            words = tuple(shlex.split(name or ""))
            if words and shutil.which(words[0]):
                return Compiler(words, zig=False)
    if find_spec("ziglang") is not None and target in TARGETS:
        triple = f"{target}-linux-musl" if static else f"{target}-linux-gnu.2.{GLIBC_MINOR}"
        return Compiler((sys.executable, "-m", "ziglang", "cc", "-target", triple), zig=True)
    raise NoCompilerError(
        f"there is no C compiler for {target}: install gcc or clang, or `pip install ziglang`"
    )


def library_name(target: str) -> str:
    """Return the shared object's file name."""
    return f"libsquash-{target}.so"


def build(
    target: str | None = None,
    *,
    out: Path = OUTPUT,
    cc: str | None = None,
    sanitize: bool = False,
) -> Path:
    """Compile the shared object of one architecture, if it is not there already.

    Raises
    ------
    BuildError
        If it cannot be made; one that is there and out of date has then been removed.

    """
    target = target or machine()
    library = out / library_name(target)
    stamp = library.with_suffix(".sha256")
    try:
        compiler = _checked(target, cc)
        digest = _digest(compiler, target, sanitize=sanitize)
        if library.exists() and stamp.exists() and stamp.read_text() == digest:
            return library
        out.mkdir(parents=True, exist_ok=True)
        objects = _compile(compiler, target, sanitize=sanitize)
        extra = SANITIZE if sanitize else ("-s",)
        _link(compiler, objects, library, ("-shared", *extra))
    except BuildError:
        library.unlink(missing_ok=True)
        stamp.unlink(missing_ok=True)
        raise
    stamp.write_text(digest)
    return library


def build_check(
    target: str | None = None, *, out: Path, cc: str | None = None, sanitize: bool = False
) -> Path:
    """Compile the program that compares all variants on random inputs.

    Raises
    ------
    BuildError
        If it cannot be made.

    """
    target = target or machine()
    compiler = _checked(target, cc, static=True)
    out.mkdir(parents=True, exist_ok=True)
    program = out / f"check-{target}{'-sanitized' if sanitize else ''}"
    objects = _compile(compiler, target, sanitize=sanitize, check=True)
    # The sanitizers of gcc want their own libraries at run time; all else goes into the program.
    _link(
        compiler, objects, program, SANITIZE if sanitize else ("-static",) if compiler.zig else ()
    )
    return program


def _checked(target: str, cc: str | None, *, static: bool = False) -> Compiler:
    if target not in TARGETS:
        raise NoCompilerError(f"there are no native kernels for {target}")
    return find_compiler(target, cc, static=static)


def _jobs(target: str, *, check: bool) -> list[tuple[Path, tuple[str, ...]]]:
    """Return each source file with the flags of its own."""
    # The program runs without Python.
    common = ("variants.c",) if check else COMMON
    jobs: list[tuple[Path, tuple[str, ...]]] = [(HERE / "src" / name, ()) for name in common]
    for name, flags in VARIANTS[target].items():
        jobs += [
            (source, (f"-DSQ_VARIANT={name}", *flags))
            for source in sorted((HERE / "src").glob("*.c"))
            if source.name not in COMMON
        ]
    if check:
        jobs.append((HERE / "check" / "check.c", ()))
    return jobs


def _command(compiler: Compiler, *, sanitize: bool) -> tuple[str, ...]:
    # Clang in zig's hands traps on undefined behaviour unless told otherwise.
    own = ("-fno-sanitize=all",) if compiler.zig and not sanitize else ()
    include = f"-I{HERE / 'include'}"
    return (*compiler.command, *FLAGS, *own, *(SANITIZE if sanitize else ()), include)


def _headers() -> bytes:
    headers = sorted([*(HERE / "include").glob("*.h"), *(HERE / "src").glob("*.h")])
    return b"\0".join(header.read_bytes() for header in headers)


def _digest(compiler: Compiler, target: str, *, sanitize: bool) -> str:
    found = hashlib.sha256(repr(_command(compiler, sanitize=sanitize)).encode())
    found.update(_headers())
    for source, flags in _jobs(target, check=False):
        found.update(repr((source.name, flags)).encode() + source.read_bytes())
    return found.hexdigest()


def _compile(compiler: Compiler, target: str, *, sanitize: bool, check: bool = False) -> list[Path]:
    """Compile what has changed, two at a time; return the objects."""
    command = _command(compiler, sanitize=sanitize)
    headers = _headers()
    folder = OBJECTS / target
    folder.mkdir(parents=True, exist_ok=True)

    def own_flags(flags: tuple[str, ...]) -> list[str]:
        # zig knows processors and their features, but not versions of the architecture.
        return [_ZIG_FLAGS.get(flag, flag) if compiler.zig else flag for flag in flags]

    def compile_one(job: tuple[Path, tuple[str, ...]]) -> Path:
        source, flags = job
        key = repr((command, flags, source.name)).encode() + headers + source.read_bytes()
        made = folder / f"{source.stem}-{hashlib.sha256(key).hexdigest()[:24]}.o"
        if not made.exists():
            with tempfile.TemporaryDirectory(dir=folder) as temporary:
                fresh = Path(temporary) / "made.o"
                _run([*command, *own_flags(flags), "-c", str(source), "-o", str(fresh)])
                fresh.replace(made)
        else:
            made.touch()
        return made

    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(compile_one, _jobs(target, check=check)))
    # Others may be compiling at this moment, in other ways: what was used lately stays.
    newest = max(made.stat().st_mtime for made in objects)
    for stale in folder.glob("*.o"):
        with suppress(FileNotFoundError):  # another build may tidy up too
            if stale.stat().st_mtime < newest - STALE_SECONDS:
                stale.unlink()
    return objects


def _link(compiler: Compiler, objects: list[Path], made: Path, flags: tuple[str, ...]) -> None:
    # A library in use is not written over: processes that have it keep the old one.
    with tempfile.TemporaryDirectory(dir=made.parent) as temporary:
        fresh = Path(temporary) / made.name
        _run([*compiler.command, *map(str, objects), *flags, "-o", str(fresh)])
        fresh.replace(made)


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BuildError(f"{shlex.join(command)} failed:\n{done.stderr or done.stdout}")
    if done.stderr.strip():
        print(done.stderr, file=sys.stderr)


def platform_tag(library: Path, target: str) -> str:
    """Return the platform of a wheel that carries a library: what its symbols ask of glibc."""
    if sys.platform != "linux" and target == machine() and not _is_elf(library):
        return ""
    content = library.read_bytes()
    minors = [int(found) for found in re.findall(rb"GLIBC_2\.(\d+)", content)]
    if b"libc.so.6" in content and max(minors, default=0) <= GLIBC_MINOR:
        return f"manylinux_2_{GLIBC_MINOR}_{target}"
    return f"linux_{target}"


def _is_elf(library: Path) -> bool:
    with library.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def main() -> int:
    """Build what the command line asks for."""
    parser = argparse.ArgumentParser(description="Compile Squash's native kernels.")
    parser.add_argument("--target", choices=TARGETS, default=None, help="default: this machine's")
    parser.add_argument("--out", type=Path, default=OUTPUT, help="default: where Squash looks")
    parser.add_argument("--cc", help="the compiler's command; default: cc, gcc, clang, ziglang")
    parser.add_argument("--sanitize", action="store_true", help="with address and undefined checks")
    parser.add_argument("--check", action="store_true", help="the program comparing all variants")
    parser.add_argument("--verbose", action="store_true", help="say where what was made lies")
    asked = parser.parse_args()
    make = build_check if asked.check else build
    try:
        made = make(asked.target, out=asked.out, cc=asked.cc, sanitize=asked.sanitize)
        if asked.verbose:
            print(made)
    except NoCompilerError as error:
        print(f"warning: no native kernels, NumPy's serve: {error}", file=sys.stderr)
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
