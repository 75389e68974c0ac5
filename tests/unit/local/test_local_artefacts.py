"""Artefacts are found where they were built, and refused if they cannot run here."""

from __future__ import annotations

import struct
import subprocess
import sys
import sysconfig

import pytest

from squash.errors import DataError, NotFoundError
from squash.local.artefacts import check_extensions, find_artefacts, link_runtime
from squash.local.template import read_template

OURS = sysconfig.get_config_var("EXT_SUFFIX")
TEMPLATE = """
Resources:
  One: {Type: AWS::Serverless::LayerVersion}
  Two: {Type: AWS::Serverless::LayerVersion}
  F:
    Type: AWS::Serverless::Function
    Properties: {Runtime: python3.13, Handler: deep/app.handler, Layers: [!Ref One, !Ref Two]}
"""


def elf(machine):
    return b"\x7fELF" + bytes(14) + struct.pack("<H", machine)


@pytest.fixture
def template(tmp_path):
    path = tmp_path / "template.yaml"
    path.write_text(TEMPLATE)
    return read_template(path)


def test_the_last_layer_is_found_first(template, tmp_path):
    for missing in ("F/deep", "Two/python", "One/python"):
        with pytest.raises(NotFoundError, match=missing):
            find_artefacts(template, tmp_path)
        (tmp_path / missing).mkdir(parents=True)
        (tmp_path / missing / "app.py").touch()
    artefact = find_artefacts(template, tmp_path)["squash-F"]
    names = [str(path.relative_to(tmp_path)) for path in artefact.search_path]
    assert names == ["F", "Two/python", "One/python"]


@pytest.mark.parametrize(
    ("files", "good"),
    [
        ({f"a/core{OURS}": b""}, True),
        ({"a/core.cpython-399-x86_64-linux-gnu.so": b""}, False),
        ({"a/core.cpython-399-x86_64-linux-gnu.so": b"", f"a/core{OURS}": b""}, True),
        ({"a/core.cpython-399-x86_64-linux-gnu.so": b"", f"b/core{OURS}": b""}, False),
        ({"a/core.abi3.so": elf({"x86_64": 62, "aarch64": 183}.get("x86_64", 62))}, None),
        ({"a/core.abi3.so": elf(2)}, False),
        ({"a/core.abi3.so": b"short"}, False),
        ({"a/libplain.so": b"", "a/lib.so.1": b""}, True),
    ],
)
def test_compiled_modules_must_be_for_this_python_and_processor(tmp_path, files, good):
    import platform

    for name, data in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    if good or (good is None and platform.machine() == "x86_64"):
        check_extensions(tmp_path)
    else:
        with pytest.raises(DataError, match="make build-local"):
            check_extensions(tmp_path)


def test_the_runtime_has_its_client_and_boto3_and_nothing_else_of_this_environment(tmp_path):
    link_runtime(tmp_path)
    link_runtime(tmp_path)  # what is there is left alone
    program = "import awslambdaric, boto3, simplejson; boto3.client('s3', region_name='x')\n"
    for absent in ("numpy", "squash", "pytest", "aiohttp"):
        program += f"try: import {absent}\nexcept ImportError: pass\nelse: raise SystemExit(1)\n"
    subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-S", "-c", program], env={"PYTHONPATH": str(tmp_path)}, check=True
    )
