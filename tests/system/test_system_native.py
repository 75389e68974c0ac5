"""The native kernels are built as the machine allows, and hold under sanitizers and on arm64."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from squash.kernels import making, native, native_table

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "layers" / "squash" / "native"
CHECK_ROUNDS = "150"


def load(name):
    """Return a module of the build by its place."""
    spec = importlib.util.spec_from_file_location(f"squash_test_{name}", SOURCES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def build():
    return load("build")


@pytest.fixture
def backend():
    pytest.importorskip("setuptools")
    return load("squash_backend")


@pytest.fixture
def no_compiler(monkeypatch):
    """Make a machine without a C compiler and without ziglang."""
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: None)


def check(build, tmp_path, *, target=None, sanitize=False):
    """Build the program that compares all variants; skip where it cannot be built."""
    try:
        return build.build_check(target, out=tmp_path, sanitize=sanitize)
    except build.NoCompilerError as error:
        pytest.skip(str(error))


def run(*command):
    done = subprocess.run(  # noqa: S603 - our own program
        [str(word) for word in command], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def test_native_header_and_python_agree():
    """Numbers that both sides know are the same, and each operation has a prototype."""
    header = (SOURCES / "include" / "squash_kernels.h").read_text()
    assert f"#define SQ_INTERFACE {native.INTERFACE}\n" in header
    assert f"SQ_STACK_WORDS = {native_table.STACK_WORDS} " in header
    assert f"SQ_FORM_NONES_MAX = {making._NONES_MAX} " in header
    prototypes = re.findall(r"SQ_EXPORT \w+ SQ_NAME\((\w+)\)\(([^)]*)\)", header)
    assert {name: len(given.split(",")) for name, given in prototypes} == {
        name: len(given) for name, (_, given) in native._SIGNATURES.items()
    }


@pytest.mark.slow
def test_native_build_has_nothing_to_do_the_second_time(build, tmp_path):
    """What is up to date is neither compiled nor linked again."""
    try:
        library = build.build(out=tmp_path)
    except build.NoCompilerError as error:
        pytest.skip(str(error))
    before = library.stat()
    assert build.build(out=tmp_path).stat() == before
    library.with_suffix(".sha256").write_text("of other sources")
    assert build.build(out=tmp_path).stat().st_ino != before.st_ino


def test_native_build_without_a_compiler_warns(build, no_compiler, monkeypatch, tmp_path, capsys):
    """There is one clear warning, no failure, and no library of older sources."""
    monkeypatch.setattr(build, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["build.py", "--out", str(tmp_path)])
    stale = tmp_path / build.library_name(build.machine())
    stale.write_bytes(b"old")
    assert build.main() == 0
    assert "install gcc or clang, or `pip install ziglang`" in capsys.readouterr().err
    assert not stale.exists()


def test_native_build_says_what_a_compiler_said(build, tmp_path):
    """A compiler that fails is an error with its command."""
    with pytest.raises(build.BuildError, match="failed"):
        build.build(out=tmp_path, cc="false")


def test_native_backend_asks_for_ziglang_only_where_it_is_needed(backend, no_compiler, monkeypatch):
    """It is 400 MB: a system's own compiler comes first, and a way round it always exists."""
    for name in ("get_requires_for_build_wheel", "get_requires_for_build_editable"):
        monkeypatch.setattr(backend.build_meta, name, lambda settings: ["wheel"])
    monkeypatch.setattr(backend.native, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(backend.native, "machine", lambda: "x86_64")
    monkeypatch.setattr(backend, "_can_be_had", lambda package: package == "ziglang")
    assert backend.get_requires_for_build_wheel()[-1:] == ["ziglang"]
    assert backend.get_requires_for_build_editable()[-1:] == ["ziglang"]
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert "ziglang" not in backend.get_requires_for_build_editable()
    assert "ziglang" in backend.get_requires_for_build_wheel({"target": "aarch64"})
    monkeypatch.setattr(backend, "_can_be_had", lambda package: False)
    assert "ziglang" not in backend.get_requires_for_build_wheel({"target": "aarch64"})
    monkeypatch.setattr(backend, "_can_be_had", lambda package: True)
    monkeypatch.setenv("SQUASH_NATIVE", "0")
    assert "ziglang" not in backend.get_requires_for_build_wheel({"target": "aarch64"})


def test_native_backend_asks_pip_what_can_be_had(backend, monkeypatch, tmp_path):
    """What no index and no folder has is not asked for; without pip, whoever installs decides."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    assert not backend._can_be_had("ziglang")
    (tmp_path / "ziglang-0.13.0-py3-none-any.whl").write_bytes(b"")
    assert backend._can_be_had("ziglang")
    monkeypatch.setattr(backend.sys, "executable", shutil.which("false"))
    assert not backend._can_be_had("ziglang")


@pytest.mark.slow
@pytest.mark.parametrize("indexed", [True, False], ids=["ziglang", "no ziglang"])
def test_native_install_without_a_compiler(tmp_path, indexed):
    """Ziglang compiles where there is no compiler; without both there is a wheel of twins."""
    copy, wheels = tmp_path / "copy", tmp_path / "wheels"
    copied(copy)
    wheels.mkdir()
    bare = tmp_path / "bin"
    bare.mkdir()
    for name in ("sh", "env", "uname"):
        (bare / name).symlink_to(shutil.which(name))
    environment = {n: v for n, v in os.environ.items() if n not in {"CC", "PYTHONPATH"}}
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    if not indexed:
        # A folder that has all but ziglang.
        run(*pip, "download", "--quiet", "--dest", wheels, "setuptools>=77")
        environment |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)}
    made = subprocess.run(  # noqa: S603 - our own package
        [*pip, "wheel", "--verbose", "--no-deps", "--wheel-dir", str(tmp_path), str(copy)],
        check=False,
        capture_output=True,
        text=True,
        env=environment | {"PATH": str(bare)},
    )
    assert made.returncode == 0, made.stdout + made.stderr
    (wheel,) = tmp_path.glob("squash_search-*.whl")
    library = [name for name in zipfile.ZipFile(wheel).namelist() if "_native" in name]
    said = made.stdout + made.stderr
    if not indexed:
        assert "warning: no native kernels, NumPy's serve" in said
        assert library == []
        assert "none-any" in wheel.name
    elif not library:
        pytest.skip("ziglang is not to be had here")


def copied(folder):
    """Copy what git knows, or would take."""
    listed = run("git", "-C", ROOT, "ls-files", "-co", "--exclude-standard").splitlines()
    for name in listed:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / name)


@pytest.mark.parametrize(
    ("content", "tag"),
    [
        (b"\x7fELF libc.so.6 GLIBC_2.14 GLIBC_2.28", "manylinux_2_28_aarch64"),
        (b"\x7fELF libc.so.6 GLIBC_2.34", "linux_aarch64"),
        (b"\x7fELF libc.musl", "linux_aarch64"),
    ],
)
def test_native_platform_tag(build, tmp_path, content, tag):
    """A wheel promises no older glibc than its library asks for."""
    library = tmp_path / "library.so"
    library.write_bytes(content)
    assert build.platform_tag(library, "aarch64") == tag


@pytest.mark.slow
def test_native_wheel_carries_one_library(backend, tmp_path, monkeypatch):
    """A wheel has its own architecture's library, a tag that says so, and no sources."""
    copy = tmp_path / "copy"
    copied(copy)
    stray = copy / "layers/squash/squash/kernels/_native/libsquash-other.so"
    stray.parent.mkdir()
    stray.write_bytes(b"another architecture's")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--no-deps"]
    run(*pip, "--quiet", "--wheel-dir", tmp_path, copy)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    machine = backend.native.machine()
    made = [name for name in names if "_native" in name]
    assert made in (["squash/kernels/_native/" + backend.native.library_name(machine)], [])
    assert ("linux_" in wheel.name or "manylinux" in wheel.name) == bool(made)
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {
        "squash",
        "squash_search",
    }


@pytest.mark.slow
def test_native_variants_agree_under_sanitizers(build, tmp_path):
    """No operation reads or writes beyond an array, or does what C leaves undefined."""
    try:
        program = check(build, tmp_path, sanitize=True)
    except build.BuildError as error:
        pytest.skip(f"the compiler has no sanitizers: {error}")
    assert "agree" in run(program, CHECK_ROUNDS)


@pytest.mark.slow
def test_native_variants_agree_on_arm64(build, tmp_path):
    """NEON gives the portable bits under emulation, and those are x86's."""
    qemu = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
    if qemu is None:
        pytest.skip("no qemu-aarch64: `apt-get install qemu-user-static`")
    emulated = run(qemu, check(build, tmp_path, target="aarch64"), CHECK_ROUNDS)
    assert "portable neon neondot agree" in emulated
    here = run(check(build, tmp_path), CHECK_ROUNDS)
    assert here.split()[-1] == emulated.split()[-1]


PLUGIN = """
from squash.kernels import native

native.__file__ = {place!r}
assert len(native.variants()) > 1
assert {folder!r} in open("/proc/self/maps").read()
"""


WITHOUT_PYTHON = """
#include <dlfcn.h>
#include <stdio.h>

int main(int count, char **words) {
    void *library = dlopen(words[count - 1], RTLD_NOW);
    void *(*entry)(void) = library ? dlsym(library, "sq_entry") : NULL;
    puts(!entry ? "not loaded" : entry() ? "an entry" : "no entry");
    return 0;
}
"""


@pytest.mark.slow
def test_native_library_is_loaded_without_python(build, tmp_path):
    """What it uses of Python it does without, where there is none."""
    try:
        library = build.build(out=tmp_path)
    except build.NoCompilerError as error:
        pytest.skip(str(error))
    source, program = tmp_path / "main.c", tmp_path / "main"
    source.write_text(WITHOUT_PYTHON)
    run(*build.find_compiler(build.machine()).command, source, "-o", program, "-ldl")
    assert run(program, library) == "no entry\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tests", "chosen"),
    [
        ("tests/format", "native or wrong_writers or answers_the_same"),
        ("tests/unit/kernels/test_kernels_entry.py", ""),
    ],
)
def test_native_whole_queries_hold_under_sanitizers(build, tmp_path, tests, chosen):
    """What a wrong writer wrote is refused, or read within its arrays: the whole way of a query.

    So is what Python gives the C entry, and what that makes of it.
    """
    libraries = []
    for name in ("libasan.so", "libubsan.so"):
        gcc = shutil.which("gcc")
        found = run(gcc, f"-print-file-name={name}").strip() if gcc else ""
        if not Path(found).is_absolute():
            pytest.skip(f"gcc with {name} is not here")
        libraries.append(found)
    build.build(out=tmp_path / "_native", cc="gcc", sanitize=True)
    plugin = PLUGIN.format(place=str(tmp_path / "native.py"), folder=str(tmp_path))
    (tmp_path / "sanitized_kernels.py").write_text(plugin)
    plugged = ("-q", "-p", "sanitized_kernels", "-k", chosen)
    done = subprocess.run(  # noqa: S603 - our own tests
        [sys.executable, "-m", "pytest", *plugged, tests],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ
        | {
            "LD_PRELOAD": " ".join(libraries),
            "ASAN_OPTIONS": "detect_leaks=0",
            "PYTHONMALLOC": "malloc",
            "PYTHONPATH": str(tmp_path),
        },
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
